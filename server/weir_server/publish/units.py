# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""From rows to one record per privacy unit: cell index of each base dimension, clipped steps of each exact measure.

The table `units` has columns unit, code (the fine cell, as one number), and m_<i> for the i-th exact measure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from weir.errors import Violation
from weir_server.catalog.card import DatasetCard, Dimension, Measure, Reduction
from weir_server.catalog.card_rules import base_dimensions
from weir_server.engine.port import RowEngine
from weir_server.engine.relational import statement
from weir_server.exact.lattice import MAX_UNITS, exact_measures
from weir_server.publish.grid import at_level, cell_index, grid_steps, order_key, text_of, unit_key
from weir_server.publish.source import RAW

UNITS = "units"
_ROUGH = "units_rough"


@dataclass(frozen=True, slots=True)
class UnitCounts:
    """What was found on the way."""

    units: int
    clipped: dict[str, int]
    """Measure to number of units whose value was outside the bounds."""


def strides(card: DatasetCard) -> tuple[int, ...]:
    """Weight of each base dimension in a fine cell's code; the last dimension counts singly."""
    weights: list[int] = []
    weight = 1
    for dimension in reversed(base_dimensions(card)):
        weights.append(weight)
        weight *= len(dimension.cells)
    return tuple(reversed(weights))


def build_units(card: DatasetCard, *, rows: RowEngine) -> tuple[list[Violation], UnitCounts]:
    """Create `units`; violations that only show across the rows of a unit. The table is of use when there are none."""
    parts = [part for i, dimension in enumerate(base_dimensions(card)) for part in _dimension(i, dimension)]
    parts += [f"{unit_value(measure)} AS weir_m_{i}" for i, measure in enumerate(exact_measures(card))]
    parts += [f"{_tied(column, levels)} AS weir_o_{i}" for i, (column, levels) in enumerate(_orders(card).items())]
    unit = unit_key(card)
    rows.keep(_ROUGH, statement(f"SELECT {', '.join([f'{unit} AS weir_unit', *parts])} FROM {RAW} GROUP BY {unit}"))
    violations, counts = _check(card, rows)
    values = "".join(f", {_clipped(i, measure)} AS m_{i}" for i, measure in enumerate(exact_measures(card)))
    rows.keep(UNITS, statement(f"SELECT weir_unit AS unit, {_code(card)} AS code{values} FROM {_ROUGH}"))
    rows.drop(_ROUGH)
    return violations, counts


def _orders(card: DatasetCard) -> dict[str, tuple[str, ...]]:
    """Columns that order rows, with the conditions of the rows among which the first is taken."""
    items: list[Dimension | Measure] = [*base_dimensions(card), *exact_measures(card)]
    found: dict[str, dict[str, None]] = {}
    for item in items:
        if item.per_unit.order:
            level = at_level(item) if isinstance(item, Measure) else "TRUE"
            found.setdefault(item.per_unit.order, {})[level] = None
    return {column: tuple(levels) for column, levels in found.items()}


def _tied(column: str, levels: tuple[str, ...]) -> str:
    key = order_key(column)
    keys = (key if level == "TRUE" else f"CASE WHEN {level} THEN {key} END" for level in levels)
    return " OR ".join(f"COALESCE(TIED({key}), FALSE)" for key in keys)


def _dimension(index: int, dimension: Dimension) -> Iterator[str]:
    cell = cell_index(dimension)
    order = dimension.per_unit.order
    if order is not None:
        yield f"FIRST_BY({cell}, {order_key(order)}) AS weir_d_{index}"
    else:
        yield f"MIN({cell}) AS weir_d_{index}"
        # Bins of one column are constant where the bin is, so that people may age within it.
        yield f"MAX({cell}) AS weir_e_{index}"


def unit_value(measure: Measure) -> str:
    """Aggregate over a unit's rows: its value of an exact measure in grid steps, not clipped; NULL where there is
    none and nothing stands for it."""
    level = at_level(measure)
    value = grid_steps(measure)
    if measure.missing is not None:
        value = f"COALESCE({value}, CAST({measure.missing} AS HUGEINT))"
    match measure.per_unit.reduction:
        case Reduction.SUM:
            whole = f"COALESCE(EXACT_SUM({value}) FILTER (WHERE {level}), 0)"
        case Reduction.COUNT:
            whole = f"COUNT({text_of(measure.column)}) FILTER (WHERE {level})"
        case Reduction.MAX:
            whole = f"MAX({value}) FILTER (WHERE {level})"
        case _:
            order = order_key(measure.per_unit.order or measure.column)
            whole = f"FIRST_BY({value}, {order}) FILTER (WHERE {level})"
    missing = "NULL" if measure.missing is None else str(measure.missing)
    return f"COALESCE(CAST({whole} AS HUGEINT), CAST({missing} AS HUGEINT))"


def _clipped(index: int, measure: Measure) -> str:
    return f"CAST(LEAST(GREATEST(weir_m_{index}, {measure.lower}), {measure.upper}) AS BIGINT)"


def _code(card: DatasetCard) -> str:
    terms = [f"CAST(weir_d_{i} AS BIGINT) * {weight}" for i, weight in enumerate(strides(card))]
    return " + ".join(terms) or "CAST(0 AS BIGINT)"


def _check(card: DatasetCard, rows: RowEngine) -> tuple[list[Violation], UnitCounts]:
    tests: list[tuple[str, str, str, str]] = []
    for i, dimension in enumerate(base_dimensions(card)):
        if dimension.per_unit.order is None:
            tests.append(("dimension.not_constant", dimension.name, f"weir_d_{i} <> weir_e_{i}", _NOT_CONSTANT))
    for i, column in enumerate(_orders(card)):
        tests.append(("order.ties", column, f"weir_o_{i}", _TIES))
    for i, measure in enumerate(exact_measures(card)):
        tests.append(("measure.no_rows", measure.name, f"weir_m_{i} IS NULL", _NO_ROWS))
    clips = [f"weir_m_{i} < {m.lower} OR weir_m_{i} > {m.upper}" for i, m in enumerate(exact_measures(card))]
    conditions = [test[2] for test in tests] + clips
    columns = "".join(f", COUNT(*) FILTER (WHERE {condition})" for condition in conditions)
    units, *counts = rows.select(statement(f"SELECT COUNT(*){columns} FROM {_ROUGH}"))[0]
    violations = [
        Violation(rule=rule, subject=subject, count=int(count), sentence=sentence)
        for (rule, subject, _, sentence), count in zip(tests, counts[: len(tests)], strict=True)
        if count
    ]
    if exact_measures(card) and units > MAX_UNITS:
        sentence = f"at most {MAX_UNITS} units are answered exactly"
        violations.append(Violation(rule="unit.too_many", subject=card.unit_name, count=int(units), sentence=sentence))
    names = [measure.name for measure in exact_measures(card)]
    clipped = {name: int(count) for name, count in zip(names, counts[len(tests) :], strict=True) if count}
    return violations, UnitCounts(units=int(units), clipped=clipped)


_NOT_CONSTANT = (
    "units with several values: take the first by an order (`per_unit: {first: <column>}`), make it a measure per "
    "level, or use dp with `row_level: true`"
)
_TIES = "units whose first row is not unique: order by a column without ties"
_NO_ROWS = "units without a value: declare what stands for it (`missing: 0`)"
