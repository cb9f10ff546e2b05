# SPDX-License-Identifier: Apache-2.0
"""Standing, stops and cases as people type them, against a real server; evidence needs the log's key alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.domain import contract_document
from tests.support.gates import assessment_document, gates_document
from tests.support.server import RunningServer, running_server
from weir_client import aio, cli, connect, errors, load_identity
from weir_client._estimates import Exposure
from weir_client._governance import Case, Standing
from weir_client.cli.questions import _exposure_line

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("governance")) as running:
        with connect(running.admin, identity=running.identity("operator", "olga"), state_dir=running.data_dir) as olga:
            olga.apply_policy([contract_document(), assessment_document(answer=2), gates_document()])
        yield running


@pytest.fixture
def weir(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command as `role/name`; gives exit code, what it printed (parsed where --json), and standard error."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def run(who: str, *arguments: object) -> tuple[int, Any, str]:
        role, _, name = who.partition("/")
        address = server.admin if role == "operator" else server.public
        options = ("--server", address, "--identity", str(server.identity(role, name)))
        code = cli.run([*map(str, arguments), *options])
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if "--json" in arguments else captured.out, captured.err

    return run


def test_a_requester_sees_its_standing_and_an_overseer_everybodys(weir: Run) -> None:
    code, found, _ = weir("requester/alice", "standing", "--json")
    assert code == 0
    assert [(s["requester"], s["score"], s["tier"], s["level"], s["k"]) for s in found] == [
        ("alice", 66, "middle", "good", 10)
    ]
    _, text, _ = weir("auditor/ada", "standing", "show")
    assert "alice" in text
    assert "middle" in text
    _, other, _ = weir("requester/bob", "standing", "--json")
    assert [(s["requester"], s["tier"]) for s in other] == [("bob", "unassessed")]


def test_stops_are_listed_and_lifted(weir: Run) -> None:
    assert weir("operator/olga", "suspend", "dataset", "census", "--reason", "leak")[0] == 0
    code, _, error = weir("operator/olga", "blacklist", "add", "mallory", "--reason", "sold data")
    assert (code, "suspension.unknown" in error) == (2, True)
    assert weir("operator/olga", "blacklist", "add", "mallory", "--unknown", "--reason", "sold data")[0] == 0
    _, stops, _ = weir("operator/olga", "suspend", "--list", "--json")
    assert [(stop["scope"], stop["name"]) for stop in stops] == [("blacklist", "mallory"), ("dataset", "census")]
    _, listed, _ = weir("operator/olga", "blacklist", "list")
    assert "mallory" in listed
    assert "census" not in listed
    code, _, error = weir("requester/mallory", "datasets")
    assert (code, "on the blacklist" in error) == (3, True)
    weir("operator/olga", "blacklist", "lift", "mallory", "--reason", "paid the fine")
    weir("operator/olga", "suspend", "dataset", "census", "--resume", "--reason", "mended")
    assert weir("requester/mallory", "datasets")[0] == 0
    assert weir("operator/olga", "suspend", "--list")[1].strip() == "Nothing."


@pytest.mark.parametrize(
    "arguments",
    [
        ("--list", "all"),
        ("--list", "--resume"),
        (),
        ("all",),
        ("requester", "--reason", "x"),
        ("all", "y", "--reason", "x"),
    ],
)
def test_a_stop_without_its_words_is_refused(weir: Run, arguments: tuple[str, ...]) -> None:
    assert weir("operator/olga", "suspend", *arguments)[0] == 2


def test_a_case_is_filed_taken_on_and_settled_by_a_file_of_evidence(
    weir: Run, server: RunningServer, tmp_path: Path
) -> None:
    _, filed, _ = weir("requester/alice", "cases", "open", "complaint", "-c", "c-1", "-m", "Billed twice.", "--json")
    case = filed["id"]
    assert weir("requester/bob", "cases")[1].strip() == "No cases."
    assert case in weir("requester/alice", "cases")[1]
    code, text, _ = weir("operator/olga", "cases", "advance", case, "accepted", "--note", "read it", "--freeze")
    assert (code, text.strip()) == (0, f"{case}: accepted, holds c-1")
    assert "read it" in weir("requester/alice", "cases", "show", case)[1]
    file = tmp_path / "case.json"
    assert weir("requester/alice", "cases", "evidence", case, "-o", file)[0] == 1
    assert weir("auditor/ada", "cases", "evidence", case, "-o", file)[0] == 0
    key = load_identity(server.identity("auditor", "ada")).log_key
    code, found, _ = weir("auditor/ada", "audit", "verify", file, "--log-key", key, "--json")
    (proved,) = found["evidence"]
    assert (code, proved["case"]["statement"], proved["opened"]) == (0, "Billed twice.", 1)
    assert "2 steps of the case" in weir("auditor/ada", "audit", "verify", file)[1]
    weir("operator/olga", "cases", "advance", case, "closed", "--note", "paid back")
    assert weir("operator/olga", "suspend", "--list")[1].strip() == "Nothing."


def test_evidence_that_was_changed_fails_with_its_own_exit_code(weir: Run, tmp_path: Path) -> None:
    _, filed, _ = weir("requester/alice", "cases", "open", "dispute", "-c", "c-1", "-m", "Wrong.", "--json")
    file = tmp_path / "case.json"
    weir("auditor/ada", "cases", "evidence", filed["id"], "-o", file)
    file.write_bytes(file.read_bytes().replace(b"Wrong.", b"Right."))
    code, _, error = weir("auditor/ada", "audit", "verify", file)
    assert code == 4
    assert "case.json" in error
    assert weir("auditor/ada", "audit", "verify", file, "--log", tmp_path)[0] == 2


def test_evidence_is_verified_without_any_service(tmp_path: Path, server: RunningServer, capsys: Any) -> None:
    with connect(identity=server.identity("requester", "alice"), state_dir=tmp_path) as alice:
        case = alice.open_case("incident", "Lost a disk.", contract="c-1")
    with connect(identity=server.identity("auditor", "ada"), state_dir=tmp_path) as ada:
        (tmp_path / "case.json").write_bytes(ada.evidence(case.id))
    key = load_identity(server.identity("auditor", "ada")).log_key
    assert cli.run(["audit", "verify", str(tmp_path / "case.json"), "--log-key", key, "--server", "127.0.0.1:1"]) == 0
    assert case.id in capsys.readouterr().out


async def test_the_asynchronous_client_does_the_same(server: RunningServer, tmp_path: Path) -> None:
    async with aio.connect(identity=server.identity("requester", "alice"), state_dir=tmp_path) as alice:
        (standing,) = await alice.standings()
        case = await alice.open_case("complaint", "Too slow.", contract="c-1")
        assert case.id in [found.id for found in await alice.cases()]
    async with aio.connect(server.admin, identity=server.identity("operator", "olga"), state_dir=tmp_path) as olga:
        closed = await olga.advance_case(case.id, "closed", note="explained")
        assert await olga.suspensions() == []
        assert (await olga.evidence(case.id)).startswith(b"{")
    assert isinstance(standing, Standing)
    assert isinstance(closed, Case)
    assert [step.state for step in closed.steps] == ["received", "closed"]


def test_words_that_are_no_kind_and_no_state_are_refused_before_anything_is_sent(
    server: RunningServer, tmp_path: Path
) -> None:
    with connect("127.0.0.1:1", identity=server.identity("requester", "alice"), state_dir=tmp_path) as nobody:
        with pytest.raises(errors.InvalidRequest, match="kind is one of"):
            nobody.open_case("gossip", "x")
        with pytest.raises(errors.InvalidRequest, match="state is one of"):
            nobody.advance_case("case-0", "lost", note="x")


def test_the_questionnaire_prints_without_a_service_and_applies_once_it_is_filled_in(
    weir: Run, server: RunningServer
) -> None:
    _, text, _ = weir("operator/olga", "standing", "questions", "--lang", "zh")
    assert "数据安全负责人" in text
    filled = (
        text.replace("requester:\n", "requester: carol\n")
        .replace("assessed_by:\n", "assessed_by: office\n")
        .replace("assessed_on:", "assessed_on: 2026-01-01")
        .replace("valid_until:", "valid_until: 2099-01-01")
        .replace("    answer:\n", "    answer: 3\n")
        .replace("    evidence:\n", "    evidence: seen\n")
    )
    with connect(server.admin, identity=server.identity("operator", "olga"), state_dir=server.data_dir) as olga:
        shown = olga.apply_policy([filled], dry_run=True)
        with pytest.raises(errors.InvalidRequest):
            olga.apply_policy([text], dry_run=True)
    assert "assessment/carol" in [change.subject for change in shown.changes]


@pytest.mark.parametrize(
    ("metric", "line"),
    [
        ("epsilon_nano", "account of namespace resident-id: ε 0.25 of 1 used, this adds 0.5"),
        ("rho_micro", "account of namespace resident-id: ρ 250 of 1000 used, this adds 500"),
    ],
)
def test_an_exposure_reads_in_the_unit_of_its_account(metric: str, line: str) -> None:
    exposure = Exposure("namespace", "resident-id", metric, 10**9, 10**9 // 4, 10**9 // 2)
    assert _exposure_line(exposure) == line
