# SPDX-License-Identifier: Apache-2.0
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cases import advance_case, file_case
from tests.support.domain import ALICE, BOB, DOMAIN, OLGA, Domain, running_domain, submit
from weir.canonical import opens
from weir.errors import InvalidRequest, QuotaExceeded, Suspended, UnknownName
from weir.v1 import case_service_pb2
from weir_server.cases import book, transitions
from weir_server.cases.values import STATES, may_follow
from weir_server.plan.values import Principal

HOSPITAL, CLINIC = Principal("hospital", "provider", DOMAIN), Principal("clinic", "provider", DOMAIN)


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    async with running_domain(tmp_path) as running:
        yield running


async def entry_of(domain: Domain, **more: Any) -> int:
    """Index of the leaf of a new answer."""
    return (await domain.pipeline.run(submit(**more))).receipt.leaf_index


@pytest.mark.parametrize(
    ("state", "wanted", "allowed"),
    [
        (a, b, a != "closed" and (b == "closed" or STATES.index(b) - STATES.index(a) == 1))
        for a in STATES
        for b in STATES
    ],
)
def test_a_case_goes_on_by_one_state_or_to_its_end(state: Any, wanted: Any, allowed: bool) -> None:
    assert may_follow(state, wanted) is allowed


async def test_a_case_goes_its_way_and_each_step_is_a_leaf(domain: Domain) -> None:
    entry = await entry_of(domain)
    before = len(domain.events())
    case = await file_case(domain, entries=[entry, entry])
    assert (case.opened_by, case.opened_role, case.contract, case.dataset) == ("alice", "requester", "c-1", "census")
    assert list(case.entries) == [entry]
    for state in STATES[1:]:
        case = await advance_case(domain, case.id, state, note=f"now {state}")
    assert domain.kinds(since=before) == [f"weir.case.{state}" for state in STATES]
    events = domain.events()[before:]
    assert [step.leaf_index for step in case.steps] == [int(event["id"]) for event in events]
    assert [step.at.ToJsonString() for step in case.steps] == [e["time"].replace(".000000", "") for e in events]
    assert {(e["data"]["actor"], e["data"]["role"]) for e in events[1:]} == {("olga", "operator")}
    assert [event["data"].get("reason") for event in events[1:]] == ["now accepted", "now handled", "now closed"]
    assert {event["subject"] for event in events} == {f"case/{case.id}"}


async def test_the_statement_is_committed_to_and_not_written_into_the_log(domain: Domain) -> None:
    case = await file_case(domain, statement="It names Zhang San.")
    event = domain.events("weir.case.received")[0]
    assert "Zhang" not in str(event)
    ((salt,),) = domain.store.read(lambda tx: tx.execute("SELECT salt FROM log_salts WHERE idx = ?", (event["id"],)))
    made = event["data"]["commitments"]["statement"]
    assert isinstance(salt, bytes)
    assert opens(made, salt=salt, label="statement", data=b"It names Zhang San.")
    assert case.statement == "It names Zhang San."


async def test_a_case_that_is_closed_stays_so(domain: Domain) -> None:
    case = await file_case(domain)
    await advance_case(domain, case.id, "closed")
    for state in STATES:
        with pytest.raises(InvalidRequest, match="does not become"):
            await advance_case(domain, case.id, state)


NOT_YOURS: dict[str, tuple[Principal, dict[str, Any], str]] = {
    "another's contract": (ALICE, {"contract": "b-1"}, "name.contract"),
    "no contract of that name": (ALICE, {"contract": "c-99"}, "name.contract"),
    "another provider's contract": (CLINIC, {"contract": "c-1"}, "name.contract"),
    "no such contract for an operator": (OLGA, {"contract": "c-99"}, "name.contract"),
    "another dataset": (ALICE, {"dataset": "spending"}, "case.dataset"),
    "no such dataset": (ALICE, {"contract": None, "dataset": "nothing"}, "name.dataset"),
    "about nothing": (ALICE, {"contract": None}, "case.about"),
    "against somebody": (ALICE, {"against": "bob"}, "case.against"),
    "against a stranger": (HOSPITAL, {"against": "bob"}, "case.against"),
    "against without a contract": (
        HOSPITAL,
        {"contract": None, "dataset": "census", "against": "alice"},
        "case.against",
    ),
    "against no name": (OLGA, {"against": "Alice!"}, "name.form"),
    "silence": (ALICE, {"statement": ""}, "case.statement"),
    "blanks": (ALICE, {"statement": " \n "}, "case.statement"),
    "a novel": (ALICE, {"statement": "x" * 4001}, "case.statement"),
    "control": (ALICE, {"statement": "x\x1b[2J"}, "case.statement"),
    "no kind": (ALICE, {"kind": 0}, "case.kind"),
    "unknown kind": (ALICE, {"kind": 9}, "case.kind"),
    "too many entries": (ALICE, {"entries": range(1001)}, "case.entries"),
    "an entry that is not there": (OLGA, {"entries": [9999]}, "case.entry"),
    "an entry beyond the store": (OLGA, {"entries": [2**63]}, "case.entry"),
}


@pytest.mark.parametrize("what", NOT_YOURS)
async def test_what_is_malformed_or_none_of_ones_own_is_refused(domain: Domain, what: str) -> None:
    who, fields, rule = NOT_YOURS[what]
    before = len(domain.events())
    with pytest.raises((InvalidRequest, UnknownName)) as caught:
        await file_case(domain, who=who, **fields)
    assert caught.value.rule == rule
    assert len(domain.events()) == before


async def test_requesters_name_entries_of_their_own_only(domain: Domain) -> None:
    own, others = await entry_of(domain), await entry_of(domain, who=BOB, contract="b-1")
    assert list((await file_case(domain, contract=None, entries=[own])).entries) == [own]
    with pytest.raises(InvalidRequest, match=f"entry {others} is none of yours"):
        await file_case(domain, entries=[own, others])
    policy = int(domain.events("weir.policy.added")[0]["id"])
    with pytest.raises(InvalidRequest, match="none of yours"):
        await file_case(domain, entries=[policy])


async def test_providers_name_entries_under_the_contract_they_name(domain: Domain) -> None:
    own, others = await entry_of(domain), await entry_of(domain, who=BOB, contract="b-1")
    case = await file_case(domain, who=HOSPITAL, entries=[own], against="alice")
    assert case.against == "alice"
    with pytest.raises(InvalidRequest):
        await file_case(domain, who=HOSPITAL, entries=[others])
    with pytest.raises(InvalidRequest):
        await file_case(domain, who=HOSPITAL, contract=None, dataset="census", entries=[own])


async def test_operators_file_for_data_subjects_about_anything(domain: Domain) -> None:
    own = await entry_of(domain)
    case = await file_case(domain, who=OLGA, contract=None, dataset="census", entries=[own], against="alice")
    assert (case.opened_role, case.against) == ("operator", "alice")


async def test_a_contract_that_left_the_policy_may_be_named_by_who_asked_under_it(domain: Domain) -> None:
    await entry_of(domain)
    await domain.apply()
    assert (await file_case(domain)).contract == "c-1"
    with pytest.raises(UnknownName):
        await file_case(domain, who=BOB)


async def test_as_many_cases_are_open_as_may_be_and_each_caller_has_its_own_count(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transitions, "MAX_OPEN", 2)
    first = await file_case(domain)
    await file_case(domain)
    with pytest.raises(QuotaExceeded):
        await file_case(domain)
    await file_case(domain, who=BOB, contract="b-1")
    await file_case(domain, who=Principal("alice", "operator", DOMAIN))
    await advance_case(domain, first.id, "closed")
    await file_case(domain)


async def test_a_case_is_filed_once_and_its_key_is_of_a_role(domain: Domain) -> None:
    request = case_service_pb2.OpenCaseRequest(
        kind=case_service_pb2.CASE_KIND_INCIDENT, contract="c-1", statement="x", idempotency_key="one-key-for-both"
    )

    async def file(who: Principal) -> bytes:
        return await domain.state.mutate(who, request, lambda acting: transitions.file(acting, request).id.encode())

    assert await file(ALICE) == await file(ALICE) != await file(Principal("alice", "operator", DOMAIN))


async def test_pages_hold_ones_own_newest_first(domain: Domain) -> None:
    mine = [(await file_case(domain)).id for _ in range(3)]
    theirs = (await file_case(domain, who=BOB, contract="b-1")).id
    page = domain.store.read(lambda tx: book.page(tx, owner=("requester", "alice"), before=None, limit=2))
    assert [case.id for case in page] == mine[:0:-1]
    before = page[-1].steps[0].leaf_index
    rest = domain.store.read(lambda tx: book.page(tx, owner=("requester", "alice"), before=before, limit=2))
    assert [case.id for case in rest] == mine[:1]
    everybody = domain.store.read(lambda tx: book.page(tx, owner=None, before=None, limit=9))
    assert [case.id for case in everybody] == [theirs, *mine[::-1]]


# ── freezing ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_case_holds_its_contract_and_closing_lets_go_of_it(domain: Domain) -> None:
    case = await file_case(domain)
    await advance_case(domain, case.id, "accepted", freeze=True)
    assert isinstance(await domain.refused(submit()), Suspended)
    await domain.pipeline.run(submit(who=BOB, contract="b-1"))
    await advance_case(domain, case.id, "closed")
    await domain.pipeline.run(submit())


async def test_a_step_may_let_go_of_the_contract_before_the_end(domain: Domain) -> None:
    case = await file_case(domain)
    assert (await advance_case(domain, case.id, "accepted", freeze=True)).frozen
    assert not (await advance_case(domain, case.id, "handled")).frozen
    await domain.pipeline.run(submit())


async def test_letting_go_lifts_no_stop_of_an_operator_and_no_operator_lifts_what_a_case_holds(domain: Domain) -> None:
    case = await file_case(domain)
    await advance_case(domain, case.id, "accepted", freeze=True)
    await domain.suspend("contract", "c-1", suspended=False)
    assert isinstance(await domain.refused(submit()), Suspended)
    await domain.suspend("contract", "c-1")
    await advance_case(domain, case.id, "closed")
    assert isinstance(await domain.refused(submit()), Suspended)
    await domain.suspend("contract", "c-1", suspended=False)
    await domain.pipeline.run(submit())


async def test_two_cases_hold_a_contract_until_both_let_go(domain: Domain) -> None:
    cases = [(await file_case(domain)).id for _ in range(2)]
    for case in cases:
        await advance_case(domain, case, "accepted", freeze=True)
    await advance_case(domain, cases[0], "closed")
    assert isinstance(await domain.refused(submit()), Suspended)
    await advance_case(domain, cases[1], "closed")
    await domain.pipeline.run(submit())


async def test_only_an_open_case_about_a_contract_holds_one(domain: Domain) -> None:
    case = await file_case(domain)
    with pytest.raises(InvalidRequest):
        await advance_case(domain, case.id, "closed", freeze=True)
    other = await file_case(domain, contract=None, dataset="census")
    with pytest.raises(InvalidRequest):
        await advance_case(domain, other.id, "accepted", freeze=True)
    assert domain.state.world.suspensions == frozenset()


async def test_what_a_case_holds_is_listed_once_and_outlives_a_restart(domain: Domain) -> None:
    case = await file_case(domain)
    await advance_case(domain, case.id, "accepted", freeze=True)
    await domain.suspend("contract", "c-1")
    await domain.suspend("blacklist", "bob")
    stops = domain.state.list_suspensions().suspensions
    assert [(stop.scope, stop.name) for stop in stops] == [(5, "bob"), (2, "c-1")]
    assert stops[1].since.ToJsonString() == domain.events("weir.case.accepted")[0]["time"].replace(".000000", "")
