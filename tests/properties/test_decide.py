# SPDX-License-Identifier: Apache-2.0
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support.bound import catalogue
from tests.support.domain import (
    ALICE,
    BOB,
    COUNT,
    DOLLARS,
    NANO,
    VISITS,
    ScoringTechnique,
    contract_document,
    equals,
    facts_about,
    submit,
)
from weir.query import Aggregate, AllOf, Function, Query, canonicalise
from weir_server.catalog.card import K_FLOOR, Mode
from weir_server.catalog.rates import Rates
from weir_server.plan.analyse import analyse
from weir_server.plan.bind import bind
from weir_server.plan.values import EncryptedTerms, Plan, Submission
from weir_server.policy.contract import Contract, Duty
from weir_server.policy.decide import Allow, Decision, Deny, NeedsApproval, decide
from weir_server.policy.difference import differences
from weir_server.policy.documents import Policy, parse_documents
from weir_server.policy.lifecycle import STATES

CATALOGUE = catalogue()
TECHNIQUES = {mode: ScoringTechnique(mode) for mode in (Mode.EXACT, Mode.DP)}
MIDDLE = datetime(2026, 11, 22, tzinfo=UTC)
BASE = next(iter(parse_documents([contract_document()]).contracts.values()))
DIMENSIONS, MEASURES = ("site", "coast", "age", "adult"), ("visits", "dollars")
FUNCTIONS = (Function.COUNT, Function.SUM, Function.AVG)
PURPOSES = ("research", "teaching", "sale")
REGIONS = ("CN", "CN-31", "DE")
DUTY = Duty("delete", "Delete the extract.", MIDDLE)
INSTANTS = st.integers(-3, 3).map(lambda days: MIDDLE + timedelta(days=days))


def some(*items: Any) -> st.SearchStrategy[frozenset[Any]]:
    return st.frozensets(st.sampled_from(items))


def often(fitting: Any, otherwise: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what fits, so that examples often fail, or hold, for one reason alone."""
    return st.integers(0, 9).flatmap(lambda roll: otherwise if roll == 0 else st.just(fitting))


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    """Any contract whose validity, scope and ceilings may or may not fit."""
    begin = draw(often(MIDDLE - timedelta(days=4), INSTANTS))
    return replace(
        BASE,
        requester=draw(often("alice", st.just("bob"))),
        dataset=draw(often("census", st.just("spending"))),
        purposes=tuple(sorted(draw(often(frozenset(PURPOSES), some(*PURPOSES))))) or ("research",),
        modes=draw(often(frozenset(Mode), some(*Mode))),
        dimensions=draw(often(frozenset(DIMENSIONS), some(*DIMENSIONS))),
        measures=draw(often(frozenset(MEASURES), some(*MEASURES))),
        aggregates=draw(often(frozenset(FUNCTIONS), some(*FUNCTIONS))),
        epsilon_per_query_nano=draw(often(2 * NANO, st.integers(0, 2 * NANO))),
        valid_from=begin,
        valid_until=begin + timedelta(days=draw(often(8, st.integers(1, 4)))),
        approval=draw(st.sampled_from(["none", "per_query"])),
        approvers=draw(st.integers(1, 2)),
        k=draw(st.integers(10, 12)),
        regions=draw(st.sampled_from([(), ("CN",), ("CN-31", "DE"), ("DE",)])),
        duties=draw(st.sampled_from([(), (DUTY,)])),
        signatures=draw(st.sampled_from(["required", "none"])),
        seal_to=draw(often(("alice", "bob"), st.sampled_from([(), ("alice",)]))),
        rates=Rates(per_query_micro=draw(st.integers(0, 3))),
    )


@st.composite
def submissions(draw: st.DrawFn) -> Submission:
    """Any submission that binds."""
    dataset = draw(often("census", st.just("spending")))
    measure = "visits" if dataset == "census" else "dollars"
    offered = [COUNT, VISITS if dataset == "census" else DOLLARS, Aggregate(Function.AVG, measure)]
    leaves = {"site": "west", "coast": "sea", "age": 18, "adult": True}
    where = tuple(equals(column, leaves[column]) for column in sorted(draw(some(*DIMENSIONS))))  # type: ignore[arg-type]
    groups = tuple(sorted(draw(some("site", "coast", "age"))))
    chosen = tuple(draw(st.lists(st.sampled_from(offered), min_size=1, max_size=3)))
    query = canonicalise(Query(dataset, chosen, groups, AllOf(where) if where else None))
    encrypted = None
    if all(aggregate.function is not Function.AVG for aggregate in query.aggregates) and draw(st.booleans()):
        encrypted = EncryptedTerms("sealed", "sha256:" + "0" * 64, key_bits=2048, key_owners=frozenset({"bob"}))
    return submit(
        query,
        who=draw(often(ALICE, st.sampled_from([BOB, replace(ALICE, role="operator")]))),
        epsilon=draw(st.integers(1, 2 * NANO)),
        purpose=draw(st.sampled_from(["", *PURPOSES])),
        max_price=draw(often(None, st.integers(0, 3))),
        encrypted=encrypted,
    )


def planned(submission: Submission, contract: Contract) -> Plan:
    bound = bind(submission, CATALOGUE)
    return analyse(bound, TECHNIQUES[bound.mode], contract)


def decided(
    submission: Submission, contract: Contract, now: datetime, around: Mapping[str, Any] = MappingProxyType({})
) -> Decision:
    facts = facts_about(planned(submission, contract), now=now, **around)
    return decide(facts, contract, policy_digest="p")


@st.composite
def circumstances(draw: st.DrawFn) -> dict[str, Any]:
    """Anything that is true of requester, contract and dataset beside the query. Most often nothing is in the way."""
    return {
        "region": draw(often("CN-31", st.sampled_from([*REGIONS, ""]))),
        "contract_state": draw(often("active", st.sampled_from(STATES))),
        "k": draw(often(12, st.integers(10, 13))),
        "gate_k": draw(often(0, st.sampled_from([11, 14]))),
        "gate_epsilon_nano": draw(often(None, st.integers(0, 2 * NANO))),
        "gate_approvers": draw(often(0, st.integers(1, 2))),
    }


@st.composite
def worse(draw: st.DrawFn, around: Mapping[str, Any]) -> dict[str, Any]:
    """The same, or less in favour of an answer."""
    epsilon = around["gate_epsilon_nano"]
    return {
        "region": draw(st.sampled_from([around["region"], ""])),
        "contract_state": draw(st.sampled_from([around["contract_state"], *STATES[:2], *STATES[3:]])),
        "k": draw(st.integers(10, around["k"])),
        "gate_k": around["gate_k"] + draw(st.integers(0, 2)),
        "gate_epsilon_nano": draw(st.integers(0, 2 * NANO if epsilon is None else epsilon)),
        "gate_approvers": draw(st.integers(around["gate_approvers"], 2)),
    }


@st.composite
def restricted(draw: st.DrawFn, contract: Contract) -> Contract:
    """The contract with less in it, never more. Purposes keep their first: dropping to one names an implied one."""

    def fewer(items: frozenset[Any]) -> frozenset[Any]:
        return items - draw(st.frozensets(st.sampled_from(sorted(items, key=str)))) if items else items

    return replace(
        contract,
        modes=fewer(contract.modes),
        dimensions=fewer(contract.dimensions),
        measures=fewer(contract.measures),
        aggregates=fewer(contract.aggregates),
        epsilon_per_query_nano=draw(st.integers(0, contract.epsilon_per_query_nano)),
        valid_from=contract.valid_from + timedelta(hours=draw(st.integers(0, 30))),
        valid_until=contract.valid_until - timedelta(hours=draw(st.integers(0, 30))),
        approval="per_query" if draw(st.booleans()) else contract.approval,
        approvers=draw(st.integers(contract.approvers, 2)),
        k=contract.k + draw(st.integers(0, 2)),
        regions=draw(fewer_regions(contract)),
        duties=(DUTY,),
        signatures=draw(st.sampled_from(["required", contract.signatures])),
        seal_to=tuple(sorted(fewer(frozenset(contract.seal_to)))),
    )


def fewer_regions(contract: Contract) -> st.SearchStrategy[tuple[str, ...]]:
    """Some of the regions, or a part of one; any where there were all. None would be all."""
    known = contract.regions or REGIONS
    parts = {"CN": ("CN-31",), "CN-31": ("CN-31",), "DE": ("DE-BE",)}
    fewer = st.sets(st.sampled_from(known), min_size=1).map(lambda chosen: tuple(sorted(chosen)))
    return st.one_of(st.just(contract.regions), fewer, fewer.map(lambda chosen: parts[chosen[0]]))


def assert_no_wider(before: Decision, after: Decision) -> None:
    """Nothing that was refused, or needed persons, is now allowed, or needs fewer."""
    if isinstance(before, Deny):
        assert isinstance(after, Deny)
        assert {reason.code for reason in before.reasons} <= {reason.code for reason in after.reasons}
    if isinstance(before, NeedsApproval):
        assert not isinstance(after, Allow)
        assert not isinstance(after, NeedsApproval) or after.persons >= before.persons


@given(st.data())
def test_a_restriction_never_turns_a_refusal_into_an_answer(data: st.DataObject) -> None:
    contract, submission, now = data.draw(contracts()), data.draw(submissions()), data.draw(INSTANTS)
    narrower, around = data.draw(restricted(contract)), data.draw(circumstances())
    assert_no_wider(decided(submission, contract, now, around), decided(submission, narrower, now, around))


@given(st.data())
def test_worse_circumstances_never_turn_a_refusal_into_an_answer(data: st.DataObject) -> None:
    contract, submission, now = data.draw(contracts()), data.draw(submissions()), data.draw(INSTANTS)
    around = data.draw(circumstances())
    after = decided(submission, contract, now, data.draw(worse(around)))
    assert_no_wider(decided(submission, contract, now, around), after)


@given(st.data())
def test_no_state_but_active_is_answered_and_no_region_but_the_contract_s(data: st.DataObject) -> None:
    contract, submission, now = data.draw(contracts()), data.draw(submissions()), data.draw(INSTANTS)
    around = data.draw(circumstances())
    decision = decided(submission, contract, now, around)
    if isinstance(decision, Deny):
        return
    assert around["contract_state"] == "active"
    assert not contract.regions or any(around["region"][: len(wider)] == wider for wider in contract.regions)
    exact = planned(submission, contract).bound.mode is Mode.EXACT
    assert not exact or around["k"] >= max(contract.k, around["gate_k"], K_FLOOR)
    asked = contract.approvers if contract.approval == "per_query" else 0
    persons = decision.persons if isinstance(decision, NeedsApproval) else 0
    assert persons == max(asked, around["gate_approvers"])


@given(st.data())
def test_what_is_marked_as_not_loosening_allows_nothing_new(data: st.DataObject) -> None:
    old, submission, now = data.draw(contracts()), data.draw(submissions()), data.draw(INSTANTS)
    # Stated, since a contract that keeps one purpose of two implies it, which is no wider permission.
    submission = replace(submission, purpose=submission.purpose or "research")
    new = data.draw(st.one_of(contracts(), restricted(old)))
    new = replace(new, rates=old.rates)  # A price is no permission: the requester's own ceiling guards it.
    changes = differences(Policy({"contract": {"c-1": old}}), Policy({"contract": {"c-1": new}}), {})
    if not any(change.loosens for change in changes):
        around = data.draw(circumstances())
        assert_no_wider(decided(submission, old, now, around), decided(submission, new, now, around))


@given(contract=contracts(), submission=submissions(), now=INSTANTS)
def test_a_decision_is_a_function_of_its_inputs(contract: Contract, submission: Submission, now: datetime) -> None:
    assert decided(submission, contract, now) == decided(submission, contract, now)


@given(contract=contracts(), submission=submissions(), now=INSTANTS)
def test_what_is_allowed_lies_wholly_inside_the_contract(
    contract: Contract, submission: Submission, now: datetime
) -> None:
    if isinstance(decided(submission, contract, now), Deny):
        return
    plan = planned(submission, contract)
    assert contract.requester == submission.principal.name
    assert submission.principal.role == "requester"
    assert contract.dataset == submission.query.dataset
    assert contract.valid_from <= now < contract.valid_until
    assert set(submission.query.group_by) <= contract.dimensions
    assert {a.function for a in submission.query.aggregates} <= contract.aggregates
    assert {a.measure for a in submission.query.aggregates if a.measure} <= contract.measures
    assert plan.analysis.loss.epsilon_nano <= contract.epsilon_per_query_nano
    wanted = plan.bound.mode if submission.encrypted is None else Mode.ENCRYPTED
    assert wanted in contract.modes
