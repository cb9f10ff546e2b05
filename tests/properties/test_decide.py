# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from datetime import UTC, datetime, timedelta
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
from weir_server.catalog.card import Mode
from weir_server.plan.analyse import analyse
from weir_server.plan.bind import bind
from weir_server.plan.values import EncryptedTerms, Plan, Submission
from weir_server.policy.contract import Contract, Rates
from weir_server.policy.decide import Allow, Decision, Deny, decide
from weir_server.policy.difference import differences
from weir_server.policy.documents import Policy, parse_documents

CATALOGUE = catalogue()
TECHNIQUES = {mode: ScoringTechnique(mode) for mode in (Mode.EXACT, Mode.DP)}
MIDDLE = datetime(2026, 11, 22, tzinfo=UTC)
BASE = next(iter(parse_documents([contract_document()]).contracts.values()))
DIMENSIONS, MEASURES = ("site", "coast", "age", "adult"), ("visits", "dollars")
FUNCTIONS = (Function.COUNT, Function.SUM, Function.AVG)
PURPOSES = ("research", "teaching", "sale")
INSTANTS = st.integers(-3, 3).map(lambda days: MIDDLE + timedelta(days=days))


def some(*items: Any) -> st.SearchStrategy[frozenset[Any]]:
    return st.frozensets(st.sampled_from(items))


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    """Any contract whose validity, scope and ceilings may or may not fit."""
    begin = draw(INSTANTS)
    return replace(
        BASE,
        requester=draw(st.sampled_from(["alice", "bob"])),
        dataset=draw(st.sampled_from(["census", "spending"])),
        purposes=tuple(sorted(draw(some(*PURPOSES)))) or ("research",),
        modes=draw(some(*Mode)),
        dimensions=draw(some(*DIMENSIONS)),
        measures=draw(some(*MEASURES)),
        aggregates=draw(some(*FUNCTIONS)),
        epsilon_per_query_nano=draw(st.integers(0, 2 * NANO)),
        valid_from=begin,
        valid_until=begin + timedelta(days=draw(st.integers(1, 4))),
        approval=draw(st.sampled_from(["none", "per_query"])),
        rates=Rates(per_query_micro=draw(st.integers(0, 3))),
    )


@st.composite
def submissions(draw: st.DrawFn) -> Submission:
    """Any submission that binds."""
    dataset = draw(st.sampled_from(["census", "spending"]))
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
        who=draw(st.sampled_from([ALICE, BOB, replace(ALICE, role="operator")])),
        epsilon=draw(st.integers(1, 2 * NANO)),
        purpose=draw(st.sampled_from(["", *PURPOSES])),
        max_price=draw(st.none() | st.integers(0, 3)),
        encrypted=encrypted,
    )


def planned(submission: Submission, contract: Contract) -> Plan:
    bound = bind(submission, CATALOGUE)
    return analyse(bound, TECHNIQUES[bound.mode], contract)


def decided(submission: Submission, contract: Contract, now: datetime) -> Decision:
    return decide(facts_about(planned(submission, contract), now=now), contract, policy_digest="p")


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
    )


@given(st.data())
def test_a_restriction_never_turns_a_refusal_into_an_answer(data: st.DataObject) -> None:
    contract, submission, now = data.draw(contracts()), data.draw(submissions()), data.draw(INSTANTS)
    narrower = data.draw(restricted(contract))
    before, after = decided(submission, contract, now), decided(submission, narrower, now)
    if isinstance(before, Deny):
        assert isinstance(after, Deny)
        assert {reason.code for reason in before.reasons} <= {reason.code for reason in after.reasons}
    if not isinstance(before, Allow):
        assert not isinstance(after, Allow)


@given(st.data())
def test_what_is_marked_as_not_loosening_allows_nothing_new(data: st.DataObject) -> None:
    old, submission, now = data.draw(contracts()), data.draw(submissions()), data.draw(INSTANTS)
    # Stated, since a contract that keeps one purpose of two implies it, which is no wider permission.
    submission = replace(submission, purpose=submission.purpose or "research")
    new = data.draw(st.one_of(contracts(), restricted(old)))
    new = replace(new, rates=old.rates)  # A price is no permission: the requester's own ceiling guards it.
    changes = differences(Policy({"contract": {"c-1": old}}), Policy({"contract": {"c-1": new}}), {})
    if not any(change.loosens for change in changes) and isinstance(decided(submission, new, now), Allow):
        assert isinstance(decided(submission, old, now), Allow)


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
