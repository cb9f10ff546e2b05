# SPDX-License-Identifier: Apache-2.0
"""Errors as google.rpc.Status and back; reached through `weir.wire`.

Order of what is kept when an error is larger than a call's trailers may be: ErrorInfo (always), the field at fault,
the first limit or reason, the receipt without its COSE form (whole or not at all: the caller can list it later),
further limits or reasons, the COSE form. A receipt is packed before anything is given up for it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from weir import errors
from weir.errors import DenialReason, LimitHit, Violation, WeirError
from weir.v1 import receipt_pb2

_M = TypeVar("_M", bound=Message)

DOMAIN = "weir.dev"
MAX_TRAILER_BYTES = 7_680
"""What a status may take in a call's trailers: base64 of the message and the percent-encoded text. gRPC drops the
whole status beyond 8 KiB, and the frame around it needs some."""
_MAX_TEXT = 400
_MAX_METADATA = 1_500
_MAX_ENTRIES = 16
_MAX_UNPACKED = 128 * 1024

_CODES: dict[type[WeirError], int] = {
    errors.InvalidRequest: code_pb2.INVALID_ARGUMENT,
    errors.InvalidQuery: code_pb2.INVALID_ARGUMENT,
    errors.UnknownName: code_pb2.NOT_FOUND,
    errors.DeadlineRequired: code_pb2.INVALID_ARGUMENT,
    errors.IdempotencyConflict: code_pb2.ALREADY_EXISTS,
    errors.InvalidKey: code_pb2.INVALID_ARGUMENT,
    errors.InvalidCiphertext: code_pb2.INVALID_ARGUMENT,
    errors.HeadroomExceeded: code_pb2.OUT_OF_RANGE,
    errors.Unauthenticated: code_pb2.UNAUTHENTICATED,
    errors.PermissionDenied: code_pb2.PERMISSION_DENIED,
    errors.PolicyDenied: code_pb2.PERMISSION_DENIED,
    errors.ApprovalRequired: code_pb2.FAILED_PRECONDITION,
    errors.BudgetExhausted: code_pb2.RESOURCE_EXHAUSTED,
    errors.QuotaExceeded: code_pb2.RESOURCE_EXHAUSTED,
    errors.Suspended: code_pb2.FAILED_PRECONDITION,
    errors.Overloaded: code_pb2.RESOURCE_EXHAUSTED,
    errors.Unavailable: code_pb2.UNAVAILABLE,
    errors.InternalError: code_pb2.INTERNAL,
    errors.LedgerLocked: code_pb2.FAILED_PRECONDITION,
    errors.InvalidReceipt: code_pb2.DATA_LOSS,
    errors.ReplayError: code_pb2.DATA_LOSS,
    errors.LogInconsistent: code_pb2.DATA_LOSS,
    errors.PublicationError: code_pb2.FAILED_PRECONDITION,
    errors.CardError: code_pb2.INVALID_ARGUMENT,
}
"""gRPC code of every class that is raised; classes between them and the root take that of their reason."""

CLASSES: dict[str, type[WeirError]] = {kind.reason: kind for kind in _CODES}
"""Class raised for each reason."""

# What a status without our ErrorInfo means: it comes from the transport or a proxy, not from Weir.
_NOT_SERVED = (
    "this listener does not serve this call: what operators and approvers do is served on the admin address "
    "(listen.admin), what requesters ask on the public one (listen.public)"
)
_FOREIGN: dict[int, tuple[type[WeirError], str]] = {
    code_pb2.UNAVAILABLE: (errors.Unavailable, "the service cannot be reached"),
    code_pb2.DEADLINE_EXCEEDED: (errors.Unavailable, "no answer before the deadline"),
    code_pb2.CANCELLED: (errors.Unavailable, "the call was cancelled, or too many wait before it"),
    code_pb2.ABORTED: (errors.Unavailable, "the call was aborted"),
    code_pb2.UNAUTHENTICATED: (errors.Unauthenticated, "the service does not accept this identity"),
    code_pb2.PERMISSION_DENIED: (errors.PermissionDenied, "the service does not permit this call"),
    code_pb2.RESOURCE_EXHAUSTED: (errors.InvalidRequest, "a message is larger than the transport allows"),
    code_pb2.UNIMPLEMENTED: (errors.InvalidRequest, _NOT_SERVED),
    code_pb2.INVALID_ARGUMENT: (errors.InvalidRequest, "the transport refused the message"),
    code_pb2.NOT_FOUND: (errors.InvalidRequest, _NOT_SERVED),
}


def status_code(error: WeirError) -> int:
    """gRPC code (google.rpc.Code) of an error."""
    return _CODES[CLASSES[error.reason]]


def error_to_status(error: WeirError) -> status_pb2.Status:
    """Wire form of an error, small enough for a call's trailers.

    Only public parts travel: message, field, rule, metadata, limits, reasons, violations, receipt.
    """
    status = status_pb2.Status(code=status_code(error), message=_cut(error.message, _MAX_TEXT))
    _add(status, _error_info(error))
    if error.field is not None:
        _add(status, _bad_request(error))
    receipt = getattr(error, "receipt", None)
    if not isinstance(receipt, receipt_pb2.Receipt):
        _add_entries(status, _entries(error), most=_MAX_ENTRIES)
    else:
        _add_entries_and_receipt(status, _entries(error), receipt)
    return status


def error_from_status(status: status_pb2.Status) -> WeirError:
    """The error that a status means; an unknown reason becomes InternalError, since nobody can act on it."""
    info = _detail(status, error_details_pb2.ErrorInfo())
    if info is None or info.domain != DOMAIN:
        kind, text = _FOREIGN.get(status.code, (errors.InternalError, "the service failed"))
        late = status.code == code_pb2.DEADLINE_EXCEEDED
        return kind(text, rule="deadline" if late else "transport")
    metadata = dict(info.metadata)
    common: dict[str, Any] = {
        "rule": metadata.pop("rule", None),
        "field": _field(status),
        "metadata": metadata,
    }
    error = _construct(CLASSES.get(info.reason, errors.InternalError), status, common)
    error.receipt = _receipt(status)
    return error


def _construct(kind: type[WeirError], status: status_pb2.Status, common: dict[str, Any]) -> WeirError:
    text = status.message
    if issubclass(kind, errors.PolicyDenied):
        return kind(text, reasons=_reasons(status), **common)
    if issubclass(kind, errors.BudgetExhausted | errors.QuotaExceeded):
        return kind(text, limits=_limits(status), **common)
    if issubclass(kind, errors.PublicationError):
        del common["metadata"]
        return kind(text, violations=_violations(status), **common)
    if issubclass(kind, errors.InvalidRequest):
        return kind(text, findings=[entry.description for entry in _preconditions(status)], **common)
    if issubclass(kind, errors.LogInconsistent):
        notes = {entry.type: entry.description for entry in _preconditions(status)}
        return kind(text, older=notes.get("older", ""), newer=notes.get("newer", ""))
    return kind(text, **common)


def _error_info(error: WeirError) -> error_details_pb2.ErrorInfo:
    metadata = dict(error.metadata)
    if isinstance(error, errors.PolicyDenied) and error.reasons:
        metadata.setdefault("codes", " ".join(reason.code for reason in error.reasons)[:_MAX_TEXT])
    rule = {"rule": error.rule} if error.rule is not None else {}
    return error_details_pb2.ErrorInfo(
        reason=error.reason, domain=DOMAIN, metadata=_within({**rule, **metadata}, _MAX_METADATA)
    )


def _within(metadata: Mapping[str, str], room: int) -> dict[str, str]:
    """The first entries that fit into `room` bytes."""
    kept: dict[str, str] = {}
    for key, value in metadata.items():
        room -= len(key.encode()) + len(value.encode()) + 8
        if room >= 0:
            kept[key] = value
    return kept


def _bad_request(error: WeirError) -> error_details_pb2.BadRequest:
    details = error_details_pb2.BadRequest()
    details.field_violations.add(field=_cut(error.field or "", 200), description=_cut(error.message, 200))
    return details


def _entries(error: WeirError) -> Callable[[int], Message | None]:
    """A function that gives the first n list entries of the error as a detail, or None without such a list."""
    if isinstance(error, errors.BudgetExhausted | errors.QuotaExceeded) and error.limits:
        hits = error.limits
        return lambda n: error_details_pb2.QuotaFailure(violations=map(_quota_violation, hits[:n]))
    found = _precondition_entries(error)
    if not found:
        return lambda n: None
    return lambda n: error_details_pb2.PreconditionFailure(violations=found[:n])


def _precondition_entries(error: WeirError) -> list[error_details_pb2.PreconditionFailure.Violation]:
    violation = error_details_pb2.PreconditionFailure.Violation
    if isinstance(error, errors.PolicyDenied):
        return [violation(type=r.code, description=_cut(r.sentence, 300)) for r in error.reasons]
    if isinstance(error, errors.InvalidRequest):
        return [violation(type=error.rule or "", description=_cut(found, _MAX_TEXT)) for found in error.findings]
    if isinstance(error, errors.PublicationError):
        return [
            violation(type=v.rule, subject=f"{v.subject} {v.count}", description=_cut(v.sentence, 300))
            for v in error.violations
        ]
    if isinstance(error, errors.LogInconsistent):
        return [
            violation(type="older", description=error.older),
            violation(type="newer", description=error.newer),
        ]
    return []


def _quota_violation(hit: LimitHit) -> error_details_pb2.QuotaFailure.Violation:
    dimensions = {"used": str(hit.used), "requested": str(hit.requested), "limit": str(hit.limit)}
    if hit.resets_at is not None:
        dimensions["resets_at"] = hit.resets_at
    return error_details_pb2.QuotaFailure.Violation(
        subject=f"quota:{hit.quota}",
        description=f"{hit.metric}: {hit.used} of {hit.limit} used, {hit.requested} asked",
        quota_id=hit.quota,
        quota_metric=hit.metric,
        quota_dimensions=dimensions,
    )


def _add_entries_and_receipt(
    status: status_pb2.Status, build: Callable[[int], Message | None], receipt: receipt_pb2.Receipt
) -> None:
    """Entries and receipt, packed where it must be; the COSE form is given up first, then all entries but one."""
    plain = receipt_pb2.Receipt()
    plain.CopyFrom(receipt)
    plain.ClearField("cose_receipt")
    whole, part = _packed(receipt), _packed(plain)
    fixed = len(status.details)
    for most, form in ((_MAX_ENTRIES, receipt), (_MAX_ENTRIES, whole), (_MAX_ENTRIES, part), (4, part), (1, part)):
        if _add_entries(status, build, most=most) and _add(status, form):
            return
        del status.details[fixed:]
    _add_entries(status, build, most=_MAX_ENTRIES)


def _packed(receipt: receipt_pb2.Receipt) -> receipt_pb2.PackedReceipt:
    """Signatures in a note are base64, and both proofs share their path: a third of the bytes goes."""
    return receipt_pb2.PackedReceipt(zlib=zlib.compress(receipt.SerializeToString(deterministic=True), 9))


def _receipt(status: status_pb2.Status) -> receipt_pb2.Receipt | None:
    """The receipt in either form; None where there is none, or none that can be unpacked."""
    packed = _detail(status, receipt_pb2.PackedReceipt())
    if packed is None:
        return _detail(status, receipt_pb2.Receipt())
    try:
        return receipt_pb2.Receipt.FromString(zlib.decompressobj().decompress(packed.zlib, _MAX_UNPACKED))
    except (zlib.error, DecodeError):
        return None


def _add_entries(status: status_pb2.Status, build: Callable[[int], Message | None], *, most: int) -> bool:
    """Add as many list entries as fit, at most `most`, halving; whether nothing of the list was lost entirely."""
    count = most
    while count > 0:
        detail = build(count)
        if detail is None or _add(status, detail):
            return True
        count //= 2
    return False


def _add(status: status_pb2.Status, detail: Message) -> bool:
    """Add a detail if the status then still fits into the trailers."""
    status.details.add().Pack(detail)
    if trailer_bytes(status) <= MAX_TRAILER_BYTES:
        return True
    del status.details[-1]
    return False


def trailer_bytes(status: status_pb2.Status) -> int:
    """Bytes that a status takes in trailers: base64 of the message beside the percent-encoded text."""
    size: int = status.ByteSize()
    return (size + 2) // 3 * 4 + len(quote(status.message, safe=""))


def _cut(text: str, most: int) -> str:
    """At most `most` bytes of UTF-8, on a character boundary."""
    return text if len(text.encode()) <= most else text.encode()[: most - 3].decode(errors="ignore") + "…"


def _detail(status: status_pb2.Status, into: _M) -> _M | None:
    for packed in status.details:
        if packed.Is(into.DESCRIPTOR):
            packed.Unpack(into)
            return into
    return None


def _field(status: status_pb2.Status) -> str | None:
    details = _detail(status, error_details_pb2.BadRequest())
    return details.field_violations[0].field if details is not None and details.field_violations else None


def _preconditions(status: status_pb2.Status) -> Iterable[error_details_pb2.PreconditionFailure.Violation]:
    details = _detail(status, error_details_pb2.PreconditionFailure())
    return () if details is None else details.violations


def _reasons(status: status_pb2.Status) -> list[DenialReason]:
    return [DenialReason(code=entry.type, sentence=entry.description) for entry in _preconditions(status)]


def _violations(status: status_pb2.Status) -> list[Violation]:
    found = []
    for entry in _preconditions(status):
        subject, _, count = entry.subject.rpartition(" ")
        found.append(Violation(entry.type, subject, _integer(count), entry.description))
    return found


def _limits(status: status_pb2.Status) -> list[LimitHit]:
    details = _detail(status, error_details_pb2.QuotaFailure())
    return [] if details is None else [_limit(entry) for entry in details.violations]


def _limit(entry: error_details_pb2.QuotaFailure.Violation) -> LimitHit:
    dimensions = entry.quota_dimensions
    return LimitHit(
        quota=entry.quota_id,
        metric=entry.quota_metric,
        limit=_integer(dimensions.get("limit", "")),
        used=_integer(dimensions.get("used", "")),
        requested=_integer(dimensions.get("requested", "")),
        resets_at=dimensions.get("resets_at"),
    )


def _integer(text: str) -> int:
    """A count from the wire; 0 where the other side sent none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 40 else 0
