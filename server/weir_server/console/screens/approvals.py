# SPDX-License-Identifier: Apache-2.0
"""The inbox: queries that wait for a person, all that is bound by saying yes, and the forms that say it."""

from __future__ import annotations

from starlette.responses import Response

from weir.amounts import parse_epsilon, parse_price
from weir.errors import InvalidRequest
from weir.v1 import policy_service_pb2
from weir_server import ledger
from weir_server.console import calls, question
from weir_server.console.reads import approvals as reads
from weir_server.console.screens.screen import Screen
from weir_server.console.visit import Visit, whole_number
from weir_server.ledger import Balance, Subject
from weir_server.policy import approvals
from weir_server.policy.approvals import Approval
from weir_server.policy.template import terms_of_text
from weir_server.store import Transaction

PAGE = 50


async def show(visit: Visit) -> Response:
    """Approvals in one state, newest first."""
    state = visit.query("state") or "waiting"
    if state not in reads.STATES:
        raise InvalidRequest("no such state", field="state", rule="console.state")
    before, now = visit.query("before"), visit.now
    found, following = await visit.read(
        calls.LIST_APPROVALS, lambda tx: reads.page(tx, state, now=now, before=before, limit=PAGE)
    )
    return visit.page(
        "approvals.html",
        approvals=found,
        told={item.id: question.sentence(item.query, visit.words) for item in found},
        state=state,
        states=reads.STATES,
        first=visit.link(before=None) if before else "",
        following=visit.link(before=following) if following else "",
    )


async def show_approval(visit: Visit) -> Response:
    """One query, with everything that its approval binds."""
    wanted, world, now = visit.path("approval"), visit.world, visit.now

    def read(tx: Transaction) -> tuple[Approval, list[Approval], list[Balance]]:
        approval = approvals.get(tx, wanted)
        return approval, reads.earlier(tx, approval), ledger.balances(tx, [_subject(visit, approval)], now=now)

    approval, earlier, balances = await visit.read(calls.LIST_APPROVALS, read)
    contract = world.policy.contracts.get(approval.contract)
    snapshots = world.catalogue.datasets.get(contract.dataset if contract is not None else "", ())
    unit = snapshots[0].card.unit_name if snapshots else "unit"
    charge = {"epsilon_nano": approval.epsilon_nano, "rho_micro": approval.rho_micro, "queries": 1}
    charge["price_micro"] = approval.price_micro
    return visit.page(
        "approval.html",
        approval=approval,
        contract=contract,
        changed=contract is None or contract.digest != approval.contract_digest,
        lapsed=approval.state in ("waiting", "approved") and approval.expires <= now,
        told=question.sentence(approval.query, visit.words),
        sql=question.sql(approval.query, unit=unit),
        columns=question.filtered_columns(approval.query),
        terms=terms_of_text(approval.standing) if approval.standing else None,
        balances=[(item, charge.get(item.quota.metric)) for item in balances] if visit.may(calls.LIST_QUOTAS) else [],
        earlier=[(item, question.sentence(item.query, visit.words)) for item in earlier],
        can_decide=visit.may(calls.DECIDE_APPROVAL) and approval.requester != visit.principal.name,
        decided=visit.principal.name in approval.approved_by,
    )


async def decide(visit: Visit) -> Response:
    """Approves once or as a template, rejects, or takes back."""
    act, wanted = visit.field("act"), visit.path("approval")
    if act not in ("approve", "standing", "reject", "revoke"):
        raise InvalidRequest("say what to do", field="act", rule="console.act")
    request = policy_service_pb2.DecideApprovalRequest(
        approval=wanted,
        approve=act in ("approve", "standing"),
        revoke=act == "revoke",
        reason=visit.reason(),
        idempotency_key=visit.key(),
    )
    if act == "standing":
        request.standing.CopyFrom(_standing(visit))
    reply = await visit.call(calls.DECIDE_APPROVAL, request)
    state = policy_service_pb2.ApprovalState.Name(reply.approval.state).removeprefix("APPROVAL_STATE_").lower()
    return visit.go(f"/approvals/{wanted}", "approval.now", state=visit.words.name("approval_state", state))


def _standing(visit: Visit) -> policy_service_pb2.StandingTerms:
    return policy_service_pb2.StandingTerms(
        free_columns=[name.removeprefix("free-") for name in visit.form if name.startswith("free-")],
        uses=_number(visit, "uses"),
        days=_number(visit, "days"),
        epsilon_nano=parse_epsilon(visit.field("epsilon"), field="epsilon") if visit.field("epsilon") else 0,
        price_micro=parse_price(visit.field("price"), field="price") if visit.field("price") else 0,
    )


def _number(visit: Visit, name: str) -> int:
    number = whole_number(visit.field(name), field=name)
    if number is None or number >= 2**31:
        raise InvalidRequest("not a number in range", field=name, rule="console.number")
    return number


def _subject(visit: Visit, approval: Approval) -> Subject:
    """What the query's charge would belong to."""
    contract = visit.world.policy.contracts.get(approval.contract)
    dataset = "" if contract is None else contract.dataset
    snapshots = visit.world.catalogue.datasets.get(dataset)
    return Subject(approval.requester, approval.contract, dataset, snapshots[0].card.lineage if snapshots else "")


SCREENS = (
    Screen("approvals", "/approvals", show, (calls.LIST_APPROVALS,)),
    Screen("approval", "/approvals/{approval}", show_approval, (calls.LIST_APPROVALS,)),
    Screen("decide", "/approvals/{approval}/decide", decide, (calls.DECIDE_APPROVAL,), "POST", proof=True),
)
