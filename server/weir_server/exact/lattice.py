# SPDX-License-Identifier: Apache-2.0
"""The grid of fine cells, and the levels at which small cells merge: both from the card alone.

A fine cell is one cell of every base dimension; its code is a number in mixed radix, the last dimension counting
singly. Level 0 is the fine grid itself. Each step of `card.coarsening` gives one level more, steps accumulating; where
residuals become atoms, the last level has one cell. An atom is a cell of a level, less the fine cells of atoms made
before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from weir_server.catalog.card import DatasetCard, Dimension, Measure, Mode
from weir_server.catalog.card_rules import base_dimensions

MAX_UNITS = 2**30
"""Most units of a dataset answered exactly; publication refuses more. It bounds every count and sum in public."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One base dimension at one level."""

    mapping: tuple[int, ...]
    """For each fine cell, its cell at this level."""
    size: int
    """Number of cells at this level; 1 where the dimension is dropped."""


@dataclass(frozen=True, slots=True)
class Level:
    """One step of coarsening."""

    axes: tuple[Axis, ...]
    """One for each base dimension."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Weight of each axis in a cell's code."""
        sizes = [axis.size for axis in self.axes]
        return tuple(prod(sizes[i + 1 :]) for i in range(len(sizes)))

    @property
    def cells(self) -> int:
        """Number of cells."""
        return prod(axis.size for axis in self.axes)

    def codes(self) -> NDArray[np.int64]:
        """For each fine cell in order of its code, the code of the cell of this level that holds it."""
        total = np.zeros((1,) * len(self.axes), dtype=np.int64)
        for i, (axis, stride) in enumerate(zip(self.axes, self.strides, strict=True)):
            shape = [1] * len(self.axes)
            shape[i] = len(axis.mapping)
            total = total + np.asarray(axis.mapping, dtype=np.int64).reshape(shape) * stride
        return np.ascontiguousarray(total).reshape(-1)


def exact_measures(card: DatasetCard) -> tuple[Measure, ...]:
    """The measures of the atom store, in the order of the card."""
    return tuple(measure for measure in card.measures if measure.mode is Mode.EXACT)


def fine_cells(card: DatasetCard) -> int:
    """Number of fine cells."""
    return prod(len(dimension.cells) for dimension in base_dimensions(card))


def levels(card: DatasetCard) -> tuple[Level, ...]:
    """Every level of the card, finest first."""
    bases = base_dimensions(card)
    current = Level(tuple(_fine(dimension) for dimension in bases))
    found = [current]
    for base, coarser in card.coarsening:
        index = next(i for i, dimension in enumerate(bases) if dimension.name == base)
        axes = list(current.axes)
        axes[index] = _dropped(bases[index]) if coarser is None else _coarse(card, coarser)
        current = replace(current, axes=tuple(axes))
        found.append(current)
    if card.residual == "atom":
        found.append(Level(tuple(_dropped(dimension) for dimension in bases)))
    return tuple(found)


def _fine(dimension: Dimension) -> Axis:
    return Axis(tuple(range(len(dimension.cells))), len(dimension.cells))


def _dropped(dimension: Dimension) -> Axis:
    return Axis((0,) * len(dimension.cells), 1)


def _coarse(card: DatasetCard, name: str) -> Axis:
    dimension = card.dimension(name)
    if dimension is None:
        raise ValueError("a checked card declares the dimensions of its steps")
    return Axis(dimension.mapping, len(dimension.cells))


def owners(card: DatasetCard, atoms: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each fine cell, the row of `atoms` that owns it, or -1.

    `atoms`: one row for each atom of (born, level, code), in any order. An atom of an earlier version comes first, and
    within a version one of a finer level.
    """
    lattice = levels(card)
    owner = np.full(lattice[0].cells, -1, dtype=np.int64)
    order = np.lexsort((atoms[:, 1], atoms[:, 0]))
    for born, level in sorted({(int(b), int(lev)) for b, lev, _ in atoms.tolist()}):
        rows = order[(atoms[order, 0] == born) & (atoms[order, 1] == level)]
        table = np.full(lattice[level].cells, -1, dtype=np.int64)
        table[atoms[rows, 2]] = rows
        free = owner == -1
        owner[free] = table[lattice[level].codes()[free]]
    return owner
