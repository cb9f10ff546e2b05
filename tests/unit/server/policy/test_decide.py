# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.bound import catalogue
from tests.support.domain import (
    ALICE,
    BOB,
    COUNT,
    DOLLARS,
    NANO,
    VISITS,
    ScoringTechnique,
    by_site,
    census_card,
    contract_document,
    dp_contract_document,
    equals,
    facts_about,
    submit,
    submit_dp,
)
from weir.query import Aggregate, Comparison, Function, Literal, Operator, Query, canonicalise
from weir_server.catalog.card import Grade, Mode
from weir_server.plan.analyse import analyse
from weir_server.plan.bind import bind
from weir_server.plan.values import EncryptedTerms, Plan, Submission
from weir_server.policy.contract import Contract
from weir_server.policy.decide import Allow, Decision, Deny, NeedsApproval, decide, red_lines
from weir_server.policy.documents import parse_documents

NOW = datetime(2026, 11, 22, tzinfo=UTC)
WEIGHTS = EncryptedTerms("weights", "sha256:" + "0" * 64, weights=4, weight_bits=20, key_bits=2048)
TECHNIQUES = {mode: ScoringTechnique(mode) for mode in (Mode.EXACT, Mode.DP)}


def contract(document: str | None = None) -> Contract:
    return next(iter(parse_documents([document or contract_document()]).contracts.values()))


CONTRACT, DP_CONTRACT = contract(), contract(dp_contract_document())


def plan(submission: Submission, under: Contract) -> Plan:
    bound = bind(submission, catalogue())
    return analyse(bound, TECHNIQUES[bound.mode], under)


def decided(submission: Submission, under: Contract = CONTRACT, now: datetime = NOW) -> Decision:
    return decide(facts_about(plan(submission, under), now=now), under, policy_digest="p")


def codes(submission: Submission, under: Contract = CONTRACT, now: datetime = NOW) -> list[str]:
    decision = decided(submission, under, now)
    return [reason.code for reason in decision.reasons] if isinstance(decision, Deny) else []


ALONE: dict[str, tuple[Submission, Contract]] = {
    "contract.requester": (submit(who=BOB), CONTRACT),
    "contract.dataset": (submit(), replace(CONTRACT, dataset="spending")),
    "contract.not_yet_valid": (submit(), replace(CONTRACT, valid_from=NOW + timedelta(microseconds=1))),
    "contract.expired": (submit(), replace(CONTRACT, valid_until=NOW)),
    "contract.purpose": (submit(purpose="sale"), CONTRACT),
    "contract.mode": (submit(encrypted=WEIGHTS), replace(CONTRACT, modes=frozenset({Mode.EXACT}))),
    "contract.dimension": (submit(canonicalise(Query("census", (COUNT,), ("adult",)))), CONTRACT),
    "contract.measure": (submit(by_site(VISITS)), replace(CONTRACT, measures=frozenset())),
    "contract.aggregate": (submit(by_site(VISITS)), replace(CONTRACT, aggregates=frozenset({Function.COUNT}))),
    "contract.epsilon_per_query": (submit_dp(epsilon=NANO + 1), DP_CONTRACT),
    "price.limit": (submit(max_price=539_999), CONTRACT),
}


@pytest.mark.parametrize("code", ALONE)
def test_each_reason_is_found_alone(code: str) -> None:
    assert codes(*ALONE[code]) == [code]


def test_what_breaks_no_rule_is_allowed_under_the_policys_name() -> None:
    assert decided(submit()) == Allow("p")
    assert decided(submit(max_price=540_000)) == Allow("p")
    assert decided(submit_dp(epsilon=NANO), DP_CONTRACT) == Allow("p")


def test_every_reason_is_reported_at_once() -> None:
    under = replace(
        DP_CONTRACT,
        dataset="census",
        valid_until=NOW,
        modes=frozenset({Mode.EXACT}),
        dimensions=frozenset(),
        measures=frozenset(),
        aggregates=frozenset({Function.COUNT}),
    )
    asked = submit_dp(who=BOB, epsilon=NANO + 1, purpose="sale", max_price=0)
    expected = set(ALONE) - {"contract.not_yet_valid"}
    assert set(codes(asked, under)) == expected


def test_a_name_without_letters_covers_no_filter() -> None:
    asked = submit(canonicalise(Query("census", (COUNT,), (), equals("site", "north"))))
    assert codes(asked, replace(CONTRACT, dimensions=frozenset({""}))) == ["contract.dimension"]


def test_a_contract_begins_at_its_first_instant_and_ends_before_its_last() -> None:
    begins, ends = CONTRACT.valid_from, CONTRACT.valid_until
    tick = timedelta(microseconds=1)
    assert codes(submit(), now=begins - tick) == ["contract.not_yet_valid"]
    assert codes(submit(), now=begins) == []
    assert codes(submit(), now=ends - tick) == []
    assert codes(submit(), now=ends) == ["contract.expired"]


def test_only_requesters_are_entitled_whatever_their_name() -> None:
    for role in ("operator", "auditor"):
        assert codes(submit(who=replace(ALICE, role=role))) == ["redline.roles"]


def test_the_only_purpose_need_not_be_stated_but_one_of_two_must() -> None:
    two = replace(CONTRACT, purposes=("research", "teaching"))
    assert codes(submit()) == []
    assert codes(submit(), two) == ["contract.purpose"]
    assert codes(submit(purpose="teaching"), two) == []


def test_approval_is_asked_only_of_what_would_be_allowed() -> None:
    under = replace(CONTRACT, approval="per_query")
    asked = decided(submit(), under)
    assert isinstance(asked, NeedsApproval)
    assert [reason.code for reason in asked.reasons] == ["contract.approval"]
    assert codes(submit(purpose="sale"), under) == ["contract.purpose"]


# ── scope of columns ───────────────────────────────────────────────────────────────────────────────────────────────

COARSE_ONLY = replace(CONTRACT, dimensions=frozenset({"coast"}))
BASE_ONLY = replace(CONTRACT, dimensions=frozenset({"site"}))


def counted(groups: tuple[str, ...], column: str | None, value: str = "") -> Submission:
    return submit(canonicalise(Query("census", (COUNT,), groups, equals(column, value) if column else None)))


def test_a_contract_for_the_coarser_dimension_does_not_reach_its_base() -> None:
    assert codes(counted(("coast",), "coast", "sea"), COARSE_ONLY) == []
    assert codes(counted(("coast",), "site", "west"), COARSE_ONLY) == ["contract.dimension"]
    assert codes(counted((), "site", "west"), COARSE_ONLY) == ["contract.dimension"]
    assert codes(counted(("site",), "coast", "sea"), COARSE_ONLY) == ["contract.dimension"]
    assert codes(counted(("site",), None), COARSE_ONLY) == ["contract.dimension"]


def test_a_contract_for_the_base_covers_filters_on_what_coarsens_it() -> None:
    assert codes(counted(("site",), "coast", "sea"), BASE_ONLY) == []
    assert codes(counted(("coast",), None), BASE_ONLY) == ["contract.dimension"]


def test_a_filter_is_in_scope_only_where_every_column_of_it_is() -> None:
    query = canonicalise(Query("census", (COUNT,), ("site",), Comparison("age", Operator.LESS, Literal(18))))
    assert codes(submit(query), BASE_ONLY) == ["contract.dimension"]
    assert codes(submit(query)) == []


def test_a_measure_in_a_filter_needs_entitlement_too() -> None:
    where = Comparison("dollars", Operator.GREATER, Literal(3))
    query = canonicalise(Query("spending", (COUNT,), ("site",), where))
    under = replace(DP_CONTRACT, measures=frozenset())
    assert codes(submit_dp(query), under) == ["contract.measure"]
    assert codes(submit_dp(query), DP_CONTRACT) == []


def test_an_encrypted_query_needs_the_encrypted_mode_and_no_other() -> None:
    only = replace(CONTRACT, modes=frozenset({Mode.ENCRYPTED}))
    assert codes(submit(encrypted=WEIGHTS), only) == []
    assert codes(submit(), only) == ["contract.mode"]


def test_the_sentences_name_what_is_allowed_and_no_more_than_the_contract_says() -> None:
    decision = decided(submit(by_site(Aggregate(Function.AVG, "visits"))), replace(CONTRACT, measures=frozenset({"x"})))
    assert isinstance(decision, Deny)
    assert decision.reasons[0].sentence == "visits not covered; the contract allows x"


# ── red lines ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("grade", [Grade.IMPORTANT, Grade.CORE])
def test_no_contract_lifts_a_red_line(grade: Grade) -> None:
    bound = bind(submit(by_site(VISITS)), catalogue(census_card(grade=grade)))
    assert [reason.code for reason in red_lines(bound, grade=grade.name, offered=bound.card.modes)] == [
        "grade.technique"
    ]
    core = analyse(bound, TECHNIQUES[Mode.EXACT], CONTRACT)
    decision = decide(facts_about(core, now=NOW), CONTRACT, policy_digest="p")
    assert isinstance(decision, Deny)
    assert decision.reasons[0].code == "grade.technique"


def test_general_data_with_dp_measures_is_within_the_lines() -> None:
    bound = bind(submit_dp(by_site(DOLLARS, dataset="spending")), catalogue())
    assert red_lines(bound, grade="GENERAL", offered=bound.card.modes) == ()
