# SPDX-License-Identifier: Apache-2.0
"""Checking of receipts and of the log's progress: what a client or auditor does without trusting the server. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weir.canonical import SALT_BYTES, NotCanonical, opens, parse_canonical
from weir.checkpoint import ED25519, Checkpoint, parse_vkey, verify
from weir.cose import verify_cose_receipt
from weir.errors import InvalidReceipt, LogInconsistent, VerificationError
from weir.merkle import leaf_hash, verify_consistency, verify_inclusion
from weir.v1 import receipt_pb2

MAX_LEAF_BYTES = 65_535
"""A tlog-tiles entry's length is 16 bits."""


RELEASED, REFUSED = "weir.query.released", "weir.query.refused"
"""Types of the leaves that requesters get receipts of."""


@dataclass(frozen=True, slots=True)
class About:
    """Whose leaf, of what kind, a receipt must be for."""

    types: tuple[str, ...]
    """The event's type is one of them."""
    requester: str | None = None
    """Whom it was metered to; None where that is not known."""
    contract: str | None = None
    """Under which contract; None where any will do."""


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """What a receipt proves once it has been checked."""

    event: dict[str, object]
    """The CloudEvents event: `type`, `time`, and the meter record under `data`."""
    index: int
    """Index of the leaf in the log."""
    checkpoint: Checkpoint
    """Signed head of the tree that holds it."""


def verify_receipt(
    receipt: receipt_pb2.Receipt, *, vkey: str, commitments: Mapping[str, bytes], about: About | None = None
) -> VerifiedReceipt:
    """Checks a receipt and gives what it proves.

    `vkey`: the log's verifier keys, got by another way than from the server that issued the receipt. `commitments`:
    per label (`request`, `query`, `answer`) the bytes that the leaf must commit to; each named label must be there.
    `about`: what kind of leaf it must be, and whose; None proves only that some leaf is in the log.

    Raises:
        InvalidReceipt: `rule` says which check failed.
    """
    # 1. Preconditions, before anything is hashed.
    if len(receipt.leaf) > MAX_LEAF_BYTES or len(receipt.salt) != SALT_BYTES:
        raise InvalidReceipt("leaf or salt has the wrong length", rule="receipt.form")
    # 2. The log's signature on the checkpoint, then the path from leaf to root.
    try:
        checkpoint = verify(receipt.checkpoint, vkey)
        verify_inclusion(
            index=receipt.leaf_index,
            size=checkpoint.size,
            leaf=leaf_hash(receipt.leaf),
            path=receipt.inclusion_path,
            root=checkpoint.root,
        )
    except VerificationError as error:
        raise InvalidReceipt(error.message, rule=error.rule) from error
    # 3. The leaf is an event of this log at this index: `id` and `source` say so under the signature.
    event = parse_event(receipt.leaf)
    if event.get("id") != str(receipt.leaf_index) or event.get("source") != checkpoint.origin:
        raise InvalidReceipt("the event names another index or log", rule="receipt.event")
    # 4. The same proof in COSE, where it came along.
    if receipt.cose_receipt:
        _check_cose(receipt, checkpoint, vkey)
    # 5. The leaf is of the kind expected, and metered to whom and under what it should be.
    if about is not None:
        _check_about(event, about)
    # 6. The commitments open to what was asked and received.
    _check_commitments(event, receipt.salt, commitments)
    return VerifiedReceipt(event, receipt.leaf_index, checkpoint)


def verify_progress(older_note: str, newer_note: str, proof: receipt_pb2.ConsistencyProof, vkey: str) -> Checkpoint:
    """Checks that the log of `newer_note` extends the log of `older_note`; gives the newer checkpoint.

    Raises:
        InvalidReceipt: a note is not signed by the log, or the proof is about other sizes. Says nothing of the log.
        LogInconsistent: both are signed and do not fit together: a rollback or a fork, with both notes as evidence.
    """
    try:
        older, newer = verify(older_note, vkey), verify(newer_note, vkey)
    except VerificationError as error:
        raise InvalidReceipt(error.message, rule=error.rule) from error
    if newer.size < older.size:
        raise LogInconsistent("the log became shorter", older=older_note, newer=newer_note)
    if newer.size == older.size and newer.root != older.root:
        raise LogInconsistent("two logs of one length", older=older_note, newer=newer_note)
    if (proof.old_size, proof.new_size) != (older.size, newer.size):
        raise InvalidReceipt("the proof is about other sizes", rule="consistency.sizes")
    try:
        verify_consistency(
            old_size=older.size,
            new_size=newer.size,
            old_root=older.root,
            new_root=newer.root,
            path=proof.path,
        )
    except VerificationError as error:
        raise LogInconsistent("the newer log does not extend the older", older=older_note, newer=newer_note) from error
    return newer


def parse_event(leaf: bytes) -> dict[str, object]:
    """The CloudEvents event of a leaf.

    Raises:
        InvalidReceipt: not a canonical CloudEvents 1.0 event with an object as its data.
    """
    try:
        event = parse_canonical(leaf)
    except NotCanonical as error:
        raise InvalidReceipt("the leaf is not canonical JSON", rule="receipt.leaf") from error
    if not isinstance(event, dict) or event.get("specversion") != "1.0":
        raise InvalidReceipt("the leaf is not a CloudEvents event", rule="receipt.leaf")
    if not isinstance(event.get("type"), str) or not isinstance(event.get("data"), dict):
        raise InvalidReceipt("the leaf is not a CloudEvents event", rule="receipt.leaf")
    return event


def _check_cose(receipt: receipt_pb2.Receipt, checkpoint: Checkpoint, vkey: str) -> None:
    """Both forms must prove the same leaf in one tree; without the log's Ed25519 key the COSE form says nothing."""
    for key in vkey.split():
        if parse_vkey(key).kind == ED25519:
            proved = verify_cose_receipt(receipt.cose_receipt, leaf=receipt.leaf, vkey=key)
            if (proved.index, proved.size, proved.root) != (receipt.leaf_index, checkpoint.size, checkpoint.root):
                raise InvalidReceipt("the COSE Receipt is of another leaf or tree", rule="cose.tree")


def _check_about(event: dict[str, object], about: About) -> None:
    if event["type"] not in about.types:
        raise InvalidReceipt("the leaf is of another kind of event", rule="receipt.type")
    data = event["data"]
    subject = data.get("subject") if isinstance(data, dict) else None
    for name, wanted in (("requester", about.requester), ("contract", about.contract)):
        if wanted is not None and (not isinstance(subject, dict) or subject.get(name) != wanted):
            raise InvalidReceipt(f"the leaf is of another {name}", rule=f"receipt.{name}")


def _check_commitments(event: dict[str, object], salt: bytes, wanted: Mapping[str, bytes]) -> None:
    data = event["data"]
    made = data.get("commitments") if isinstance(data, dict) else None
    for label, value in wanted.items():
        commitment = made.get(label) if isinstance(made, dict) else None
        if not isinstance(commitment, str):
            raise InvalidReceipt(f"the leaf does not commit to {label}", rule=f"receipt.{label}")
        if not opens(commitment, salt=salt, label=label, data=value):
            raise InvalidReceipt(f"the receipt is for another {label}", rule=f"receipt.{label}")
