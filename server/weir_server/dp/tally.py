# SPDX-License-Identifier: Apache-2.0
"""What a dp query adds up before noise, and by how much one privacy unit can change it. Pure.

Neighbours differ in one unit with all its rows. Of a unit at most R = `rows_per_unit` rows are stored, each in one
cell of the answer, so over all cells together its rows change
    a count of rows by at most R, a sum of values v by at most R * max|v|, a bucket count by at most R;
and it is counted as a unit in at most as many cells as its rows, or its bounded groups, reach. All are L1 bounds over
the whole vector of cells. The L2 bound is the same, since every row may fall in one cell; for units it is the square
root, since a unit counts once in a cell.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from weir.errors import InvalidQuery
from weir_server.catalog.card import DatasetCard, Dimension, Measure
from weir_server.dp.layout import AMOUNT_LIMIT, centre, reach


class Kind(enum.Enum):
    """What is added up per cell; the values are the words of the mechanism."""

    ROWS = "rows"
    UNITS = "units"
    VALUES = "values"
    """Rows where the measure is not null."""
    SUM = "sum"
    CENTRED = "centred sum"
    """Sum after subtracting the centre of the bounds."""
    SQUARES = "centred squares"
    BUCKETS = "buckets"
    """Rows per bucket: a vector per cell."""


@dataclass(frozen=True, slots=True)
class Tally:
    """One integer per cell of the answer, or for buckets one per cell and bucket, cell by cell."""

    kind: Kind
    measure: Measure | None = None

    def width(self) -> int:
        """Integers per cell."""
        return len(self.measure.buckets) - 1 if self.kind is Kind.BUCKETS and self.measure is not None else 1


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Most that adding or removing one unit changes a tally, over all its integers together."""

    l1: int
    """Sum of absolute changes; at least 1."""
    l2_squared: int
    """Sum of squared changes; at least 1."""


def sensitivity(tally: Tally, card: DatasetCard, groups: tuple[Dimension, ...]) -> Sensitivity:
    """Bound of a tally over the cells of `groups`, from the card's bounds alone.

    Raises:
        InvalidQuery: the bounds are too wide for 64-bit integers.
    """
    if tally.kind is Kind.UNITS:
        cells = cells_of_unit(card, groups)
        return Sensitivity(l1=cells, l2_squared=cells)
    largest = card.bounds.rows_per_unit * _largest(tally)
    if largest >= AMOUNT_LIMIT:
        raise InvalidQuery(
            "the declared bounds are too wide for this aggregate: one unit could change it by 2**62 grid steps",
            field="query.aggregates",
            rule="dp.sensitivity_range",
        )
    # Bounds of 0 to 0 leave nothing to hide, but noise needs a scale.
    largest = max(largest, 1)
    return Sensitivity(l1=largest, l2_squared=largest * largest)


def _largest(tally: Tally) -> int:
    """Most that one row changes a cell."""
    measure = tally.measure
    if measure is None or tally.kind in (Kind.VALUES, Kind.BUCKETS):
        return 1
    if tally.kind is Kind.SUM:
        return max(abs(measure.lower), abs(measure.upper))
    return reach(measure) if tally.kind is Kind.CENTRED else reach(measure) ** 2


def cells_of_unit(card: DatasetCard, groups: tuple[Dimension, ...]) -> int:
    """Most cells of the answer that one unit is counted in."""
    bases: dict[str, list[int]] = {base_name(item): [] for item in groups if is_row_level(card, item)}
    for item in groups:
        if base_name(item) in bases:
            bases[base_name(item)].append(len(item.cells))
    reached = prod(_cells_of_base(card, base, widths) for base, widths in bases.items())
    return min(card.bounds.rows_per_unit, reached)


def _cells_of_base(card: DatasetCard, base: str, widths: list[int]) -> int:
    # Several dimensions over one base are functions of its cell, so together they take no more values than it does.
    bound = group_bound(card, base)
    return prod(widths) if bound is None else min(prod(widths), bound)


def group_bound(card: DatasetCard, base: str) -> int | None:
    """Declared bound of a row-level base dimension's cells per unit, or None."""
    return card.bounds.groups_per_unit.get(base)


def base_name(dimension: Dimension) -> str:
    """Name of the base dimension underneath."""
    return dimension.coarsens or dimension.name


def is_row_level(card: DatasetCard, dimension: Dimension) -> bool:
    """Whether rows of one unit may differ in it; a coarsening follows its base."""
    base = card.dimension(base_name(dimension))
    return dimension.row_level if base is None else base.row_level


def shift(tally: Tally) -> int:
    """What is subtracted from each value before it is added, in grid steps."""
    centred = tally.kind in (Kind.CENTRED, Kind.SQUARES)
    return centre(tally.measure) if centred and tally.measure is not None else 0


def strides(groups: Sequence[Dimension]) -> list[int]:
    """Weight of each group's cell index in the index of the answer's cell; the last group varies fastest."""
    weights, step = [], 1
    for dimension in reversed(groups):
        weights.append(step)
        step *= len(dimension.cells)
    return weights[::-1]
