# SPDX-License-Identifier: Apache-2.0
"""Whether the log in the store is still the one that was signed and served: each later state begins with each earlier.

The seal moves the head from exactly what it read, so a store changed behind a server's back would be signed on. Whoever
asks here now and then sees it: a head that went back, or leaves that are others than they were.
"""

from __future__ import annotations

from dataclasses import dataclass

from weir.checkpoint import Checkpoint, verify
from weir.errors import InternalError, VerificationError
from weir.merkle import verify_consistency
from weir_server.log.seal import read_head
from weir_server.log.tree import consistency_path
from weir_server.store import Transaction, text


@dataclass(frozen=True, slots=True)
class Seen:
    """What a process has seen of its log."""

    head: Checkpoint
    """The head, signed or not."""
    note: str
    """The newest note that was checked; empty before the first."""


def continues(tx: Transaction, *, older: Checkpoint) -> bool:
    """Whether the log of the store begins with exactly the leaves of an older state."""
    head = read_head(tx)
    if head is None:
        return older.size == 0
    if older.size > head.size:
        return False
    try:
        path = consistency_path(tx, old_size=older.size, new_size=head.size)
        verify_consistency(old_size=older.size, new_size=head.size, old_root=older.root, new_root=head.root, path=path)
    except (VerificationError, InternalError):
        return False
    return True


def look(tx: Transaction, *, vkey: str, seen: Seen | None) -> Seen | None:
    """What there is of the log now; None while it has no head.

    `vkey`: the log's verifier keys. `seen`: what was there the last time.

    Raises:
        VerificationError: it does not continue what was seen, or the newest checkpoint is not signed, or not of it.
    """
    head = read_head(tx)
    if head is None:
        if seen is not None:
            raise _foreign()
        return None
    if seen is not None and not continues(tx, older=seen.head):
        raise _foreign()
    rows = tx.execute("SELECT note FROM log_checkpoints ORDER BY size DESC LIMIT 1")
    note = text(rows[0][0]) if rows else ""
    if note and (seen is None or note != seen.note) and not continues(tx, older=verify(note, vkey)):
        raise _foreign()
    return Seen(Checkpoint(head.origin, head.size, head.root), note)


def _foreign() -> VerificationError:
    return VerificationError("the log in the store does not continue the one that was signed", rule="log.foreign")
