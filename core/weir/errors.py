# SPDX-License-Identifier: Apache-2.0
"""Every error Weir raises, as one tree. A caller acts on the class; the wire carries its `reason`.

    WeirError
    ├── RequestError                    the request itself is at fault; sending it again cannot help
    │   ├── InvalidRequest              a field is missing, malformed or too large
    │   ├── InvalidQuery                the query language refuses it (rule and nearest allowed form in the text)
    │   ├── UnknownName                 no such dataset, column, contract, key or approval for this caller
    │   ├── DeadlineRequired            the call carried no deadline, or one too far away
    │   ├── IdempotencyConflict         the idempotency key was used with another request
    │   ├── InvalidKey                  a public key is malformed, unproven or not registered
    │   ├── InvalidCiphertext           a ciphertext is not one of the named key's (one text for every cause)
    │   └── HeadroomExceeded            an encrypted sum could overflow its plaintext
    ├── AccessError                     who asks is at fault
    │   ├── Unauthenticated             no valid certificate, or one of no known role
    │   └── PermissionDenied            the role may not make this call
    ├── RefusalError                    the policy or the books say no; decided, charged nothing, logged
    │   ├── PolicyDenied                no contract allows it
    │   ├── ApprovalRequired            a person must approve this query first
    │   ├── BudgetExhausted             privacy budget would be overdrawn
    │   ├── QuotaExceeded               another metered limit would be overdrawn
    │   └── Suspended                   requester, contract or dataset is stopped
    ├── ServiceError                    the service is at fault; `retryable` says whether waiting helps
    │   ├── Overloaded                  too much at once; try again later
    │   ├── Unavailable                 not reachable, shutting down, or deadline passed
    │   ├── InternalError               a defect; the text never says more
    │   └── LedgerLocked                another process owns the data directory
    ├── VerificationError               something signed or hashed does not fit
    │   ├── InvalidReceipt              a receipt, proof or signature does not verify
    │   ├── ReplayError                 an entry of the log does not follow from those before it
    │   └── LogInconsistent             two signed checkpoints cannot belong to one log (rollback or fork)
    └── PublicationError                a dataset card or its data is refused; lists every violation
        └── CardError                   the card itself is malformed

Texts are public: they name rules and fields, never a cell value, a row, or an engine's words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


class WeirError(Exception):
    """Root of the tree.

    `message` is public text. `field` is the dotted path of the request field at fault, `rule` the stable name of
    the rule that refused it, `metadata` safe key/value strings that travel in google.rpc.ErrorInfo.
    """

    reason = "INTERNAL"
    """Name in `error_reason.proto`, without the ERROR_REASON_ prefix."""
    retryable = False
    """Whether the same call can succeed later without anybody changing anything."""

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        rule: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.rule = rule
        self.metadata: dict[str, str] = dict(metadata or {})
        self.receipt: object | None = None
        """The weir.v1.Receipt of the refusal's log leaf, where the server metered and sent one."""
        self.evidence: object | None = None
        """What the service keeps beside the refusal's log leaf, for decisions to be replayed. Never sent."""


class RequestError(WeirError):
    """The request itself is at fault."""

    reason = "INVALID_REQUEST"


class InvalidRequest(RequestError):
    """A field is missing, malformed or too large. `findings`: each fault by itself, where there may be several."""

    reason = "INVALID_REQUEST"

    def __init__(
        self,
        message: str,
        *,
        findings: Sequence[str] = (),
        field: str | None = None,
        rule: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, field=field, rule=rule, metadata=metadata)
        self.findings = tuple(findings)


class InvalidQuery(RequestError):
    """The query language refuses it; the text names the rule and the nearest thing that is allowed."""

    reason = "INVALID_QUERY"


class UnknownName(RequestError):
    """No such dataset, column, contract, key or approval that this caller may know of."""

    reason = "UNKNOWN_NAME"


class DeadlineRequired(RequestError):
    """The call carried no deadline, or one beyond the longest the service keeps."""

    reason = "DEADLINE_REQUIRED"


class IdempotencyConflict(RequestError):
    """The idempotency key was already used with a different request."""

    reason = "IDEMPOTENCY_CONFLICT"


class InvalidKey(RequestError):
    """A public key is malformed, its proof fails, or it is not registered for this requester."""

    reason = "INVALID_KEY"


class InvalidCiphertext(RequestError):
    """A ciphertext is refused. One uniform text: which test failed would be an oracle."""

    reason = "INVALID_CIPHERTEXT"


class HeadroomExceeded(RequestError):
    """An encrypted result could overflow the plaintext space, by public bounds alone."""

    reason = "HEADROOM_EXCEEDED"


class AccessError(WeirError):
    """Who asks is at fault."""

    reason = "PERMISSION_DENIED"


class Unauthenticated(AccessError):
    """No valid client certificate, or one that names no role of this domain."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(AccessError):
    """The caller's role may not make this call."""

    reason = "PERMISSION_DENIED"


class RefusalError(WeirError):
    """A decided, logged refusal."""

    reason = "POLICY_DENIED"


@dataclass(frozen=True, slots=True)
class DenialReason:
    """One reason of a decision."""

    code: str
    """Stable code, for example `contract.expired`."""
    sentence: str
    """One public sentence that says what would be allowed."""


class PolicyDenied(RefusalError):
    """No contract allows the query; `reasons` lists every cause found."""

    reason = "POLICY_DENIED"

    def __init__(
        self,
        message: str,
        *,
        reasons: Sequence[DenialReason] = (),
        field: str | None = None,
        rule: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, field=field, rule=rule, metadata=metadata)
        self.reasons = tuple(reasons)


class ApprovalRequired(RefusalError):
    """A person must approve first: `metadata["approval"]` is the id to wait for, then send the same request again."""

    reason = "APPROVAL_REQUIRED"


@dataclass(frozen=True, slots=True)
class LimitHit:
    """One limit that a charge would overdraw."""

    quota: str
    """Id of the quota."""
    metric: str
    """What is counted, for example `queries` or `epsilon_nano`."""
    limit: int
    """Most that may be used in the window."""
    used: int
    """Used and held so far in the window."""
    requested: int
    """What this request would add."""
    resets_at: str | None
    """RFC 3339 time at which the window ends, or None when it never does."""


class _LimitError(RefusalError):
    def __init__(
        self,
        message: str,
        *,
        limits: Sequence[LimitHit] = (),
        field: str | None = None,
        rule: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, field=field, rule=rule, metadata=metadata)
        self.limits = tuple(limits)


class BudgetExhausted(_LimitError):
    """A privacy budget would be overdrawn; `limits` says which, what is used and what would fit."""

    reason = "BUDGET_EXHAUSTED"


class QuotaExceeded(_LimitError):
    """A metered limit other than privacy would be overdrawn; `limits` says which and when it resets."""

    reason = "QUOTA_EXCEEDED"


class Suspended(RefusalError):
    """The requester, contract or dataset has been stopped by an operator."""

    reason = "SUSPENDED"


class ServiceError(WeirError):
    """The service is at fault."""

    reason = "INTERNAL"


class Overloaded(ServiceError):
    """Too much at once; nothing was charged; try again later."""

    reason = "OVERLOADED"
    retryable = True


class Unavailable(ServiceError):
    """Not reachable, shutting down, or the deadline passed. Resend with the same idempotency key."""

    reason = "UNAVAILABLE"
    retryable = True


class InternalError(ServiceError):
    """A defect of the service. The text never says more; operators find the detail by `metadata["incident"]`."""

    reason = "INTERNAL"


class LedgerLocked(ServiceError):
    """Another process owns the data directory; two ledgers must never run on one."""

    reason = "LEDGER_LOCKED"


class VerificationError(WeirError):
    """Something signed or hashed does not fit."""

    reason = "VERIFICATION_FAILED"


class InvalidReceipt(VerificationError):
    """A receipt, inclusion proof, commitment or signature does not verify."""

    reason = "VERIFICATION_FAILED"


class ReplayError(VerificationError):
    """One entry of the log does not follow from those before it; `index` says which."""

    reason = "REPLAY_FAILED"

    def __init__(
        self,
        message: str,
        *,
        index: int | None = None,
        field: str | None = None,
        rule: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        place = {} if index is None else {"index": str(index)}
        super().__init__(message, field=field, rule=rule, metadata={**(metadata or {}), **place})
        self.index = index
        """Index of the first entry that is wrong."""


class LogInconsistent(VerificationError):
    """Two signed checkpoints cannot belong to one append-only log; both are kept as evidence."""

    reason = "LOG_INCONSISTENT"

    def __init__(self, message: str, *, older: str, newer: str) -> None:
        super().__init__(message, rule="log.append_only")
        self.older = older
        """Signed note of the checkpoint kept earlier."""
        self.newer = newer
        """Signed note of the checkpoint now shown."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One fact the data breaks, by rule and count and never by value."""

    rule: str
    """Stable name, for example `measure.not_integer`."""
    subject: str
    """Column, dimension or measure of the card."""
    count: int
    """How many rows or units break it; 0 where a count makes no sense."""
    sentence: str
    """Public explanation and what would be allowed."""


class PublicationError(WeirError):
    """A dataset card or its data is refused; `violations` lists all of them at once."""

    reason = "PUBLICATION_REFUSED"

    def __init__(
        self,
        message: str,
        *,
        violations: Sequence[Violation] = (),
        field: str | None = None,
        rule: str | None = None,
    ) -> None:
        super().__init__(message, field=field, rule=rule)
        self.violations = tuple(violations)


class CardError(PublicationError):
    """The dataset card itself is malformed."""

    reason = "CARD_REFUSED"


def tree(root: type[WeirError] = WeirError) -> Iterator[type[WeirError]]:
    """Every public class of the tree, root first: tests use it to prove that mappings are total."""
    if not root.__name__.startswith("_"):
        yield root
    for child in root.__subclasses__():
        yield from tree(child)
