# SPDX-License-Identifier: Apache-2.0
"""Stage 5 of dp: exact integers per declared cell, from cube or rows. Everything here is still raw.

Sums come by base cell, as far as base cells occur; here they are folded into the cells of the answer, all of which
exist from the start, so that an empty group answers like any other. Cube and rows give equal integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from weir_server.catalog.card import Dimension
from weir_server.dp.cube import add_cells
from weir_server.dp.layout import CUBE, UNITS, bucket_column, bucket_table, centre
from weir_server.dp.plan import DpPlan, counts_units_by_rank, uses_cube
from weir_server.dp.sql import (
    added,
    buckets_statement,
    grouped_bases,
    subtracted,
    sum_columns,
    sums_statement,
    units_statement,
)
from weir_server.dp.store import BoundedStore
from weir_server.dp.tally import Kind, Tally, base_name, shift, strides
from weir_server.plan.values import BoundQuery

Totals = dict[Tally, list[int]]
"""Integers of each tally: cell by cell, and bucket by bucket within a cell."""
_CUBE_COLUMN = {Kind.VALUES: "c", Kind.SUM: "s", Kind.CENTRED: "s", Kind.SQUARES: "q"}


def totals(bound: BoundQuery, plan: DpPlan, store: BoundedStore, *, rows_only: bool = False, seconds: float) -> Totals:
    """Every tally of the plan.

    `rows_only`: leave the cube aside, for those who compare. `seconds`: most for each statement.

    Raises:
        InternalError: the engine failed.
        Unavailable: it took too long.
    """
    wanted = list(dict.fromkeys(part.tally for output in plan.outputs for part in output.parts))
    from_cube = [] if rows_only else [tally for tally in wanted if uses_cube(bound, tally)]
    found = {tally: _from_cube(bound, tally, store) for tally in from_cube}
    return found | _from_rows(bound, [tally for tally in wanted if tally not in found], store, seconds)


def _from_cube(bound: BoundQuery, tally: Tally, store: BoundedStore) -> list[int]:
    measure = tally.measure
    if measure is None:
        table = UNITS if tally.kind is Kind.UNITS else CUBE
        return add_cells(store.cube(table), bound, ["n"])[0]
    if tally.kind is Kind.BUCKETS:
        bucket = (bucket_column(measure.name), tally.width())
        return add_cells(store.cube(bucket_table(measure.name)), bound, ["n"], bucket=bucket)[0]
    column = f"{_CUBE_COLUMN[tally.kind]}_{measure.name}"
    away = centre(measure) - shift(tally)  # the cube's sums are around the centre
    if tally.kind is not Kind.SUM or away == 0:
        return add_cells(store.cube(CUBE), bound, [column])[0]
    sums, counts = add_cells(store.cube(CUBE), bound, [column, f"c_{measure.name}"])
    return [value + away * number for value, number in zip(sums, counts, strict=True)]


def _from_rows(bound: BoundQuery, wanted: Sequence[Tally], store: BoundedStore, seconds: float) -> Totals:
    found: Totals = {}
    sums = [tally for tally in wanted if tally.kind not in (Kind.UNITS, Kind.BUCKETS)]
    if sums:
        found |= _fold_sums(bound, sums, store.select(sums_statement(bound, sums), seconds=seconds))
    for tally in wanted:
        if tally.kind is Kind.UNITS:
            found[tally] = _fold_units(bound, store.select(units_statement(bound), seconds=seconds))
        if tally.kind is Kind.BUCKETS and tally.measure is not None:
            rows = store.select(buckets_statement(bound, tally.measure), seconds=seconds)
            found[tally] = _fold_buckets(bound, tally, rows)
    return found


def _fold_sums(bound: BoundQuery, tallies: Sequence[Tally], rows: Iterable[tuple[Any, ...]]) -> Totals:
    cell_of = _CellIndex(bound.groups, grouped_bases(bound))
    place = {column: index for index, column in enumerate(sum_columns(tallies), start=cell_of.keys)}
    terms = [(tally, place[added(tally)], [place[column] for column in subtracted(tally)]) for tally in tallies]
    folded: Totals = {tally: [0] * bound.cells for tally in tallies}
    for row in rows:
        cell = cell_of(row)
        for tally, sum_at, counts_at in terms:
            value = int(row[sum_at] or 0)  # a sum of nothing is NULL
            folded[tally][cell] += value - sum(shift(tally) * int(row[at]) for at in counts_at)
    return folded


def _fold_buckets(bound: BoundQuery, tally: Tally, rows: Iterable[tuple[Any, ...]]) -> list[int]:
    cell_of, width = _CellIndex(bound.groups, grouped_bases(bound)), tally.width()
    folded = [0] * (bound.cells * width)
    for row in rows:
        folded[cell_of(row) * width + int(row[-2])] += int(row[-1])
    return folded


def _fold_units(bound: BoundQuery, rows: Iterable[tuple[Any, ...]]) -> list[int]:
    folded = [0] * bound.cells
    # Elsewhere the engine has told units apart by cell of the answer already.
    cell_of = _CellIndex(bound.groups, grouped_bases(bound)) if counts_units_by_rank(bound) else None
    for row in rows:
        folded[int(row[0]) if cell_of is None else cell_of(row)] += int(row[-1])
    return folded


class _CellIndex:
    """From the base cells at the start of a row to the cell of the answer."""

    def __init__(self, groups: Sequence[Dimension], bases: Sequence[str]) -> None:
        self.keys = len(bases)
        """Base cells at the start of a row."""
        self._terms = [
            (bases.index(base_name(dimension)), dimension.mapping if dimension.coarsens is not None else None, stride)
            for dimension, stride in zip(groups, strides(groups), strict=True)
        ]

    def __call__(self, row: Sequence[Any]) -> int:
        index = 0
        for position, mapping, stride in self._terms:
            cell = int(row[position])
            index += stride * (cell if mapping is None else mapping[cell])
        return index
