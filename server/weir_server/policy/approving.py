# SPDX-License-Identifier: Apache-2.0
"""What persons do with approvals: approve, reject, take back. Each act is a leaf with who did it and why.

Where two persons must approve, they are two names, neither of them the requester's, whatever roles they act in, and a
standing approval needs equal terms of both. One rejection rejects.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from weir.errors import InvalidRequest, PermissionDenied
from weir.v1 import policy_service_pb2
from weir_server.clock import to_micros
from weir_server.ledger.windows import advance
from weir_server.plan.values import Principal
from weir_server.policy import approvals
from weir_server.policy.acting import Acting, checked_reason
from weir_server.policy.approvals import Act, Approval
from weir_server.policy.decide import persons_asked
from weir_server.policy.template import terms_from_proto, terms_of_text, terms_text, terms_to_proto
from weir_server.store import Transaction, integer

APPROVERS = frozenset({"approver", "operator"})
"""Roles whose word counts."""
MAX_STANDING = 100
"""Standing approvals of one contract at once: each query under it is held against every one that is like it."""
_LEAVES = {"approve": "weir.approval.approved", "reject": "weir.approval.rejected", "revoke": "weir.approval.revoked"}


def decide_approval(acting: Acting, request: policy_service_pb2.DecideApprovalRequest) -> bytes:
    """Approve or reject a waiting request, or take an approved one back; the serialised reply.

    Raises:
        UnknownName: no such approval.
        PermissionDenied: one's own, or a role whose word does not count.
        InvalidRequest: it waits no longer, one has approved it before, or the terms are malformed or not the first
            person's.
    """
    now = advance(acting.tx, acting.now)
    known, reason = approvals.get(acting.tx, request.approval), checked_reason(request.reason)
    _check_person(known, acting.principal)
    if request.revoke:
        decided, act = _revoked(known, now=now), "revoke"
    elif request.approve:
        decided, act = _approved(acting, known, request, now=now), "approve"
    else:
        decided, act = replace(_waiting(known, now=now), state="rejected"), "reject"
    decided = _write(acting, decided, Act(acting.principal.name, act, reason), now=now)
    _record(acting, decided, act, reason)
    message = approval_to_proto(decided, now=now)
    return policy_service_pb2.DecideApprovalResponse(approval=message).SerializeToString(deterministic=True)


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
        approvers=approval.approvers,
        approved_by=approval.approved_by,
        uses_left=approval.uses_left if state == "APPROVED" else 0,
        standing=terms_to_proto(terms_of_text(approval.standing)) if approval.standing else None,
        reasons=[act.reason for act in approval.acts],
    )
    message.requested.FromDatetime(approval.requested)
    message.expires.FromDatetime(approval.expires)
    return message


def _check_person(known: Approval, principal: Principal) -> None:
    if principal.role not in APPROVERS:
        raise PermissionDenied("approvers and operators decide approvals", field="approval", rule="approval.role")
    # By name, since one person may hold identities of several roles.
    if known.requester == principal.name:
        raise PermissionDenied("nobody approves their own query", field="approval", rule="approval.self")


def _waiting(known: Approval, *, now: datetime) -> Approval:
    if known.state != "waiting" or known.expires <= now:
        raise InvalidRequest("the approval waits no longer", field="approval", rule="approval.state")
    return known


def _revoked(known: Approval, *, now: datetime) -> Approval:
    # A used one may still run: what was charged under it stops at its next stage.
    if known.state not in ("approved", "used") or known.expires <= now:
        raise InvalidRequest("only what was approved can be taken back", field="approval", rule="approval.state")
    return replace(known, state="revoked", uses_left=0)


def _approved(
    acting: Acting, known: Approval, request: policy_service_pb2.DecideApprovalRequest, *, now: datetime
) -> Approval:
    _waiting(known, now=now)
    if acting.principal.name in known.approved_by:
        raise InvalidRequest("one person approves once", field="approval", rule="approval.twice")
    contract = acting.world.policy.contracts.get(known.contract)
    if contract is None or contract.digest != known.contract_digest:
        raise InvalidRequest(
            "the contract changed since this was asked; it must be asked again",
            field="approval",
            rule="approval.contract",
        )
    standing = _standing(known, request)
    if known.approved_by and standing != known.standing:
        raise InvalidRequest(
            "the first person approved other terms; state the very same, or reject",
            field="standing",
            rule="approval.terms",
        )
    gate = acting.world.gate_of(known.requester, now=now)
    needed = max(known.approvers, persons_asked(contract, gate_approvers=gate.approvers))
    asked = replace(known, approvers=needed, standing=standing)
    if len(known.approved_by) + 1 < needed:
        return asked
    if not standing:
        return replace(asked, state="approved", uses_left=1)
    _check_standing(acting.tx, known, now=now)
    terms = terms_of_text(standing)
    return replace(asked, state="approved", uses_left=terms.uses, expires=now + timedelta(days=terms.days))


def _standing(known: Approval, request: policy_service_pb2.DecideApprovalRequest) -> str:
    if not request.HasField("standing"):
        return ""
    if not known.fixed:
        raise InvalidRequest("this was asked before templates; it must be asked again", rule="approval.template")
    return terms_text(terms_from_proto(request.standing, query=known.query, epsilon_nano=known.epsilon_nano))


def _check_standing(tx: Transaction, known: Approval, *, now: datetime) -> None:
    rows = tx.execute(
        "SELECT count(*) FROM approvals WHERE contract = ? AND state = 'approved' AND expires > ? AND standing <> ''",
        (known.contract, to_micros(now)),
    )
    if integer(rows[0][0]) >= MAX_STANDING:
        raise InvalidRequest(
            f"{MAX_STANDING} approvals stand under this contract; take one back first", rule="approval.standing_limit"
        )


def _write(acting: Acting, decided: Approval, act: Act, *, now: datetime) -> Approval:
    tx, person = acting.tx, acting.principal.name
    settled = replace(decided, acts=(*decided.acts, act), decided_by="" if decided.state == "waiting" else person)
    tx.execute(
        "INSERT INTO approval_acts (approval, position, person, act, reason, acted) VALUES (?, ?, ?, ?, ?, ?)",
        (settled.id, len(settled.acts), person, act.act, act.reason, to_micros(now)),
    )
    tx.execute(
        "UPDATE approvals SET state = ?, decided_by = ?, approvers = ?, uses_left = ?, standing = ?, expires = ? "
        "WHERE id = ?",
        (
            settled.state,
            settled.decided_by,
            settled.approvers,
            settled.uses_left,
            settled.standing,
            to_micros(settled.expires),
            settled.id,
        ),
    )
    return settled


def _record(acting: Acting, decided: Approval, act: str, reason: str) -> None:
    # Plans can be guessed, and columns say what a query is about: both are committed to, not told.
    commitments = {"plan": decided.plan_digest.encode()}
    told: dict[str, object] = {
        "reason": reason,
        "requester": decided.requester,
        "contract": decided.contract,
        "state": decided.state,
        "approvers": decided.approvers,
        "approved_by": list(decided.approved_by),
    }
    if decided.standing:
        commitments["standing"] = decided.standing.encode()
        told["uses"] = decided.uses_left
    acting.record(_LEAVES[act], f"approval/{decided.id}", told, commitments=commitments)
