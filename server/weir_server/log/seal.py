# SPDX-License-Identifier: Apache-2.0
"""Sealing: what turns the leaves of one group into a tree and, where a receipt may be asked for, a signed checkpoint.

Both happen inside the group's own transaction, so a note never leaves the process before its head and its leaves are
durable: a crash before the commit forgets note and leaves together, and nobody has seen either. Two signed trees of one
size cannot come about.

A group of reservations alone is put into the tree and moves the head, but is not signed: nobody is given a receipt of a
reservation, and one signature costs more than the rest of the group. The next signature, of the group that posts the
answer or at the latest of the tick that `keep_signed` makes twice a second, covers those leaves too. A crash in between
leaves a durable head without a checkpoint; the next process signs that head with its first group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from weir.checkpoint import Checkpoint, Signer, sign
from weir.errors import InternalError
from weir.merkle import EMPTY_ROOT, leaf_hash
from weir_server.log.tree import Growth, fold, grow, read_edge
from weir_server.store import Row, Transaction, blob, integer, text

UNSIGNED = "weir.query.reserved"
"""Type of the leaves that may wait for a signature; of all others somebody may hold a receipt at once."""
MOST_BEHIND = timedelta(seconds=0.25)
"""How long leaves may wait before any group is signed, whatever it holds."""


@dataclass(frozen=True, slots=True)
class Head:
    """Head of the log as it was last sealed."""

    origin: str
    """Name of the log."""
    size: int
    """Leaves sealed."""
    root: bytes
    """Root over them."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What receipts of a group's leaves are made of."""

    growth: Growth
    note: str
    """The signed checkpoint of exactly this tree: the first one above each of the leaves."""


@dataclass(slots=True, eq=False)
class Group:
    """Where the operations of a group find what it was sealed with. Only they know it, and they are told when the group
    is durable: so no receipt can be made of it before."""

    sealed: Sealed | None = None


Next = tuple[str, int, Group]
"""The log's origin, the index of its next leaf, and the group that leaf will be of."""
NEXT = "log.next"
"""What the group's transaction remembers that by."""


def sealer(signers: Sequence[Signer], *, now: Callable[[], datetime]) -> Callable[[Transaction], None]:
    """The `seal` hook of a store: signs with every one of `signers`, all named by the log's origin."""
    if not signers or len({signer.name for signer in signers}) != 1:
        raise ValueError("a log has at least one signer, all of one name")
    origin, fresh = signers[0].name, True
    waiting: datetime | None = None
    known: Growth | None = None

    def seal_group(tx: Transaction) -> None:
        nonlocal fresh, waiting, known
        moment = now()
        # A new process signs whatever it finds, and a clock set back does not put signatures off.
        overdue = fresh or (waiting is not None and not timedelta() <= moment - waiting < MOST_BEHIND)
        signed, known = seal(tx, origin=origin, signers=signers, now=moment, overdue=overdue, known=known)
        fresh, waiting = False, None if signed else waiting or moment

    return seal_group


def seal(
    tx: Transaction,
    *,
    origin: str,
    signers: Sequence[Signer],
    now: datetime,
    overdue: bool = True,
    known: Growth | None = None,
) -> tuple[bool, Growth | None]:
    """Appends the leaves that are not in the tree yet and moves the head; gives whether it was signed, and the tree.

    Signs where a new leaf is no reservation, or where `overdue` and there is anything unsigned. `known`: the tree that
    an earlier call gave, which is used where it is still the one under the head.

    Raises:
        InternalError: a leaf does not hash to what was written beside it, indexes have a gap, the nodes do not lead to
            the head, the head moved under us, or the log belongs to another origin. Nothing is signed then; a group
            that hits this stops the store.
    """
    head = read_head(tx) or first_head(tx, origin)
    if head.origin != origin:
        raise InternalError("the signing key belongs to another log", rule="log.origin")
    # 1. Re-read what this group wrote, from the database and not from memory: what is signed is what is stored.
    rows = tx.execute("SELECT idx, leaf, hash, type FROM log_leaves WHERE idx >= ? ORDER BY idx", (head.size,))
    if rows:
        # 2. Grow the tree. 3. Compare-and-swap: one head, moved from exactly what it was.
        known = grow(tx, size=head.size, edge=_edge(tx, head, known), leaves=_checked(rows, head.size))
        head = _move(tx, head, known.root, size=known.size)
    # 4. Only now sign: a signature cannot be taken back.
    if all(row[3] == UNSIGNED for row in rows) and not (overdue and _is_behind(tx, head)):
        return False, known
    note = sign(Checkpoint(origin, head.size, head.root), signers, time=int(now.timestamp()))
    tx.execute("INSERT INTO log_checkpoints (size, note) VALUES (?, ?)", (head.size, note))
    following: Next | None = tx.recall(NEXT)
    if following is not None and known is not None and rows:
        following[2].sealed = Sealed(known, note)
    return True, known


def is_behind(tx: Transaction) -> bool:
    """Whether leaves wait for a signature."""
    head = read_head(tx)
    return head is not None and _is_behind(tx, head)


def _is_behind(tx: Transaction, head: Head) -> bool:
    rows = tx.execute("SELECT COALESCE(MAX(size), 0) FROM log_checkpoints")
    return head.size > integer(rows[0][0])


def _edge(tx: Transaction, head: Head, known: Growth | None) -> Sequence[bytes]:
    """The whole subtrees under the head, which must lead to its root: what is signed next is built on them."""
    if known is not None and (known.size, known.root) == (head.size, head.root):
        return known.edge
    edge = read_edge(tx, head.size)
    if fold(edge) != head.root:
        raise InternalError("the nodes of the log's tree do not lead to its head: run fsck", rule="log.node")
    return edge


def _move(tx: Transaction, head: Head, new_root: bytes, *, size: int) -> Head:
    """Moves the head from exactly what was read, or two writers have run on one log."""
    moved = tx.execute(
        "UPDATE log_head SET size = ?, root = ? WHERE id = 1 AND size = ? AND root = ? RETURNING size",
        (size, new_root, head.size, head.root),
    )
    if len(moved) != 1:
        raise InternalError("the head of the log moved under its writer", rule="log.head")
    return Head(head.origin, size, new_root)


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


def _checked(rows: Sequence[Row], first: int) -> list[bytes]:
    """Hashes of the leaves in `rows`, made anew."""
    if [row[0] for row in rows] != list(range(first, first + len(rows))):
        raise InternalError("the log's leaves have a gap", rule="log.gap")
    fresh = [leaf_hash(blob(row[1])) for row in rows]
    if fresh != [row[2] for row in rows]:
        raise InternalError("a leaf changed between writing and signing", rule="log.leaf")
    return fresh
