# SPDX-License-Identifier: Apache-2.0
import time
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.errors import InvalidQuery
from weir.query import AllOf, AnyOf, Comparison, IsNull, Literal, Membership, Operator, canonicalise, query_json
from weir_client._sql import parse


def where(condition: str):
    return parse(f"SELECT COUNT(*) FROM c WHERE {condition}").query.where


def names(select: str) -> list[str]:
    return [aggregate.name for aggregate in parse(f"SELECT {select} FROM c").query.aggregates]


@pytest.mark.parametrize(
    ("select", "name"),
    [
        ("COUNT(*)", "count"),
        ("count( * )", "count"),
        ("COUNT(DISTINCT person)", "count_units"),
        ("SUM(x)", "sum(x)"),
        ("Avg(X)", "avg(x)"),
        ("VARIANCE(x)", "variance(x)"),
        ("VAR_POP(x)", "variance(x)"),
        ("STDDEV(x)", "stddev(x)"),
        ("STDDEV_POP(x)", "stddev(x)"),
        ("MEDIAN(x)", "quantile(x,0.5)"),
        ("QUANTILE(x, 0.25)", "quantile(x,0.25)"),
        ("PERCENTILE(x, 0.999999)", "quantile(x,0.999999)"),
        ("HISTOGRAM(x)", "histogram(x)"),
        ("((SUM(x)))", "sum(x)"),
    ],
)
def test_aggregates(select, name):
    assert names(select) == [name]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("a = 1", Comparison("a", Operator.EQUAL, Literal(1))),
        ("1 = a", Comparison("a", Operator.EQUAL, Literal(1))),
        ("-5 <= a", Comparison("a", Operator.GREATER_OR_EQUAL, Literal(-5))),
        ("5 > a", Comparison("a", Operator.LESS, Literal(5))),
        ("a <> 'x'", Comparison("a", Operator.NOT_EQUAL, Literal("x"))),
        ("a != TRUE", Comparison("a", Operator.NOT_EQUAL, Literal(True))),
        ("a = 'O''Brien'", Comparison("a", Operator.EQUAL, Literal("O'Brien"))),
        ("NOT a < 3", Comparison("a", Operator.GREATER_OR_EQUAL, Literal(3))),
        ("a IS NULL", IsNull("a")),
        ("a IS NOT NULL", IsNull("a", negated=True)),
        ("NOT a IS NULL", IsNull("a", negated=True)),
        ("a IN (2, 1, 2)", Membership("a", (Literal(1), Literal(2)))),
        ("a NOT IN (1, 2)", Membership("a", (Literal(1), Literal(2)), negated=True)),
        (
            "a BETWEEN 1 AND 2",
            AllOf(
                (
                    Comparison("a", Operator.LESS_OR_EQUAL, Literal(2)),
                    Comparison("a", Operator.GREATER_OR_EQUAL, Literal(1)),
                )
            ),
        ),
        (
            "a NOT BETWEEN 1 AND 2",
            AnyOf((Comparison("a", Operator.LESS, Literal(1)), Comparison("a", Operator.GREATER, Literal(2)))),
        ),
        ("a IS TRUE", AllOf((Comparison("a", Operator.EQUAL, Literal(True)), IsNull("a", negated=True)))),
    ],
)
def test_predicates(condition, expected):
    found = where(condition)
    everything = parse("SELECT COUNT(*) FROM c").query
    assert found == canonicalise(replace(everything, where=expected)).where


def test_decimals_keep_all_their_digits():
    found = where("a = 0.12345678901234567890123456789012345")
    assert isinstance(found, Comparison)
    assert found.literal.canonical() == ["decimal", "0.12345678901234567890123456789012345"]


@pytest.mark.parametrize(
    ("source", "snapshot"),
    [
        ("census", 0),
        ("CENSUS", 0),
        ("census@3", 3),
        ('"census@12"', 12),
        ("census FOR VERSION AS OF 4", 4),
    ],
)
def test_from_names_a_dataset_and_may_pin_a_snapshot(source, snapshot):
    query = parse(f"SELECT COUNT(*) FROM {source}").query
    assert (query.dataset, query.snapshot) == ("census", snapshot)


def test_presentation_holds_names_order_and_limit():
    parsed = parse(
        "SELECT SUM(x) AS 合计, region r, COUNT(*) FROM c GROUP BY r, year ORDER BY 1 DESC, year, COUNT(*) ASC LIMIT 7"
    )
    shown = parsed.presentation
    assert [column.name for column in shown.columns] == ["合计", "r", "count"]
    assert [column.dimension for column in shown.columns] == [None, "region", None]
    assert [(order.key.name, order.descending) for order in shown.order] == [
        ("合计", True),
        ("year", False),
        ("count", False),
    ]
    assert shown.limit == 7
    assert parsed.query.group_by == ("region", "year")


def test_the_unit_s_name_is_kept_for_a_later_check():
    assert parse("SELECT COUNT(DISTINCT Person) FROM c").unit == "person"
    assert parse("SELECT COUNT(*) FROM c").unit is None


def test_rewritings_share_one_canonical_query():
    one = parse("SELECT region, COUNT(*), SUM(x) FROM c WHERE a=1 AND (b=2 OR NOT c>3) GROUP BY region, year")
    other = parse(
        "select sum(x) s, count(*) n, count(*) m from C where ((3 >= c) or b in (2, 2)) and not a <> 1 "
        "group by year, region order by n limit 3 -- a comment"
    )
    assert query_json(one.query) == query_json(other.query)


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("", "query.statements"),
        (";", "query.select"),
        ("SELECT COUNT(*) FROM c; SELECT COUNT(*) FROM c", "query.statements"),
        ("SELECT COUNT(*) FROM c; DROP TABLE c", "query.statements"),
        ("DROP TABLE c", "query.select"),
        ("EXPLAIN SELECT 1", "query.select"),
        ("SELECT COUNT(*) FROM c UNION SELECT COUNT(*) FROM c", "query.select"),
        ("(SELECT COUNT(*) FROM c)", "query.select"),
        ("SELEC COUNT(*) FROM c", "query.select"),
        ("SELECT 'unterminated FROM c", "query.syntax"),
        ("SELECT COUNT(* FROM c", "query.syntax"),
        ("SELECT COUNT(*)", "query.from"),
        ("SELECT COUNT(*) FROM (SELECT 1)", "query.from"),
        ("SELECT COUNT(*) FROM s.c", "query.from"),
        ("SELECT COUNT(*) FROM c AS d", "query.from"),
        ("SELECT COUNT(*) FROM read_csv('x')", "query.from"),
        ("SELECT COUNT(*) FROM c TABLESAMPLE (10)", "query.from"),
        ("SELECT COUNT(*) FROM c@0", "query.snapshot"),
        ('SELECT COUNT(*) FROM "c@x"', "query.snapshot"),
        ('SELECT COUNT(*) FROM "c@1" FOR VERSION AS OF 1', "query.snapshot"),
        ("SELECT COUNT(*) FROM c FOR TIMESTAMP AS OF '2020-01-01'", "query.snapshot"),
        ("SELECT COUNT(*) FROM a, b", "query.clause"),
        ("SELECT COUNT(*) FROM a JOIN b ON a.x = b.x", "query.clause"),
        ("WITH x AS (SELECT 1) SELECT COUNT(*) FROM x", "query.clause"),
        ("SELECT COUNT(*) FROM c HAVING COUNT(*) > 1", "query.clause"),
        ("SELECT DISTINCT a, COUNT(*) FROM c GROUP BY a", "query.clause"),
        ("SELECT COUNT(*) FROM c LIMIT 1 OFFSET 2", "query.clause"),
        ("SELECT COUNT(*) FROM c LIMIT x", "query.limit"),
        ("SELECT COUNT(*) FROM c LIMIT 10%", "query.limit"),
        ("SELECT COUNT(*) FROM c LIMIT -1", "query.limit"),
        ("SELECT COUNT(*) FROM c FETCH FIRST 3 ROWS ONLY", "query.limit"),
        ("SELECT * FROM c", "select.star"),
        ("SELECT a FROM c GROUP BY a", "query.aggregates"),
        ("SELECT a, COUNT(*) FROM c", "select.ungrouped"),
        ("SELECT a, a, COUNT(*) FROM c GROUP BY a", "select.duplicate"),
        ("SELECT SUM(x) + 1 FROM c", "select.expression"),
        ("SELECT SUM(x) OVER () FROM c", "select.expression"),
        ("SELECT 1 FROM c", "select.expression"),
        ("SELECT (SELECT 1) FROM c", "select.expression"),
        ("SELECT COUNT(*) FILTER (WHERE a = 1) FROM c", "select.expression"),
        ("SELECT PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY x) FROM c", "select.expression"),
        ("SELECT SUM(x + 1) FROM c", "aggregate.measure"),
        ("SELECT SUM(DISTINCT x) FROM c", "aggregate.measure"),
        ("SELECT SUM(x, y) FROM c", "aggregate.measure"),
        ("SELECT COUNT(x) FROM c", "aggregate.count"),
        ("SELECT COUNT(DISTINCT x, y) FROM c", "aggregate.count"),
        ("SELECT SUM(x) AS a, SUM(y) AS a FROM c", "select.duplicate"),
        ("SELECT COUNT(DISTINCT x) AS a, COUNT(DISTINCT y) AS b FROM c", "aggregate.unit"),
        ("SELECT MIN(x) FROM c", "aggregate.function"),
        ("SELECT VAR_SAMP(x) FROM c", "aggregate.function"),
        ("SELECT PG_SLEEP(5) FROM c", "aggregate.function"),
        ("SELECT QUANTILE(x, 2) FROM c", "aggregate.quantile"),
        ("SELECT QUANTILE(x, 0.1234567) FROM c", "aggregate.quantile"),
        ("SELECT QUANTILE(x, 0) FROM c", "aggregate.quantile"),
        ("SELECT t.a, COUNT(*) FROM c GROUP BY t.a", "name.form"),
        ('SELECT COUNT(*) FROM c WHERE "A" = 1', "name.form"),
        ("SELECT COUNT(*) FROM c GROUP BY ROLLUP (a)", "query.group_by"),
        ("SELECT COUNT(*) FROM c GROUP BY ALL", "query.group_by"),
        ("SELECT COUNT(*) FROM c GROUP BY a + 1", "query.group_by"),
        ("SELECT COUNT(*) FROM c GROUP BY 2", "query.position"),
        ("SELECT COUNT(*) FROM c ORDER BY 0", "query.position"),
        ("SELECT COUNT(*) FROM c ORDER BY zzz", "query.order_by"),
        ("SELECT COUNT(*) FROM c ORDER BY SUM(x)", "query.order_by"),
        ("SELECT HISTOGRAM(x) FROM c ORDER BY 1", "query.order_by"),
        ("SELECT COUNT(*) FROM c ORDER BY 1 NULLS FIRST", "order.nulls"),
        ("SELECT COUNT(*) FROM c WHERE TRUE", "predicate.form"),
        ("SELECT COUNT(*) FROM c WHERE a", "predicate.form"),
        ("SELECT COUNT(*) FROM c WHERE a LIKE 'x%'", "predicate.form"),
        ("SELECT COUNT(*) FROM c WHERE a IN (SELECT 1)", "predicate.form"),
        ("SELECT COUNT(*) FROM c WHERE EXISTS (SELECT 1)", "predicate.form"),
        ("SELECT COUNT(*) FROM c WHERE a IS DISTINCT FROM 1", "predicate.form"),
        ("SELECT COUNT(*) FROM c WHERE a = b", "literal.form"),
        ("SELECT COUNT(*) FROM c WHERE a = DATE '2020-01-01'", "literal.form"),
        ("SELECT COUNT(*) FROM c WHERE a = ?", "literal.form"),
        ("SELECT COUNT(*) FROM c WHERE a = -'x'", "literal.form"),
        ("SELECT COUNT(*) FROM c WHERE a = 1 + 1", "literal.form"),
        ("SELECT COUNT(*) FROM c WHERE a = NULL", "literal.null"),
        ("SELECT COUNT(*) FROM c WHERE a + 1 = 2", "predicate.column"),
        ("SELECT COUNT(*) FROM c WHERE 1 = 1", "predicate.column"),
        ("SELECT COUNT(*) FROM c WHERE UPPER(a) = 'X'", "predicate.column"),
        ("SELECT COUNT(*) FROM c WHERE a IN ()", "predicate.list"),
        ("SELECT COUNT(*) FROM c WHERE a = 99999999999999999999", "literal.range"),
        ("SELECT COUNT(*) FROM c WHERE a = 1e999", "literal.decimal"),
        ("SELECT COUNT(*) FROM c WHERE a = '" + "x" * 300 + "'", "literal.text"),
    ],
    ids=lambda value: value[:60] or "empty",
)
def test_everything_else_is_refused_by_rule(sql, rule):
    with pytest.raises(InvalidQuery) as caught:
        parse(sql)
    assert caught.value.rule == rule
    assert len(caught.value.message) > 20


@pytest.mark.parametrize(
    ("sql", "nearest"),
    [
        ("SELECT MAX(x) FROM c", "QUANTILE"),
        ("SELECT STDDEV_SAMP(x) FROM c", "STDDEV_POP"),
        ("SELECT a, COUNT(*) FROM c", "GROUP BY a"),
        ("SELECT COUNT(*) FROM c WHERE a = NULL", "IS NULL"),
        ("SELECT COUNT(*) FROM a JOIN b ON a.x = b.x", "one dataset"),
    ],
)
def test_a_refusal_names_the_nearest_thing_that_is_allowed(sql, nearest):
    with pytest.raises(InvalidQuery, match=nearest):
        parse(sql)


HOSTILE = {
    "and": "a=1" + " AND a=1" * 10_000,
    "or-and": "a=1" + " OR a=1 AND b=2" * 5_000,
    "in": "a IN (" + ",".join(["1"] * 9_000) + ")",
    "parentheses": "(" * 5_000 + "a=1" + ")" * 5_000,
    "not": "NOT " * 10_000 + "a=1",
    "minus": "a = " + "- " * 10_000 + "1",
    "plus": "a = 1" + " + 1" * 9_000,
    "brackets": "a = " + "[" * 5_000,
    "case": "a = " + "CASE WHEN " * 5_000,
    "casts": "a = 1" + "::int" * 6_000,
    "interval": "INTERVAL " * 9_000 + "1",
    "is": "a IS " * 9_000 + "1",
    "between": "a BETWEEN " * 6_000 + "1",
    "exists": "EXISTS " * 9_000,
    "dots": "a = " + "a." * 9_000 + "b",
    "text": "a = '" + "x" * 500_000 + "'",
}


@pytest.mark.parametrize("condition", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_size_and_nesting_are_refused_quickly(condition):
    started = time.monotonic()
    with pytest.raises(InvalidQuery):
        parse("SELECT COUNT(*) FROM c WHERE " + condition)
    assert time.monotonic() - started < 10


def test_the_largest_allowed_predicate_is_accepted():
    assert isinstance(where(" AND ".join(f"a <> {number}" for number in range(499))), AllOf)
    assert where("(" * 39 + "a = 1" + ")" * 39) == Comparison("a", Operator.EQUAL, Literal(1))
    assert where("NOT " * 20 + "a = 1") == Comparison("a", Operator.EQUAL, Literal(1))


@given(st.text(max_size=60))
def test_no_text_makes_the_parser_fail_in_another_way(text):
    with suppress(InvalidQuery):
        parse(text)


_WORDS = st.sampled_from(
    [
        "SELECT",
        "FROM",
        "WHERE",
        "GROUP",
        "BY",
        "ORDER",
        "LIMIT",
        "COUNT(*)",
        "SUM(",
        "x",
        ")",
        ",",
        "(",
        "a",
        "=",
        "1",
        "AND",
        "OR",
        "NOT",
        "IN",
        "BETWEEN",
        "IS",
        "NULL",
        "'x'",
        "c",
        "@",
        "3",
        ".",
        "*",
        "-",
        "AS",
        "JOIN",
        "UNION",
        "DISTINCT",
        "CASE",
        "WHEN",
        "END",
        "OVER",
        "HAVING",
        "WITH",
        '"',
        ";",
        "::int",
        "[",
        "]",
        "{",
        "}",
        "EXISTS",
    ]
)


@given(st.lists(_WORDS, max_size=25))
def test_no_order_of_words_makes_the_parser_fail_in_another_way(words):
    with suppress(InvalidQuery):
        parse("SELECT " + " ".join(words))


def test_nothing_of_a_refused_statement_is_logged(caplog):
    for sql in ("EXPLAIN SELECT secret", "CALL secret()", "SELECT secret FROM", "SHOW secret"):
        with pytest.raises(InvalidQuery):
            parse(sql)
    assert caplog.text == ""
