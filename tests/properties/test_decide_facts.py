# SPDX-License-Identifier: Apache-2.0
"""Decisions over any facts: gates, persons, states and grades restrict, and nothing that restricts ever allows."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.domain import contract_document
from weir.canonical import canonical_json, parse_canonical
from weir.query import Function
from weir_server.catalog.card import Mode
from weir_server.policy.contract import Contract
from weir_server.policy.decide import Allow, Decision, Deny, NeedsApproval, decide, outcome_json, persons_needed
from weir_server.policy.documents import parse_documents
from weir_server.policy.facts import Facts, facts_bytes, facts_from_json, facts_json

MIDDLE = datetime(2026, 11, 22, tzinfo=UTC)
BASE = next(iter(parse_documents([contract_document()]).contracts.values()))
NAMES = ("site", "coast", "age", "adult", "visits")
REGIONS = ("", "CN", "CN-31", "CN-3", "SG")
AMOUNTS = st.integers(0, 5) | st.sampled_from([10**9, 2**53 + 1, 2**62])
INSTANTS = st.integers(-3, 3).map(lambda days: MIDDLE + timedelta(days=days))


def names(*items: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.frozensets(st.sampled_from(items)).map(lambda chosen: tuple(sorted(chosen)))


FACTS = st.builds(
    Facts,
    now=INSTANTS,
    requester=st.sampled_from(["alice", "bob"]),
    role=st.sampled_from(["requester", "requester", "requester", "operator"]),
    region=st.sampled_from(REGIONS),
    contract_state=st.sampled_from(["active", "active", "active", "offered", "suspended", "terminated"]),
    gate_k=st.integers(0, 20),
    gate_epsilon_nano=st.none() | AMOUNTS,
    gate_approvers=st.integers(0, 2),
    purpose=st.sampled_from(["", "research", "teaching"]),
    dataset=st.sampled_from(["census", "census", "spending"]),
    snapshot=st.integers(1, 9),
    grade=st.sampled_from(["GENERAL", "IMPORTANT", "CORE"]),
    offered=st.sampled_from([("exact", "encrypted"), ("dp", "encrypted"), ("exact", "dp", "encrypted"), ()]),
    k=st.integers(1, 30),
    mode=st.sampled_from(["exact", "dp"]),
    terms=st.sampled_from(["", "", "weights", "sealed"]),
    key_owners=names("alice", "bob"),
    groups=names("site", "coast", "age"),
    filters=st.dictionaries(st.sampled_from(("site", "coast", "age", "adult")), st.sampled_from(["", "site", "age"])),
    measures=names("visits", "dollars"),
    functions=names("count", "sum", "avg"),
    budget_metric=st.sampled_from(["epsilon_nano", "rho_micro"]),
    epsilon_nano=AMOUNTS,
    rho_micro=AMOUNTS,
    price_micro=AMOUNTS,
    max_price_micro=st.none() | AMOUNTS,
)


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    def some(*items: Any) -> Any:
        return draw(st.frozensets(st.sampled_from(items), min_size=1))

    begin = draw(INSTANTS)
    return replace(
        BASE,
        requester=draw(st.sampled_from(["alice", "bob"])),
        purposes=tuple(sorted(some("research", "teaching"))),
        modes=some(*Mode),
        dimensions=some("site", "coast", "age", "adult"),
        measures=some("visits", "dollars"),
        aggregates=some(Function.COUNT, Function.SUM, Function.AVG),
        epsilon_per_query_nano=draw(AMOUNTS),
        rho_per_query_micro=draw(AMOUNTS),
        valid_from=begin,
        valid_until=begin + timedelta(days=draw(st.integers(1, 4))),
        approval=draw(st.sampled_from(["none", "per_query"])),
        approvers=draw(st.sampled_from([1, 2])),
        k=draw(st.integers(10, 25)),
        regions=tuple(sorted(draw(st.frozensets(st.sampled_from(REGIONS[1:]))))),
        seal_to=tuple(sorted(some("alice", "bob"))),
    )


@st.composite
def tightened(draw: st.DrawFn, facts: Facts) -> Facts:
    """The facts where the requester stands no better, and the dataset is answered in no more ways."""
    cap = facts.gate_epsilon_nano
    lower = draw(AMOUNTS)
    return replace(
        facts,
        gate_k=facts.gate_k + draw(st.integers(0, 20)),
        gate_epsilon_nano=draw(st.sampled_from([cap, lower if cap is None else min(cap, lower)])),
        gate_approvers=draw(st.integers(facts.gate_approvers, 2)),
        contract_state=draw(st.sampled_from([facts.contract_state, "suspended"])),
        region=draw(st.sampled_from([facts.region, ""])),
        offered=tuple(mode for mode in facts.offered if draw(st.booleans())),
        k=draw(st.integers(0, facts.k)),
        max_price_micro=draw(st.sampled_from([facts.max_price_micro, 0])),
    )


@st.composite
def restricted(draw: st.DrawFn, contract: Contract) -> Contract:
    """The contract with more asked or less allowed. A share of 0 is none stated, which is no lower one: the
    account that binds may be the other."""
    epsilon = contract.epsilon_per_query_nano
    per_query = contract.approval == "per_query"
    regions = contract.regions or REGIONS[1:]
    return replace(
        contract,
        k=contract.k + draw(st.integers(0, 10)),
        regions=draw(st.sampled_from([contract.regions, regions[:1]])),
        approval=draw(st.sampled_from([contract.approval, "per_query"])),
        approvers=draw(st.integers(contract.approvers if per_query else 1, 2)),
        seal_to=tuple(name for name in contract.seal_to if draw(st.booleans())),
        measures=frozenset(name for name in contract.measures if draw(st.booleans())),
        epsilon_per_query_nano=draw(st.integers(min(1, epsilon), epsilon)),
        valid_until=contract.valid_until - timedelta(hours=draw(st.integers(0, 30))),
    )


def strictness(decision: Decision) -> int:
    """0 for an answer, then persons asked, 3 for a refusal."""
    match decision:
        case Allow():
            return 0
        case NeedsApproval(_, _, persons):
            return persons
        case Deny():
            return 3


@given(FACTS)
def test_facts_are_written_in_their_canonical_form(facts: Facts) -> None:
    assert facts_bytes(facts) == canonical_json(facts_json(facts))
    later = replace(facts, now=facts.now + timedelta(microseconds=1))
    assert facts_bytes(later) == canonical_json(facts_json(later))


@given(FACTS)
def test_facts_that_say_yes_for_a_number_are_none(facts: Facts) -> None:
    """Mutant: they are read. `true` and 1 are equal, so whichever is written first stands for the other: an honest
    decision would not be its own canonical form after a forged one."""
    for name in ("k", "gate_k", "snapshot"):
        forged = parse_canonical(canonical_json({**facts_json(facts), name: True}))
        assert isinstance(forged, dict)
        with pytest.raises(ValueError, match=name):
            facts_from_json(forged)


@given(st.data())
def test_nothing_that_restricts_makes_a_decision_milder(data: st.DataObject) -> None:
    """Kills: any clause of `decide` with its comparison turned round, and `min` for `max` in `persons_asked`."""
    facts, contract = data.draw(FACTS), data.draw(contracts())
    before = decide(facts, contract, policy_digest="p")
    after = decide(data.draw(tightened(facts)), data.draw(restricted(contract)), policy_digest="p")
    assert strictness(after) >= strictness(before)
    if isinstance(before, Deny) and isinstance(after, Deny):
        assert {reason.code for reason in before.reasons} <= {reason.code for reason in after.reasons}


@given(FACTS, contracts())
def test_no_gate_or_contract_lifts_a_red_line(facts: Facts, contract: Contract) -> None:
    asked = {facts.mode, "encrypted"} if facts.terms else {facts.mode}
    crossed = not asked <= set(facts.offered) or facts.role != "requester" or (facts.mode == "exact" and facts.k < 10)
    if crossed:
        assert isinstance(decide(facts, contract, policy_digest="p"), Deny)


@given(FACTS, contracts())
def test_as_many_persons_are_asked_as_the_stricter_of_both_asks(facts: Facts, contract: Contract) -> None:
    decision = decide(facts, contract, policy_digest="p")
    asked = persons_needed(facts, contract)
    assert asked >= facts.gate_approvers
    assert isinstance(decision, Deny) or strictness(decision) == asked
    if isinstance(decision, NeedsApproval):
        assert 1 <= len(decision.reasons) <= 2


@given(FACTS)
def test_facts_are_read_back_as_they_were_kept(facts: Facts) -> None:
    kept = facts_bytes(facts)
    content = parse_canonical(kept)
    assert isinstance(content, dict)
    again = facts_from_json(content)
    assert again == facts
    assert facts_bytes(again) == kept
    assert set(facts_json(facts)) == {field.name for field in fields(Facts)}, (
        "nothing that a decision reads is left out"
    )


@given(FACTS, contracts())
def test_a_decision_from_what_was_kept_is_the_same(facts: Facts, contract: Contract) -> None:
    content = parse_canonical(facts_bytes(facts))
    assert isinstance(content, dict)
    first = outcome_json(decide(facts, contract, policy_digest="p"))
    assert outcome_json(decide(facts_from_json(content), contract, policy_digest="q")) == first
    assert canonical_json(first), "a leaf can hold it"
