# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import pwd
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support.server import make_domain
from weir.errors import InvalidRequest
from weir_server.cli.identity import identity
from weir_server.identity.holder import read_certificate

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOGNAME", "somebody-else")
    return make_domain(tmp_path)


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(identity, [str(arg) for arg in args])
    if result.exit_code != code and result.exception is not None:
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def shown(*args: object) -> Any:
    return json.loads(run(*args, "--json").output)


def file_of(path: Path) -> dict[str, Any]:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return dict(json.loads(path.read_text()))


def test_an_identity_is_issued_renewed_in_place_listed_and_revoked(data_dir: Path, tmp_path: Path) -> None:
    issued = shown("--data", data_dir, "--role", "operator", "--name", "olga", "--hours", "8")
    assert issued == {"file": "olga.weir", "name": "olga", "role": "operator", "domain": "test.weir", "hours": 8}
    first = file_of(tmp_path / "olga.weir")
    renewed = shown("--data", data_dir, "--renew", "olga.weir")
    assert renewed == {"file": "olga.weir", "name": "olga", "role": "operator", "domain": "test.weir", "days": 30}
    second = file_of(tmp_path / "olga.weir")
    assert second["private_key"] != first["private_key"]
    assert [path.name for path in tmp_path.iterdir() if "olga" in path.name] == ["olga.weir"]
    serials = [f"{read_certificate(item['certificate'].encode()).serial:x}" for item in (first, second)]
    listed = shown("list", "--data", data_dir)["identities"]
    assert [(item["serial"], item["name"], item["by"], item["revoked"]) for item in listed] == [
        (serial, "olga", ME, False) for serial in serials
    ]
    revoked = shown("revoke", "operator/olga", "--data", data_dir, "--reason", "left")["revoked"]
    assert [(item["serial"], item["reason"], item["by"]) for item in revoked] == [(s, "left", ME) for s in serials]
    assert [item["revoked"] for item in shown("list", "--data", data_dir)["identities"]] == [True, True]
    assert shown("revoke", serials[0], "--data", data_dir, "--reason", "again")["revoked"] == []


def test_the_texts_say_what_happened(data_dir: Path) -> None:
    text = run("--data", data_dir, "--role", "gateway", "--name", "portal").output
    assert text == "portal.weir: gateway portal of test.weir, valid 30 days. It holds a private key.\n"
    assert run("list", "--data", data_dir).output.startswith("gateway/portal until ")
    assert run("revoke", "gateway/portal", "--data", data_dir, "--reason", "old").output.endswith(" gateway/portal\n")
    assert run("revoke", "gateway/portal", "--data", data_dir, "--reason", "old").output == "It was revoked before.\n"
    assert run("list", "--data", data_dir).output.endswith(" revoked\n")


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(["--role", "requester", "--name", "alice"], id="no data directory"),
        pytest.param(["--data", "data"], id="no holder"),
        pytest.param(["--data", "data", "--role", "requester"], id="no name"),
        pytest.param(["--data", "data", "--role", "king", "--name", "alice"], id="no role"),
        pytest.param(["--data", "data", "--renew", "x.weir", "--name", "bob"], id="another name for a renewed one"),
        pytest.param(["revoke", "requester/alice", "--data", "data"], id="no reason"),
    ],
)
def test_what_is_left_out_or_too_much_is_a_usage_error(data_dir: Path, args: list[str]) -> None:
    Path("x.weir").write_text("{}")
    run(*args, code=2)


@pytest.mark.parametrize("content", ["", "[]", "{}", "\x00"])
def test_a_file_that_is_no_identity_is_left_as_it_is(data_dir: Path, content: str) -> None:
    path = Path("x.weir")
    path.write_text(content)
    with pytest.raises(InvalidRequest) as caught:
        run("--data", data_dir, "--renew", path)
    assert caught.value.rule == "identity.form"
    assert path.read_text() == content


def test_a_file_that_is_there_is_not_written_over_and_nothing_is_issued(data_dir: Path) -> None:
    Path("alice.weir").write_text("mine")
    with pytest.raises(InvalidRequest) as caught:
        run("--data", data_dir, "--role", "requester", "--name", "alice")
    assert caught.value.rule == "identity.exists"
    assert Path("alice.weir").read_text() == "mine"
    assert shown("list", "--data", data_dir)["identities"] == []


@pytest.mark.parametrize(
    "address", ["db.example", "db.example:", ":7443", "db.example:https", "http://db:7443", "a b:1"]
)
def test_an_address_that_no_client_could_dial_is_refused_and_nothing_is_issued(data_dir: Path, address: str) -> None:
    for command in (("--data", data_dir), ("link", "--data", data_dir)):
        with pytest.raises(InvalidRequest) as caught:
            run(*command, "--role", "operator", "--name", "olga", "--address", address)
        assert caught.value.rule in ("listen.form", "domain.host")
    assert not Path("olga.weir").exists()
    assert shown("list", "--data", data_dir)["identities"] == []


@pytest.mark.parametrize("address", ["db.example:7443", "10.0.0.7:7443", "[::1]:7443"])
def test_an_address_is_kept_in_the_file(data_dir: Path, address: str) -> None:
    run("--data", data_dir, "--role", "requester", "--name", "alice", "--address", address)
    assert file_of(Path("alice.weir"))["address"] == address
