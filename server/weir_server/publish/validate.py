# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""Every declared fact, checked against the data in one pass per stage: violations by rule and count, never by value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from weir.errors import Violation
from weir_server.catalog.card import DatasetCard, Dimension, Measure, Mode, Reduction
from weir_server.engine.port import RowEngine
from weir_server.engine.relational import identifier, statement
from weir_server.publish.grid import (
    at_level,
    cell_index,
    counts_rows,
    grid_steps,
    no_number,
    not_finite,
    off_grid,
    order_key,
    out_of_bins,
)
from weir_server.publish.source import RAW


@dataclass(frozen=True, slots=True)
class Check:
    """A condition whose rows are counted in the pass over the source."""

    rule: str
    subject: str
    condition: str
    """In the language, over `source_raw`."""
    sentence: str
    refused: bool = True
    """False: only counted, for the report."""


def row_checks(card: DatasetCard) -> tuple[Check, ...]:
    """Everything that can be said of single rows."""
    return (
        Check("unit.missing", card.unit_column, f"{identifier(card.unit_column)} IS NULL", "every row names its unit"),
        *(check for dimension in card.dimensions if dimension.coarsens is None for check in _dimension(dimension)),
        *_orders(card),
        *(check for measure in card.measures for check in _measure(measure)),
    )


def count_rows(card: DatasetCard, *, rows: RowEngine) -> tuple[list[Violation], dict[str, int]]:
    """Violations, and counts for the report (`rounded:spend`, `clipped:age`)."""
    checks = row_checks(card)
    columns = ", ".join(f"COUNT(*) FILTER (WHERE {check.condition})" for check in checks)
    counts = rows.select(statement(f"SELECT {columns} FROM {RAW}"))[0]
    violations = [
        Violation(rule=check.rule, subject=check.subject, count=int(count), sentence=check.sentence)
        for check, count in zip(checks, counts, strict=True)
        if check.refused and count
    ]
    noted = {
        f"{check.rule}:{check.subject}": int(count)
        for check, count in zip(checks, counts, strict=True)
        if not check.refused and count
    }
    return violations, noted


def _dimension(dimension: Dimension) -> Iterator[Check]:
    column = identifier(dimension.column)
    if all(cell.value is not None for cell in dimension.cells):
        yield Check(
            "dimension.null",
            dimension.name,
            f"{column} IS NULL",
            "no value, and the card declares no null cell: declare `null: <label>` or repair the source",
        )
    yield Check(
        "dimension.domain",
        dimension.name,
        f"{column} IS NOT NULL AND ({cell_index(dimension)}) IS NULL",
        "a value outside the declared cells: declare it, or repair the source",
    )
    if dimension.edges:
        yield Check("clipped", dimension.name, out_of_bins(dimension), "counted in the end bins", refused=False)


def _orders(card: DatasetCard) -> Iterator[Check]:
    items: list[Dimension | Measure] = [*card.dimensions, *card.measures]
    used = [item.per_unit.order for item in items]
    for column in dict.fromkeys(order for order in used if order):
        yield Check(
            "order.type",
            column,
            f"{order_key(column)} IS NULL",
            "a column that orders rows holds a number, date or time in every row",
        )


def _measure(measure: Measure) -> Iterator[Check]:
    if counts_rows(measure) and measure.mode is Mode.EXACT:
        return
    level = at_level(measure)
    yield Check(
        "measure.no_number", measure.name, f"{level} AND {no_number(measure.column)}", "a text that is no number"
    )
    yield Check("measure.not_finite", measure.name, f"{level} AND {not_finite(measure.column)}", "NaN or an infinity")
    rounded = measure.rounding != "refuse"
    yield Check(
        "rounded" if rounded else "measure.off_grid",
        measure.name,
        f"{level} AND {off_grid(measure)}",
        f"a value finer than {measure.scale} digits: declare `round: half_even` or a finer scale",
        refused=not rounded,
    )
    if measure.mode is Mode.DP:
        value = grid_steps(measure)
        yield Check(
            "clipped", measure.name, f"{value} < {measure.lower} OR {value} > {measure.upper}", "", refused=False
        )
    elif measure.missing is None and measure.per_unit.reduction is not Reduction.COUNT:
        yield Check(
            "measure.null",
            measure.name,
            f"{level} AND {identifier(measure.column)} IS NULL",
            "no value, and the card does not say what stands for it: declare `missing: 0` or repair the source",
        )
