# SPDX-License-Identifier: Apache-2.0
"""Cases: complaints, incidents and disputes, their steps, and the evidence that settles them."""

from __future__ import annotations

from starlette.responses import Response

from weir.errors import InvalidRequest, UnknownName
from weir.v1 import case_service_pb2
from weir_server.cases import book
from weir_server.cases.values import STATES, may_follow
from weir_server.console import calls
from weir_server.console.screens.screen import Screen
from weir_server.console.visit import Visit

PAGE = 50


async def show(visit: Visit) -> Response:
    """Cases, newest first."""
    before = visit.number("before")
    found = await visit.read(calls.LIST_CASES, lambda tx: book.page(tx, owner=None, before=before, limit=PAGE + 1))
    more = found[PAGE - 1].steps[0].leaf_index if len(found) > PAGE else None
    return visit.page(
        "cases.html",
        cases=found[:PAGE],
        first=visit.link(before=None) if before is not None else "",
        following=visit.link(before=more) if more is not None else "",
    )


async def show_case(visit: Visit) -> Response:
    """One case with its steps."""
    case = visit.path("case")
    found = await visit.read(calls.LIST_CASES, lambda tx: book.find(tx, case))
    if found is None:
        raise UnknownName("no case of this id", field="case", rule="case.unknown")
    return visit.page(
        "case.html",
        case=found,
        next_states=[state for state in STATES if may_follow(found.state, state)],
        can_advance=visit.may(calls.ADVANCE_CASE),
        can_take=visit.may(calls.GET_EVIDENCE),
    )


async def advance(visit: Visit) -> Response:
    """The next step of a case."""
    case, state = visit.path("case"), visit.field("state")
    if state not in STATES:
        raise InvalidRequest("state the state to reach", field="state", rule="case.state")
    request = case_service_pb2.AdvanceCaseRequest(
        case=case,
        state=f"CASE_STATE_{state.upper()}",
        note=visit.reason(),
        freeze=visit.field("freeze") == "yes",
        idempotency_key=visit.key(),
    )
    await visit.call(calls.ADVANCE_CASE, request)
    return visit.go(f"/cases/{case}", "cases.advanced", state=visit.words.name("case_state", state))


async def evidence(visit: Visit) -> Response:
    """The evidence file of a case: `weir audit verify` takes it with the log's key alone."""
    case = visit.path("case")
    parts = visit.desk.gate.stream(visit.principal, calls.GET_EVIDENCE, case_service_pb2.GetEvidenceRequest(case=case))
    content = b"".join([part.chunk async for part in parts])
    headers = {"content-disposition": f'attachment; filename="{case}.evidence.json"'}
    return Response(content, media_type="application/json", headers=headers)


SCREENS = (
    Screen("cases", "/cases", show, (calls.LIST_CASES,)),
    Screen("case", "/cases/{case}", show_case, (calls.LIST_CASES,)),
    Screen("advance_case", "/cases/{case}/advance", advance, (calls.ADVANCE_CASE,), "POST", proof=True),
    Screen("evidence", "/cases/{case}/evidence.json", evidence, (calls.GET_EVIDENCE,)),
)
