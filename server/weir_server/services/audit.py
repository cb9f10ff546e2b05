# SPDX-License-Identifier: Apache-2.0
"""AuditService: the log as it is stored. Every answer is taken from one consistent snapshot of the books."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from weir.errors import InvalidRequest
from weir.v1 import audit_service_pb2, audit_service_pb2_grpc
from weir_server import audit
from weir_server.services.guard import Call
from weir_server.store import Store, Transaction

_PAGE_LEAVES = 48
"""Leaves of a message: at their longest (65,535 bytes) it stays below the 4 MiB that clients accept by default."""
_MAX_TYPE = 100


class AuditService(audit_service_pb2_grpc.AuditServiceServicer):
    """Checkpoints for everybody, leaves and totals for operators and auditors."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def GetCheckpoint(
        self, request: audit_service_pb2.GetCheckpointRequest, call: Call
    ) -> audit_service_pb2.GetCheckpointResponse:
        """Newest checkpoint, or a cosigned one, and a proof that it continues the tree the caller knows."""
        known = _index(request.known_size, field="known_size")
        cosigned = _index(request.cosigned_from, field="cosigned_from")
        return await asyncio.to_thread(
            self._store.read, lambda tx: audit.checkpoint(tx, known_size=known, cosigned_from=cosigned)
        )

    async def ListEntries(
        self, request: audit_service_pb2.ListEntriesRequest, call: Call
    ) -> AsyncIterator[audit_service_pb2.ListEntriesResponse]:
        """Leaves in order, in messages of at most 48."""
        if len(request.type) > _MAX_TYPE:
            raise InvalidRequest("an event type is shorter", field="type", rule="entries.type")
        start, end = _index(request.start, field="start"), _index(request.end, field="end") or None
        while True:
            # A new read for each page: a slow reader must not pin a snapshot of the database.
            page = await asyncio.to_thread(self._store.read, _page_reader(start, end, request.type))
            if not page:
                return
            yield audit_service_pb2.ListEntriesResponse(entries=page)
            start = page[-1].index + 1

    async def GetInclusionProof(
        self, request: audit_service_pb2.GetInclusionProofRequest, call: Call
    ) -> audit_service_pb2.GetInclusionProofResponse:
        """Path from a leaf to the root of the tree asked for."""
        index, size = _index(request.index, field="index"), _index(request.tree_size, field="tree_size")
        return await asyncio.to_thread(self._store.read, lambda tx: audit.inclusion(tx, index=index, tree_size=size))

    async def ListMeter(
        self, request: audit_service_pb2.ListMeterRequest, call: Call
    ) -> audit_service_pb2.ListMeterResponse:
        """The meter's totals, and the size of the log that they belong to."""
        return await asyncio.to_thread(self._store.read, lambda tx: audit.meter(tx, contract=request.contract))


def _page_reader(start: int, end: int | None, kind: str) -> Callable[[Transaction], list[audit_service_pb2.LogEntry]]:
    return lambda tx: audit.entries_page(tx, start=start, end=end, type=kind, limit=_PAGE_LEAVES)


def _index(value: int, *, field: str) -> int:
    if value >= 2**62:  # beyond the store's signed integers
        raise InvalidRequest("no log is that long", field=field, rule="log.size")
    return value
