# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given

from tests.support.queries import QUERIES
from weir.canonical import canonical_json
from weir.errors import InvalidReceipt
from weir.query import Function, Literal, Query, canonicalise, leaves, query_json
from weir_client._asked import asked_query, sql_of, words_of
from weir_client._sql import parse


def told(query: Query) -> str:
    return canonical_json(query_json(query)).decode()


@given(QUERIES)
def test_what_the_service_keeps_is_read_back_as_it_was(query: Query) -> None:
    canonical = canonicalise(query)
    assert asked_query(told(canonical)).query == canonical


@given(QUERIES)
def test_the_sql_that_is_shown_means_the_very_query(query: Query) -> None:
    """But for what SQL does not say: shares, and what the unit is called."""
    unweighted = canonicalise(replace(query, aggregates=tuple(replace(a, weight=1) for a in query.aggregates)))
    assert parse(sql_of(unweighted)).query == unweighted


def test_a_decimal_stays_a_decimal() -> None:
    query = parse("SELECT COUNT(*) FROM census WHERE income >= 18.0 AND income < 20").query
    assert parse(sql_of(query)).query == query
    assert {item.literal for item in leaves(query.where)} == {Literal(Decimal("18")), Literal(20)}


def test_names_that_are_words_of_sql_are_quoted() -> None:
    query = parse('SELECT "group", COUNT(*) FROM "order@3" WHERE "in" = \'it\'\'s\' GROUP BY "group"').query
    assert sql_of(query) == 'SELECT "group", COUNT(*) FROM "order@3" WHERE "in" = \'it\'\'s\' GROUP BY "group"'
    assert parse(sql_of(query)).query == query


def test_a_query_in_words() -> None:
    sql = (
        'SELECT region, year, COUNT(*), SUM(income), MEDIAN(income) FROM "census@2" WHERE year >= 2020 AND '
        "(region IN ('north', 'south') OR region IS NULL) AND NOT sex = 'f' GROUP BY region, year"
    )
    assert words_of(parse(sql).query) == (
        "how many, the 0.5 quantile of income and the sum of income in census version 2, for each region and year, "
        "where sex is not f and year is at least 2020 and (region is one of north or south or region is unknown)"
    )


def test_every_function_has_words() -> None:
    for function in Function:
        if function not in (Function.COUNT, Function.COUNT_UNITS, Function.QUANTILE):
            name = {"VARIANCE": "VAR_POP", "STDDEV": "STDDEV_POP"}.get(function.name, function.name)
            query = parse(f"SELECT {name}(income) FROM census").query
            assert "income in census" in words_of(query)
            assert name in sql_of(query)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"dataset":"a","aggregates":[["drop(x)",1]],"group_by":[],"where":null,"snapshot":0}',
     '{"dataset":"a","aggregates":[["count",1]],"group_by":[],"where":["like","x"],"snapshot":0}',
     '{"dataset":"a\\u001b[2J","aggregates":[["count",1]],"group_by":[],"where":null,"snapshot":0}'],
)  # fmt: skip
def test_what_is_no_question_is_refused(text: str) -> None:
    with pytest.raises(InvalidReceipt):
        asked_query(text)
