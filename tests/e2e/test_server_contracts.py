# SPDX-License-Identifier: Apache-2.0
"""A contract's whole life through a real server: keys, signatures and states over the wire, with each party's SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import weir_client
from tests.support.sample import CONTRACTS, running_sample
from tests.support.server import RunningServer
from weir import errors
from weir.agreements import verify_signed_event
from weir_client import Client, SigningKey
from weir_server.fsck import fsck

SQL = "SELECT region, COUNT(*) AS n FROM clinic GROUP BY region"
KEYS = {"alice": SigningKey(b"a" * 32), "clinic": SigningKey(b"c" * 32)}
DUTY = "duties:\n  - {duty: report, sentence: Send the report., due: 2090-01-01}\n"


def party(name: str, role: str) -> str:
    fields = {"kind": "party", "party": name, "role": role, "organisation": name, "responsible": "Head", "region": "CN"}
    return "\n".join(f"{key}: {value}" for key, value in fields.items()) + f"\nsigning_keys: ['{KEYS[name].line}']\n"


PARTIES = (party("alice", "requester"), party("clinic", "provider"))
SIGNED = CONTRACTS[0].replace("c-visits", "s-1").replace("signatures: none", "signatures: required") + DUTY
POLICY = (*CONTRACTS, SIGNED, *PARTIES)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_sample(tmp_path_factory.mktemp("contracts")) as running:
        yield running


@pytest.fixture
def people(server: RunningServer, tmp_path: Path) -> Iterator[dict[str, Client]]:
    """A client of each: on the public listener, the operator on the admin one."""
    roles = {"alice": "requester", "bob": "requester", "clinic": "provider", "olga": "operator", "audrey": "auditor"}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                weir_client.connect(
                    server.admin if name == "olga" else server.public,
                    identity=server.identity(role, name),
                    state_dir=tmp_path,
                )
            )
            for name, role in roles.items()
        }


def test_a_contract_from_offer_to_end(server: RunningServer, people: dict[str, Client]) -> None:
    olga, alice, clinic = people["olga"], people["alice"], people["clinic"]
    planned = olga.apply_policy(POLICY, dry_run=True)
    olga.apply_policy(POLICY, plan_hash=planned.plan_hash)
    with pytest.raises(errors.InvalidRequest) as moved:
        olga.apply_policy(CONTRACTS, plan_hash=planned.plan_hash)
    assert moved.value.rule == "policy.moved"

    # Each party sees it; whoever is none does not.
    assert [c.contract("s-1").state for c in (alice, clinic, olga, people["audrey"])] == ["offered"] * 4
    with pytest.raises(errors.UnknownName):
        people["bob"].contract("s-1")
    with pytest.raises(errors.PolicyDenied):
        alice.query(SQL, contract="s-1").result(30)

    # Signed by both with keys that never travel, activated by the operator.
    assert clinic.sign_contract("s-1", KEYS["clinic"]).state == "offered"
    with pytest.raises(errors.InvalidRequest):
        alice.sign_contract("s-1", KEYS["clinic"])
    signed = alice.sign_contract(alice.contract("s-1"), KEYS["alice"])
    assert signed.state == "accepted"
    for client in (alice, clinic):
        with pytest.raises(errors.PermissionDenied):
            client.set_contract_state("s-1", "active", reason="me too")
    assert olga.set_contract_state("s-1", "active", reason="checked").state == "active"
    assert alice.query(SQL, contract="s-1").result(30).verify() is not None

    # Anybody can check the signatures from log and text.
    events = [json.loads(entry.leaf) for entry in people["audrey"].entries(type="weir.contract.signed")]
    proved = [verify_signed_event(event, signed.canonical) for event in events]
    assert {(item.role, item.party) for item in proved} == {("provider", "clinic"), ("requester", "alice")}

    # A duty, a stop by the provider, and the end, which is the requester's to declare.
    assert alice.attest_duty("s-1", "report", statement="sent").duties[0].attested is not None
    assert clinic.set_contract_state("s-1", "suspended", reason="audit").state == "suspended"
    with pytest.raises(errors.PolicyDenied):
        alice.query(SQL, contract="s-1").result(30)
    assert olga.set_contract_state("s-1", "active", reason="audit passed").state == "active"
    assert alice.set_contract_state("s-1", "terminated", reason="study over").state == "terminated"
    with pytest.raises(errors.InvalidRequest):
        olga.set_contract_state("s-1", "active", reason="please")
    assert fsck(server.data_dir / "ledger").ok


def test_operators_move_contracts_on_the_admin_listener_only(server: RunningServer, tmp_path: Path) -> None:
    with (
        weir_client.connect(server.public, identity=server.identity("operator", "olga"), state_dir=tmp_path) as olga,
        pytest.raises(errors.PermissionDenied) as caught,
    ):
        olga.set_contract_state("c-visits", "suspended", reason="from outside")
    assert caught.value.rule == "access.role"
    assert "served on the admin address (listen.admin)" in caught.value.message
