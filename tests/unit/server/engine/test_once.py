# SPDX-License-Identifier: Apache-2.0
"""Of Spark: what a statement reads from a text several times stands in it once, and the statement means the same."""

from __future__ import annotations

import pytest
import sqlglot
from sqlglot import exp

from tests.support.cards import clinic, parse
from weir_server.engine.duckdb import open_engine
from weir_server.engine.once import read_once
from weir_server.engine.relational import Dialect, Statement, statement
from weir_server.publish.units import build_units
from weir_server.publish.validate import count_rows

ROWS = """(SELECT '1.5' AS x, 'a' AS "G h", '2026-01-02' AS d UNION ALL SELECT '2e0' AS x, 'a' AS "G h", '3' AS d
UNION ALL SELECT NULL AS x, 'b' AS "G h", 'no' AS d) AS rows"""
X, D = 'NUMBER("x", 19, 2)', "EPOCH_MICROS(d)"


def once(text: str) -> str:
    tree = sqlglot.parse_one(text)
    assert isinstance(tree, exp.Query)
    return read_once(tree).sql()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"SELECT COUNT(*) FILTER (WHERE {X} > 1), MIN({X}), MAX({X} + 1), MIN({D}), MAX({D}) FROM {ROWS}", 1),
        (f'SELECT "G h" AS g, MIN({X}) AS m FROM {ROWS} WHERE {X} > 0 GROUP BY g HAVING MAX({X}) > 1 ORDER BY g', 1),
        (f"SELECT rows.x, {X} AS n FROM {ROWS} WHERE {X} IS NOT NULL ORDER BY {X}", 1),
        (f'SELECT ROW_NUMBER() OVER (PARTITION BY "G h" ORDER BY {X}), {X} FROM {ROWS} ORDER BY {X}', 1),
        (f"WITH t AS (SELECT {X} AS a, {X} + 1 AS b FROM {ROWS}) SELECT a, b FROM t ORDER BY a, b", 1),
        (f"SELECT c FROM (SELECT {X} + {X} AS c, {D} AS e, x FROM {ROWS}) AS q ORDER BY {X}, -{X}, c", 2),
    ],
    ids=["aggregates", "groups", "qualified", "window", "cte", "nested"],
)
def test_a_statement_that_reads_once_gives_the_same(text: str, said: int) -> None:
    made = once(text)
    assert made.count(X) == said
    with open_engine(None) as engine:
        assert engine.select(statement(made)) == engine.select(statement(text))


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT MIN({X}), MAX({D}) FROM {ROWS}",
        f"SELECT *, {X}, {X} + 1 FROM {ROWS}",
        f"SELECT {X}, {X} FROM a JOIN b ON a.i = b.i",
        "SELECT NUMBER(a.x, 19, 2), NUMBER(a.x, 19, 2) FROM a",
        "SELECT NUMBER('1', 19, 2), NUMBER('1', 19, 2) FROM a",
        "SELECT NUMBER(MAX(x), 19, 2), NUMBER(MAX(x), 19, 2) FROM a",
    ],
    ids=["said-once", "all-columns", "join", "qualified", "no-column", "of-an-aggregate"],
)
def test_other_statements_stay_as_they_are(text: str) -> None:
    assert once(text) == sqlglot.parse_one(text).sql()


class Noted:
    """An engine that only notes what it is asked, and finds nothing wrong."""

    def __init__(self) -> None:
        self.asked: list[Statement] = []

    def select(self, asked: Statement) -> list[tuple[int, ...]]:
        self.asked.append(asked)
        return [(0,) * asked.source.count("COUNT(*)")]

    def keep(self, name: str, asked: Statement) -> None:
        self.asked.append(asked)

    def drop(self, name: str) -> None:
        pass


def test_what_a_wide_card_asks_of_spark_stays_short() -> None:
    """Of twice as much, Spark 4 takes minutes to find out that it is more code than it compiles."""
    noted, card = Noted(), parse(clinic())
    count_rows(card, rows=noted)  # type: ignore[arg-type]
    build_units(card, rows=noted)  # type: ignore[arg-type]
    texts = [asked.text(Dialect.SPARK) for asked in noted.asked]
    assert max(map(len, texts)) < 22_000
