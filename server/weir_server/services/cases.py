# SPDX-License-Identifier: Apache-2.0
"""CaseService and CaseAdminService: complaints, incidents and disputes, and the evidence that settles them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from weir.errors import InvalidRequest, UnknownName
from weir.v1 import case_service_pb2, case_service_pb2_grpc
from weir_server.cases import book, evidence, transitions
from weir_server.cases.encode import case_to_proto, state_of
from weir_server.identity.holder import PROVIDER, REQUESTER
from weir_server.policy.acting import Acting, checked_reason
from weir_server.services.guard import Call
from weir_server.services.paging import index_token, page_size
from weir_server.services.submission import checked_key
from weir_server.state import State
from weir_server.store import Store

_CASE = re.compile(r"case-[0-9a-f]{16}")
_CHUNK = 256 * 1024


class CaseService(case_service_pb2_grpc.CaseServiceServicer):
    """Requesters and providers see the cases they filed, everybody else all."""

    def __init__(self, state: State, store: Store) -> None:
        self._state, self._store = state, store

    async def OpenCase(
        self, request: case_service_pb2.OpenCaseRequest, call: Call
    ) -> case_service_pb2.OpenCaseResponse:
        """Files a case."""
        checked_key(request.idempotency_key)

        def act(acting: Acting) -> bytes:
            filed = case_to_proto(transitions.file(acting, request))
            return case_service_pb2.OpenCaseResponse(case=filed).SerializeToString(deterministic=True)

        return case_service_pb2.OpenCaseResponse.FromString(await self._state.mutate(call.principal, request, act))

    async def ListCases(
        self, request: case_service_pb2.ListCasesRequest, call: Call
    ) -> case_service_pb2.ListCasesResponse:
        """Cases, newest first."""
        size, before, who = page_size(request.page_size, default=100), index_token(request.page_token), call.principal
        owner = (who.role, who.name) if who.role in (REQUESTER, PROVIDER) else None
        found = await asyncio.to_thread(
            self._store.read, lambda tx: book.page(tx, owner=owner, before=before, limit=size + 1)
        )
        return case_service_pb2.ListCasesResponse(
            cases=[case_to_proto(case) for case in found[:size]],
            next_page_token=str(found[size - 1].steps[0].leaf_index) if len(found) > size else "",
        )

    async def GetEvidence(
        self, request: case_service_pb2.GetEvidenceRequest, call: Call
    ) -> AsyncIterator[case_service_pb2.GetEvidenceResponse]:
        """The evidence file, in parts."""
        _check_id(request.case)
        bundle = await asyncio.to_thread(self._store.read, lambda tx: evidence.bundle(tx, request.case))
        for start in range(0, len(bundle), _CHUNK):
            yield case_service_pb2.GetEvidenceResponse(chunk=bundle[start : start + _CHUNK])


class CaseAdminService(case_service_pb2_grpc.CaseAdminServiceServicer):
    """What operators do with cases."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def AdvanceCase(
        self, request: case_service_pb2.AdvanceCaseRequest, call: Call
    ) -> case_service_pb2.AdvanceCaseResponse:
        """Takes the next step, and holds the contract or lets go of it."""
        checked_key(request.idempotency_key)
        _check_id(request.case)
        note, state = checked_reason(request.note, field="note"), state_of(request.state)
        if state is None:
            raise InvalidRequest("state the state to reach", field="state", rule="case.state")

        def act(acting: Acting) -> bytes:
            advanced = transitions.advance(acting, request.case, state=state, note=note, freeze=request.freeze)
            message = case_service_pb2.AdvanceCaseResponse(case=case_to_proto(advanced))
            return message.SerializeToString(deterministic=True)

        return case_service_pb2.AdvanceCaseResponse.FromString(await self._state.mutate(call.principal, request, act))


def _check_id(case: str) -> None:
    if not _CASE.fullmatch(case):
        raise UnknownName("no case of this id", field="case", rule="case.unknown")
