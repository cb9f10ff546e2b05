# SPDX-License-Identifier: Apache-2.0
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gates import assessment_document, gates_document
from weir.errors import InvalidRequest
from weir.questionnaire import QUESTIONS
from weir_server.policy.assessment import Assessment
from weir_server.policy.assessment import loosens as assessment_loosens
from weir_server.policy.documents import parse_documents
from weir_server.policy.gates import LEVELS, RESTRICTED, WATCHED, Gate, Gates, loosens

NOW = datetime(2026, 11, 22, tzinfo=UTC)
NANO = 10**9


def gates(**changes: Any) -> Gates:
    found = parse_documents([gates_document(**changes)]).gates
    assert found is not None
    return found


def assessment(**changes: Any) -> Assessment:
    return parse_documents([assessment_document(**changes)]).assessments["alice"]


def faults(*documents: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        parse_documents(list(documents))
    return caught.value.message


# ── assessments ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("answer", "score"), [(0, 0), (1, 33), (2, 66), (3, 100)])
def test_an_assessment_has_the_score_of_its_answers(answer: int, score: int) -> None:
    assert assessment(answer=answer).score == score


ANSWERS = yaml.safe_load(assessment_document())["answers"]
WRONG_ANSWERS = {
    "left out": (ANSWERS[1:], "leave out org-responsible"),
    "unknown": ([*ANSWERS, {"question": "other", "answer": 1, "evidence": "x"}], "does not ask: other"),
    "twice": ([*ANSWERS, ANSWERS[0]], "question org-responsible is defined twice"),
    "too high": ([{**ANSWERS[0], "answer": 4}, *ANSWERS[1:]], "must be 0 to 3"),
    "no answer": ([{**ANSWERS[0], "answer": None}, *ANSWERS[1:]], "whole number"),
    "no evidence": ([{"question": ANSWERS[0]["question"], "answer": 1}, *ANSWERS[1:]], "evidence must be a text"),
    "digest": ([{**ANSWERS[0], "digest": "sha256:12"}, *ANSWERS[1:]], "64 hex digits"),
    "more": ([{**ANSWERS[0], "weight": 100}, *ANSWERS[1:]], "unknown key 'weight'"),
}


@pytest.mark.parametrize("what", WRONG_ANSWERS)
def test_answers_that_are_not_whole_are_faults(what: str) -> None:
    answers, sentence = WRONG_ANSWERS[what]
    assert sentence in faults(assessment_document(answers=answers))


def test_another_scheme_and_a_time_that_ends_before_it_begins_are_faults() -> None:
    assert "scheme must be one of weir-recipient-1" in faults(assessment_document(scheme="other"))
    assert "must be after assessed_on" in faults(assessment_document(valid_until="2026-01-01T00:00:00+00:00"))


def test_a_digest_of_evidence_is_part_of_what_is_compared() -> None:
    digest = f"sha256:{'0' * 64}"
    with_digest = parse_documents([assessment_document(answers=[{**ANSWERS[0], "digest": digest}, *ANSWERS[1:]])])
    assert with_digest.digest != parse_documents([assessment_document()]).digest
    assert with_digest.assessments["alice"].answers[0].digest == digest


def test_the_order_of_answers_says_nothing() -> None:
    assert assessment(answers=ANSWERS[::-1]) == assessment()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"answer": 1}, False),
        ({"valid_until": "2026-06-01T00:00:00+00:00"}, False),
        ({"assessed_on": "2026-06-01T00:00:00+00:00"}, False),
        ({"answers": ANSWERS}, True),
        ({"valid_until": "2028-01-01T00:00:00+00:00"}, True),
        ({"assessed_on": "2025-06-01T00:00:00+00:00"}, True),
    ],
)
def test_a_better_or_longer_assessment_loosens(change: dict[str, Any], expected: bool) -> None:
    assert assessment_loosens(assessment(answer=2), assessment(**{"answer": 2, **change})) is expected


def test_a_new_assessment_loosens_and_one_that_goes_does_not() -> None:
    assert assessment_loosens(None, assessment(answer=0))
    assert not assessment_loosens(assessment(), None)


# ── tiers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("score", "tier"),
    [(100, "high"), (80, "high"), (79, "middle"), (50, "middle"), (49, "unassessed"), (0, "unassessed")],
)
def test_the_tier_is_the_highest_that_the_score_reaches(score: int, tier: str) -> None:
    assert gates().tier_of_score(score).name == tier


def test_who_is_not_assessed_yet_or_any_more_is_in_the_strictest_tier() -> None:
    found, held = gates(), assessment()
    assert found.tier(held, now=NOW).name == "high"
    assert found.tier(None, now=NOW).name == "unassessed"
    assert found.tier(held, now=held.valid_until).name == "unassessed"
    assert found.tier(held, now=datetime(2025, 12, 31, 23, 59, tzinfo=UTC)).name == "unassessed"
    assert found.tier(held, now=held.assessed_on).name == "high"


def tiers(high: dict[str, Any], low: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"tier": "high", "least_score": 80, **high}, {"tier": "low", "least_score": 1, **low}]


LOOSER_BELOW = {
    "cap": tiers({"epsilon_per_query": "0.5"}, {"epsilon_per_query": "0.6"}),
    "no cap": tiers({"epsilon_per_query": "0.5"}, {}),
    "k": tiers({"k": 10}, {"k": 9, "approvers": 2}),
    "approvers": tiers({"approvers": 1}, {"k": 20}),
    "unassessed": [{"tier": "high", "least_score": 80, "approvers": 2}],
}


@pytest.mark.parametrize("what", LOOSER_BELOW)
def test_a_lower_tier_that_is_looser_in_anything_is_a_fault(what: str) -> None:
    assert "must not be looser below" in faults(gates_document(tiers=LOOSER_BELOW[what]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"unassessed": None}, "must say what is asked"),
        ({"tiers": [{"tier": "a", "least_score": 1}, {"tier": "a", "least_score": 2}]}, "tier a is defined twice"),
        ({"tiers": tiers({"least_score": 1}, {})}, "least_score 1 is defined twice"),
        ({"tiers": [{"tier": "a", "least_score": 101}]}, "must be at most 100"),
        ({"tiers": [{"tier": "a", "least_score": 1, "approvers": 3}]}, "must be at most 2"),
        ({"tiers": [{"tier": "a", "least_score": 1, "epsilon_per_query": "0"}]}, "must be greater than 0"),
        ({"standing": {"watched": {"refusals": 0}}}, "counts must be at least 1"),
        ({"standing": {"watched": {"approvers": 2}, "restricted": {"approvers": 1}}}, "looser when restricted"),
        ({"standing": {"watched": {"refusals": 9}, "restricted": {"refusals": 8}}}, "restrict before it watches"),
        ({"standing": {"poor": {}}}, "unknown key 'poor'"),
        ({"gates": "other"}, "must be one of default"),
    ],
)  # fmt: skip
def test_gates_that_make_no_sense_are_faults(change: dict[str, Any], sentence: str) -> None:
    assert sentence in faults(gates_document(**change))


def test_a_policy_has_one_set_of_gates_at_most() -> None:
    assert "gates default is defined twice" in faults(gates_document(), gates_document())
    assert parse_documents([]).gates is None


def test_a_level_tightens_what_the_tier_asks_and_never_eases_it() -> None:
    found = gates()
    tier = found.tier_of_score(60)
    assert found.gate(tier, "good") == Gate(10, NANO, 0)
    assert found.gate(tier, "watched") == Gate(10, NANO, 1)
    assert found.gate(tier, "restricted") == Gate(10, NANO // 20, 2)


def test_levels_have_documented_defaults() -> None:
    found = gates(standing={})
    assert (found.watched, found.restricted) == (WATCHED, RESTRICTED)
    assert (WATCHED.counts(), RESTRICTED.counts()) == ((50, 1, 1), (500, 3, 3))
    assert RESTRICTED.gate.covers(WATCHED.gate)


@pytest.mark.parametrize(
    ("counts", "level"),
    [
        ({}, "good"),
        ({"refusals": 2}, "good"),
        ({"refusals": 3}, "watched"),
        ({"disputes": 1}, "watched"),
        ({"overdue_duties": 1}, "watched"),
        ({"refusals": 6}, "restricted"),
        ({"disputes": 3}, "restricted"),
        ({"overdue_duties": 3}, "restricted"),
        ({"refusals": 5, "disputes": 2, "overdue_duties": 2}, "watched"),
    ],
)
def test_any_one_count_makes_the_level(counts: dict[str, int], level: str) -> None:
    assert gates().level(**{"refusals": 0, "disputes": 0, "overdue_duties": 0, **counts}) == level


GATE = st.builds(
    Gate, k=st.integers(0, 30), epsilon_nano=st.none() | st.integers(1, 10**10), approvers=st.integers(0, 2)
)


@given(GATE, GATE)
def test_what_is_tightened_covers_both(one: Gate, other: Gate) -> None:
    assert one.tightened(other).covers(one)
    assert one.tightened(other).covers(other)
    assert one.tightened(other) == other.tightened(one)


# ── what loosens ───────────────────────────────────────────────────────────────────────────────────────────────────

TIERS = yaml.safe_load(gates_document())["tiers"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, False),
        ({"tiers": [{**TIERS[0], "least_score": 90}, TIERS[1]]}, False),
        ({"tiers": [{**TIERS[0], "least_score": 70}, TIERS[1]]}, True),
        ({"tiers": [TIERS[0]]}, False),
        ({"tiers": [TIERS[0], {**TIERS[1], "k": 9}]}, True),
        ({"tiers": [TIERS[0], {**TIERS[1], "epsilon_per_query": "2"}]}, True),
        ({"tiers": [TIERS[0], {**TIERS[1], "epsilon_per_query": "0.5", "approvers": 1}]}, False),
        ({"unassessed": {"k": 20, "epsilon_per_query": "0.1", "approvers": 2}}, False),
        ({"unassessed": {"k": 20, "epsilon_per_query": "0.2", "approvers": 1}}, True),
        ({"standing": {"watched": {"refusals": 2}, "restricted": {"refusals": 6, "epsilon_per_query": "0.05"}}}, False),
        ({"standing": {"watched": {"refusals": 4}, "restricted": {"refusals": 6, "epsilon_per_query": "0.05"}}}, True),
        ({"standing": {"watched": {"refusals": 3, "approvers": 0}, "restricted": {"refusals": 6}}}, True),
    ],
)
def test_whatever_asks_less_of_anybody_loosens(change: dict[str, Any], expected: bool) -> None:
    assert loosens(gates(), gates(**change)) is expected


def test_gates_that_go_loosen_and_new_ones_do_not() -> None:
    assert loosens(gates(), None)
    assert not loosens(None, gates())


@given(st.lists(st.tuples(st.integers(0, 100), GATE), min_size=1, max_size=4, unique_by=lambda item: item[0]), GATE)
def test_no_requester_gains_by_a_lower_score_or_a_worse_level(tiers: list[tuple[int, Gate]], last: Gate) -> None:
    document: dict[str, Any] = {"tiers": [], "unassessed": {}, "standing": {}}
    gate = Gate()
    for number, (score, extra) in enumerate(sorted(tiers, key=lambda item: -item[0])):
        gate = gate.tightened(extra)
        document["tiers"].append({"tier": f"t-{number}", "least_score": score, **written(gate)})
    document["unassessed"] = written(gate.tightened(last))
    found = gates(**document)
    for better, worse in zip(range(100, 0, -1), range(99, -1, -1), strict=True):
        for level in LEVELS:
            here = found.gate(found.tier_of_score(better), level)
            assert found.gate(found.tier_of_score(worse), level).covers(here)
            assert found.gate(found.tier_of_score(None), level).covers(here)
            assert here.covers(found.gate(found.tier_of_score(better), "good"))


def written(gate: Gate) -> dict[str, Any]:
    cap = None if gate.epsilon_nano is None else f"{gate.epsilon_nano // NANO}.{gate.epsilon_nano % NANO:09d}"
    return {"k": gate.k, "approvers": gate.approvers, **({} if cap is None else {"epsilon_per_query": cap})}


def test_every_question_has_a_place_in_the_answers() -> None:
    assert [answer.question for answer in assessment().answers] == [question.id for question in QUESTIONS]
