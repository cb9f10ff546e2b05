# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from weir.errors import InvalidRequest
from weir_server.config import Config, Encrypted, load_config, parse_config, settings

DOCUMENT = Path(__file__).parents[3] / "docs" / "operate.md"


def test_no_file_and_an_empty_file_mean_the_defaults(tmp_path: Path) -> None:
    assert load_config(None, data_dir=tmp_path) == Config()
    (tmp_path / "weir.toml").write_text("")
    assert load_config(None, data_dir=tmp_path) == Config()


def test_a_named_file_is_read_and_a_missing_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    with pytest.raises(InvalidRequest):
        load_config(path, data_dir=tmp_path)
    path.write_text('[listen]\npublic = "0.0.0.0:1"\n[limits]\nmax_in_flight = 7\n')
    config = load_config(path, data_dir=tmp_path)
    assert (config.listen.public, config.limits.max_in_flight) == ("0.0.0.0:1", 7)
    assert config.listen.admin == Config().listen.admin


@pytest.mark.parametrize(
    ("content", "field"),
    [
        pytest.param({"limit": {}}, "limit", id="a misspelt section"),
        pytest.param({"limits": {"max_inflight": 1}}, "limits.max_inflight", id="a misspelt key"),
        pytest.param({"limits": 3}, "limits", id="a section that is none"),
        pytest.param({"limits": {"burst": "many"}}, "limits.burst", id="text for a number"),
        pytest.param({"limits": {"burst": True}}, "limits.burst", id="a truth value for a number"),
        pytest.param({"limits": {"burst": 0}}, "limits.burst", id="zero"),
        pytest.param({"limits": {"max_deadline_seconds": 601}}, "limits.max_deadline_seconds", id="beyond ten minutes"),
        pytest.param({"encrypted": {"workers": -2}}, "encrypted.workers", id="negative workers"),
        pytest.param({"encrypted": {"spark_seconds": 601}}, "encrypted.spark_seconds", id="longer than any call lasts"),
        pytest.param({"listen": {"public": 7443}}, "listen.public", id="a bare port"),
    ],
)
def test_a_setting_that_is_wrong_is_refused_by_name(content: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_config(content)
    assert (caught.value.rule, caught.value.field) == ("config.key", field)


def test_processes_for_big_integers_share_the_cores_out_unless_their_number_is_stated() -> None:
    cores = len(os.sched_getaffinity(0))
    assert Encrypted().processes() == min(64, cores)
    assert Encrypted().processes(servers=2) == min(64, max(1, cores // 2))
    assert Encrypted().processes(servers=1000) == 1
    assert [Encrypted(workers=3).processes(servers=servers) for servers in (1, 2)] == [3, 3]
    assert Encrypted(workers=0).processes() == 0


@pytest.mark.parametrize(("key", "default"), settings(), ids=[key for key, _ in settings()])
def test_every_setting_is_documented_with_meaning_default_and_danger(key: str, default: object) -> None:
    rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{key}` |")]
    assert len(rows) == 1, f"docs/operate.md needs one row for {key}"
    _, _, documented, meaning, danger, _ = (cell.strip() for cell in rows[0].split("|"))
    assert documented == f"`{default}`"
    assert len(meaning) > 15
    assert len(danger) > 15


def test_the_document_names_no_setting_that_does_not_exist() -> None:
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    named = {line.split("`")[1] for line in lines if line.startswith("| `") and "." in line.split("`")[1]}
    assert named == {key for key, _ in settings()}
