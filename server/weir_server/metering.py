# SPDX-License-Identifier: Apache-2.0
"""What a query is charged as, and what the leaves of its answer or refusal say: functions of the decision alone."""

from __future__ import annotations

from functools import lru_cache

from weir.errors import BudgetExhausted, PolicyDenied, QuotaExceeded, WeirError
from weir.v1 import answer_pb2
from weir_server.catalog.card import Mode
from weir_server.judged import Decided, Judged
from weir_server.ledger import Inputs, ReservationRequest, Subject
from weir_server.plan.analyse import ciphertexts, without_loss
from weir_server.plan.values import Plan, Submission
from weir_server.policy.decide import outcome_json, purpose_of
from weir_server.policy.facts import facts_bytes
from weir_server.world import World

_KEPT_BYTES = 16 * 1024
"""Longest release whose further answer is kept in memory."""


def reservation_request(judged: Judged, *, sticky: bool) -> ReservationRequest:
    """What the ledger is asked to charge, and the meter record that its leaves carry."""
    plan, submission = judged.plan, judged.plan.bound.submission
    return ReservationRequest(
        subject=subject_of(plan),
        idempotency_key=submission.idempotency_key,
        request_digest=submission.request_digest,
        charge=without_loss(plan, judged.contract.rates) if sticky else plan.charge,
        plan_digest=plan.digest,
        policy_digest=judged.decision.policy_digest,
        event=meter_record(judged, sticky=sticky),
        commitments={
            "query": plan.query,
            "mechanism": plan.mechanism,
        },
        budget=plan.bound.card.budget_metric if plan.bound.mode is Mode.DP else None,
        release_key="" if sticky else plan.release_key,
        inputs=inputs_of(judged),
    )


def subject_of(plan: Plan) -> Subject:
    """Whom and what a plan's charge belongs to."""
    submission = plan.bound.submission
    return Subject(
        requester=submission.principal.name,
        contract=submission.contract,
        dataset=plan.bound.query.dataset,
        lineage=plan.bound.card.lineage,
    )


def meter_record(judged: Judged, *, sticky: bool) -> dict[str, object]:
    """The meter record of a query; what could be guessed travels as commitments beside it."""
    bound, submission, decision = judged.plan.bound, judged.plan.bound.submission, judged.decision
    incoming, outgoing = ciphertexts(bound, judged.plan.analysis)
    approved = {} if judged.approval is None else {**outcome_json(decision), "approval": judged.approval}
    return {
        **approved,
        "decision": "allowed" if judged.approval is None else "approved",
        "purpose": purpose_of(submission.purpose, judged.contract),
        "snapshot": bound.snapshot.version,
        "manifest_digest": bound.snapshot.manifest_digest,
        "mode": bound.mode.value if submission.encrypted is None else Mode.ENCRYPTED.value,
        "release_mode": bound.mode.value,
        "contract_digest": judged.contract.digest,
        "technique": str(judged.plan.analysis.mechanism["technique"]),
        "work": judged.plan.analysis.work,
        "ciphertexts_in": incoming,
        "ciphertexts_out": outgoing,
        "currency": judged.contract.rates.currency,
        "sticky": sticky,
    }


def inputs_of(decided: Decided) -> Inputs:
    """What the decision was made from, as the ledger keeps it."""
    return Inputs(decided.contract.digest, facts_bytes(decided.facts))


def refused_subject(submission: Submission, world: World) -> Subject:
    """Whom and what a refusal belongs to: names that the world knows, and contracts of the caller's own."""
    principal, dataset = submission.principal, submission.query.dataset
    snapshots = world.catalogue.datasets.get(dataset, ())
    known = world.policy.contracts.get(submission.contract)
    return Subject(
        requester=principal.name,
        contract=submission.contract if known is not None and known.requester == principal.name else "",
        dataset=dataset if snapshots else "",
        lineage=snapshots[0].card.lineage if snapshots else "",
    )


def refused_event(submission: Submission, error: WeirError, world: World) -> dict[str, object]:
    """The meter record of a refusal."""
    event: dict[str, object] = {
        **refusal(error, role=submission.principal.role),
        "policy_digest": world.policy.digest,
    }
    if isinstance(error, PolicyDenied):
        event["reasons"] = [reason.code for reason in error.reasons]
    if isinstance(error, BudgetExhausted | QuotaExceeded):
        event["limits"] = [hit.quota for hit in error.limits]  # Standing counts those of one's own.
    decided = error.evidence
    if isinstance(decided, Decided):
        event |= {**outcome_json(decided.decision), "contract_digest": decided.contract.digest}
        event["policy_digest"] = decided.decision.policy_digest
    return event


def refusal(error: WeirError, *, role: str) -> dict[str, object]:
    """What every refusal's leaf says."""
    return {"decision": "refused", "reason": error.reason, "rule": error.rule or "", "role": role}


@lru_cache(maxsize=256)
def _sticky(release: bytes) -> bytes:
    answer = answer_pb2.Answer.FromString(release)
    answer.sticky = True
    return answer.SerializeToString(deterministic=True)


def sticky_answer(release: bytes) -> bytes:
    """The stored release as a further answer: the same numbers, marked as returned again."""
    return _sticky(release) if len(release) <= _KEPT_BYTES else _sticky.__wrapped__(release)
