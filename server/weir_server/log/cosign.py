# SPDX-License-Identifier: Apache-2.0
"""Cosignatures: the newest checkpoint goes to a witness, and what it signs is served beside the log's own lines.

A cosignature is added to a checkpoint later, if at all. So it never becomes part of a receipt, whose bytes must not
change; clients that do not know the witness pass its line over.

Source: c2sp.org/tlog-witness, c2sp.org/tlog-cosignature.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from weir.checkpoint import parse, parse_note, parse_vkey, verify_signature
from weir.errors import VerificationError
from weir.witness import SIZE_TYPE, Submission, format_submission
from weir_server.log.seal import read_head
from weir_server.log.tree import consistency_path
from weir_server.store import Store, Transaction, integer, text

_TRIES = 3


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What a witness answered."""

    status: int
    content_type: str
    body: str


Post = Callable[[str], HttpReply]
"""Sends an add-checkpoint body to a witness. Raises OSError where it cannot be reached."""


def cosignatures(tx: Transaction, size: int) -> str:
    """Signature lines that witnesses gave for the checkpoint of this size, by name."""
    rows = tx.execute("SELECT line FROM log_cosignatures WHERE size = ? ORDER BY name", (size,))
    return "".join(text(row[0]) for row in rows)


def newest_cosigned(tx: Transaction) -> tuple[int, str] | None:
    """Size and note, with its cosignatures, of the newest checkpoint that has any."""
    rows = tx.execute(
        """SELECT log_checkpoints.size, note FROM log_checkpoints
           JOIN log_cosignatures ON log_cosignatures.size = log_checkpoints.size
           ORDER BY log_checkpoints.size DESC LIMIT 1"""
    )
    if not rows:
        return None
    size = integer(rows[0][0])
    return size, text(rows[0][1]) + cosignatures(tx, size)


def cosigned_from(tx: Transaction, size: int) -> tuple[int, str] | None:
    """Size and note, with its cosignatures, of the first checkpoint of `size` leaves or more that has any."""
    rows = tx.execute(
        """SELECT log_checkpoints.size, note FROM log_checkpoints
           JOIN log_cosignatures ON log_cosignatures.size = log_checkpoints.size
           WHERE log_checkpoints.size >= ? ORDER BY log_checkpoints.size LIMIT 1""",
        (size,),
    )
    if not rows:
        return None
    found = integer(rows[0][0])
    return found, text(rows[0][1]) + cosignatures(tx, found)


async def submit(store: Store, *, witness: str, post: Post, known: int) -> int:
    """Has the newest checkpoint cosigned and stores that; gives the size the witness then knows.

    `witness`: its vkey. `known`: the size it is thought to know; where that is wrong it says so and is asked again.
    A reply that does not verify is never stored.

    Raises:
        VerificationError: the witness refused, or its reply is no cosignature of this checkpoint by this key.
        OSError: it cannot be reached.
    """
    verifier = parse_vkey(witness)
    for _ in range(_TRIES):
        prepared = await asyncio.to_thread(store.read, partial(_prepare, known=known))
        if prepared is None:
            return known
        size, note, body = prepared
        reply = await asyncio.to_thread(post, body)
        if reply.status == 409 and reply.content_type == SIZE_TYPE and reply.body.strip().isdecimal():
            known = int(reply.body.strip()[:19])
            continue
        if reply.status != 200:
            raise VerificationError(f"the witness answered {reply.status}", rule="witness.refused")
        line = _line_of(note, reply.body, verifier.name)
        verify_signature(parse_note(note + line), verifier)
        await store.write(partial(_keep, size=size, name=verifier.name, line=line))
        return size
    raise VerificationError("the witness knows another log, or another sender is faster", rule="witness.size")


def _prepare(tx: Transaction, known: int) -> tuple[int, str, str] | None:
    """Size, note and request for the newest checkpoint; None where the witness knows it or there is none."""
    rows = tx.execute("SELECT size, note FROM log_checkpoints ORDER BY size DESC LIMIT 1")
    head = read_head(tx)
    if not rows or head is None:
        return None
    size, note = integer(rows[0][0]), text(rows[0][1])
    if known > size:
        raise VerificationError("the witness knows a longer log: this one was rolled back", rule="witness.size")
    if known == size and cosignatures(tx, size):
        return None
    proof = consistency_path(tx, old_size=known, new_size=size) if known else []
    return size, note, format_submission(Submission(known, tuple(proof), note))


def _line_of(note: str, reply: str, name: str) -> str:
    """The witness's line of its reply; whatever else it sent is left out."""
    added = parse(note + reply)[1].signatures[len(parse(note)[1].signatures) :]
    for line, signature in zip(reply.split("\n"), added, strict=False):
        if signature.name == name:
            return line + "\n"
    raise VerificationError("the reply holds no cosignature of this witness", rule="witness.reply")


def _keep(tx: Transaction, size: int, name: str, line: str) -> None:
    tx.execute(
        "INSERT INTO log_cosignatures (size, name, line) VALUES (?, ?, ?) ON CONFLICT (size, name) DO NOTHING",
        (size, name, line),
    )
