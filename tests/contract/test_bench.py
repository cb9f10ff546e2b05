# SPDX-License-Identifier: Apache-2.0
"""`make bench`: one registry, one form of rows, one file."""

import importlib
import json
from pathlib import Path

import pytest

from bench.__main__ import MODULES, complete, main, write
from bench.rows import KEYS, Row, alone, compared


@pytest.mark.parametrize("name", MODULES)
def test_every_module_of_the_registry_measures(name: str) -> None:
    assert callable(importlib.import_module(f"bench.{name}").measure)


def row(name: str, *, module: str) -> Row:
    return complete(alone(name, [2.0, 1.0, 4.0], unit="s"), module=module)


def test_a_row_says_what_it_was_measured_by_and_on() -> None:
    found = complete(compared("a", [2.0, 6.0, 4.0], [1.0, 2.0, 4.0], unit="s", peer="b"), module="he")
    assert (found["ours"], found["theirs"], found["ratio"], found["spread"]) == (4.0, 2.0, 2.0, 1.0)
    assert {"versions", "machine", "module", "peer", *KEYS} <= set(found)
    assert "grpcio" in found["versions"]
    with pytest.raises(KeyError, match="spread"):
        complete({"name": "a", "ours": 1, "theirs": 1, "ratio": 1, "unit": "s"}, module="he")


def test_rows_of_modules_that_did_not_run_stay_in_the_file(tmp_path: Path) -> None:
    out = tmp_path / "out" / "results.json"
    write([row("a", module="serve"), row("b", module="he")], out)
    write([row("c", module="serve")], out)
    assert [(each["name"], each["module"]) for each in json.loads(out.read_text())] == [("b", "he"), ("c", "serve")]


def test_an_unknown_module_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    assert "nothing" in capsys.readouterr().err
