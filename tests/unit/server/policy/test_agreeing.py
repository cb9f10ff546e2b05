# SPDX-License-Identifier: Apache-2.0
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.agreements import (
    CLINIC,
    HOSPITAL,
    PARTIES,
    SIGNED_POLICY,
    agree,
    attest,
    move,
    sign,
    signed_document,
    signing,
    stored_state,
    terms_of,
)
from tests.support.domain import ALICE, BOB, OLGA, Domain, contract_document, open_domain, running_domain, submit
from tests.support.ledger import VKEY
from weir.agreements import verify_signed_event
from weir.errors import InvalidRequest, PermissionDenied, PolicyDenied, UnknownName, WeirError
from weir.v1 import policy_service_pb2
from weir_server.fsck import fsck
from weir_server.plan.values import Principal
from weir_server.policy import lifecycle
from weir_server.policy.contract import contract_of_terms

DUTIES = [
    {"duty": "delete", "sentence": "Delete the extract.", "due": "2026-11-25T00:00:00+00:00"},
    {"duty": "report", "sentence": "Send the report.", "due": "2026-12-01T00:00:00+00:00"},
]
LIFE = "weir.contract."


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    async with running_domain(tmp_path, documents=SIGNED_POLICY) as running:
        yield running


def steps(domain: Domain) -> list[str]:
    return [kind.removeprefix(LIFE) for kind in domain.kinds() if kind.startswith(LIFE)]


async def refused(domain: Domain, kind: type[WeirError], state: str, **moved: Any) -> str | None:
    with pytest.raises(kind) as caught:
        await move(domain, state, **moved)
    return caught.value.rule


# ── from offer to active ───────────────────────────────────────────────────────────────────────────────────────────


async def test_an_applied_contract_is_an_offer_and_answers_nothing(domain: Domain) -> None:
    assert domain.state.world.state_of("s-1") == "offered"
    error = await domain.refused(submit(contract="s-1"))
    assert isinstance(error, PolicyDenied)
    assert [reason.code for reason in error.reasons] == ["contract.state"]


async def test_two_signatures_and_an_operator_make_it_answer(domain: Domain) -> None:
    after_one = await sign(domain, HOSPITAL)
    assert after_one.state == policy_service_pb2.CONTRACT_STATE_OFFERED
    after_two = await sign(domain, ALICE)
    assert after_two.state == policy_service_pb2.CONTRACT_STATE_ACCEPTED
    assert [signature.role for signature in after_two.signatures] == ["provider", "requester"]
    assert isinstance(await domain.refused(submit(contract="s-1")), PolicyDenied)
    assert (await move(domain, "active")).state == policy_service_pb2.CONTRACT_STATE_ACTIVE
    await domain.pipeline.run(submit(contract="s-1"))
    assert steps(domain) == ["offered", "signed", "signed", "accepted", "activated"]


async def test_every_step_is_a_leaf_with_terms_actor_and_reason(domain: Domain) -> None:
    await agree(domain)
    await move(domain, "suspended", who=HOSPITAL, reason="audit")
    await move(domain, "active", reason="audit passed")
    await move(domain, "terminated", who=ALICE, reason="study over")
    told = [
        (event["type"].removeprefix(LIFE), event["data"]["actor"], event["data"].get("reason"))
        for event in domain.events()
        if event["type"].startswith(LIFE) and event["type"] != "weir.contract.signed"
    ]
    assert told == [
        ("offered", "olga", "policy applied"),
        ("accepted", "alice", "signed by both parties"),
        ("activated", "olga", "test"),
        ("suspended", "hospital", "audit"),
        ("resumed", "olga", "audit passed"),
        ("terminated", "alice", "study over"),
    ]
    digests = {e["data"]["contract_digest"] for e in domain.events() if e["type"].startswith(LIFE)}
    assert digests == {terms_of(domain).digest}


async def test_the_leaf_of_a_signature_and_the_text_prove_it_to_anybody(domain: Domain) -> None:
    await sign(domain, ALICE)
    (event,) = domain.events("weir.contract.signed")
    proved = verify_signed_event(event, terms_of(domain).canonical)
    assert (proved.role, proved.party) == ("requester", "alice")


async def test_a_contract_without_signatures_is_accepted_and_activated_by_applying_it(domain: Domain) -> None:
    await domain.apply(*SIGNED_POLICY, contract_document("n-1"))
    assert domain.state.world.state_of("n-1") == "active"
    event = domain.events("weir.contract.activated")[-1]
    assert (event["subject"], event["data"]["signatures"]) == ("contract/n-1", "none")
    await domain.pipeline.run(submit(contract="n-1"))
    with pytest.raises(InvalidRequest) as caught:
        await sign(domain, ALICE, contract="n-1")
    assert caught.value.rule == "contract.unsigned"


async def test_the_same_signing_request_again_gives_the_same_reply_and_no_second_leaf(domain: Domain) -> None:
    request = signing(domain, ALICE)
    first, leaves = await sign(domain, ALICE, request), len(domain.events())
    assert await sign(domain, ALICE, request) == first
    assert len(domain.events()) == leaves


async def test_states_and_signatures_survive_a_restart(domain: Domain, tmp_path: Path) -> None:
    await agree(domain)
    await move(domain, "suspended")
    domain.store.close()
    again = open_domain(tmp_path)
    try:
        assert again.state.world.state_of("s-1") == "suspended"
        life = again.store.read(lambda tx: lifecycle.lives(tx, [terms_of(again)]))["s-1"]
        assert lifecycle.is_signed_by_both(terms_of(again), life)
    finally:
        again.store.close()


# ── who may do what ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("who", "state", "allowed"),
    [
        (OLGA, "active", True),
        (OLGA, "suspended", True),
        (OLGA, "terminated", True),
        (HOSPITAL, "active", False),
        (HOSPITAL, "suspended", True),
        (HOSPITAL, "terminated", True),
        (ALICE, "active", False),
        (ALICE, "suspended", False),
        (ALICE, "terminated", True),
    ],
    ids=str,
)
async def test_each_role_may_move_a_contract_to_its_own_states(
    domain: Domain, who: Principal, state: str, *, allowed: bool
) -> None:
    await agree(domain)
    if state == "active":
        await move(domain, "suspended")
    if allowed:
        await move(domain, state, who=who)
        assert domain.state.world.state_of("s-1") == state
    else:
        assert await refused(domain, PermissionDenied, state, who=who) == "contract.role"


@pytest.mark.parametrize("who", [BOB, CLINIC, Principal("hospital", "requester", "weir.test")], ids=str)
async def test_a_contract_of_others_looks_as_if_there_were_none(domain: Domain, who: Principal) -> None:
    for state in ("suspended", "terminated"):
        assert await refused(domain, UnknownName, state, who=who) == "name.contract"
    assert await refused(domain, UnknownName, "terminated", contract="s-9") == "name.contract"


MOVES = {
    ("offered", "terminated"),
    ("accepted", "active"),
    ("accepted", "terminated"),
    ("active", "suspended"),
    ("active", "terminated"),
    ("suspended", "active"),
    ("suspended", "terminated"),
}


async def bring(domain: Domain, state: str) -> None:
    if state != "offered":
        await sign(domain, HOSPITAL)
        await sign(domain, ALICE)
    if state in ("active", "suspended"):
        await move(domain, "active")
    if state in ("suspended", "terminated"):
        await move(domain, state)
    if state == "expired":
        domain.clock.moment = terms_of(domain).valid_until


@pytest.mark.parametrize("target", ["active", "suspended", "terminated"])
@pytest.mark.parametrize("state", lifecycle.STATES)
async def test_only_the_steps_of_the_state_machine_exist(domain: Domain, state: str, target: str) -> None:
    await bring(domain, state)
    if (state, target) in MOVES:
        await move(domain, target)
        assert stored_state(domain) == target
    else:
        before = stored_state(domain)
        assert await refused(domain, InvalidRequest, target) == "contract.state"
        assert stored_state(domain) == before


@pytest.mark.parametrize("reason", ["", "x" * 501, "two\nlines"])
async def test_a_step_needs_a_reason(domain: Domain, reason: str) -> None:
    assert await refused(domain, InvalidRequest, "terminated", reason=reason) == "reason.form"


# ── terms that change, return or end ───────────────────────────────────────────────────────────────────────────────


async def test_changed_terms_are_a_new_offer(domain: Domain) -> None:
    await agree(domain)
    await domain.apply(signed_document(k=20), *PARTIES)
    assert domain.state.world.state_of("s-1") == "offered"
    assert isinstance(await domain.refused(submit(contract="s-1")), PolicyDenied)
    await agree(domain)
    assert domain.state.world.state_of("s-1") == "active"


async def test_going_back_to_earlier_terms_is_a_new_offer_too(domain: Domain) -> None:
    await agree(domain)
    await domain.apply(signed_document(k=20), *PARTIES)
    await domain.apply(*SIGNED_POLICY)
    assert domain.state.world.state_of("s-1") == "offered"
    await agree(domain)
    assert steps(domain).count("signed") == 4


async def test_what_is_terminated_stays_so_when_the_same_text_is_applied_again(domain: Domain) -> None:
    await agree(domain)
    await move(domain, "terminated")
    leaves = len(steps(domain))
    await domain.apply(*PARTIES)
    await domain.apply(*SIGNED_POLICY)
    assert domain.state.world.state_of("s-1") == "terminated"
    assert len(steps(domain)) == leaves
    await domain.apply(signed_document(title="A new deal"), *PARTIES)
    assert domain.state.world.state_of("s-1") == "offered"


async def test_what_is_suspended_stays_so_when_the_same_text_is_applied_again(domain: Domain) -> None:
    """Attack: a policy that is applied by routine lifts a stop that a person has set by name."""
    await with_duties(domain)
    await attest(domain, "delete")
    await move(domain, "suspended", who=HOSPITAL)
    documents = (signed_document(duties=DUTIES), *PARTIES)
    await domain.apply(*PARTIES)
    planned = await domain.apply(*documents, dry_run=True)
    assert ["state: none → suspended"] in [list(change.fields) for change in planned.changes]
    await domain.apply(*documents, plan_hash=planned.plan_hash)
    life = domain.store.read(lambda tx: lifecycle.lives(tx, [terms_of(domain)]))["s-1"]
    assert (life.state, len(life.signatures), set(life.attested)) == ("suspended", 2, {"delete"})
    assert domain.state.world.contract_states["s-1"] == "suspended"
    assert (await move(domain, "active")).state == policy_service_pb2.CONTRACT_STATE_ACTIVE
    assert fsck(domain.directory, vkey=VKEY).findings == ()


async def test_every_text_that_was_ever_in_force_is_kept_and_read_back(domain: Domain) -> None:
    first = terms_of(domain)
    await domain.apply(signed_document(k=20, duties=DUTIES, regions=["CN"]), *PARTIES)
    for contract in (first, terms_of(domain)):
        digest = contract.digest
        assert domain.store.read(lambda tx: lifecycle.terms(tx, digest)) == contract.canonical  # noqa: B023
        assert contract_of_terms(contract.canonical) == contract
    assert domain.store.read(lambda tx: lifecycle.terms(tx, "0" * 64)) is None


async def test_texts_in_force_that_were_not_kept_are_kept_at_the_next_start(domain: Domain, tmp_path: Path) -> None:
    digest = terms_of(domain).digest
    domain.store.write_sync(lambda tx: tx.execute("DELETE FROM contract_terms"))
    domain.store.close()
    again = open_domain(tmp_path)
    try:
        assert again.store.read(lambda tx: lifecycle.terms(tx, digest)) == terms_of(again).canonical
    finally:
        again.store.close()


# ── the end of validity ────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_end_of_validity_leaves_one_leaf_and_stays(domain: Domain) -> None:
    await agree(domain)
    assert await domain.state.expire_contracts() == 0
    domain.clock.moment = terms_of(domain).valid_until
    assert await domain.state.expire_contracts() == 1
    assert await domain.state.expire_contracts() == 0
    (event,) = domain.events("weir.contract.expired")
    assert (event["data"]["role"], event["data"]["previous"]) == ("service", "active")
    assert domain.state.world.state_of("s-1") == "expired"


async def test_a_query_is_refused_at_the_end_of_validity_before_any_sweep(domain: Domain) -> None:
    await agree(domain)
    domain.clock.moment = terms_of(domain).valid_until - timedelta(microseconds=1)
    await domain.pipeline.run(submit(contract="s-1"))
    domain.clock.moment = terms_of(domain).valid_until
    error = await domain.refused(submit(contract="s-1", max_price=10**9))
    assert isinstance(error, PolicyDenied)
    assert [reason.code for reason in error.reasons] == ["contract.expired"]


# ── duties ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def with_duties(domain: Domain) -> None:
    await domain.apply(signed_document(duties=DUTIES), *PARTIES)
    await agree(domain)


def overdue(domain: Domain) -> dict[str, int]:
    policy = domain.state.world.policy
    return dict(domain.store.read(lambda tx: lifecycle.overdue_duties(tx, policy, domain.clock())))


async def test_a_duty_is_overdue_from_its_date_until_it_is_attested(domain: Domain) -> None:
    await with_duties(domain)
    due = terms_of(domain).duties[0].due
    domain.clock.moment = due
    assert overdue(domain) == {}
    domain.clock.moment = due + timedelta(microseconds=1)
    assert overdue(domain) == {"alice": 1}
    domain.clock.forward(days=30)
    assert overdue(domain) == {"alice": 2}
    seen = await attest(domain, "delete", statement="deleted on the third")
    assert [duty.HasField("attested") for duty in seen.duties] == [True, False]
    assert overdue(domain) == {"alice": 1}
    event = domain.events("weir.contract.duty_attested")[-1]
    assert (event["data"]["duty"], event["data"]["statement"], event["data"]["late"]) == (
        "delete", "deleted on the third", True
    )  # fmt: skip


async def test_a_duty_of_an_ended_contract_is_still_owed(domain: Domain) -> None:
    await with_duties(domain)
    await move(domain, "terminated", who=ALICE)
    domain.clock.forward(days=3)
    assert overdue(domain) == {"alice": 1}


async def test_terms_that_nobody_agreed_to_oblige_nobody(domain: Domain) -> None:
    await domain.apply(signed_document(duties=DUTIES), *PARTIES)
    domain.clock.forward(days=30)
    assert overdue(domain) == {}
    await sign(domain, HOSPITAL)
    assert overdue(domain) == {}
    await move(domain, "terminated")
    assert overdue(domain) == {}


async def test_a_duty_is_attested_once_by_its_requester_under_agreed_terms(domain: Domain) -> None:
    await domain.apply(signed_document(duties=DUTIES), *PARTIES)
    with pytest.raises(InvalidRequest, match="only offered"):
        await attest(domain, "delete")
    await agree(domain)
    with pytest.raises(UnknownName):
        await attest(domain, "delete", who=BOB)
    with pytest.raises(UnknownName):
        await attest(domain, "pay")
    with pytest.raises(InvalidRequest) as caught:
        await attest(domain, "delete", statement="")
    assert caught.value.field == "statement"
    await attest(domain, "delete")
    with pytest.raises(InvalidRequest, match="before"):
        await attest(domain, "delete")
