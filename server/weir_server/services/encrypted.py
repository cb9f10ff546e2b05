# SPDX-License-Identifier: Apache-2.0
"""EncryptedQueryService: uploads of ciphertexts in, replies in chunks out.

The header is decided before a single ciphertext is taken; what follows is bounded by what the header announced. An
upload that ends early, or goes on too long, is refused, metered and charged nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from weir.errors import InvalidRequest, WeirError
from weir.v1 import encrypted_service_pb2 as pb
from weir.v1 import encrypted_service_pb2_grpc
from weir_server.encrypted.flow import EncryptedAnswered, EncryptedQueries, Opened
from weir_server.observe import Metrics
from weir_server.pipeline import Pipeline
from weir_server.plan.values import EncryptedTerms, Submission
from weir_server.services.guard import Call
from weir_server.services.submission import checked_key, checked_key_id, submission_of
from weir_server.services.uploads import Share, Uploads

CHUNK_BYTES = 256 * 1024
MAX_WEIGHT_BITS = 64
MAX_ADDENDS = 65_536
MAX_KEY_BYTES = 8_192
"""A modulus or proof beyond it is not looked at, whatever it is."""


class EncryptedQueryService(encrypted_service_pb2_grpc.EncryptedQueryServiceServicer):
    """Keys, secret weights, sealed releases."""

    def __init__(
        self, encrypted: EncryptedQueries, pipeline: Pipeline, metrics: Metrics, *, uploads: Uploads, max_weights: int
    ) -> None:
        self._encrypted, self._pipeline, self._metrics = encrypted, pipeline, metrics
        self._uploads, self._max_weights = uploads, max_weights
        self._abandoned: set[asyncio.Task[None]] = set()

    async def RegisterPublicKey(self, request: pb.RegisterPublicKeyRequest, call: Call) -> pb.RegisterPublicKeyResponse:
        """Registers a proven key for the caller."""
        if len(request.modulus) > MAX_KEY_BYTES or len(request.proof) > 64 * MAX_KEY_BYTES:
            raise InvalidRequest("the key or its proof is too large", field="modulus", rule="key.size")
        key_id = await self._encrypted.register_key(call.principal, request.modulus, request.proof)
        return pb.RegisterPublicKeyResponse(key_id=key_id)

    async def RunEncryptedQuery(
        self, requests: AsyncIterator[pb.RunEncryptedQueryRequest], call: Call
    ) -> AsyncIterator[pb.RunEncryptedQueryResponse]:
        """Header, then accepted, then weights, then results and their receipt."""
        header = await _header(requests)
        submission = _weighted(header, call, most=self._max_weights)
        opened = await self._encrypted.open(submission)
        share = self._uploads.take(call.principal.name, opened.upload_bytes)
        try:
            yield pb.RunEncryptedQueryResponse(accepted=pb.HeaderAccepted(cells=opened.cells))
            weights = await _collect(requests, size=opened.upload_bytes)
        except WeirError as error:
            share.release()
            # To the end, since a caller's leaving may first look like the end of its upload and only then cancel us.
            await self._pipeline.turns.to_the_end(self._pipeline.refuse(submission, error))
            raise
        except (asyncio.CancelledError, GeneratorExit):
            # The caller is gone, while we were reading or before: it hears nothing, but the log does.
            share.release()
            self._log_abandoned(submission)
            raise
        except BaseException:
            share.release()
            raise
        # What has come whole runs to its end: cut off half-way it would cost a worker, and the next caller a new one.
        finishing = self._finish(opened, weights, share)
        del weights  # A reader slow to take the reply must not keep the upload in memory.
        answered = await self._pipeline.turns.to_the_end(finishing)
        self._metrics.answered("encrypted")
        for chunk in _chunks(answered.results):
            yield pb.RunEncryptedQueryResponse(results=chunk)
        yield pb.RunEncryptedQueryResponse(completed=_completed(answered))

    async def RunSealedQuery(
        self, request: pb.RunSealedQueryRequest, call: Call
    ) -> AsyncIterator[pb.RunSealedQueryResponse]:
        """Results, then their receipt."""
        answered = await self._encrypted.run_sealed(_sealed(request, call))
        self._metrics.answered("sealed")
        for chunk in _chunks(answered.results):
            yield pb.RunSealedQueryResponse(results=chunk)
        yield pb.RunSealedQueryResponse(completed=_completed(answered))

    async def _finish(self, opened: Opened, weights: bytes, share: Share) -> EncryptedAnswered:
        try:
            return await self._encrypted.finish(opened, weights)
        finally:
            share.release()

    def _log_abandoned(self, submission: Submission) -> None:
        task = asyncio.ensure_future(self._pipeline.turns.to_the_end(self._pipeline.refuse(submission, _short())))
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)


def _weighted(header: pb.EncryptedQueryHeader, call: Call, *, most: int) -> Submission:
    if not 1 <= header.weights <= most:
        raise InvalidRequest(f"a query has 1 to {most} weights", field="weights", rule="weights.count")
    if not 1 <= header.weight_bits <= MAX_WEIGHT_BITS:
        raise InvalidRequest(f"weights have 1 to {MAX_WEIGHT_BITS} bits", field="weight_bits", rule="weights.bits")
    terms = EncryptedTerms(
        kind="weights",
        key_id=checked_key_id(header.key_id),
        weights=header.weights,
        weight_bits=header.weight_bits,
    )
    key = checked_key(header.idempotency_key)
    return submission_of(call.principal, header.envelope, request=header, idempotency_key=key, encrypted=terms)


def _sealed(request: pb.RunSealedQueryRequest, call: Call) -> Submission:
    if not 1 <= request.max_addends <= MAX_ADDENDS:
        raise InvalidRequest(f"max_addends is 1 to {MAX_ADDENDS}", field="max_addends", rule="sealed.addends")
    terms = EncryptedTerms(kind="sealed", key_id=checked_key_id(request.key_id), max_addends=request.max_addends)
    key = checked_key(request.idempotency_key)
    return submission_of(call.principal, request.envelope, request=request, idempotency_key=key, encrypted=terms)


async def _header(requests: AsyncIterator[pb.RunEncryptedQueryRequest]) -> pb.EncryptedQueryHeader:
    async for message in requests:
        if message.WhichOneof("part") != "header":
            break
        return message.header
    raise InvalidRequest("the first message is the header", field="header", rule="upload.header")


async def _collect(requests: AsyncIterator[pb.RunEncryptedQueryRequest], *, size: int) -> bytes:
    received = bytearray()
    async for message in requests:
        if message.WhichOneof("part") != "weights":
            raise InvalidRequest("after the header come weights", field="weights", rule="upload.order")
        if len(message.weights) > CHUNK_BYTES:
            raise InvalidRequest(f"a chunk has at most {CHUNK_BYTES} bytes", field="weights", rule="upload.chunk")
        received += message.weights
        if len(received) > size:
            raise InvalidRequest("more weights than the header announced", field="weights", rule="upload.long")
    if len(received) != size:
        raise _short()
    # One piece, joined: unlike a copy by bytes(), that lets others run meanwhile where it is large.
    return await asyncio.to_thread(b"".join, (received,))


def _short() -> InvalidRequest:
    """One rule for an upload that ended early, whether its caller is still there or not: gRPC may say either first."""
    return InvalidRequest("fewer weights than the header announced", field="weights", rule="upload.short")


def _chunks(content: bytes) -> Iterator[bytes]:
    return (content[at : at + CHUNK_BYTES] for at in range(0, len(content), CHUNK_BYTES))


def _completed(answered: EncryptedAnswered) -> pb.EncryptedResult:
    return pb.EncryptedResult(answer=answered.answer, receipt=answered.receipt)
