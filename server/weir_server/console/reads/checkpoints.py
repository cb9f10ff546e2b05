# SPDX-License-Identifier: Apache-2.0
"""Checkpoints by page, with the witnesses that signed them too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weir.checkpoint import parse
from weir.errors import VerificationError
from weir_server import log
from weir_server.log.cosign import cosignatures
from weir_server.store import Transaction, integer, text

PAGE = 50


@dataclass(frozen=True, slots=True)
class Head:
    """One signed checkpoint."""

    size: int
    note: str
    """As signed by the log."""
    cosigned: str
    """Lines of witnesses; empty without."""
    root: str
    """Hex; empty where the note is no checkpoint."""
    signers: Sequence[str]
    """Names of keys, the log's own first."""


def page(tx: Transaction, *, below: int | None = None, limit: int = PAGE) -> tuple[list[Head], int | None]:
    """Checkpoints, newest first, of trees smaller than `below`; and where the next page begins."""
    rows = tx.execute(
        "SELECT size, note FROM log_checkpoints WHERE size < ? ORDER BY size DESC LIMIT ?",
        (2**62 if below is None else below, limit + 1),
    )
    heads = [_head(tx, integer(size), text(note)) for size, note in rows[:limit]]
    return heads, heads[-1].size if len(rows) > limit else None


def at(tx: Transaction, size: int) -> Head | None:
    """The checkpoint of exactly this size."""
    rows = tx.execute("SELECT size, note FROM log_checkpoints WHERE size = ?", (size,))
    return _head(tx, integer(rows[0][0]), text(rows[0][1])) if rows else None


def newest(tx: Transaction) -> Head | None:
    """The newest checkpoint; None while the log is empty."""
    known = log.latest_checkpoint(tx)
    return None if known is None else at(tx, known[0])


def up_to(tx: Transaction, size: int) -> Head | None:
    """The newest checkpoint of at most this size."""
    rows = tx.execute("SELECT size, note FROM log_checkpoints WHERE size <= ? ORDER BY size DESC LIMIT 1", (size,))
    return _head(tx, integer(rows[0][0]), text(rows[0][1])) if rows else None


def _head(tx: Transaction, size: int, note: str) -> Head:
    lines = cosignatures(tx, size)
    try:
        checkpoint, parsed = parse(note + lines)
        root, signers = checkpoint.root.hex(), [signature.name for signature in parsed.signatures]
    except VerificationError:
        root, signers = "", []
    return Head(size, note, lines, root, signers)
