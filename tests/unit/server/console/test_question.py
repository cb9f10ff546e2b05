# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from decimal import Decimal

import pytest

from weir.query import (
    Aggregate,
    AllOf,
    AnyOf,
    Comparison,
    Function,
    IsNull,
    Literal,
    Membership,
    Operator,
    Query,
    canonicalise,
    query_json,
)
from weir_server.console import question
from weir_server.console.text import words_of

NORTH = Comparison("region", Operator.EQUAL, Literal("no'rth"))
OLD = Comparison("age", Operator.GREATER_OR_EQUAL, Literal(65))
QUERY = canonicalise(
    Query(
        "clinic",
        (Aggregate(Function.COUNT), Aggregate(Function.QUANTILE, "visits", 500_000), Aggregate(Function.COUNT_UNITS)),
        ("age", "region"),
        AllOf((AnyOf((NORTH, OLD)), Membership("plan", (Literal(1), Literal(2)), negated=True), IsNull("site"))),
        3,
    )
)


def text(query: Query = QUERY) -> str:
    return json.dumps(query_json(query))


def test_a_query_reads_as_sql() -> None:
    assert question.sql(text(), unit="person").split("\n") == [
        "SELECT age, region, COUNT(*), COUNT(DISTINCT person), QUANTILE(visits, 0.5)",
        "FROM clinic",
        "WHERE site IS NULL AND plan NOT IN (1, 2) AND (region = 'no''rth' OR age >= 65)",
        "GROUP BY age, region",
    ]


def test_a_query_without_groups_and_conditions_is_two_lines() -> None:
    assert (
        question.sql(text(Query("clinic", (Aggregate(Function.COUNT),))), unit="person")
        == "SELECT COUNT(*)\nFROM clinic"
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_query_reads_as_a_sentence_that_names_all_it_asks(language: str) -> None:
    told = question.sentence(text(), words_of(language))
    assert all(
        word in told for word in ("clinic", "3", "visits", "0.5", "age", "region", "'no''rth'", "65", "plan", "site")
    )
    assert "{" not in told


@pytest.mark.parametrize("function", list(Function))
def test_every_aggregate_has_words(function: Function) -> None:
    bare = function in (Function.COUNT, Function.COUNT_UNITS)
    rank = 250_000 if function is Function.QUANTILE else None
    query = Query("clinic", (Aggregate(function, None if bare else "visits", rank),))
    for language in ("en", "zh"):
        assert "function." not in question.sentence(text(query), words_of(language))


@pytest.mark.parametrize("literal", [True, 5, Decimal("1.5"), "x"])
def test_every_kind_of_literal_and_operator_is_shown(literal: object) -> None:
    for operator in Operator:
        node = Comparison("age", operator, Literal(literal))  # type: ignore[arg-type]
        query = text(Query("clinic", (Aggregate(Function.COUNT),), (), node))
        assert f"age {operator.value} " in question.sql(query, unit="person")
        assert question.sentence(query, words_of("zh"))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_text_of_a_requester_reads_as_a_condition_in_the_sentence(language: str) -> None:
    forged = Comparison("region", Operator.EQUAL, Literal("north and age ≥ 65"))
    members = Membership("region", (Literal("north, south"), Literal("east")))
    for node, shown in ((forged, "= 'north and age ≥ 65'"), (members, "'north, south'")):
        told = question.sentence(text(Query("clinic", (Aggregate(Function.COUNT),), (), node)), words_of(language))
        assert shown in told


def test_long_lists_are_cut_in_the_sentence_and_whole_in_sql() -> None:
    members = Membership("age", tuple(Literal(n) for n in range(20)))
    query = text(Query("clinic", (Aggregate(Function.COUNT),), (), members))
    assert "and 8 more" in question.sentence(query, words_of("en"))
    assert question.sql(query, unit="person").count(",") == 19


def test_what_a_template_may_leave_free_are_columns_compared_with_literals() -> None:
    assert question.filtered_columns(text()) == ["age", "plan", "region"]
    assert question.filtered_columns(text(Query("clinic", (Aggregate(Function.COUNT),)))) == []
