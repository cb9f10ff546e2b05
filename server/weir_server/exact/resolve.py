# SPDX-License-Identifier: Apache-2.0
"""From a bound query to whole atoms. Depends on the card and the partition alone, never on a statistic.

An atom counts for a cell of the answer only when every fine cell it owns, occupied or not, satisfies the filter and
lies in that cell. One that reaches in without lying inside is left out, and the coverage says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from weir_server.catalog.card import Dimension
from weir_server.exact.store import AtomStore
from weir_server.plan.values import CellTest, Condition, Every, NullTest, Some, ValueTest

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Resolution:
    """Atoms of an answer."""

    atoms: NDArray[np.int64]
    """Rows of the store, those of one cell next to each other, cells ascending."""
    starts: NDArray[np.int64]
    """Where each covered cell begins in `atoms`."""
    cells: NDArray[np.int64]
    """Index of each covered cell of the answer, ascending."""
    covered: NDArray[np.int64]
    """Units counted, for every cell of the answer."""
    left_out: NDArray[np.int64]
    """Units of atoms that reach into the cell but not wholly inside, for every cell of the answer."""
    covered_total: int
    left_out_total: int
    """Units of atoms left out, each atom once."""

    @property
    def weight(self) -> int:
        """Array entries held."""
        return len(self.atoms) + 2 * len(self.cells) + 2 * len(self.covered)


def resolve(store: AtomStore, condition: Condition, groups: tuple[Dimension, ...]) -> Resolution:
    """The atoms that answer a query with this filter and these group keys."""
    cells = prod(len(dimension.cells) for dimension in groups)
    inside = np.broadcast_to(_mask(store, condition), store.shape).reshape(-1)[store.owned]
    group = np.broadcast_to(_group_codes(store, groups), store.shape).reshape(-1)[store.owned]
    whole = np.logical_and.reduceat(inside, store.starts) if len(store.starts) else np.zeros(0, dtype=np.bool_)
    touched = np.logical_or.reduceat(inside, store.starts) if len(store.starts) else whole
    if cells > 1 and len(store.starts):
        whole = whole & (np.minimum.reduceat(group, store.starts) == np.maximum.reduceat(group, store.starts))
    chosen = np.flatnonzero(whole)
    keys = group[store.starts[chosen]]
    order = np.argsort(keys, kind="stable")
    chosen, keys = chosen[order], keys[order]
    found, starts = np.unique(keys, return_index=True)
    covered = np.zeros(cells, dtype=np.int64)
    if len(found):
        covered[found] = np.add.reduceat(store.n[chosen], starts)
    partial = touched & ~whole
    return Resolution(
        atoms=chosen,
        starts=starts.astype(np.int64),
        cells=found,
        covered=covered,
        left_out=_left_out(store, partial, inside, group, cells),
        covered_total=int(covered.sum()),
        left_out_total=int(store.n[partial].sum()),
    )


def _left_out(store: AtomStore, partial: Mask, inside: Mask, group: NDArray[np.int64], cells: int) -> NDArray[np.int64]:
    units = np.zeros(cells, dtype=np.int64)
    if partial.any():
        reached = inside & partial[store.owner_of_owned]
        # Each atom once for each cell of the answer that it reaches.
        pairs = np.unique(store.owner_of_owned[reached] * cells + group[reached])
        np.add.at(units, pairs % cells, store.n[pairs // cells])
    return units


def _mask(store: AtomStore, condition: Condition) -> Mask:
    """Truth over the fine grid, as an array that broadcasts to its shape."""
    match condition:
        case CellTest(dimension, cells):
            axis = store.axis[dimension]
            truth = np.zeros(store.shape[axis], dtype=np.bool_)
            truth[list(cells)] = True
            return truth.reshape([-1 if i == axis else 1 for i in range(len(store.shape))])
        case Every(operands) | Some(operands):
            conjunction = isinstance(condition, Every)
            result = np.full((1,) * len(store.shape), conjunction)
            for operand in operands:
                part = _mask(store, operand)
                result = result & part if conjunction else result | part
            return result
        case ValueTest() | NullTest():
            raise ValueError("analysis refuses conditions on measures")


def _group_codes(store: AtomStore, groups: tuple[Dimension, ...]) -> NDArray[np.int64]:
    """Index of the answer's cell over the fine grid, as an array that broadcasts to its shape."""
    codes = np.zeros((1,) * len(store.shape), dtype=np.int64)
    stride = 1
    for dimension in reversed(groups):
        axis = store.axis[dimension.coarsens or dimension.name]
        cell = dimension.mapping if dimension.coarsens is not None else range(len(dimension.cells))
        part = np.asarray(cell, dtype=np.int64) * stride
        codes = codes + part.reshape([-1 if i == axis else 1 for i in range(len(store.shape))])
        stride *= len(dimension.cells)
    return codes
