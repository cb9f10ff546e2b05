# SPDX-License-Identifier: Apache-2.0
"""Wire form of cases."""

from __future__ import annotations

from weir.v1 import case_service_pb2
from weir_server.cases.values import STATES, Case, CaseState, Step


def case_to_proto(case: Case) -> case_service_pb2.Case:
    """A case as its filer and its handlers see it."""
    message = case_service_pb2.Case(
        id=case.id,
        kind=f"CASE_KIND_{case.kind.upper()}",
        state=_state(case.state),
        opened_by=case.steps[0].actor,
        opened_role=case.steps[0].role,
        contract=case.contract,
        dataset=case.dataset,
        against=case.against,
        entries=case.entries,
        statement=case.statement,
        frozen=case.frozen,
        steps=[_step(step) for step in case.steps],
    )
    message.opened.FromDatetime(case.steps[0].at)
    return message


def state_of(number: int) -> CaseState | None:
    """State by its number on the wire; None where there is none."""
    return STATES[number - 1] if 1 <= number <= len(STATES) else None


def _state(state: CaseState) -> str:
    return f"CASE_STATE_{state.upper()}"


def _step(step: Step) -> case_service_pb2.CaseStep:
    message = case_service_pb2.CaseStep(
        state=_state(step.state), actor=step.actor, note=step.note, leaf_index=step.leaf_index
    )
    message.at.FromDatetime(step.at)
    return message
