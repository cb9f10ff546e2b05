# SPDX-License-Identifier: Apache-2.0
"""Uploads whose caller leaves: gRPC may end the stream, cancel the handler, or do the one and then the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import cast

import pytest

from tests.support.sample import envelope
from tests.support.wire import key
from weir.errors import InvalidRequest, WeirError
from weir.v1 import encrypted_service_pb2 as pb
from weir_server.config import Limits
from weir_server.encrypted.flow import EncryptedQueries
from weir_server.observe import Metrics
from weir_server.pipeline import Pipeline
from weir_server.plan.values import Principal, Submission
from weir_server.services.encrypted import EncryptedQueryService
from weir_server.services.guard import Call
from weir_server.services.uploads import Uploads
from weir_server.turns import Turns

SIZE = 1000


class _Opened:
    cells, upload_bytes = 3, SIZE


class _Encrypted:
    async def open(self, submission: Submission) -> _Opened:
        return _Opened()


class _Books:
    """The pipeline's one part in this: refusals, each of which takes a while to write."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.writing = asyncio.Event()
        self.disk = asyncio.Event()
        self.refused: list[tuple[str | None, str | None]] = []

    async def refuse(self, submission: Submission, error: WeirError) -> None:
        self.writing.set()
        await self.disk.wait()
        self.refused.append((error.rule, error.field))


@pytest.mark.parametrize("end", ["the stream ends", "cancelled", "the stream ends, then cancelled"])
async def test_an_upload_that_ends_early_is_refused_once_by_one_rule(end: str) -> None:
    books, uploads, left = _Books(), Uploads(Limits()), asyncio.Event()
    service = EncryptedQueryService(
        cast(EncryptedQueries, _Encrypted()), cast(Pipeline, books), Metrics(), uploads=uploads, max_weights=3
    )
    alice = Principal("alice", "requester", "test.weir")
    call = Call(alice, "/weir.v1.EncryptedQueryService/RunEncryptedQuery", datetime.now(UTC))
    accepted = asyncio.Event()

    async def requests() -> AsyncIterator[pb.RunEncryptedQueryRequest]:
        header = pb.EncryptedQueryHeader(
            envelope=envelope(), idempotency_key=key(), key_id="sha256:" + "0" * 64, weights=3, weight_bits=16
        )
        yield pb.RunEncryptedQueryRequest(header=header)
        yield pb.RunEncryptedQueryRequest(weights=bytes(SIZE // 2))
        await left.wait()

    async def ask() -> None:
        async for _ in service.RunEncryptedQuery(requests(), call):
            accepted.set()

    asking = asyncio.create_task(ask())
    await accepted.wait()
    assert uploads.held == SIZE
    if end != "cancelled":
        left.set()
        await books.writing.wait()
    if end != "the stream ends":
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()
    books.disk.set()
    if end == "the stream ends":
        with pytest.raises(InvalidRequest):
            await asking
    await books.turns.drain(seconds=10.0)
    assert books.refused == [("upload.short", "weights")]
    assert uploads.held == 0
