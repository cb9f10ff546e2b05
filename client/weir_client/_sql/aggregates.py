# SPDX-License-Identifier: Apache-2.0
"""Aggregates of the SELECT list."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlglot import exp

from weir.query import Aggregate, Function
from weir_client._sql.names import column_name, refusal
from weir_client._sql.predicates import number

_OF_MEASURE = {
    "SUM": Function.SUM,
    "AVG": Function.AVG,
    "VARIANCE": Function.VARIANCE,
    "VAR_POP": Function.VARIANCE,
    "STDDEV": Function.STDDEV,
    "STDDEV_POP": Function.STDDEV,
    "HISTOGRAM": Function.HISTOGRAM,
}
_QUANTILES = frozenset({"QUANTILE", "PERCENTILE"})
_NEAREST = {
    "MEAN": "AVG(x)",
    "MIN": "QUANTILE(x, 0.01): extremes are single records",
    "MAX": "QUANTILE(x, 0.99): extremes are single records",
    "VAR_SAMP": "VAR_POP(x)",
    "STDDEV_SAMP": "STDDEV_POP(x)",
    "PERCENTILE_CONT": "QUANTILE(x, 0.9)",
    "PERCENTILE_DISC": "QUANTILE(x, 0.9)",
    "APPROX_QUANTILE": "QUANTILE(x, 0.9)",
    "APPROX_COUNT_DISTINCT": "COUNT(DISTINCT unit)",
}
ALLOWED = "COUNT(*), COUNT(DISTINCT unit), SUM, AVG, VARIANCE, STDDEV, QUANTILE, MEDIAN and HISTOGRAM"


def aggregate_of(node: exp.Expression) -> tuple[Aggregate, str | None]:
    """An aggregate, and the unit's name for COUNT(DISTINCT …)."""
    if isinstance(node, exp.Star):
        raise refusal(f"SELECT * would return records; ask for aggregates: {ALLOWED}", "select.star")
    if not isinstance(node, exp.Anonymous):
        raise refusal(
            f"SELECT holds dimensions and plain aggregates ({ALLOWED}); no arithmetic, windows or subqueries",
            "select.expression",
        )
    name, arguments = str(node.this).upper(), node.expressions
    if name == "COUNT":
        return _count(arguments)
    if name in _OF_MEASURE:
        return Aggregate(_OF_MEASURE[name], _measure(name, arguments, 1)), None
    if name == "MEDIAN":
        return Aggregate(Function.QUANTILE, _measure(name, arguments, 1), 500_000), None
    if name in _QUANTILES:
        measure = _measure(name, arguments, 2)
        return Aggregate(Function.QUANTILE, measure, _rank(arguments[1])), None
    nearest = f"; nearest: {_NEAREST[name]}" if name in _NEAREST else ""
    raise refusal(f"{name[:64]} is not an aggregate of the language{nearest}; allowed: {ALLOWED}", "aggregate.function")


def _count(arguments: list[Any]) -> tuple[Aggregate, str | None]:
    match arguments:
        case [exp.Star()]:
            return Aggregate(Function.COUNT), None
        case [exp.Distinct(expressions=[exp.Column() as column])]:
            return Aggregate(Function.COUNT_UNITS), column_name(column)
    raise refusal("COUNT is COUNT(*) or COUNT(DISTINCT unit); no column, no DISTINCT column", "aggregate.count")


def _measure(name: str, arguments: list[Any], count: int) -> str:
    if len(arguments) == count and isinstance(arguments[0], exp.Column):
        return column_name(arguments[0])
    shape = "one measure" if count == 1 else "a measure and a rank such as 0.9"
    raise refusal(f"{name} takes {shape}; no arithmetic or DISTINCT inside an aggregate", "aggregate.measure")


def _rank(node: exp.Expression) -> int:
    if isinstance(node, exp.Literal) and not node.is_string:
        rank = number(node.this, negative=False).value
        if isinstance(rank, Decimal) and 0 < rank < 1:
            numerator, denominator = rank.as_integer_ratio()
            ppm, rest = divmod(numerator * 1_000_000, denominator)
            if rest == 0:
                return ppm
    raise refusal("a rank lies between 0 and 1, of at most six digits, such as 0.95", "aggregate.quantile")
