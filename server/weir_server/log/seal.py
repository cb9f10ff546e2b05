# SPDX-License-Identifier: Apache-2.0
"""Sealing: what turns the leaves of one group into a signed checkpoint, inside the group's own transaction."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from weir.checkpoint import Checkpoint, Signer, sign
from weir.errors import InternalError
from weir.merkle import EMPTY_ROOT, leaf_hash
from weir_server.log.tree import grow, root
from weir_server.store import Row, Transaction, blob, integer, text


@dataclass(frozen=True, slots=True)
class Head:
    """Head of the log as it was last sealed."""

    origin: str
    """Name of the log."""
    size: int
    """Leaves sealed."""
    root: bytes
    """Root over them."""


def sealer(signers: Sequence[Signer], *, now: Callable[[], datetime]) -> Callable[[Transaction], None]:
    """The `seal` hook of a store: signs with every one of `signers`, all named by the log's origin."""
    if not signers or len({signer.name for signer in signers}) != 1:
        raise ValueError("a log has at least one signer, all of one name")
    origin = signers[0].name

    def seal_group(tx: Transaction) -> None:
        seal(tx, origin=origin, signers=signers, now=now())

    return seal_group


def seal(tx: Transaction, *, origin: str, signers: Sequence[Signer], now: datetime) -> None:
    """Appends the leaves that are not in the tree yet, moves the head and signs it. Without new leaves: nothing.

    Raises:
        InternalError: a leaf does not hash to what was written beside it, indexes have a gap, the head moved under
            us, or the log belongs to another origin. Nothing is signed then; a group that hits this stops the store.
    """
    head = read_head(tx) or first_head(tx, origin)
    if head.origin != origin:
        raise InternalError("the signing key belongs to another log", rule="log.origin")
    # 1. Re-read what this group wrote, from the database and not from memory: what is signed is what is stored.
    rows = tx.execute("SELECT idx, leaf, hash FROM log_leaves WHERE idx >= ? ORDER BY idx", (head.size,))
    if not rows:
        return
    leaves = [_checked(row, head.size + offset) for offset, row in enumerate(rows)]
    # 2. Grow the tree.
    grow(tx, size=head.size, leaves=leaves)
    size = head.size + len(leaves)
    new_root = root(tx, size)
    # 3. Compare-and-swap: one head, moved from exactly what it was, or two writers have run on one log.
    moved = tx.execute(
        "UPDATE log_head SET size = ?, root = ? WHERE id = 1 AND size = ? AND root = ? RETURNING size",
        (size, new_root, head.size, head.root),
    )
    if len(moved) != 1:
        raise InternalError("the head of the log moved under its writer", rule="log.head")
    # 4. Only now sign: a signature cannot be taken back.
    note = sign(Checkpoint(origin, size, new_root), signers, time=int(now.timestamp()))
    tx.execute("INSERT INTO log_checkpoints (size, note) VALUES (?, ?)", (size, note))


def read_head(tx: Transaction) -> Head | None:
    """The sealed head, or None before the first group."""
    rows = tx.execute("SELECT origin, size, root FROM log_head WHERE id = 1")
    if not rows:
        return None
    origin, size, digest = rows[0]
    return Head(text(origin), integer(size), blob(digest))


def first_head(tx: Transaction, origin: str) -> Head:
    """Makes the head of an empty log."""
    tx.execute("INSERT INTO log_head (id, origin, size, root) VALUES (1, ?, 0, ?)", (origin, EMPTY_ROOT))
    return Head(origin, 0, EMPTY_ROOT)


def _checked(row: Row, expected: int) -> bytes:
    index, leaf, stored = row
    if index != expected:
        raise InternalError("the log's leaves have a gap", rule="log.gap")
    fresh = leaf_hash(blob(leaf))
    if not hmac.compare_digest(fresh, blob(stored)):
        raise InternalError("a leaf changed between writing and signing", rule="log.leaf")
    return fresh
