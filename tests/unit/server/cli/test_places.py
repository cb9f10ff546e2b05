# SPDX-License-Identifier: Apache-2.0
"""Places that the server's commands write to, where the operating system says no."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.server import make_domain
from weir.errors import InvalidRequest
from weir_client import cli
from weir_server.cli.output import new_private_file
from weir_server.console.open import hosts_of
from weir_server.identity import identities

ALICE = ("--role", "requester", "--name", "alice")


@pytest.fixture
def taken(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "place"


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(("init", "{taken}"), id="init"),
        pytest.param(("backup", "--data", "{data}", "{taken}"), id="backup"),
        pytest.param(("identity", "--data", "{data}", *ALICE, "-o", "{taken}"), id="identity"),
    ],
)
def test_a_place_that_takes_no_file_is_one_line(
    tmp_path: Path, taken: Path, args: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir = make_domain(tmp_path)
    assert cli.run([arg.format(data=data_dir, taken=taken) for arg in args]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("weir: ")
    assert "Not a directory" in said.err
    assert said.err.count("\n") == 1


def test_nothing_is_issued_that_cannot_be_written_down(tmp_path: Path, taken: Path) -> None:
    data_dir = make_domain(tmp_path)
    assert cli.run(["identity", "--data", str(data_dir), *ALICE, "-o", str(taken)]) == 1
    assert identities.issued(data_dir) == {}
    assert cli.run(["identity", "--data", str(data_dir), *ALICE, "-o", str(tmp_path / "a.weir")]) == 0
    assert len(identities.issued(data_dir)) == 1
    assert json.loads((tmp_path / "a.weir").read_text())["name"] == "alice"


def test_what_is_refused_leaves_no_empty_file(tmp_path: Path) -> None:
    data_dir, path = make_domain(tmp_path), tmp_path / "a.weir"
    code = cli.run(["identity", "--data", str(data_dir), "--role", "requester", "--name", "No Name", "-o", str(path)])
    assert code == 2
    assert not path.exists()


def test_a_private_file_never_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("mine")
    with pytest.raises(InvalidRequest) as caught, new_private_file(path):
        raise AssertionError("the block of a file that is there")
    assert caught.value.rule == "output.exists"
    assert path.read_text() == "mine"


def test_a_renewed_certificate_takes_further_hosts_and_no_other_domain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir = make_domain(tmp_path)
    assert cli.run(["init", str(data_dir), "--renew", "--host", "db.example"]) == 0
    assert "db.example" in hosts_of((data_dir / "secrets" / "server.crt").read_bytes())
    assert cli.run(["init", str(data_dir), "--renew", "--host", "not a host!"]) == 2
    assert cli.run(["init", str(data_dir), "--renew", "--domain", "other.weir"]) == 2
    assert "--renew keeps the domain's name" in capsys.readouterr().err
    assert cli.run(["init", str(tmp_path / "new"), "--host", "not a host!"]) == 2
    assert cli.run(["init", str(tmp_path / "new"), "--host", "a.host"]) == 0
