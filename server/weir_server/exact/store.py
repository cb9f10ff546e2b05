# SPDX-License-Identifier: Apache-2.0
"""The atoms of one snapshot in memory: immutable, loaded once, shared by every query.

Statistics are integers. A column that could overflow 64 bits when all of it is added up is kept as Python integers
instead of int64, so sums are exact whatever their size.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weir.errors import PublicationError
from weir_server.catalog.card import DatasetCard
from weir_server.catalog.card_rules import base_dimensions
from weir_server.catalog.snapshot import Snapshot
from weir_server.exact.lattice import exact_measures, levels, owners
from weir_server.exact.records import ATOMS, Atom, read_atoms

_SAFE = 2**62
MAX_OPEN = 64
"""Most snapshots kept in memory."""


@dataclass(frozen=True, slots=True)
class AtomStore:
    """Atoms as columns; rows are atoms in the order of the file."""

    shape: tuple[int, ...]
    """Cells of each base dimension; () for none."""
    axis: dict[str, int]
    """Base dimension to its axis of the fine grid."""
    n: NDArray[np.int64]
    """Units of each atom."""
    owned: NDArray[np.int64]
    """Codes of all fine cells that an atom owns, those of one atom next to each other, atoms ascending."""
    owner_of_owned: NDArray[np.int64]
    """Atom of each entry of `owned`."""
    starts: NDArray[np.int64]
    """Where each atom begins in `owned`."""
    columns: dict[tuple[str, str], NDArray[Any]]
    """Measure and statistic (`sum`, `squares`, `bucket 0`, …) to a value for each atom: int64, or Python integers."""


def load_store(snapshot: Snapshot) -> AtomStore:
    """Atoms of a verified snapshot.

    Raises:
        PublicationError: missing, malformed, or an atom breaks a promise of publication.
    """
    return build_store(snapshot.card, list(read_atoms(snapshot.directory / ATOMS)))


def build_store(card: DatasetCard, atoms: list[Atom]) -> AtomStore:
    """The store of these atoms.

    Raises:
        PublicationError: an atom under k, or none for the card's grid.
    """
    _check(card, atoms)
    keys = np.array([atom.key for atom in atoms], dtype=np.int64).reshape(-1, 3)
    owner = owners(card, keys)
    owned = np.flatnonzero(owner >= 0)
    owned = owned[np.argsort(owner[owned], kind="stable")]
    owner_of_owned = owner[owned]
    starts = np.flatnonzero(np.diff(owner_of_owned, prepend=-1))
    if len(starts) != len(atoms):
        raise PublicationError("an atom of the snapshot owns no cell", rule="snapshot.atoms")
    bases = base_dimensions(card)
    store = AtomStore(
        shape=tuple(len(dimension.cells) for dimension in bases),
        axis={dimension.name: i for i, dimension in enumerate(bases)},
        n=np.array([atom.n for atom in atoms], dtype=np.int64),
        owned=owned,
        owner_of_owned=owner_of_owned,
        starts=starts,
        columns=_columns(card, atoms),
    )
    for array in (store.n, owned, owner_of_owned, starts, *store.columns.values()):
        array.flags.writeable = False
    return store


def _check(card: DatasetCard, atoms: list[Atom]) -> None:
    lattice = levels(card)
    measures = len(exact_measures(card))
    for atom in atoms:
        if atom.n < card.k or len(atom.totals) != measures:
            raise PublicationError("an atom breaks a promise of its publication", rule="snapshot.atoms")
        if not 0 <= atom.level < len(lattice) or not 0 <= atom.code < lattice[atom.level].cells:
            raise PublicationError("an atom names a cell outside the card", rule="snapshot.atoms")


def _columns(card: DatasetCard, atoms: list[Atom]) -> dict[tuple[str, str], NDArray[Any]]:
    columns: dict[tuple[str, str], NDArray[Any]] = {}
    for i, measure in enumerate(exact_measures(card)):
        totals = [atom.totals[i] for atom in atoms]
        columns[measure.name, "sum"] = exact_array([item.sum for item in totals])
        squares = [item.squares for item in totals if item.squares is not None]
        if len(squares) == len(totals):
            columns[measure.name, "squares"] = exact_array(squares)
        buckets = [item.buckets for item in totals if item.buckets is not None]
        if buckets and len(buckets) == len(totals):
            for bucket, counts in enumerate(zip(*buckets, strict=True)):
                columns[measure.name, f"bucket {bucket}"] = exact_array(list(counts))
    return columns


def exact_array(values: list[int]) -> NDArray[Any]:
    """`values` as int64 where no sum of any of them can overflow, as Python integers otherwise."""
    if sum(abs(value) for value in values) < _SAFE:
        return np.array(values, dtype=np.int64)
    return np.array(values, dtype=object)


class Stores:
    """Opened stores by manifest digest, the least recently used dropped first. Safe from any thread."""

    def __init__(self, *, most: int = MAX_OPEN) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._stores: OrderedDict[str, AtomStore] = OrderedDict()
        self._opening: dict[str, threading.Lock] = {}

    def is_open(self, snapshot: Snapshot) -> bool:
        """Whether `get` would give the store at once; never waits for a store that is being opened."""
        with self._lock:
            return snapshot.manifest_digest in self._stores

    def get(self, snapshot: Snapshot) -> AtomStore:
        """The store of a snapshot, opened once however many threads ask.

        Raises:
            PublicationError: as `load_store`.
        """
        digest = snapshot.manifest_digest
        if (store := self._found(digest)) is not None:
            return store
        with self._lock:
            gate = self._opening.setdefault(digest, threading.Lock())
        # Opening 100,000 atoms takes seconds; whoever asks for another snapshot must not wait for it.
        with gate:
            if (store := self._found(digest)) is None:
                store = load_store(snapshot)
                self._keep(digest, store)
        return store

    def _found(self, digest: str) -> AtomStore | None:
        with self._lock:
            if digest not in self._stores:
                return None
            self._stores.move_to_end(digest)
            return self._stores[digest]

    def _keep(self, digest: str, store: AtomStore) -> None:
        with self._lock:
            self._stores[digest] = store
            if len(self._stores) > self._most:
                self._stores.popitem(last=False)
