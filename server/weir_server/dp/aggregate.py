# SPDX-License-Identifier: Apache-2.0
"""Stage 5 of dp: exact integers per declared cell, from cube or rows. Everything here is still raw.

Sums come from the engine by base cell, as far as base cells occur; here they are folded into the cells of the answer,
all of which exist from the start, so that an empty group answers like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from weir_server.catalog.card import Dimension
from weir_server.dp.plan import DpPlan, counts_units_by_rank, uses_cube
from weir_server.dp.sql import buckets_statement, grouped_bases, strides, sums_statement, units_statement
from weir_server.dp.tally import Kind, Tally, base_name
from weir_server.engine.duckdb import Engine
from weir_server.plan.values import BoundQuery

Totals = dict[Tally, list[int]]
"""Integers of each tally: cell by cell, and bucket by bucket within a cell."""


def totals(bound: BoundQuery, plan: DpPlan, engine: Engine, *, cube: bool | None = None, seconds: float) -> Totals:
    """Every tally of the plan.

    `cube`: True and False force the store (True only where there is one); None lets public facts choose.
    `seconds`: most for each statement.

    Raises:
        InternalError: the engine failed.
        Unavailable: it took too long.
    """
    wanted = list(dict.fromkeys(part.tally for output in plan.outputs for part in output.parts))
    found: Totals = {}
    sums = [tally for tally in wanted if tally.kind not in (Kind.UNITS, Kind.BUCKETS)]
    if sums:
        source = uses_cube(bound, sums[0]) if cube is None else cube
        rows = engine.query(sums_statement(bound, sums, cube=source), seconds=seconds)
        found.update(_fold_sums(bound, sums, rows))
    for tally in wanted:
        if tally.kind is Kind.UNITS:
            found[tally] = _fold_units(bound, engine.query(units_statement(bound), seconds=seconds))
        if tally.kind is Kind.BUCKETS and tally.measure is not None:
            source = uses_cube(bound, tally) if cube is None else cube
            rows = engine.query(buckets_statement(bound, tally.measure, cube=source), seconds=seconds)
            found[tally] = _fold_buckets(bound, tally, rows)
    return found


def _fold_sums(bound: BoundQuery, tallies: Sequence[Tally], rows: Iterable[tuple[Any, ...]]) -> Totals:
    cell_of = _CellIndex(bound.groups, grouped_bases(bound))
    folded: Totals = {tally: [0] * bound.cells for tally in tallies}
    for row in rows:
        cell = cell_of(row)
        for tally, value in zip(tallies, row[cell_of.keys :], strict=True):
            folded[tally][cell] += int(value or 0)  # a sum of nothing is NULL
    return folded


def _fold_buckets(bound: BoundQuery, tally: Tally, rows: Iterable[tuple[Any, ...]]) -> list[int]:
    cell_of, width = _CellIndex(bound.groups, grouped_bases(bound)), tally.width()
    folded = [0] * (bound.cells * width)
    for row in rows:
        folded[cell_of(row) * width + int(row[-2])] += int(row[-1])
    return folded


def _fold_units(bound: BoundQuery, rows: Iterable[tuple[Any, ...]]) -> list[int]:
    folded = [0] * bound.cells
    if not counts_units_by_rank(bound):  # the engine has told units apart by cell of the answer already
        for cell, units in rows:
            folded[int(cell)] += int(units)
        return folded
    cell_of = _CellIndex(bound.groups, grouped_bases(bound))
    for row in rows:
        folded[cell_of(row)] += int(row[-1] or 0)
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
