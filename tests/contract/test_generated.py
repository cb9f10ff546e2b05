# SPDX-License-Identifier: Apache-2.0
"""Generated code is what the protos generate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTOS = sorted((ROOT / "protos").rglob("*.proto"))


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("generated")
    outputs = [f"--{kind}_out={target}" for kind in ("python", "grpc_python", "pyi")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}", *outputs, *map(str, PROTOS)]
    subprocess.run(command, check=True, cwd=ROOT)
    return target / "weir" / "v1"


def test_the_checked_in_code_is_what_the_protos_generate(regenerated: Path) -> None:
    checked_in = ROOT / "core" / "weir" / "v1"
    fresh = {path.name: path.read_text(encoding="utf-8") for path in regenerated.iterdir()}
    kept = {path.name: path.read_text(encoding="utf-8") for path in checked_in.glob("*_pb2*") if path.suffix != ".pyc"}
    assert fresh == kept, "run `make protos`"


def test_every_field_message_and_call_of_the_protos_is_commented() -> None:
    for path in PROTOS:
        previous = ""
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            words = line.strip()
            declares = words.startswith(("message ", "rpc ", "service ", "repeated ", "optional ")) or (
                " = " in words and words.endswith(";") and not words.startswith(("syntax", "ERROR_REASON", "//"))
            )
            enum_value = words.split(" ")[0].isupper()
            if declares and not enum_value:
                assert previous.startswith("//"), f"{path.name}:{number} has no comment"
            previous = words
