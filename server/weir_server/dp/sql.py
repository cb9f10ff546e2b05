# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""Statements over the bounded rows, in the language of `engine.relational`. Pure; made of the layout's column names and
of integers, never of a requester's text.

No expression here can fail on a value: there is no cast that narrows, no division and no arithmetic beyond sums that
fit 38 digits.
"""

from __future__ import annotations

from collections.abc import Sequence

from weir.query import Operator
from weir_server.catalog.card import DatasetCard, Measure
from weir_server.dp.layout import (
    ROWS,
    bucket_column,
    cell_column,
    centre,
    group_rank_column,
    ranked_groups,
    reach,
    value_column,
)
from weir_server.dp.plan import counts_units_by_rank
from weir_server.dp.tally import Kind, Tally, base_name, shift, strides
from weir_server.engine.relational import Statement, statement
from weir_server.plan.values import BoundQuery, CellTest, Condition, Every, NullTest, Some, ValueTest

_COMPARISONS = {
    Operator.EQUAL: "=",
    Operator.NOT_EQUAL: "<>",
    Operator.LESS: "<",
    Operator.LESS_OR_EQUAL: "<=",
    Operator.GREATER: ">",
    Operator.GREATER_OR_EQUAL: ">=",
}


def grouped_bases(bound: BoundQuery) -> tuple[str, ...]:
    """Base dimensions that the groups need, in order of first use: the key columns of every statement."""
    return tuple(dict.fromkeys(base_name(item) for item in bound.groups))


def sums_statement(bound: BoundQuery, tallies: Sequence[Tally]) -> Statement:
    """Rows (base cells…, one integer per expression of `sum_columns`) for tallies other than units and buckets."""
    return _grouped(bound, sum_columns(tallies))


def sum_columns(tallies: Sequence[Tally]) -> tuple[str, ...]:
    """What is added up for the tallies, once each."""
    return tuple(dict.fromkeys(column for tally in tallies for column in (added(tally), *subtracted(tally))))


def added(tally: Tally) -> str:
    """What is added up for the tally."""
    if tally.kind is Kind.ROWS:
        return "COUNT(*)"
    measure = _measure(tally)
    value = value_column(measure.name)
    if tally.kind is Kind.VALUES:
        return f"COUNT({value})"
    if tally.kind is Kind.SQUARES:
        away = f"(CAST({value} AS BIGINT) - {centre(measure)})"
        return f"EXACT_SUM({away} * {away}, {reach(measure) ** 2})"
    # Not of differences: a sum of stored small integers is faster.
    return f"EXACT_SUM({value}, {max(abs(measure.lower), abs(measure.upper))})"


def subtracted(tally: Tally) -> tuple[str, ...]:
    """What is subtracted from it, `shift` times over."""
    if tally.kind is not Kind.CENTRED or not shift(tally):
        return ()
    return (f"COUNT({value_column(_measure(tally).name)})",)


def buckets_statement(bound: BoundQuery, measure: Measure) -> Statement:
    """Rows (base cells…, bucket, count) of one measure."""
    return _grouped(bound, ["COUNT(*)"], also=bucket_column(measure.name))


def units_statement(bound: BoundQuery) -> Statement:
    """Rows (base cells…, units) where each unit has one value per group and test, or (cell of the answer, units)."""
    if counts_units_by_rank(bound):  # a unit's row of rank 0 stands for it
        return _grouped(bound, ["COUNT(*)"], limits=["r = 0"])
    cell = _answer_cell(bound)
    return statement(
        f"SELECT {cell} AS cell, COUNT(DISTINCT u) FROM {ROWS} "
        f"WHERE {_where(bound, _group_limits(bound))} GROUP BY {cell}"
    )


def _grouped(
    bound: BoundQuery, sums: Sequence[str], *, also: str | None = None, limits: Sequence[str] = ()
) -> Statement:
    keys = [cell_column(name) for name in grouped_bases(bound)]
    checks = [*limits, _row_limit(bound.card)]
    if also is not None:
        keys.append(also)
        checks.append(f"{also} IS NOT NULL")
    grouping = f" GROUP BY {', '.join(keys)}" if keys else ""
    return statement(f"SELECT {', '.join([*keys, *sums])} FROM {ROWS} WHERE {_where(bound, checks)}{grouping}")


def _row_limit(card: DatasetCard) -> str:
    # The store holds no other rows; stated again, since the sensitivity rests on it. The engine's statistics drop it.
    return f"r < {card.bounds.rows_per_unit}"


def _group_limits(bound: BoundQuery) -> list[str]:
    grouped, bounds = grouped_bases(bound), bound.card.bounds.groups_per_unit
    ranked = [item.name for item in ranked_groups(bound.card) if item.name in grouped]
    return [_row_limit(bound.card), *(f"{group_rank_column(name)} < {bounds[name]}" for name in ranked)]


def _measure(tally: Tally) -> Measure:
    if tally.measure is None:
        raise ValueError(f"a tally of {tally.kind.value} has a measure")
    return tally.measure


def _where(bound: BoundQuery, limits: Sequence[str]) -> str:
    return " AND ".join([_condition(bound.condition), *limits])


def _condition(node: Condition) -> str:
    """Two-valued: a comparison with NULL is not true, and without NOT above it stays so."""
    match node:
        case Every(operands):
            return f"({' AND '.join(map(_condition, operands))})" if operands else "TRUE"
        case Some(operands):
            return f"({' OR '.join(map(_condition, operands))})" if operands else "FALSE"
        case CellTest(dimension, cells):
            return f"LISTED({cell_column(dimension)}, {_listed(sorted(cells))})" if cells else "FALSE"
        case ValueTest(measure, operator, literal):
            return f"{value_column(measure)} {_COMPARISONS[operator]} {int(literal)}"
        case NullTest(measure, negated):
            return f"{value_column(measure)} IS {'NOT ' if negated else ''}NULL"


def _listed(integers: Sequence[int]) -> str:
    return f"'{','.join(str(int(item)) for item in integers)}'"


def _answer_cell(bound: BoundQuery) -> str:
    """Index of the answer's cell, coarsenings applied: units must be told apart after coarsening, not before."""
    terms = []
    for dimension, stride in zip(bound.groups, strides(bound.groups), strict=True):
        column = f"CAST({cell_column(base_name(dimension))} AS INT)"
        if dimension.coarsens is not None:
            column = f"PICK({column}, {_listed(dimension.mapping)})"
        terms.append(f"{column} * {stride}")
    return " + ".join(terms) or "CAST(0 AS INT)"
