# SPDX-License-Identifier: Apache-2.0
"""Checking the service: receipts against its log, its log against what was kept of it, its meter against its log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from weir.checkpoint import Checkpoint, verify
from weir.errors import InvalidReceipt, LogInconsistent, RequestError
from weir.merkle import Range, leaf_hash
from weir.receipts import VerifiedReceipt, parse_event, verify_progress
from weir.v1 import audit_service_pb2, receipt_pb2
from weir_client._calls import Operation
from weir_client._operations import Context, invoke, invoke_stream
from weir_client._receipts import Receipt

_PAGE = 1_000
_PRIVACY = frozenset({"epsilon_nano", "rho_micro"})
Progress = Callable[[int, int], None]
"""Called as progress(done, total)."""
Totals = Mapping[tuple[str, str, str, str], int]
"""Amount by contract, requester, dataset and metric."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One leaf of the log."""

    index: int
    event: dict[str, object]
    """The CloudEvents event."""
    leaf: bytes
    """Its canonical JSON, which is what is hashed."""


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """Where a leaf stands in a tree."""

    index: int
    tree_size: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class MeterTotal:
    """Sum of one metric over the lifetime."""

    contract: str
    requester: str
    dataset: str
    metric: str
    used: int


@dataclass(frozen=True, slots=True)
class Meter:
    """What the ledger says was used."""

    totals: tuple[MeterTotal, ...]
    log_size: int
    """Size of the log that the totals belong to."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """A log that was verified whole."""

    checkpoint: Checkpoint
    """The signed head that the leaves were found to hash to."""
    entries: int
    """Leaves read, hashed and parsed."""
    by_type: dict[str, int]
    """Entries by their CloudEvents type."""
    totals: dict[tuple[str, str, str, str], int]
    """Amounts recomputed from the leaves; equal to the meter's."""
    extends: int | None
    """Size of the checkpoint kept before, which this log extends; None at the first contact."""


def checkpoint(context: Context) -> Operation[str]:
    """The newest signed checkpoint, proved to extend the one kept; kept from then on."""
    kept = context.kept.newest(context.log_key)
    note: str = yield from _progress_to_newest(context, kept)
    context.kept.keep(context.log_key, note)
    return note


def cosigned_checkpoint(context: Context, size: int) -> Operation[str]:
    """The first checkpoint of `size` leaves or more that a witness cosigned, proved to be of the log that all see."""
    request = audit_service_pb2.GetCheckpointRequest(cosigned_from=size)
    reply = yield from invoke(context, "AuditService", "GetCheckpoint", request)
    note = str(reply.checkpoint)
    if verify(note, context.log_key).size < size:
        raise InvalidReceipt("the service gave a shorter checkpoint than was asked for", rule="log.cosigned")
    yield from checkpoint(context)  # the newest extends the one kept …
    yield from _progress_to_newest(context, note)  # … and the cosigned one
    return note


def verify_online(context: Context, receipt: Receipt) -> Operation[VerifiedReceipt]:
    """Checks a receipt, and that one log holds both its checkpoint and everything this client has seen before."""
    # 1. The receipt by itself: leaf, path, signature, commitments.
    verified = receipt.check(context.log_key)
    # 2. The newest checkpoint extends the one kept, and becomes the one kept.
    yield from checkpoint(context)
    # 3. The newest checkpoint extends the receipt's: so the receipt's leaf is in the log that everybody sees.
    yield from _progress_to_newest(context, receipt.checkpoint)
    return verified


def entries(context: Context, start: int, end: int, type: str) -> Operation[list[Entry]]:
    """Leaves of a range; `end` 0 means the end of the log, `type` empty means all."""
    request = audit_service_pb2.ListEntriesRequest(start=start, end=end, type=type)
    pages = yield from invoke_stream(context, "AuditService", "ListEntries", request)
    return [Entry(item.index, parse_event(item.leaf), item.leaf) for page in pages for item in page.entries]


def inclusion_proof(context: Context, index: int, tree_size: int) -> Operation[InclusionProof]:
    """Inclusion proof of one leaf; `tree_size` 0 means the newest checkpoint's."""
    request = audit_service_pb2.GetInclusionProofRequest(index=index, tree_size=tree_size)
    reply = yield from invoke(context, "AuditService", "GetInclusionProof", request)
    return InclusionProof(index, reply.tree_size, tuple(reply.path))


def meter(context: Context, contract: str) -> Operation[Meter]:
    """The meter's totals; `contract` empty means all."""
    request = audit_service_pb2.ListMeterRequest(contract=contract)
    reply = yield from invoke(context, "AuditService", "ListMeter", request)
    totals = (MeterTotal(t.contract, t.requester, t.dataset, t.metric, t.used) for t in reply.totals)
    return Meter(tuple(totals), reply.log_size)


def audit_log(context: Context, progress: Progress | None) -> Operation[AuditReport]:
    """Verifies the whole log: head, progress, every leaf, and the meter against the leaves.

    Raises:
        InvalidReceipt: a leaf, the tree or the meter does not fit; the text names the first bad index.
        LogInconsistent: the log does not extend what this client has kept.
    """
    # 1. The head, which must extend the one kept.
    before = context.kept.newest(context.log_key)
    note = yield from checkpoint(context)
    head = verify(note, context.log_key)
    # 2. The meter, which may already belong to a longer log.
    metered: Meter = yield from meter(context, "")
    # 3. Every leaf, in order, into the tree and the books.
    walk = _Walk(head, metered.log_size)
    last = max(head.size, metered.log_size)
    for start in range(0, last, _PAGE):
        found = yield from entries(context, start, min(start + _PAGE, last), "")
        walk.take(start, found)
        if progress is not None:
            progress(walk.next_index, last)
    # 4. The leaves hash to the signed head, and add up to the meter.
    walk.finish(last)
    _compare_totals(walk.totals, metered)
    extends = None if before is None else verify(before, context.log_key).size
    return AuditReport(head, walk.next_index, dict(walk.by_type), dict(walk.totals), extends)


class _Walk:
    """State of one pass over the log."""

    def __init__(self, head: Checkpoint, metered_size: int) -> None:
        self.head = head
        self.metered_size = metered_size
        self.next_index = 0
        self.tree = Range()
        self.root_at_head: bytes | None = self.tree.root() if head.size == 0 else None
        self.by_type: Counter[str] = Counter()
        self.totals: Counter[tuple[str, str, str, str]] = Counter()

    def take(self, start: int, found: Iterable[Entry]) -> None:
        """The next leaves."""
        for entry in found:
            if entry.index != self.next_index:
                raise _broken(self.next_index, "the entry is missing", "log.gap")
            self._check(entry)
            self.tree = self.tree.append(leaf_hash(entry.leaf))
            self.next_index += 1
            if self.next_index == self.head.size:
                self.root_at_head = self.tree.root()
            if entry.index < self.metered_size:
                self.totals.update(charged(entry.event))

    def finish(self, last: int) -> None:
        """Checks that nothing is missing and that the leaves hash to the head."""
        if self.next_index != last:
            raise _broken(self.next_index, "the log ends before its signed size", "log.short")
        if self.root_at_head != self.head.root:
            raise InvalidReceipt("the entries do not hash to the signed checkpoint", rule="log.root")

    def _check(self, entry: Entry) -> None:
        if entry.event.get("id") != str(entry.index) or entry.event.get("source") != self.head.origin:
            raise _broken(entry.index, "the event names another index or log", "log.event")
        self.by_type[str(entry.event["type"])] += 1


def charged(event: Mapping[str, object]) -> dict[tuple[str, str, str, str], int]:
    """What one leaf adds to the meter: privacy where it is reserved, everything else where it is answered."""
    kind, data = event.get("type"), event.get("data")
    if kind not in ("weir.query.reserved", "weir.query.released") or not isinstance(data, Mapping):
        return {}
    subject, charge = data.get("subject"), data.get("charge")
    if not isinstance(subject, Mapping) or not isinstance(charge, Mapping):
        return {}
    who = (str(subject.get("contract")), str(subject.get("requester")), str(subject.get("dataset")))
    at_reservation = kind == "weir.query.reserved"
    return {
        (*who, str(metric)): int(amount)
        for metric, amount in charge.items()
        if (metric in _PRIVACY) == at_reservation and int(amount) != 0
    }


def _compare_totals(recomputed: Totals, metered: Meter) -> None:
    stated = {(t.contract, t.requester, t.dataset, t.metric): t.used for t in metered.totals if t.used}
    for key in sorted(stated.keys() | recomputed.keys()):
        if stated.get(key, 0) != recomputed.get(key, 0):
            contract, requester, dataset, metric = key
            raise InvalidReceipt(
                f"the meter says {stated.get(key, 0)} {metric} of {dataset} for {requester} under {contract}, "
                f"the log {recomputed.get(key, 0)}",
                rule="meter.total",
            )


def _progress_to_newest(context: Context, older: str | None) -> Operation[str]:
    """The newest checkpoint, proved to extend `older`."""
    known = 0 if older is None else verify(older, context.log_key).size
    reply = yield from _newest(context, known)
    newer = str(reply.checkpoint)
    head = verify(newer, context.log_key)
    if older is None or known == 0:
        return newer
    proof = reply.consistency
    if not reply.HasField("consistency"):
        proof = receipt_pb2.ConsistencyProof(old_size=known, new_size=head.size)
    try:
        verify_progress(older, newer, proof, context.log_key)
    except LogInconsistent as error:
        context.kept.keep_evidence(context.log_key, error)
        raise
    return newer


def _newest(context: Context, known: int) -> Operation[Any]:
    request = audit_service_pb2.GetCheckpointRequest(known_size=known)
    try:
        return (yield from invoke(context, "AuditService", "GetCheckpoint", request))
    except RequestError:
        if known == 0:
            raise
    # A log that was rolled back cannot prove anything from a size it no longer has; its own head is the evidence.
    request = audit_service_pb2.GetCheckpointRequest()
    return (yield from invoke(context, "AuditService", "GetCheckpoint", request))


def _broken(index: int, what: str, rule: str) -> InvalidReceipt:
    return InvalidReceipt(f"entry {index}: {what}", rule=rule, metadata={"index": str(index)})
