# SPDX-License-Identifier: Apache-2.0
"""What a dataset has published of itself, and how its lineage's privacy budget burns down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

from weir_server import ledger
from weir_server.catalog.card import DatasetCard
from weir_server.catalog.snapshot import Snapshot
from weir_server.exact.records import ATOMS, read_atoms
from weir_server.policy.lineage import lineage_quota_id
from weir_server.store import Transaction, integer, text

_KEPT = 256
_APART = 5
"""Requesters that a chart tells apart."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Atoms of one snapshot: counts of published atoms are releases themselves."""

    atoms: int
    units: int
    """Units in atoms."""
    levels: Sequence[tuple[int, int, int]]
    """Level of coarsening (0 is the finest), atoms, units."""


@dataclass(frozen=True, slots=True)
class Burn:
    """How a lineage's budget was spent."""

    metric: str
    limit: int
    used: int
    days: Sequence[str]
    """Days on which anything was spent, ascending."""
    cumulative: Sequence[int]
    """Spent by the end of each."""
    by_requester: Sequence[tuple[str, int]]
    """Largest first."""
    shares: Sequence[tuple[str, Sequence[int]]]
    """The same by the end of each day, for the largest few requesters, and for the others under an empty name."""


def coverage(snapshot: Snapshot) -> Coverage | None:
    """Atoms of a snapshot; None where it has none. Reads a file the first time: call it in a worker thread."""
    return _coverage(snapshot.manifest_digest, snapshot.directory / ATOMS) if ATOMS in snapshot.files else None


@lru_cache(maxsize=_KEPT)
def _coverage(digest: str, path: Path) -> Coverage:
    # By the digest: a snapshot never changes, and one that was made again elsewhere is another.
    atoms: Counter[int] = Counter()
    units: Counter[int] = Counter()
    for atom in read_atoms(path):
        atoms[atom.level] += 1
        units[atom.level] += atom.n
    levels = [(level, atoms[level], units[level]) for level in sorted(atoms)]
    return Coverage(atoms.total(), units.total(), levels)


def burn(tx: Transaction, card: DatasetCard) -> Burn | None:
    """The lifetime account of a card's lineage; None where it has none."""
    metric = card.budget_metric
    quota = ledger.find_quota(tx, lineage_quota_id(card.lineage, metric))
    if quota is None:
        return None
    rows = tx.execute(
        "SELECT day, requester, used FROM usage_spent WHERE lineage = ? AND metric = ?", (card.lineage, metric)
    )
    spent: Counter[tuple[str, str]] = Counter()
    days: Counter[str] = Counter()
    requesters: Counter[str] = Counter()
    for day, requester, used in rows:
        spent[text(requester), text(day)] += integer(used)
        days[text(day)] += integer(used)
        requesters[text(requester)] += integer(used)
    order, running = sorted(days), list(accumulate(days[day] for day in sorted(days)))
    largest = [name for name, _ in requesters.most_common(_APART)]
    shares = [(name, list(accumulate(spent[name, day] for day in order))) for name in largest]
    others = [total - sum(share[at] for _, share in shares) for at, total in enumerate(running)]
    if any(others):
        shares.append(("", others))
    return Burn(metric, quota.limit, days.total(), order, running, requesters.most_common(), shares)
