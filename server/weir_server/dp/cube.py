# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the layout's names, never of a requester's text
"""The bounded cube in memory: exact sums over cells in microseconds, whatever the number of rows. Raw data all of it.

Sums are 64-bit where no addition of all cells could leave 62 bits, and Python integers otherwise: the numbers are the
same. Floats take no part, so `bincount` and its double weights stay out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from weir_server.catalog.card import DatasetCard
from weir_server.dp.layout import grid_cells
from weir_server.dp.tally import base_name, strides
from weir_server.engine.duckdb import Engine
from weir_server.plan.values import BoundQuery, CellTest, Condition, Every, Some

_FITS = 2**62
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Cube:
    """Non-empty cells of one table of the store."""

    keys: Mapping[str, Array]
    """Cell (or bucket) indexes by column, one per non-empty cell."""
    sums: Mapping[str, Array]
    """Integers by column, as long."""
    length: int
    """Number of non-empty cells."""


def load_cube(engine: Engine, table: str) -> Cube:
    """A whole table of cells and sums.

    Raises:
        InternalError: the engine failed.
    """
    names = [str(row[0]) for row in engine.query(f"DESCRIBE {table}")]
    keys = [name for name in names if name.startswith(("d_", "k_"))]
    sums = [name for name in names if name not in keys]
    bounds = ", ".join(f"coalesce(max(abs(CAST({name} AS HUGEINT))), 0)" for name in sums)
    length, *largest = engine.query(f"SELECT count(*), {bounds} FROM {table}")[0]
    small = [name for name, most in zip(sums, largest, strict=True) if int(most) * max(1, int(length)) < _FITS]
    casts = [f"CAST({name} AS BIGINT) AS {name}" for name in (*keys, *small)]
    found = engine.arrays(f"SELECT {', '.join(casts) or '1'} FROM {table} ORDER BY rowid")
    return Cube(
        keys={name: np.asarray(found[name]) for name in keys},
        sums={name: np.asarray(found[name]) if name in small else _large(engine, table, name) for name in sums},
        length=int(length),
    )


def _large(engine: Engine, table: str, name: str) -> Array:
    values = [int(row[0]) for row in engine.query(f"SELECT {name} FROM {table} ORDER BY rowid")]
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def add_cells(
    cube: Cube, bound: BoundQuery, columns: Sequence[str], *, bucket: tuple[str, int] | None = None
) -> list[list[int]]:
    """For each column, its sums over the cells of the answer that satisfy the condition, dense.

    `bucket`: key column and number of buckets, which vary fastest then.
    """
    width = 1 if bucket is None else bucket[1]
    chosen = np.flatnonzero(_satisfies(cube, bound.condition, bound.card))
    index = _answer_cells(cube, bound)[chosen]
    if bucket is not None:
        index = index * width + cube.keys[bucket[0]][chosen]
    totals = []
    for column in columns:
        values = cube.sums[column][chosen]
        total = np.zeros(bound.cells * width, dtype=values.dtype)
        np.add.at(total, index, values)
        totals.append([int(value) for value in total])
    return totals


def _answer_cells(cube: Cube, bound: BoundQuery) -> Array:
    index = np.zeros(cube.length, dtype=np.int64)
    for dimension, stride in zip(bound.groups, strides(bound.groups), strict=True):
        cells = cube.keys[f"d_{base_name(dimension)}"]
        index += stride * (
            cells if dimension.coarsens is None else np.asarray(dimension.mapping, dtype=np.int64)[cells]
        )
    return index


def _satisfies(cube: Cube, node: Condition, card: DatasetCard) -> Array:
    match node:
        case Every(operands):
            held = np.ones(cube.length, dtype=bool)
            for operand in operands:
                held &= _satisfies(cube, operand, card)
            return held
        case Some(operands):
            held = np.zeros(cube.length, dtype=bool)
            for operand in operands:
                held |= _satisfies(cube, operand, card)
            return held
        case CellTest(name, cells):
            dimension = card.dimension(name)
            listed = np.zeros(grid_cells(() if dimension is None else (dimension,)), dtype=bool)
            listed[sorted(cells)] = True
            return np.asarray(listed[cube.keys[f"d_{name}"]])
    raise TypeError("a cube holds no values to test")
