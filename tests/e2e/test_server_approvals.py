# SPDX-License-Identifier: Apache-2.0
"""Two persons, a template, taking back and deciding again, as people type them, against a real server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.paillier import real_keypair
from tests.support.sample import CONTRACTS, running_sample
from tests.support.server import RunningServer
from weir import errors
from weir_client import cli, connect

Run = Callable[..., tuple[int, Any, str]]
ASKED = CONTRACTS[0].replace("contract: c-visits", "contract: c-asked") + "approval: per_query\napprovers: 2\n"
SQL = "SELECT region, COUNT(*) AS people FROM clinic WHERE age = {} GROUP BY region ORDER BY people LIMIT 2"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_sample(tmp_path_factory.mktemp("server")) as running:
        identity = running.identity("operator", "olga")
        with connect(running.admin, identity=identity, state_dir=running.data_dir) as olga:
            olga.apply_policy([*CONTRACTS, ASKED])
        yield running


@pytest.fixture
def weir(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command as `role/name`; gives exit code, what it printed (parsed where it is JSON), and standard error."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def run(who: str, *arguments: object) -> tuple[int, Any, str]:
        role, _, name = who.partition("/")
        address = server.public if role == "requester" else server.admin
        options = ("--server", address, "--identity", str(server.identity(role, name)), "--json")
        code = cli.run([*map(str, arguments), *options])
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if captured.out else None, captured.err

    return run


def refused(weir: Run, *arguments: object) -> str:
    """Id of the approval that alice's question waits for."""
    code, _, said = weir("requester/alice", "query", *arguments, "-c", "c-asked")
    assert code == 3
    return str(json.loads(said)["error"]["metadata"]["approval"])


def test_two_persons_approve_a_question_that_is_resumed_by_its_id(weir: Run) -> None:
    approval = refused(weir, SQL.format(0))
    assert weir("requester/alice", "approvals", "approve", approval, "--reason", "mine")[0] != 0
    assert weir("operator/alice", "approvals", "approve", approval, "--reason", "mine")[0] != 0
    _, first, _ = weir("operator/olga", "approvals", "approve", approval, "--reason", "seen")
    assert (first["state"], first["approved_by"], first["sql"][:14]) == ("waiting", ["olga"], "SELECT region,")
    assert weir("approver/olga", "approvals", "approve", approval, "--reason", "again")[0] == 2
    _, second, _ = weir("approver/anne", "approvals", "approve", approval, "--reason", "seen too")
    assert (second["state"], second["approved_by"]) == ("approved", ["olga", "anne"])
    assert second["words"].startswith("how many in clinic version 1, for each region, where age is")
    code, answer, _ = weir("requester/alice", "approvals", "resume", approval)
    assert code == 0
    assert (answer["columns"], len(answer["rows"]), answer["verified"]) == (["region", "count"], 3, True)
    _, listed, _ = weir("requester/alice", "approvals", "list")
    assert (listed[0]["id"], listed[0]["state"], listed[0]["reasons"]) == (approval, "used", ["seen", "seen too"])
    code, again, _ = weir("requester/alice", "approvals", "resume", approval)
    assert (code, again["log_index"], again["rows"]) == (0, answer["log_index"], answer["rows"])
    assert [item["id"] for item in weir("requester/alice", "approvals", "list")[1]] == [item["id"] for item in listed]


def test_a_template_answers_other_literals_and_stops_when_it_is_taken_back(weir: Run) -> None:
    approval = refused(weir, SQL.format(0))
    for who in ("operator/olga", "approver/anne"):
        stated = ("--free", "age", "--uses", 5, "--days", 7, "--reason", "weekly")
        assert weir(who, "approvals", "approve", approval, *stated)[0] == 0
    for age in (0, 40):
        code, answer, _ = weir("requester/alice", "query", SQL.format(age), "-c", "c-asked")
        assert (code, len(answer["rows"])) == (0, 2)
    refused(weir, SQL.format(0).replace("COUNT(*)", "SUM(visits)"))
    _, shown, _ = weir("operator/olga", "approvals", "show", approval)
    assert shown["uses_left"] == 3
    assert weir("approver/anne", "approvals", "revoke", approval, "--reason", "over")[1]["state"] == "revoked"
    refused(weir, SQL.format(40))


def test_an_encrypted_question_waits_for_its_persons(server: RunningServer, tmp_path: Path) -> None:
    keypair = real_keypair()
    sql = "SELECT region, SUM(visits) FROM clinic GROUP BY region"
    with (
        connect(server.public, identity=server.identity("requester", "alice"), state_dir=tmp_path) as alice,
        connect(server.admin, identity=server.identity("operator", "olga"), state_dir=tmp_path / "o") as olga,
        connect(server.admin, identity=server.identity("approver", "anne"), state_dir=tmp_path / "a") as anne,
    ):
        alice.register_key(keypair)
        plain = {"weights": {("north",): 2}, "keypair": keypair, "contract": "c-asked"}
        with pytest.raises(errors.ApprovalRequired) as caught:
            alice.encrypted_query(sql, **plain).result(60)  # type: ignore[arg-type]
        job = alice.encrypted_query(sql, **plain, wait_for_approval=120)  # type: ignore[arg-type]
        for person in (olga, anne):
            person.decide_approval(caught.value.metadata["approval"], approve=True, reason="looked")
        assert job.result(120).decrypt(keypair)


def test_everything_that_was_decided_is_decided_again(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["audit", "replay", "--data", str(server.data_dir), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert found["agreed"] == found["decisions"] >= 5
    assert (found["differences"], found["unopenable"]) == ([], 0)
    assert cli.run(["audit", "replay", "--data", str(server.data_dir), "--to", "3"]) == 0
    assert "0 decisions" in capsys.readouterr().out
