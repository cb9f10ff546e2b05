# SPDX-License-Identifier: Apache-2.0
"""QueryService: stage 0 in, stage 8 out; everything between is the pipeline's."""

from __future__ import annotations

import asyncio

from weir.v1 import answer_pb2, query_service_pb2, query_service_pb2_grpc
from weir_server.log.receipts import Receipts
from weir_server.observe import Metrics
from weir_server.pipeline import Pipeline
from weir_server.sandbox.answers import Sandbox, cards_of
from weir_server.services.guard import Call
from weir_server.services.paging import index_token, page_size
from weir_server.services.submission import checked_key, submission_of
from weir_server.state import State
from weir_server.store import Store

_NO_CONTRACT = "sandbox"
"""Stands where a contract would; nothing is looked up by it."""
_MODES = {answer_pb2.MODE_EXACT: "exact", answer_pb2.MODE_DP: "dp"}


class QueryService(query_service_pb2_grpc.QueryServiceServicer):
    """Plain queries."""

    def __init__(
        self,
        pipeline: Pipeline,
        store: Store,
        receipts: Receipts,
        metrics: Metrics,
        *,
        state: State,
        sandbox: Sandbox,
    ) -> None:
        self._pipeline, self._store, self._receipts, self._metrics = pipeline, store, receipts, metrics
        self._state, self._sandbox = state, sandbox

    async def EstimateQuery(
        self, request: query_service_pb2.EstimateQueryRequest, call: Call
    ) -> query_service_pb2.EstimateQueryResponse:
        """Decision and price, at no charge and without a meter record."""
        submission = submission_of(call.principal, request.envelope, request=request, idempotency_key="")
        return await self._pipeline.estimate(submission)

    async def RunQuery(
        self, request: query_service_pb2.RunQueryRequest, call: Call
    ) -> query_service_pb2.RunQueryResponse:
        """An answer, decided, charged and logged."""
        key = checked_key(request.idempotency_key)
        submission = submission_of(call.principal, request.envelope, request=request, idempotency_key=key)
        answered = await self._pipeline.run(submission)
        self._metrics.answered(_MODES.get(submission_mode(answered.answer), "other"))
        return query_service_pb2.RunQueryResponse(answer=answered.answer, receipt=answered.receipt)

    async def RunSandboxQuery(
        self, request: query_service_pb2.RunSandboxQueryRequest, call: Call
    ) -> query_service_pb2.RunSandboxQueryResponse:
        """An answer from synthetic rows: nothing is asked of contracts, charged or logged."""
        envelope = query_service_pb2.QueryEnvelope()
        envelope.CopyFrom(request.envelope)
        envelope.contract, envelope.purpose = _NO_CONTRACT, ""
        submission = submission_of(call.principal, envelope, request=request, idempotency_key="")
        world, dataset = self._state.world, submission.query.dataset
        world.check_running(requester=call.principal.name, contract="", dataset=dataset)
        answer = await self._sandbox.answer(
            submission, cards_of(world.catalogue, dataset), grade_of=lambda card: world.grade_of(card, now=call.now)
        )
        return query_service_pb2.RunSandboxQueryResponse(answer=answer.SerializeToString(deterministic=True))

    async def ListReceipts(
        self, request: query_service_pb2.ListReceiptsRequest, call: Call
    ) -> query_service_pb2.ListReceiptsResponse:
        """Receipts of the caller's own answers and refusals, newest first."""
        size, before = page_size(request.page_size, default=50), index_token(request.page_token)
        name = call.principal.name
        found = await asyncio.to_thread(
            self._store.read, lambda tx: self._receipts.of_requester(tx, name, before=before, limit=size + 1)
        )
        return query_service_pb2.ListReceiptsResponse(
            receipts=found[:size],
            next_page_token=str(found[size - 1].leaf_index) if len(found) > size else "",
        )


def submission_mode(answer: bytes) -> answer_pb2.Mode:
    """Mode that an answer was released in."""
    return answer_pb2.Answer.FromString(answer).mode
