# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from weir.errors import InvalidRequest, Unauthenticated
from weir_server.cli.identity import identity
from weir_server.console.links import DIRECTORY, Holder, issue_code, use_code

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def issue(directory: Path, *, role: str = "operator", name: str = "olga", minutes: int = 10) -> str:
    return issue_code(directory, role=role, name=name, now=NOW, entropy=os.urandom, minutes=minutes)


def test_a_code_signs_its_holder_in_once(tmp_path: Path) -> None:
    code = issue(tmp_path)
    assert use_code(tmp_path, code, now=NOW) == Holder("operator", "olga")
    with pytest.raises(Unauthenticated):
        use_code(tmp_path, code, now=NOW)
    assert not list((tmp_path / DIRECTORY).iterdir())


def test_of_many_who_use_one_code_at_once_exactly_one_gets_in(tmp_path: Path) -> None:
    def attempt(code: str) -> int:
        try:
            use_code(tmp_path, code, now=NOW)
        except Unauthenticated:
            return 0
        return 1

    for _ in range(20):
        code = issue(tmp_path)
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(attempt, [code] * 8)) == 1


def test_a_code_lapses(tmp_path: Path) -> None:
    code = issue(tmp_path, minutes=5)
    with pytest.raises(Unauthenticated):
        use_code(tmp_path, code, now=NOW + timedelta(minutes=5))


@pytest.mark.parametrize("given", ["", "short", "../../etc/passwd", "A" * 32, "é" * 32, "A" * 31 + "/"])
def test_what_was_never_issued_is_refused_in_one_text(tmp_path: Path, given: str) -> None:
    issue(tmp_path)
    with pytest.raises(Unauthenticated) as caught:
        use_code(tmp_path, given, now=NOW)
    assert caught.value.message == "the code is unknown, was used, or has lapsed"


def test_a_code_may_be_typed_in_small_letters_and_without_hyphens(tmp_path: Path) -> None:
    code = issue(tmp_path)
    assert use_code(tmp_path, f" {code.lower().replace('-', ' ')} ", now=NOW).name == "olga"


def test_the_directory_keeps_hashes_that_only_its_owner_reads(tmp_path: Path) -> None:
    code = issue(tmp_path)
    directory = tmp_path / DIRECTORY
    (kept,) = directory.iterdir()
    plain = code.replace("-", "")
    assert plain not in kept.name
    assert plain not in kept.read_text()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_issuing_removes_what_lapsed(tmp_path: Path) -> None:
    issue(tmp_path, minutes=1)
    issue_code(tmp_path, role="auditor", name="zhou", now=NOW + timedelta(minutes=2), entropy=os.urandom)
    assert len(list((tmp_path / DIRECTORY).iterdir())) == 1


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        pytest.param({"role": "requester"}, "link.role", id="a role without a console"),
        pytest.param({"name": "../olga"}, "identity.name", id="no name"),
        pytest.param({"minutes": 61}, "link.minutes", id="too long"),
        pytest.param({"minutes": 0}, "link.minutes", id="no time at all"),
    ],
)
def test_what_cannot_be_issued_is_refused(tmp_path: Path, changes: dict[str, object], rule: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        issue(tmp_path, **changes)  # type: ignore[arg-type]
    assert caught.value.rule == rule


def test_the_command_prints_a_link_whose_code_stands_behind_the_hash(tmp_path: Path) -> None:
    arguments = ["link", "--role", "auditor", "--name", "zhou", "--data", str(tmp_path), "--json"]
    reply = CliRunner().invoke(identity, [*arguments, "--address", "db.example:7446"])
    assert reply.exit_code == 0, reply.output
    told = json.loads(reply.output)
    assert told["link"] == f"https://db.example:7446/sign-in#{told['code']}"
    assert use_code(tmp_path, told["code"], now=datetime.now(UTC)) == Holder("auditor", "zhou")
