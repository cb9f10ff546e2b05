# SPDX-License-Identifier: Apache-2.0
"""A decision with all that it was made from: what travels from stage 3 to the charge, and what a refusal keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from weir.errors import DenialReason, PolicyDenied, WeirError
from weir.v1 import query_service_pb2
from weir_server.plan.values import Plan
from weir_server.policy.contract import Contract
from weir_server.policy.decide import Allow, Decision, Deny, NeedsApproval
from weir_server.policy.facts import Facts
from weir_server.world import World

E = TypeVar("E", bound=WeirError)


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision with all that it was made from."""

    contract: Contract
    facts: Facts
    decision: Decision


@dataclass(frozen=True, slots=True)
class Judged(Decided):
    """A plan with the contract it was judged under and the outcome."""

    plan: Plan
    world: World
    """What it was judged in; compared by identity, since each change of the world makes a new one."""
    approval: str | None = None
    """Id of the approval that it runs on; None where it needs none, or has none yet."""


def denied(reasons: tuple[DenialReason, ...], decided: Decided | None = None) -> PolicyDenied:
    """The refusal that these reasons make."""
    sentence = "; ".join(reason.sentence for reason in reasons)
    return with_evidence(PolicyDenied(sentence, reasons=reasons, rule=reasons[0].code), decided)


def with_evidence(error: E, decided: Decided | None) -> E:
    """The refusal with the decision behind it, which its leaf will name and keep."""
    error.evidence = decided
    return error


def decision_to_proto(decision: Decision, *, lacking: tuple[DenialReason, ...] = ()) -> query_service_pb2.Decision:
    """Wire form of a verdict with its reasons. `lacking`: why the books would refuse what the policy allows, which
    then is no answer either; what waits for a person still waits first."""
    verdicts = {
        Allow: query_service_pb2.VERDICT_ALLOW,
        NeedsApproval: query_service_pb2.VERDICT_NEEDS_APPROVAL,
        Deny: query_service_pb2.VERDICT_DENY,
    }
    reasons = () if isinstance(decision, Allow) else decision.reasons
    refused = lacking and isinstance(decision, Allow)
    return query_service_pb2.Decision(
        verdict=query_service_pb2.VERDICT_DENY if refused else verdicts[type(decision)],
        reasons=[query_service_pb2.DecisionReason(code=r.code, sentence=r.sentence) for r in (*reasons, *lacking)],
    )
