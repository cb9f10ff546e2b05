# SPDX-License-Identifier: Apache-2.0
"""Every command and snippet of both READMEs, and every example, runs as it stands, against the demo's server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLAYED_BY_OTHERS = ("make ", ".venv/bin/weir demo")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that looks like a checkout in which `weir demo --keep` has been played."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("server", "examples", ".venv"):
        target = Path(sys.prefix) if name == ".venv" else ROOT / name
        (folder / name).symlink_to(target)
    played = subprocess.run(
        [sys.executable, "-m", "weir_client.cli", "demo", "--keep"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    ready = json.loads((folder / ".weir-demo" / "ready.json").read_text(encoding="utf-8"))
    yield folder
    os.kill(ready["pid"], signal.SIGTERM)


def blocks(readme: str, language: str) -> list[str]:
    """Fenced blocks of one language, in order."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_shell_commands_of_the_readme_run_as_they_stand(stage: Path, readme: str) -> None:
    lines = [line for block in blocks(readme, "bash") for line in block.splitlines()]
    script = "\n".join(line for line in lines if not line.startswith(PLAYED_BY_OTHERS))
    assert script.count("weir ") > 5
    environment = {**os.environ, "XDG_STATE_HOME": str(stage / "state")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=stage,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_python_snippet_of_the_readme_runs_as_it_stands(stage: Path) -> None:
    (snippet,) = blocks("README.md", "python")
    ready = json.loads((stage / ".weir-demo" / "ready.json").read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, "-c", f"SERVER = {ready['public']!r}\n{snippet}"],
        cwd=stage,
        env={**os.environ, "XDG_STATE_HOME": str(stage / "state")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rand_hie_visits@1" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "shown"),
    [
        ("sandbox.py", "nothing to verify"),
        ("exact.py", "under a checkpoint that extends"),
        ("dp.py", "no further loss: True"),
        ("encrypted.py", "equal: True"),
    ],
)
def test_an_example_runs_twice(stage: Path, example: str, shown: str) -> None:
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, f"examples/{example}"],
            cwd=stage,
            env={**os.environ, "XDG_STATE_HOME": str(stage / "state")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert shown in done.stdout


def test_every_example_is_run_and_listed() -> None:
    found = {path.name for path in (ROOT / "examples").glob("*.py")}
    listed = set(re.findall(r"\[(\w+\.py)\]", (ROOT / "examples" / "README.md").read_text(encoding="utf-8")))
    assert found == listed == {"sandbox.py", "exact.py", "dp.py", "encrypted.py"}
