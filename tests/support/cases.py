# SPDX-License-Identifier: Apache-2.0
"""Cases in a domain of tests: filed, advanced, and their evidence."""

from __future__ import annotations

from typing import Any

from tests.support.domain import ALICE, OLGA, Domain
from weir.v1 import case_service_pb2
from weir_server.cases import evidence, transitions
from weir_server.cases.encode import case_to_proto
from weir_server.cases.values import CaseState
from weir_server.plan.values import Principal


async def file_case(
    domain: Domain, *, who: Principal = ALICE, kind: int = case_service_pb2.CASE_KIND_COMPLAINT, **fields: Any
) -> case_service_pb2.Case:
    """Files a complaint of Alice about her contract, unless the fields say otherwise."""
    content = {"contract": "c-1", "statement": "The answer differs from the bill."} | fields
    request = case_service_pb2.OpenCaseRequest(
        kind=kind,  # type: ignore[arg-type]
        idempotency_key=domain.new_key(),
        **{key: value for key, value in content.items() if value is not None},
    )
    reply = await domain.state.mutate(
        who, request, lambda acting: case_to_proto(transitions.file(acting, request)).SerializeToString()
    )
    return case_service_pb2.Case.FromString(reply)


async def advance_case(
    domain: Domain, case: str, state: CaseState, *, freeze: bool = False, note: str = "looked at", who: Principal = OLGA
) -> case_service_pb2.Case:
    """Takes a case a step on, as Olga."""
    request = case_service_pb2.AdvanceCaseRequest(case=case, note=note, idempotency_key=domain.new_key())
    reply = await domain.state.mutate(
        who,
        request,
        lambda acting: case_to_proto(
            transitions.advance(acting, case, state=state, note=note, freeze=freeze)
        ).SerializeToString(),
    )
    return case_service_pb2.Case.FromString(reply)


def evidence_of(domain: Domain, case: str) -> bytes:
    """The file of a case."""
    return domain.store.read(lambda tx: evidence.bundle(tx, case))
