# SPDX-License-Identifier: Apache-2.0
"""The log: everything that happens is a leaf, in order, without gaps, under signed checkpoints (DESIGN §9).

A leaf is a CloudEvents 1.0 event in RFC 8785 JSON. Its `id` is its index and its `source` the log's origin, so a leaf
names its own place. Whatever could be guessed stands in it only as a salted commitment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from weir.canonical import SALT_BYTES, canonical_json, commit_all
from weir.checkpoint import Signer, parse
from weir.cose import cose_receipt
from weir.errors import InternalError, InvalidRequest, UnknownName
from weir.merkle import leaf_hash
from weir.receipts import MAX_LEAF_BYTES
from weir.v1 import receipt_pb2
from weir_server.log.cosign import cosignatures, cosigned_from
from weir_server.log.seal import NEXT, Group, Head, Next, first_head, read_head, seal, sealer
from weir_server.log.tree import consistency_path, inclusion_path, inclusion_paths
from weir_server.store import Transaction, blob, integer, text
from weir_server.store.pending import Table

__all__ = [
    "Appended",
    "Group",
    "Head",
    "append",
    "consistency",
    "cose",
    "cosigned_from",
    "entries",
    "erase",
    "inclusion",
    "initialise",
    "latest_checkpoint",
    "read_head",
    "receipt",
    "receipts_at",
    "receipts_of",
    "rfc3339",
    "seal",
    "sealer",
]
_PAGE = 256
_LEAVES = Table("log_leaves", ("idx", "type", "requester", "leaf", "hash"))
_SALTS = Table("log_salts", ("idx", "salt"))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Appended(NamedTuple):
    """A leaf that was appended; it counts once its group is durable."""

    leaf_index: int
    """Index in the log."""
    leaf: bytes
    """Canonical event."""
    salt: bytes
    """Opens its commitments."""
    group: Group
    """What its group was sealed with, once that is durable."""


def initialise(tx: Transaction, *, origin: str) -> None:
    """Names the log. Must be the first write to a store; again with the same origin: nothing.

    Raises:
        InternalError: the store holds the log of another origin.
    """
    head = read_head(tx)
    if head is not None and head.origin != origin:
        raise InternalError("the data directory holds another log", rule="log.origin")
    if head is None:
        first_head(tx, origin)


def append(
    tx: Transaction,
    type: str,
    data: Mapping[str, object],
    *,
    now: datetime,
    entropy: Callable[[int], bytes],
    subject: str = "",
    requester: str = "",
    commitments: Mapping[str, bytes] | None = None,
) -> Appended:
    """Appends one event and gives its place.

    `type`: such as `weir.query.released`. `data`: JSON without floats, large integers as text; a member may be
    `Encoded`. `subject`: what it is about. `requester`: whose receipt it is, if anybody's. `commitments`: per label the
    bytes to commit to; they are not stored here.

    Raises:
        InvalidRequest: the event is longer than 65,535 bytes.
        NotCanonical: `data` has no canonical form.
    """
    origin, index, group = _next(tx)
    salt = entropy(SALT_BYTES)
    event = {
        "data": {**data, "commitments": commit_all(salt, commitments)} if commitments else {**data},
        "datacontenttype": "application/json",
        "id": str(index),
        "source": origin,
        "specversion": "1.0",
        "subject": subject or origin,
        "time": rfc3339(now),
        "type": type,
    }
    leaf = canonical_json(event)
    if len(leaf) > MAX_LEAF_BYTES:
        raise InvalidRequest("the log entry would be longer than 65535 bytes", rule="log.leaf_size")
    tx.add(_LEAVES, (index, type, requester, leaf, leaf_hash(leaf)))
    tx.add(_SALTS, (index, salt))
    tx.remember(NEXT, (origin, index + 1, group))
    return Appended(index, leaf, salt, group)


def receipt(tx: Transaction, index: int) -> receipt_pb2.Receipt:
    """The receipt of one leaf: the same bytes whenever it is asked for, since it leads to the FIRST checkpoint above.

    Raises:
        UnknownName: no such leaf, or none that a checkpoint covers yet; or its salt was erased.
    """
    found = receipts_at(tx, [index])
    if index not in found:
        raise UnknownName("no receipt for this index", field="index", rule="log.index")
    return found[index]


def receipts_at(tx: Transaction, indexes: Iterable[int]) -> dict[int, receipt_pb2.Receipt]:
    """Receipts by index, each the same bytes as `receipt`; without those that `receipt` would not find."""
    notes = _first_checkpoints(tx, sorted(set(indexes)))
    leaves = _opened_leaves(tx, list(notes))
    paths = inclusion_paths(tx, [(index, notes[index][0]) for index in leaves])
    return {
        index: receipt_pb2.Receipt(
            leaf_index=index, leaf=leaf, salt=salt, inclusion_path=path, checkpoint=notes[index][1]
        )
        for (index, (leaf, salt)), path in zip(leaves.items(), paths, strict=True)
    }


def _first_checkpoints(tx: Transaction, indexes: Sequence[int]) -> dict[int, tuple[int, str]]:
    """Per index, size and note of the first checkpoint that covers it. `indexes`: ascending."""
    found: dict[int, tuple[int, str]] = {}
    size, note = 0, ""
    for index in indexes:
        if index >= size:  # Otherwise the checkpoint of the index before is the first above this one, too.
            rows = tx.execute("SELECT size, note FROM log_checkpoints WHERE size > ? ORDER BY size LIMIT 1", (index,))
            if not rows:
                break
            size, note = integer(rows[0][0]), text(rows[0][1])
        found[index] = (size, note)
    return found


def _opened_leaves(tx: Transaction, indexes: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
    """Per index, leaf and salt, where both are there."""
    found: dict[int, tuple[bytes, bytes]] = {}
    for start in range(0, len(indexes), _PAGE):
        page = indexes[start : start + _PAGE]
        rows = tx.execute(
            "SELECT log_leaves.idx, leaf, salt FROM log_leaves JOIN log_salts ON log_salts.idx = log_leaves.idx "  # noqa: S608
            f"WHERE log_leaves.idx IN ({', '.join('?' * len(page))})",
            page,
        )
        found.update({integer(index): (blob(leaf), blob(salt)) for index, leaf, salt in rows})
    return found


def cose(tx: Transaction, index: int, signer: Signer) -> bytes:
    """The COSE Receipt (RFC 9942) of one leaf, in the tree of the same checkpoint as `receipt`; always the same bytes.

    `signer`: the log's Ed25519 key.

    Raises: as `receipt`.
    """
    plain = receipt(tx, index)
    checkpoint, _ = parse(plain.checkpoint)
    return cose_receipt(
        index=index, size=checkpoint.size, path=list(plain.inclusion_path), root=checkpoint.root, signer=signer
    )


def receipts_of(
    tx: Transaction, requester: str, *, before: int | None = None, limit: int = 50
) -> list[receipt_pb2.Receipt]:
    """Receipts of one requester's answers and refusals, newest first, with an index below `before`."""
    rows = tx.execute(
        """SELECT log_leaves.idx FROM log_leaves JOIN log_salts ON log_salts.idx = log_leaves.idx
           WHERE requester = ? AND log_leaves.idx < ? AND type IN ('weir.query.released', 'weir.query.refused')
           ORDER BY log_leaves.idx DESC LIMIT ?""",
        (requester, 2**62 if before is None else before, limit),
    )
    indexes = [integer(row[0]) for row in rows]
    found = receipts_at(tx, indexes)
    return [found[index] for index in indexes]


def inclusion(tx: Transaction, index: int, size: int) -> list[bytes]:
    """Inclusion path of a leaf in the tree of the first `size` leaves, which must be sealed.

    Raises:
        InvalidRequest: index or size lies outside the sealed log.
    """
    _require_sealed(tx, size, field="tree_size")
    return inclusion_path(tx, index=index, size=size)


def consistency(tx: Transaction, old: int, new: int) -> receipt_pb2.ConsistencyProof:
    """Proof that the first `old` leaves are a prefix of the first `new`.

    Raises:
        InvalidRequest: a size lies outside the sealed log, or they are in the wrong order.
    """
    _require_sealed(tx, new, field="new_size")
    path = consistency_path(tx, old_size=old, new_size=new)
    return receipt_pb2.ConsistencyProof(old_size=old, new_size=new, path=path)


def latest_checkpoint(tx: Transaction) -> tuple[int, str] | None:
    """Size and signed note of the newest checkpoint, with cosignatures it has; None while the log is empty."""
    rows = tx.execute("SELECT size, note FROM log_checkpoints ORDER BY size DESC LIMIT 1")
    if not rows:
        return None
    size = integer(rows[0][0])
    return size, text(rows[0][1]) + cosignatures(tx, size)


def entries(tx: Transaction, *, start: int = 0, end: int | None = None, type: str = "") -> Iterator[tuple[int, bytes]]:
    """Sealed leaves with start <= index < end, in order, optionally of one type; read in pages."""
    head = read_head(tx)
    stop = min(head.size if head else 0, 2**62 if end is None else end)
    where, extra = ("AND type = ?", (type,)) if type else ("", ())
    while True:
        rows = tx.execute(
            f"SELECT idx, leaf FROM log_leaves WHERE idx >= ? AND idx < ? {where} ORDER BY idx LIMIT {_PAGE}",  # noqa: S608
            (start, stop, *extra),
        )
        for index, leaf in rows:
            yield integer(index), blob(leaf)
            start = integer(index) + 1
        if len(rows) < _PAGE:
            return


def erase(tx: Transaction, index: int) -> None:
    """Erases a leaf's salt, so that its commitments say nothing any more, and the facts or the statement that it may
    have committed to. The leaf and the tree stay as they are."""
    tx.execute("DELETE FROM log_salts WHERE idx = ?", (index,))
    tx.execute("DELETE FROM decisions WHERE leaf_index = ?", (index,))
    tx.execute("UPDATE cases SET statement = '' WHERE opened = ?", (index,))


def rfc3339(moment: datetime) -> str:
    """UTC with microseconds and Z."""
    since = moment - _EPOCH
    return f"{_second(since.days, since.seconds)}.{since.microseconds:06d}Z"


@lru_cache(maxsize=256)
def _second(days: int, seconds: int) -> str:
    """A second since 1970, which many events share."""
    return (_EPOCH + timedelta(days=days, seconds=seconds)).replace(tzinfo=None).isoformat()


def _next(tx: Transaction) -> Next:
    """Of the group's next leaf, which may stand behind others that are not sealed yet."""
    known: Next | None = tx.recall(NEXT)
    if known is not None:
        return known
    # The first of its group: nothing that was added is missed.
    rows = tx.look_up("SELECT origin, (SELECT COALESCE(MAX(idx) + 1, 0) FROM log_leaves) FROM log_head WHERE id = 1")
    if not rows:
        raise InternalError("the log has no origin yet", rule="log.origin")
    return text(rows[0][0]), integer(rows[0][1]), Group()


def _require_sealed(tx: Transaction, size: int, *, field: str) -> None:
    head = read_head(tx)
    if not 0 <= size <= (head.size if head else 0):
        raise InvalidRequest("the log is not that long", field=field, rule="log.size")
