# SPDX-License-Identifier: Apache-2.0
"""Approvals: a query that a person must allow first. Operations on one transaction of the store.

An approval is bound to the plan's digest (query, snapshot, mechanism, purpose, price) and to the contract's digest, so
it allows that very query under that very contract, once. It is used in the transaction that reserves, so no two runs
share one use; while it waits it shows the requester its state and never any data.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from weir.canonical import canonical_json
from weir.errors import ApprovalRequired, InvalidRequest, PermissionDenied, QuotaExceeded, UnknownName
from weir.query import query_json
from weir.v1 import policy_service_pb2
from weir_server.catalog.card import Mode
from weir_server.clock import from_micros, to_micros
from weir_server.plan.values import Plan, Principal
from weir_server.policy.contract import Contract
from weir_server.policy.decide import purpose_of
from weir_server.store import Row, Transaction, integer

WAITS_FOR = timedelta(days=14)
"""How long a request waits, and how long an approval stays usable."""
MAX_WAITING = 20
"""Requests of one contract that wait at once: each is a row for a person to read, and a leaf."""
_COLUMNS = (
    "id, state, requester, contract, query, plan_digest, contract_digest, epsilon_nano, price_micro, "
    "requested, expires, decided_by, purpose, mode, snapshot, key_id, key_owners, weight_bits"
)


@dataclass(frozen=True, slots=True)
class Approval:
    """One request for approval and what became of it."""

    id: str
    state: str
    """`waiting`, `approved`, `rejected` or `used`; a waiting or approved one past `expires` counts as expired."""
    requester: str
    contract: str
    query: str
    """Canonical query in JSON."""
    plan_digest: str
    contract_digest: str
    epsilon_nano: int
    price_micro: int
    requested: datetime
    expires: datetime
    decided_by: str
    purpose: str
    """The purpose that counts: stated, or the contract's only one."""
    mode: str
    """What would leave: `exact`, `dp`, `encrypted` or `sealed`."""
    snapshot: int
    key_id: str
    """Key of an encrypted or sealed reply; empty otherwise."""
    key_owners: tuple[str, ...]
    """Who had registered that key, ordered."""
    weight_bits: int
    """Bound on secret weights; 0 without."""


def find(tx: Transaction, plan: Plan, contract: Contract, *, now: datetime) -> Approval | None:
    """The newest unexpired approval of this very plan, waiting, approved or rejected; None where there is none."""
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM approvals WHERE plan_digest = ? AND contract_digest = ? AND requester = ? "  # noqa: S608
        "AND expires > ? AND state <> 'used' ORDER BY requested DESC LIMIT 1",
        (plan.digest, contract.digest, plan.bound.submission.principal.name, to_micros(now)),
    )
    return _approval(rows[0]) if rows else None


def request(
    tx: Transaction, plan: Plan, contract: Contract, *, now: datetime, entropy: Callable[[int], bytes]
) -> Approval:
    """A new waiting approval for the plan: all that the plan's digest binds, in words.

    Raises:
        QuotaExceeded: as many requests of the contract wait as may.
    """
    _check_waiting(tx, contract, now=now)
    terms = plan.bound.submission.encrypted
    approval = Approval(
        id="ap-" + entropy(8).hex(),
        state="waiting",
        requester=plan.bound.submission.principal.name,
        contract=contract.id,
        query=canonical_json(query_json(plan.bound.query)).decode(),
        plan_digest=plan.digest,
        contract_digest=contract.digest,
        epsilon_nano=plan.analysis.loss.epsilon_nano,
        price_micro=plan.charge["price_micro"],
        requested=now,
        expires=now + WAITS_FOR,
        decided_by="",
        purpose=purpose_of(plan.bound.submission.purpose, contract),
        mode=_mode(plan),
        snapshot=plan.bound.snapshot.version,
        key_id=terms.key_id if terms is not None else "",
        key_owners=tuple(sorted(terms.key_owners)) if terms is not None else (),
        weight_bits=terms.weight_bits if terms is not None else 0,
    )
    tx.execute(
        f"INSERT INTO approvals ({_COLUMNS}) VALUES ({', '.join('?' * 18)})",  # noqa: S608
        (
            approval.id,
            approval.state,
            approval.requester,
            approval.contract,
            approval.query,
            approval.plan_digest,
            approval.contract_digest,
            approval.epsilon_nano,
            approval.price_micro,
            to_micros(approval.requested),
            to_micros(approval.expires),
            approval.decided_by,
            approval.purpose,
            approval.mode,
            approval.snapshot,
            approval.key_id,
            json.dumps(approval.key_owners),
            approval.weight_bits,
        ),
    )
    return approval


def use(tx: Transaction, approval_id: str, *, now: datetime) -> None:
    """Spend the one use of an approval, in the transaction that reserves.

    Raises:
        ApprovalRequired: it was used, rejected or lapsed in the meantime.
    """
    used = tx.execute(
        "UPDATE approvals SET state = 'used' WHERE id = ? AND state = 'approved' AND expires > ? RETURNING id",
        (approval_id, to_micros(now)),
    )
    if not used:
        raise ApprovalRequired("the approval can no longer be used", metadata={"approval": approval_id})


def settle(tx: Transaction, approval_id: str, principal: Principal, *, approve: bool, now: datetime) -> Approval:
    """Approve or reject a waiting request, by another person than who asked.

    Raises:
        UnknownName: no such approval.
        PermissionDenied: one's own request.
        InvalidRequest: it waits no longer.
    """
    rows = tx.execute(f"SELECT {_COLUMNS} FROM approvals WHERE id = ?", (approval_id,))  # noqa: S608
    if not rows:
        raise UnknownName("no approval of this id", field="approval", rule="name.approval")
    approval = _approval(rows[0])
    if approval.requester == principal.name:
        raise PermissionDenied("nobody approves their own query", field="approval", rule="approval.self")
    if approval.state != "waiting" or approval.expires <= now:
        raise InvalidRequest("the approval waits no longer", field="approval", rule="approval.state")
    tx.execute(
        "UPDATE approvals SET state = ?, decided_by = ? WHERE id = ?",
        ("approved" if approve else "rejected", principal.name, approval_id),
    )
    return _approval(tx.execute(f"SELECT {_COLUMNS} FROM approvals WHERE id = ?", (approval_id,))[0])  # noqa: S608


def page(tx: Transaction, *, requester: str | None, before: str, limit: int) -> list[Approval]:
    """Approvals newest first, at most `limit`, from behind the page token `before`; of one requester, or of all."""
    bound_time, _, bound_id = before.partition(":")
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM approvals WHERE (? = '' OR requester = ?) "  # noqa: S608
        "AND (? = '' OR requested < ? OR (requested = ? AND id < ?)) ORDER BY requested DESC, id DESC LIMIT ?",
        (
            requester or "",
            requester or "",
            before,
            int(bound_time or 0),
            int(bound_time or 0),
            bound_id,
            limit,
        ),
    )
    return [_approval(row) for row in rows]


def page_token(approval: Approval) -> str:
    """Token of the page that follows this approval."""
    return f"{to_micros(approval.requested)}:{approval.id}"


def approval_to_proto(approval: Approval, *, now: datetime) -> policy_service_pb2.Approval:
    """Wire form; a lapsed approval shows as expired."""
    lapsed = approval.state in ("waiting", "approved") and approval.expires <= now
    state = "EXPIRED" if lapsed else approval.state.upper()
    message = policy_service_pb2.Approval(
        id=approval.id,
        state=f"APPROVAL_STATE_{state}",
        requester=approval.requester,
        contract=approval.contract,
        query=approval.query,
        plan_digest=approval.plan_digest,
        epsilon_nano=approval.epsilon_nano,
        price_micro=approval.price_micro,
        decided_by=approval.decided_by,
        purpose=approval.purpose,
        mode=approval.mode,
        snapshot=approval.snapshot,
        key_id=approval.key_id,
        key_owners=approval.key_owners,
        weight_bits=approval.weight_bits,
    )
    message.requested.FromDatetime(approval.requested)
    message.expires.FromDatetime(approval.expires)
    return message


def _check_waiting(tx: Transaction, contract: Contract, *, now: datetime) -> None:
    rows = tx.execute(
        "SELECT count(*) FROM approvals WHERE contract = ? AND state = 'waiting' AND expires > ?",
        (contract.id, to_micros(now)),
    )
    if integer(rows[0][0]) >= MAX_WAITING:
        raise QuotaExceeded(
            f"{MAX_WAITING} queries under this contract wait for a person already; ask again once one is decided",
            rule="approval.waiting_limit",
        )


def _mode(plan: Plan) -> str:
    terms = plan.bound.submission.encrypted
    if terms is None:
        return plan.bound.mode.value
    return "sealed" if terms.kind == "sealed" else Mode.ENCRYPTED.value


def _approval(row: Row) -> Approval:
    texts, numbers = [str(value) for value in row], row
    return Approval(
        id=texts[0],
        state=texts[1],
        requester=texts[2],
        contract=texts[3],
        query=texts[4],
        plan_digest=texts[5],
        contract_digest=texts[6],
        epsilon_nano=int(numbers[7] or 0),
        price_micro=int(numbers[8] or 0),
        requested=from_micros(int(numbers[9] or 0)),
        expires=from_micros(int(numbers[10] or 0)),
        decided_by=texts[11],
        purpose=texts[12],
        mode=texts[13],
        snapshot=int(numbers[14] or 0),
        key_id=texts[15],
        key_owners=tuple(json.loads(texts[16])),
        weight_bits=int(numbers[17] or 0),
    )
