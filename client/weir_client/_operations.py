# SPDX-License-Identifier: Apache-2.0
"""What the client does, written once: generators that yield calls and get replies (see `_calls`)."""

from __future__ import annotations

import hashlib
import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar, cast

from google.protobuf.message import DecodeError, Message

from weir.amounts import format_epsilon, parse_epsilon, parse_price
from weir.errors import ApprovalRequired, InvalidQuery, InvalidReceipt, InvalidRequest, UnknownName, WeirError
from weir.query import Query, canonicalise
from weir.question import answered_query, request_digest
from weir.receipts import REFUSED, RELEASED, About
from weir.v1 import (
    answer_pb2,
    catalogue_service_pb2,
    policy_service_pb2,
    query_service_pb2,
    quota_service_pb2,
    receipt_pb2,
)
from weir.wire import query_from_proto, query_to_proto
from weir_client._asked import asked_query
from weir_client._calls import Call, Effect, Exchange, Operation, Sleep, Stream, method
from weir_client._catalogue import Dataset, dataset_of
from weir_client._estimates import Estimate, estimate_of
from weir_client._limits import Balance, PolicyDifference, Quota, balance_of, difference_of, quota_to_proto
from weir_client._receipts import KeptCheckpoints, Receipt
from weir_client._shares import Shares, with_shares
from weir_client._sql import ParsedQuery, parse
from weir_client._terms import Approval, Contract, StandingTerms, approval_of, contract_of, standing_to_proto

T = TypeVar("T")
Amount = str | int | float | Decimal
"""A decimal number; a float is read by its shortest text, so 0.1 means one tenth."""

MAX_TIMEOUT = 600.0
_MODES = {None: answer_pb2.MODE_UNSPECIFIED, "exact": answer_pb2.MODE_EXACT, "dp": answer_pb2.MODE_DP}
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 2.0
MAX_APPROVAL_WAIT = 7 * 86_400.0
_FIRST_POLL = 0.5
_LONGEST_POLL = 15.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How calls are made."""

    timeout: float = 60.0
    """Seconds for one operation, retries included; the deadline of every call. More than 0, at most 600."""
    retries: int = 4
    """Most times a call is repeated, with the same idempotency key, while the service cannot be reached."""
    clock: Callable[[], float] = time.monotonic
    """Seconds of a clock that never runs backwards."""

    def __post_init__(self) -> None:
        if not 0 < self.timeout <= MAX_TIMEOUT:
            raise InvalidRequest(
                "timeout is more than 0 and at most 600 seconds", field="timeout", rule="timeout.range"
            )
        if self.retries < 0:
            raise InvalidRequest("retries is 0 or more", field="retries", rule="retries.range")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a question says beside its query."""

    contract: str
    purpose: str | None = None
    mode: str | None = None
    """`exact`, `dp`, or None for the mode of the measures asked."""
    epsilon: Amount | None = None
    """dp: privacy loss to spend."""
    within: Amount | None = None
    """dp: wished half-width of the 95 % interval instead, in the unit of the first noisy aggregate."""
    max_price: Amount | None = None
    """Refuse rather than pay more."""
    snapshot: int | None = None
    """Version to ask; None for what FROM says, else the latest."""
    shares: Shares | None = None
    """dp: how the aggregates share the budget, by output column."""


@dataclass(slots=True)
class Context:
    """What one client's operations share."""

    settings: Settings
    log_key: str
    """vkey of the domain's log."""
    kept: KeptCheckpoints
    """Where the newest checkpoint is kept."""
    units: dict[str, str] = field(default_factory=dict)
    """Unit names by dataset: they never change."""
    requester: str | None = None
    """The caller's own name; None where it is not known."""
    registered: set[str] = field(default_factory=set)
    """Key ids that this client has registered."""


def new_idempotency_key() -> str:
    """32 random characters of the allowed alphabet."""
    return secrets.token_urlsafe(24)


def resuming_key(approval: str) -> str:
    """The key under which an approval is resumed: the same each time, so that a reply lost on the way is given again.

    A key drawn anew would, once the approval is used, ask another person for another decision.
    """
    return "resume-" + hashlib.sha256(approval.encode()).hexdigest()[:40]


def invoke(context: Context, service: str, name: str, request: Message) -> Operation[Any]:
    """One call with deadline and retries."""
    target = method(service, name)
    return retried(context, lambda timeout: Call(target, request, timeout))


def invoke_stream(context: Context, service: str, name: str, request: Message) -> Operation[Sequence[Any]]:
    """One streamed reply with deadline and retries."""
    target = method(service, name)
    return retried(context, lambda timeout: Stream(target, request, timeout))


def invoke_exchange(
    context: Context, service: str, name: str, header: Message, upload: Callable[[Message], Any] | None
) -> Operation[Sequence[Any]]:
    """One exchange with deadline and retries; `upload` MUST give the same messages each time. None: see `Exchange`."""
    target = method(service, name)
    return retried(context, lambda timeout: Exchange(target, header, upload, timeout))


def retried(context: Context, effect: Callable[[float], Effect]) -> Operation[Any]:
    """Perform an effect, again while the service is unreachable or overloaded, within one deadline.

    Safe because every mutation carries an idempotency key: an answer that was lost on the way is given again.
    """
    clock = context.settings.clock
    deadline = clock() + context.settings.timeout
    for attempt in range(context.settings.retries + 1):
        wait = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT) * random.uniform(0.5, 1)
        try:
            return (yield effect(max(0.001, deadline - clock())))
        except WeirError as error:
            if not error.retryable or attempt == context.settings.retries or clock() + wait >= deadline:
                raise
        yield Sleep(wait)
    raise AssertionError("unreachable: the last attempt returns or raises")


# Catalogue


def datasets(context: Context, search: str | None) -> Operation[list[Dataset]]:
    """Every card that fits."""
    found: list[Dataset] = []
    token = ""
    while True:
        request = catalogue_service_pb2.ListDatasetsRequest(search=search or "", page_size=200, page_token=token)
        page = yield from invoke(context, "CatalogueService", "ListDatasets", request)
        found += [dataset_of(item) for item in page.datasets]
        token = page.next_page_token
        if not token:
            return found


def dataset(context: Context, name: str) -> Operation[Dataset]:
    """One card."""
    request = catalogue_service_pb2.GetDatasetRequest(dataset=name)
    reply = yield from invoke(context, "CatalogueService", "GetDataset", request)
    card = dataset_of(reply.dataset)
    context.units[card.name] = card.unit
    return card


def export_catalogue(context: Context, format: str, name: str | None) -> Operation[str]:
    """The catalogue for other catalogues."""
    request = catalogue_service_pb2.ExportCatalogueRequest(format=format, dataset=name or "")
    reply = yield from invoke(context, "CatalogueService", "ExportCatalogue", request)
    return str(reply.document)


# Questions


def question(context: Context, sql: str, terms: Terms) -> Operation[tuple[ParsedQuery, Any]]:
    """A statement and its envelope, checked as far as the client can."""
    parsed, message = checked_question(sql, terms)
    if parsed.unit is not None:
        yield from _check_unit(context, parsed.query.dataset, parsed.unit)
    return parsed, message


def checked_question(sql: str, terms: Terms) -> tuple[ParsedQuery, query_service_pb2.QueryEnvelope]:
    """A statement and its envelope, without asking anybody.

    Raises:
        InvalidQuery: the statement is outside the language.
        InvalidRequest: an amount, mode or share is malformed, or two of them contradict each other.
    """
    parsed = parse(sql)
    if terms.shares is not None:
        if terms.mode == "exact":
            raise InvalidRequest("shares divide a dp budget; exact has none", field="shares", rule="shares.mode")
        parsed = with_shares(parsed, terms.shares)
    return parsed, envelope(parsed.query, terms)


def envelope(query: Query, terms: Terms) -> query_service_pb2.QueryEnvelope:
    """Wire form of a question.

    Raises:
        InvalidRequest: an amount or mode is malformed, or two of them contradict each other.
    """
    if terms.mode not in _MODES:
        raise InvalidRequest("mode is exact or dp", field="mode", rule="mode.known")
    if terms.epsilon is not None and terms.within is not None:
        raise InvalidRequest("give epsilon or within, not both", field="epsilon", rule="epsilon.or_within")
    message = query_service_pb2.QueryEnvelope(
        query=query_to_proto(query),
        contract=terms.contract,
        purpose=terms.purpose or "",
        mode=_MODES[terms.mode],
    )
    message.query.snapshot = _snapshot(query.snapshot, terms.snapshot)
    if terms.epsilon is not None:
        message.epsilon_nano = parse_epsilon(terms.epsilon)
    if terms.within is not None:
        message.accuracy.within = _decimal(terms.within, field="within")
    if terms.max_price is not None:
        message.max_price_micro = parse_price(terms.max_price, field="max_price")
    return message


def estimate(context: Context, sql: str, terms: Terms) -> Operation[Estimate]:
    """What a query would do."""
    parsed, message = yield from question(context, sql, terms)
    request = query_service_pb2.EstimateQueryRequest(envelope=message)
    reply = yield from invoke(context, "QueryService", "EstimateQuery", request)
    if not reply.noise:
        return estimate_of(reply, parsed, None)
    card = yield from dataset(context, parsed.query.dataset)
    # The card is that of the newest version; the grid of an older one may be another.
    newest = bool(card.snapshots) and card.snapshots[0].version == reply.snapshot
    return estimate_of(reply, parsed, card if newest else None)


def run_query(
    context: Context, sql: str, terms: Terms, idempotency_key: str
) -> Operation[tuple[ParsedQuery, answer_pb2.Answer, Receipt]]:
    """The answer to a query, with what is needed to present it and its receipt, not checked yet."""
    parsed, message = yield from question(context, sql, terms)
    return (yield from _run(context, parsed, message, idempotency_key))


def _run(
    context: Context, parsed: ParsedQuery, message: query_service_pb2.QueryEnvelope, idempotency_key: str
) -> Operation[tuple[ParsedQuery, answer_pb2.Answer, Receipt]]:
    request = query_service_pb2.RunQueryRequest(envelope=message, idempotency_key=idempotency_key)
    reply = yield from invoke(context, "QueryService", "RunQuery", request)
    answer = parsed_answer(reply.answer)
    proof = answer_receipt(
        context, message, request_digest(request), reply.receipt, committed=reply.answer, answer=answer
    )
    return parsed, answer, proof


def run_sandbox_query(context: Context, sql: str, terms: Terms) -> Operation[tuple[ParsedQuery, answer_pb2.Answer]]:
    """The answer to a query over synthetic rows, with what is needed to present it.

    Raises:
        InvalidReceipt: the reply is of another dataset, or does not say that its rows are synthetic.
    """
    parsed, message = yield from question(context, sql, terms)
    request = query_service_pb2.RunSandboxQueryRequest(envelope=message)
    reply = yield from invoke(context, "QueryService", "RunSandboxQuery", request)
    answer = parsed_answer(reply.answer)
    if not answer.sandbox or answer.dataset != parsed.query.dataset:
        raise InvalidReceipt("the reply is no answer of this sandbox", rule="sandbox.answer")
    return parsed, answer


def resume(
    context: Context, approval: str, idempotency_key: str
) -> Operation[tuple[ParsedQuery, answer_pb2.Answer, Receipt]]:
    """The answer to the very query that an approval of the caller's shows.

    Raises:
        UnknownName: no such approval of the caller's.
        InvalidRequest: the approval does not show all that the question needs.
    """
    known = next((item for item in (yield from approvals(context)) if item.id == approval), None)
    if known is None:
        raise UnknownName("no approval of yours has this id", field="approval", rule="name.approval")
    epsilon = Decimal(format_epsilon(known.epsilon_nano)) if known.epsilon_nano else None
    if known.mode not in ("exact", "dp") or (known.mode == "dp") != (epsilon is not None):
        raise InvalidRequest(
            "ask again with the same words: this question needs more than an approval shows, such as its weights",
            field="approval",
            rule="approval.resume",
        )
    parsed = asked_query(known.query)
    terms = Terms(known.contract, known.purpose, known.mode, epsilon)
    return (yield from _run(context, parsed, envelope(parsed.query, terms), idempotency_key))


def approved(context: Context, ask: Callable[[], Operation[T]], wait: float | None) -> Operation[T]:
    """What `ask` gives; where persons must approve, waits for that up to `wait` seconds and asks the very same again.

    Raises:
        ApprovalRequired: nobody decided in time.
        PolicyDenied: it was rejected.
    """
    clock = context.settings.clock
    deadline = clock() + (wait or 0)
    while True:
        try:
            return (yield from ask())
        except ApprovalRequired as error:
            approval = error.metadata.get("approval")
            if wait is None or approval is None or clock() >= deadline:
                raise
            # Once decided, lapsed or used by an equal query, the service says what holds now.
            if not (yield from _decided(context, approval, deadline)):
                raise


def _decided(context: Context, approval: str, deadline: float) -> Operation[bool]:
    """Whether an approval waits no longer; polls until the deadline, ever more rarely."""
    clock, pause = context.settings.clock, _FIRST_POLL
    while (left := deadline - clock()) > 0:
        yield Sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_POLL)
        if not any(item.id == approval and item.state == "waiting" for item in (yield from approvals(context))):
            return True
    return False


def check_wait(seconds: float | None) -> None:
    """Refuse a wait for approval that is none or has no end.

    Raises:
        InvalidRequest: not more than 0 and at most seven days.
    """
    if seconds is not None and not 0 < seconds <= MAX_APPROVAL_WAIT:
        raise InvalidRequest(
            "wait_for_approval is more than 0 seconds and at most seven days",
            field="wait_for_approval",
            rule="approval.wait",
        )


def answer_receipt(
    context: Context,
    asked: query_service_pb2.QueryEnvelope,
    digest: str,
    receipt: receipt_pb2.Receipt,
    *,
    committed: bytes,
    answer: answer_pb2.Answer,
) -> Receipt:
    """The receipt of an answer, with all that its leaf must say for it to be the answer to this very request.

    `digest`: of the whole request, as sent. `committed`: the bytes that came as the answer; `answer`: the table in
    them.

    Raises:
        InvalidReceipt: the answer itself says that it is one to another dataset or snapshot.
    """
    query = canonicalise(query_from_proto(asked.query))
    if answer.sandbox:
        raise InvalidReceipt("the reply's rows are synthetic, and data was asked", rule="sandbox.answer")
    if answer.dataset != query.dataset or query.snapshot not in (0, answer.snapshot):
        raise InvalidReceipt("the reply answers about another dataset or snapshot", rule="answer.snapshot")
    commitments = {
        "answer": committed,
        "query": answered_query(query, snapshot=answer.snapshot),
        "request": digest.encode(),
    }
    return Receipt(receipt, commitments, About((RELEASED,), context.requester, asked.contract))


def parsed_answer(data: bytes) -> answer_pb2.Answer:
    """The answer in its committed bytes.

    Raises:
        InvalidReceipt: it is none.
    """
    try:
        return answer_pb2.Answer.FromString(data)
    except DecodeError:
        raise InvalidReceipt("the reply holds no answer", rule="answer.form") from None


# Contracts, approvals, limits


def contracts(context: Context) -> Operation[list[Contract]]:
    """Every contract that the caller may see."""
    return [contract_of(item) for item in (yield from pages(context, "ContractService", "ListContracts", "contracts"))]


def approvals(context: Context) -> Operation[list[Approval]]:
    """Every approval that the caller may see, newest first."""
    return [approval_of(item) for item in (yield from pages(context, "ContractService", "ListApprovals", "approvals"))]


def receipts(context: Context) -> Operation[list[Receipt]]:
    """Receipts of the caller's own queries, newest first."""
    own = About((RELEASED, REFUSED), context.requester)
    found = yield from pages(context, "QueryService", "ListReceipts", "receipts")
    return [Receipt(message, about=own) for message in found]


def balance(context: Context, contract: str | None) -> Operation[list[Balance]]:
    """Limits that bind the caller."""
    request = quota_service_pb2.GetBalanceRequest(contract=contract or "")
    reply = yield from invoke(context, "QuotaService", "GetBalance", request)
    return [balance_of(item) for item in reply.balances]


# Operators


def list_quotas(context: Context) -> Operation[list[Balance]]:
    """Every quota."""
    return [balance_of(item) for item in (yield from pages(context, "QuotaAdminService", "ListQuotas", "balances"))]


def set_quota(context: Context, quota: Quota, reason: str, idempotency_key: str) -> Operation[Balance]:
    """Set one quota."""
    request = quota_service_pb2.SetQuotaRequest(
        quota=quota_to_proto(quota), reason=reason, idempotency_key=idempotency_key
    )
    reply = yield from invoke(context, "QuotaAdminService", "SetQuota", request)
    return balance_of(reply.balance)


def apply_policy(
    context: Context,
    documents: Sequence[str],
    dry_run: bool,
    expected: tuple[str, str],
    idempotency_key: str,
) -> Operation[PolicyDifference]:
    """Set the policy, or show what that would change. `expected`: digest of the policy and plan hash that were looked
    at; empty for no check."""
    request = policy_service_pb2.ApplyPolicyRequest(
        documents=documents,
        dry_run=dry_run,
        expected_digest=expected[0],
        plan_hash=expected[1],
        idempotency_key="" if dry_run else idempotency_key,
    )
    reply = yield from invoke(context, "PolicyService", "ApplyPolicy", request)
    return difference_of(reply)


def decide_approval(
    context: Context,
    approval: str,
    approve: bool,
    reason: str,
    idempotency_key: str,
    *,
    standing: StandingTerms | None = None,
    revoke: bool = False,
) -> Operation[Approval]:
    """Approve, reject or take back."""
    request = policy_service_pb2.DecideApprovalRequest(
        approval=approval,
        approve=approve,
        reason=reason,
        idempotency_key=idempotency_key,
        standing=None if standing is None else standing_to_proto(standing),
        revoke=revoke,
    )
    reply = yield from invoke(context, "PolicyService", "DecideApproval", request)
    return approval_of(reply.approval)


def set_suspension(
    context: Context, scope: str, name: str, suspended: bool, reason: str, idempotency_key: str
) -> Operation[None]:
    """Stop or resume."""
    scopes = policy_service_pb2.SuspensionScope
    known = {key.removeprefix("SUSPENSION_SCOPE_").lower(): value for key, value in scopes.items() if value}
    if scope not in known:
        raise InvalidRequest(f"scope is one of {', '.join(known)}", field="scope", rule="suspension.scope")
    request = policy_service_pb2.SetSuspensionRequest(
        scope=cast(Any, known[scope]), name=name, suspended=suspended, reason=reason, idempotency_key=idempotency_key
    )
    yield from invoke(context, "PolicyService", "SetSuspension", request)


def activate_snapshot(
    context: Context, name: str, snapshot: int, manifest_digest: str, idempotency_key: str
) -> Operation[int]:
    """Make a published snapshot answerable; gives the log index."""
    request = policy_service_pb2.ActivateSnapshotRequest(
        dataset=name, snapshot=snapshot, manifest_digest=manifest_digest, idempotency_key=idempotency_key
    )
    reply = yield from invoke(context, "PolicyService", "ActivateSnapshot", request)
    return int(reply.leaf_index)


def pages(context: Context, service: str, name: str, member: str) -> Operation[list[Any]]:
    """All pages of a list call."""
    target = method(service, name)
    found: list[Any] = []
    token = ""
    while True:
        request = cast(Any, target.request)(page_size=200, page_token=token)
        page = yield from invoke(context, service, name, request)
        found += getattr(page, member)
        token = page.next_page_token
        if not token:
            return found


def _check_unit(context: Context, name: str, unit: str) -> Operation[None]:
    known = context.units.get(name)
    if known is None:
        known = (yield from dataset(context, name)).unit
    if known != unit:
        raise InvalidQuery(
            f"COUNT(DISTINCT {unit}) is not allowed; nearest: COUNT(DISTINCT {known}), the dataset's unit",
            field="sql",
            rule="aggregate.unit",
        )


def _snapshot(pinned: int, wanted: int | None) -> int:
    if wanted is None or pinned in (0, wanted):
        version = pinned if wanted is None else wanted
        if 0 <= version < 2**32:
            return version
    raise InvalidRequest("snapshot is a version from 1, and agrees with FROM", field="snapshot", rule="query.snapshot")


def _decimal(amount: Amount, *, field: str) -> str:
    """Plain text of a positive decimal."""
    try:
        value = Decimal(str(amount).strip())
    except InvalidOperation:
        value = Decimal(0)
    if not value.is_finite() or value <= 0 or abs(value.adjusted()) > 18:
        raise InvalidRequest(f"{field} is a decimal number greater than 0", field=field, rule="amount.decimal")
    return format(value, "f")
