# SPDX-License-Identifier: Apache-2.0
"""The language has what is on its lists and nothing else, and both renderings say the same."""

from __future__ import annotations

import itertools

import pytest
import sqlglot
from sqlglot import exp

from weir_server.engine.duckdb import open_engine
from weir_server.engine.relational import _NODES, FUNCTIONS, Dialect, identifier, quote, statement

CALLS = {
    "SHA256_HEX": "SHA256_HEX('a')",
    "TEXT_JOIN": "TEXT_JOIN('|', 'a', 'b')",
    "EXACT_SUM": "EXACT_SUM(3, 9)",
    "LISTED": "LISTED(3, '1,-2,3')",
    "PICK": "PICK(1, '4,-5,6')",
    "HEX_INT": "HEX_INT('ff')",
    "HEX_DIGITS": "HEX_DIGITS('ffffffffffffffff')",
    "INT_DIV": "INT_DIV(7, 2)",
    "IS_FINITE": "IS_FINITE(CAST('1.5' AS DOUBLE))",
    "EPOCH_MICROS": "EPOCH_MICROS('2026-01-02 03:04:05')",
    "NUMBER": "NUMBER('1.5', 19, 2)",
    "STEPS": "STEPS(NUMBER('1.5', 19, 2), 2)",
    "POSITION_OF": "POSITION_OF('b', 'a', 'b')",
    "FIRST_BY": "FIRST_BY('a', 3)",
    "TIED": "TIED(3)",
    "MATCHES": "MATCHES('ab', '[a-b]+')",
    "CAPTURE": "CAPTURE('ab', '(a)b', 1)",
    "STORED": "STORED(3, 0, 9)",
}
"""One call of each function."""
SAMPLES = (
    "WITH t AS (SELECT 1 AS a, 'x' AS b, TRUE AS c), u AS (SELECT * FROM t) SELECT DISTINCT t.a FROM t "
    "JOIN u ON t.a = u.a WHERE (t.a <> 2 AND t.a <= 1 OR t.a < 2 OR t.a >= 1 OR NOT t.a > 5) "
    "AND EXISTS(SELECT 1 FROM u) AND t.a IN (1, 2) AND t.a BETWEEN 0 AND 2 AND t.b IS NOT NULL",
    "SELECT a, COUNT(*) AS n, COUNT(DISTINCT b), MIN(b), MAX(b), COUNT(*) FILTER (WHERE a = 1) "
    "FROM (SELECT 1 AS a, 2 AS b) AS t GROUP BY a HAVING COUNT(*) > 0 ORDER BY n DESC LIMIT 3",
    "SELECT ROW_NUMBER() OVER (PARTITION BY a ORDER BY b), RANK() OVER (ORDER BY a), DENSE_RANK() OVER (ORDER BY a), "
    "MAX(a) OVER (ORDER BY a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM (SELECT 1 AS a, 2 AS b) AS t",
    "SELECT CASE WHEN 1 = 1 THEN 2 + 3 - 1 * 4 % 3 ELSE -1 END, COALESCE(NULL, 1), LEAST(1, 2), GREATEST(1, 2), "
    "ABS(-1), SIGN(-1)",
    "SELECT 'a' || 'b', LENGTH('a'), SUBSTRING('abc', 1, 2), LOWER('A'), REPEAT('0', 3), LPAD('1', 3, '0'), "
    "TRIM(' a '), REPLACE('a', 'a', 'b'), CAST(1 AS DECIMAL(38, 0)), TRY_CAST('x' AS INT), (1, 2) = (1, 2)",
    "SELECT 1 AS a UNION ALL SELECT 2 AS a",
)
"""Every form of the language occurs in one of these."""
NASTY = ("it's", 'a "b"', "`c`", "back\\slash", "nl\n", "'); DROP TABLE x; --", "堰", "%s {0} $1 ? :a @b", "\\u0041")


def rendered(text: str) -> list[str]:
    return [statement(text).text(dialect) for dialect in Dialect]


@pytest.mark.parametrize("text", SAMPLES)
def test_a_form_of_the_language_renders_for_both_and_runs(text: str) -> None:
    here, there = rendered(text)
    assert here.startswith(("SELECT", "WITH"))
    assert there.startswith(("SELECT", "WITH"))
    with open_engine(None) as engine:
        assert engine.select(statement(text))


def test_every_form_on_the_list_is_tested() -> None:
    seen = {type(node) for text in (*SAMPLES, *(f"SELECT {call}" for call in CALLS.values())) for node in tree(text)}
    assert seen == _NODES


def tree(text: str) -> list[exp.Expr]:
    return list(sqlglot.parse_one(text).walk())


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_on_the_list_renders_for_both(name: str) -> None:
    here, there = rendered(f"SELECT {CALLS[name]} AS x")
    assert f"{name}(" not in here + there
    with open_engine(None) as engine:
        assert len(engine.query(here)) == 1


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("DROP TABLE rows", id="DDL"),
        pytest.param("CREATE TABLE x AS SELECT 1", id="create"),
        pytest.param("INSERT INTO rows SELECT 1", id="insert"),
        pytest.param("COPY rows TO 'x'", id="copy"),
        pytest.param("SELECT 1; SELECT 2", id="two statements"),
        pytest.param("SELECT * FROM read_parquet('/etc/passwd')", id="a file as a table"),
        pytest.param("SELECT read_text('/etc/passwd')", id="a file as a value"),
        pytest.param("SELECT * FROM range(3)", id="a table function"),
        pytest.param("SELECT hash(1)", id="an engine's own hash"),
        pytest.param("SELECT SUM(x) FROM rows", id="a plain sum"),
        pytest.param("SELECT AVG(x) FROM rows", id="an average"),
        pytest.param("SELECT 1 / 2", id="division"),
        pytest.param("SELECT RANDOM()", id="randomness"),
        pytest.param("SELECT CURRENT_TIMESTAMP", id="the clock"),
        pytest.param("SELECT CAST(1 AS FLOAT)", id="small floats"),
        pytest.param("SELECT CAST('2026-01-01' AS DATE)", id="dates"),
        pytest.param("SELECT [1, 2]", id="lists"),
        pytest.param("SELECT {'a': 1}", id="structs"),
        pytest.param("SELECT $1", id="parameters"),
        pytest.param("SELECT ?", id="placeholders"),
        pytest.param("SELECT x LIKE 'a%' FROM rows", id="LIKE"),
        pytest.param("SELECT INT_DIV(1)", id="too few arguments"),
        pytest.param("SELECT SHA256_HEX('a', 'b')", id="too many arguments"),
        pytest.param("SELECT 'open", id="an open text"),
        pytest.param("SELECT FROM WHERE", id="no SQL"),
        pytest.param("", id="nothing"),
    ],
)
def test_what_is_not_in_the_language_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"in the language|no SQL|is a query"):
        statement(text)


@pytest.mark.parametrize("text", NASTY)
def test_a_text_is_itself_whatever_is_in_it(text: str) -> None:
    made = statement(f"SELECT {quote(text)} AS x")
    with open_engine(None) as engine:
        assert engine.select(made) == [(text,)]
    (literal,) = sqlglot.parse_one(made.text(Dialect.SPARK), read="spark").find_all(exp.Literal)
    assert literal.this == text


@pytest.mark.parametrize("name", [*(name for name in NASTY if "\n" not in name), "select", "ORDER BY"])
def test_a_name_is_itself_whatever_is_in_it(name: str) -> None:
    made = statement(f"SELECT {identifier(name)} FROM (SELECT 7 AS {identifier(name)}) AS t")
    with open_engine(None) as engine:
        assert engine.select(made) == [(7,)]
    found = {node.this for node in sqlglot.parse_one(made.text(Dialect.SPARK), read="spark").find_all(exp.Identifier)}
    assert found == {name, "t"}


@pytest.mark.parametrize("text", ["LISTED(1, '1,x')", "PICK(1, '')", "LISTED(1, '1) OR (1=1')"])
def test_a_list_of_integers_holds_integers_only(text: str) -> None:
    for dialect in Dialect:
        with pytest.raises(ValueError, match="invalid literal"):
            statement(f"SELECT {text}").text(dialect)


def test_stored_types_are_the_smallest_that_hold_the_bounds() -> None:
    bounds = ((0, 255), (0, 256), (-1, 127), (-1, 128), (-40_000, 0), (0, 2**32 - 1), (0, 2**33))
    made = [rendered(f"SELECT STORED(1, {lower}, {upper})") for lower, upper in bounds]
    kinds = [[text.rpartition(" AS ")[2][:-1] for text in texts] for texts in made]
    assert kinds == [
        ["UTINYINT", "SMALLINT"],
        ["USMALLINT", "SMALLINT"],
        ["SMALLINT", "TINYINT"],
        ["SMALLINT", "SMALLINT"],
        ["INTEGER", "INT"],
        ["UINTEGER", "BIGINT"],
        ["BIGINT", "BIGINT"],
    ]


def test_sums_are_of_64_bits_only_where_the_largest_value_allows_it() -> None:
    calls = ("EXACT_SUM(x, 99)", f"EXACT_SUM(x, {2**23})", "EXACT_SUM(x)")
    small, large, unknown = (rendered(f"SELECT {call}")[1] for call in calls)
    assert "BIGINT" in small
    assert all("DECIMAL(38, 0)" in text for text in (large, unknown))


def test_long_lists_cost_as_many_nodes_as_short_ones() -> None:
    listed = ",".join(map(str, range(10_000)))
    made = statement(f"SELECT PICK(x, '{listed}') FROM (SELECT 4711 AS x) AS t WHERE LISTED(x, '{listed}')")
    assert len(tree(made.source)) < 30
    with open_engine(None) as engine:
        assert engine.select(made) == [(4711,)]


def test_texts_are_rendered_alike_when_asked_again() -> None:
    for text, dialect in itertools.product(SAMPLES, Dialect):
        assert statement(text).text(dialect) == statement(text).text(dialect)
