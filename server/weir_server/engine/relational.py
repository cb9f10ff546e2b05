# SPDX-License-Identifier: Apache-2.0
"""SQL that means the same wherever the rows lie: one expression tree, rendered for DuckDB or for Spark.

Statements are written in a small language: plain SQL clauses, and the functions of `FUNCTIONS`, which are ours and have
one meaning. `statement` reads it into a tree and refuses everything else, so that nothing depends on how an engine
happens to read a function's name, and nothing is translated from one engine's dialect to the other's.
tests/unit/server/engine/test_relational.py holds the language, and tests/conformance runs it on every engine.

NULL sorts before everything, and last where DESC or NULLS LAST says so. What the language does not promise: an order
among equals, and the rounding of DOUBLE. Division it does not have.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.dialects.spark import Spark
from sqlglot.generators.duckdb import DuckDBGenerator
from sqlglot.generators.spark import SparkGenerator

from weir_server.engine import readings
from weir_server.engine.once import read_once


class Dialect(enum.Enum):
    """Whom a statement is rendered for."""

    DUCKDB = "weirduckdb"
    SPARK = "weirspark"


@dataclass(frozen=True, slots=True)
class Statement:
    """A query in the language. Made of the card's names and of integers, never of a requester's text."""

    source: str
    """In the language, checked."""

    def text(self, dialect: Dialect) -> str:
        """The statement as an engine reads it."""
        return _rendered(self.source, dialect)


Arguments = Sequence[str]


@dataclass(frozen=True, slots=True)
class _Function:
    duckdb: Callable[[Arguments], str]
    spark: Callable[[Arguments], str]
    least: int
    """Fewest arguments."""
    most: int
    """Most arguments."""


def _same(text: Callable[[Arguments], str], count: int, most: int | None = None) -> _Function:
    return _Function(text, text, count, count if most is None else most)


def _stored_duckdb(arguments: Arguments) -> str:
    value, lower, upper = arguments[0], int(arguments[1]), int(arguments[2])
    unsigned = ((2**8, "UTINYINT"), (2**16, "USMALLINT"), (2**32, "UINTEGER"))
    signed = ((2**15, "SMALLINT"), (2**31, "INTEGER"))
    kinds = unsigned if lower >= 0 else signed
    return f"CAST({value} AS {_smallest(kinds, max(abs(lower), abs(upper)))})"


def _stored_spark(arguments: Arguments) -> str:
    value, lower, upper = arguments[0], int(arguments[1]), int(arguments[2])
    signed = ((2**7, "TINYINT"), (2**15, "SMALLINT"), (2**31, "INT"))
    return f"CAST({value} AS {_smallest(signed, max(abs(lower), abs(upper)))})"


def _smallest(kinds: Sequence[tuple[int, str]], most: int) -> str:
    return next((name for limit, name in kinds if most < limit), "BIGINT")


def _first_two(key: str) -> str:
    return f"slice(array_sort(collect_list({key})), 1, 2)"


def _sum_spark(arguments: Arguments) -> str:
    if len(arguments) == 2 and 0 <= int(arguments[1]) < _FAST_SUM:
        return f"sum(CAST({arguments[0]} AS BIGINT))"  # decimals of 38 digits take several times as long there
    return f"sum(CAST({arguments[0]} AS DECIMAL(38, 0)))"


def _half_spark(text: str, start: int) -> str:
    # Sail's conv takes no more than 63 bits.
    return f"CAST(conv(substring({text}, {start}, 8), 16, 10) AS DECIMAL(20, 0))"


_FAST_SUM = 2**23
"""Integers below this add up in 64 bits as long as there are fewer than 2**40 of them."""


def _integers(literal: str) -> str:
    """The integers of a list that is written as a text, as SQL. They are one text in the tree: as many nodes as there
    may be cells would take longer to read than the rows."""
    return ", ".join(str(int(item)) for item in literal.strip("'").split(","))


FUNCTIONS: dict[str, _Function] = {
    # Hex of SHA-256 of a text's UTF-8 bytes.
    "SHA256_HEX": _Function(lambda a: f"sha256({a[0]})", lambda a: f"sha2({a[0]}, 256)", 1, 1),
    # Texts joined by the first argument; those that are NULL are left out.
    "TEXT_JOIN": _same(lambda a: f"concat_ws({', '.join(a)})", 2, 10_000),
    # Sum of integers, exact to 38 digits; NULL of nothing. What would need more raises. The second argument, a literal,
    # is the most that any of them differs from 0, where that is known.
    "EXACT_SUM": _Function(lambda a: f"sum({a[0]})", _sum_spark, 1, 2),
    # Whether an integer is one of those in a text such as '1,5,7'.
    "LISTED": _same(lambda a: f"({a[0]} IN ({_integers(a[1])}))", 2),
    # Of the integers in such a text the one at an index, which counts from 0.
    "PICK": _Function(
        lambda a: f"list_extract([{_integers(a[1])}], {a[0]} + 1)",
        lambda a: f"element_at(array({_integers(a[1])}), {a[0]} + 1)",
        2,
        2,
    ),
    # The number below 2**32 that up to eight hex digits write.
    "HEX_INT": _Function(
        lambda a: f"CAST('0x' || {a[0]} AS BIGINT)", lambda a: f"CAST(conv({a[0]}, 16, 10) AS BIGINT)", 1, 1
    ),
    # Decimal digits of an unsigned number written in 16 hex digits.
    "HEX_DIGITS": _Function(
        lambda a: f"CAST(CAST('0x' || {a[0]} AS UBIGINT) AS VARCHAR)",
        lambda a: f"CAST({_half_spark(a[0], 1)} * 4294967296 + {_half_spark(a[0], 9)} AS STRING)",
        1,
        1,
    ),
    # Quotient of two integers of which neither is negative, rounded down.
    "INT_DIV": _Function(lambda a: f"(({a[0]}) // ({a[1]}))", lambda a: f"(({a[0]}) DIV ({a[1]}))", 2, 2),
    # Whether a DOUBLE is neither NaN nor an infinity.
    "IS_FINITE": _Function(
        lambda a: f"isfinite({a[0]})",
        lambda a: f"(NOT isnan({a[0]}) AND abs({a[0]}) < CAST('Infinity' AS DOUBLE))",
        1,
        1,
    ),
    # Microseconds from 1970 to a time given as text, UTC where it names no zone; NULL where it is none (`readings`).
    "EPOCH_MICROS": _Function(readings.micros_duckdb, readings.micros_spark, 1, 1),
    # An integer, a decimal or a number given as text (`readings`), as a decimal of so many digits before and after the
    # point (second and third argument), halves away from zero; NULL where it is no number or does not fit.
    "NUMBER": _Function(readings.number_duckdb, readings.number_spark, 3, 3),
    # A decimal with so many digits after the point (second argument) as an integer of its last digit.
    "STEPS": _Function(readings.steps_duckdb, readings.steps_spark, 2, 2),
    # Over rows: the value (first argument) of the row with the least key, of those that have both; any of several.
    "FIRST_BY": _Function(
        lambda a: f"arg_min({a[0]}, {a[1]})",
        lambda a: f"min_by({a[0]}, CASE WHEN {a[0]} IS NOT NULL THEN {a[1]} END)",
        2,
        2,
    ),
    # Over rows: whether two of them have the least key.
    "TIED": _Function(
        lambda a: f"(len(min({a[0]}, 2)) = 2 AND min({a[0]}, 2)[1] = min({a[0]}, 2)[2])",
        lambda a: f"(size(array_distinct({_first_two(a[0])})) = 1 AND size({_first_two(a[0])}) = 2)",
        1,
        1,
    ),
    # Index of a value (first argument) among the others, from 0; NULL where it is none of them.
    "POSITION_OF": _Function(readings.position_duckdb, readings.position_spark, 2, 100_000),
    # Whether the whole text matches a pattern both engines read alike (classes, groups, counts; no look-around).
    "MATCHES": _Function(
        lambda a: f"regexp_full_match({a[0]}, {a[1]})",
        lambda a: (
            f"(({a[0]}) RLIKE concat('^(?:', {a[1]}, ')\\\\z'))"
        ),  # \z: their $ also matches before a last newline
        2,
        2,
    ),
    # The part of a text that a group (third argument) of a pattern matched; empty where the pattern does not match.
    "CAPTURE": _same(lambda a: f"regexp_extract({', '.join(a)})", 3),
    # The value in the smallest integer type of the engine that holds the bounds (second and third argument).
    "STORED": _Function(_stored_duckdb, _stored_spark, 3, 3),
}
"""Functions of the language beside those of `_NODES`; each with how an engine says it."""

_NODES: frozenset[type[exp.Expression]] = frozenset(
    {
        # clauses
        exp.Select, exp.From, exp.Table, exp.TableAlias, exp.Subquery, exp.With, exp.CTE, exp.Join, exp.Where,
        exp.Group, exp.Having, exp.Order, exp.Ordered, exp.Limit, exp.Distinct, exp.Union, exp.Star, exp.Alias,
        exp.Column, exp.Identifier, exp.Exists,
        # values and conditions
        exp.Literal, exp.Null, exp.Boolean, exp.Paren, exp.Tuple, exp.Case, exp.If, exp.And, exp.Or, exp.Not, exp.Is,
        exp.In, exp.Between, exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Add, exp.Sub, exp.Mul, exp.Mod,
        exp.Neg, exp.Coalesce, exp.Least, exp.Greatest, exp.Abs, exp.Sign,
        # texts: DPipe is NULL where either side is
        exp.DPipe, exp.Length, exp.Substring, exp.Lower, exp.Repeat, exp.Pad, exp.Trim, exp.Replace,
        # types
        exp.Cast, exp.TryCast, exp.DataType, exp.DataTypeParam,
        # aggregates and windows
        exp.Count, exp.Min, exp.Max, exp.Filter, exp.Window, exp.WindowSpec, exp.RowNumber, exp.DenseRank, exp.Rank,
        exp.Anonymous,
    }
)  # fmt: skip
_PLAIN = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_TYPES = frozenset(
    {
        exp.DataType.Type.TEXT,
        exp.DataType.Type.BOOLEAN,
        exp.DataType.Type.INT,
        exp.DataType.Type.BIGINT,
        exp.DataType.Type.DECIMAL,
        exp.DataType.Type.INT128,  # HUGEINT: integers of 38 digits
        exp.DataType.Type.DOUBLE,
    }
)


@lru_cache(maxsize=256)
def statement(text: str) -> Statement:
    """The tree of a query in the language.

    Raises:
        ValueError: it is no query in the language. That is a defect of ours, never of data: the text has no data.
    """
    _tree(text)
    return Statement(text)


@lru_cache(maxsize=256)
def _rendered(text: str, dialect: Dialect) -> str:
    tree = read_once(_tree(text))
    return tree.sql(dialect=dialect.value)


@lru_cache(maxsize=16)
def _tree(text: str) -> exp.Query:
    try:
        tree = sqlglot.parse_one(text)
    except (sqlglot.errors.ParseError, sqlglot.errors.TokenError) as error:
        raise ValueError("no SQL") from error
    if not isinstance(tree, exp.Query):
        raise ValueError("a statement is a query")
    for node in tree.walk():
        _check(node)
    return tree


def expression(text: str) -> str:
    """An expression of the language as DuckDB reads it, for statements that run nowhere else.

    Raises:
        ValueError: as `statement`.
    """
    return statement(f"SELECT {text}").text(Dialect.DUCKDB).removeprefix("SELECT ")


def _check(node: exp.Expr) -> None:
    if type(node) not in _NODES:
        raise ValueError(f"{type(node).__name__} is not in the language")
    if isinstance(node, exp.DataType) and node.this not in _TYPES:
        raise ValueError(f"the type {node.sql()} is not in the language")
    if isinstance(node, exp.Identifier) and not node.quoted and _PLAIN.fullmatch(str(node.this)) is None:
        raise ValueError("a name that is not quoted and not plain is not in the language")  # $1 would be a parameter
    if isinstance(node, exp.Anonymous):
        known = FUNCTIONS.get(str(node.this).upper())
        if known is None or not known.least <= len(node.expressions) <= known.most:
            raise ValueError(f"{node.this} with {len(node.expressions)} arguments is not in the language")


def quote(text: str) -> str:
    """`text` as a literal of the language. For declared names and values of the card."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """`name` as a quoted identifier of the language, for the column names of a source."""
    return '"' + name.replace('"', '""') + '"'


class WeirDuckDB(DuckDB):
    """DuckDB's SQL, with our functions said its way."""

    class Generator(DuckDBGenerator):
        TRANSFORMS = {  # noqa: RUF012 - the form the library asks for
            **DuckDBGenerator.TRANSFORMS,
            exp.Anonymous: lambda self, node: FUNCTIONS[str(node.this).upper()].duckdb(
                [self.sql(argument) for argument in node.expressions]
            ),
        }


class WeirSpark(Spark):
    """Spark's SQL, with our functions said its way."""

    class Generator(SparkGenerator):
        TYPE_MAPPING = {  # noqa: RUF012 - the form the library asks for
            **SparkGenerator.TYPE_MAPPING,
            exp.DataType.Type.INT128: "DECIMAL(38, 0)",
        }
        TRANSFORMS = {  # noqa: RUF012 - the form the library asks for
            **SparkGenerator.TRANSFORMS,
            exp.Anonymous: lambda self, node: FUNCTIONS[str(node.this).upper()].spark(
                [self.sql(argument) for argument in node.expressions]
            ),
        }

        def escape_str(self, text: str, *arguments: Any, **named: Any) -> str:
            """Before a digit a short `\\0` would be read as octal."""
            escape = super().escape_str
            return "\\u0000".join(escape(part, *arguments, **named) for part in text.split("\0"))
