# SPDX-License-Identifier: Apache-2.0
"""AuditService: the log as it is stored. Every answer is taken from one consistent snapshot of the books."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import islice

from weir.errors import InvalidRequest, UnknownName
from weir.v1 import audit_service_pb2, audit_service_pb2_grpc
from weir_server import log
from weir_server.ledger import meter_totals
from weir_server.services.guard import Call
from weir_server.store import Store, Transaction

_PAGE_LEAVES = 128
_PAGE_BYTES = 1024 * 1024
"""Messages stay below what clients accept by default (4 MiB), whatever the size of the leaves."""
_MAX_TYPE = 100


class AuditService(audit_service_pb2_grpc.AuditServiceServicer):
    """Checkpoints for everybody, leaves and totals for operators and auditors."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def GetCheckpoint(
        self, request: audit_service_pb2.GetCheckpointRequest, call: Call
    ) -> audit_service_pb2.GetCheckpointResponse:
        """Newest signed checkpoint, and a proof that it continues the tree the caller knows."""
        return await asyncio.to_thread(self._store.read, lambda tx: _checkpoint(tx, request.known_size))

    async def ListEntries(
        self, request: audit_service_pb2.ListEntriesRequest, call: Call
    ) -> AsyncIterator[audit_service_pb2.ListEntriesResponse]:
        """Leaves in order, in messages of at most 128 leaves or about 1 MiB."""
        if len(request.type) > _MAX_TYPE:
            raise InvalidRequest("an event type is shorter", field="type", rule="entries.type")
        start, end = _index(request.start, field="start"), _index(request.end, field="end") or None
        while True:
            # A new read for each page: a slow reader must not pin a snapshot of the database.
            page = await asyncio.to_thread(self._store.read, lambda tx, at=start: _page(tx, at, end, request.type))
            if not page:
                return
            yield audit_service_pb2.ListEntriesResponse(
                entries=[audit_service_pb2.LogEntry(index=index, leaf=leaf) for index, leaf in page]
            )
            start = page[-1][0] + 1

    async def GetInclusionProof(
        self, request: audit_service_pb2.GetInclusionProofRequest, call: Call
    ) -> audit_service_pb2.GetInclusionProofResponse:
        """Path from a leaf to the root of the tree asked for."""
        index, size = _index(request.index, field="index"), _index(request.tree_size, field="tree_size")
        return await asyncio.to_thread(self._store.read, lambda tx: _inclusion(tx, index, size))

    async def ListMeter(
        self, request: audit_service_pb2.ListMeterRequest, call: Call
    ) -> audit_service_pb2.ListMeterResponse:
        """The meter's totals, and the size of the log that they belong to."""
        return await asyncio.to_thread(self._store.read, lambda tx: _meter(tx, request.contract))


def _checkpoint(tx: Transaction, known: int) -> audit_service_pb2.GetCheckpointResponse:
    size, note = _newest(tx)
    response = audit_service_pb2.GetCheckpointResponse(checkpoint=note)
    if known:
        response.consistency.CopyFrom(log.consistency(tx, _index(known, field="known_size"), size))
    return response


def _page(tx: Transaction, start: int, end: int | None, kind: str) -> list[tuple[int, bytes]]:
    page: list[tuple[int, bytes]] = []
    room = _PAGE_BYTES
    for index, leaf in islice(log.entries(tx, start=start, end=end, type=kind), _PAGE_LEAVES):
        page.append((index, leaf))
        room -= len(leaf)
        if room <= 0:
            break
    return page


def _inclusion(tx: Transaction, index: int, size: int) -> audit_service_pb2.GetInclusionProofResponse:
    tree_size = size or _newest(tx)[0]
    path = log.inclusion(tx, index, tree_size)
    return audit_service_pb2.GetInclusionProofResponse(path=path, tree_size=tree_size)


def _meter(tx: Transaction, contract: str) -> audit_service_pb2.ListMeterResponse:
    newest = log.latest_checkpoint(tx)
    totals = [
        audit_service_pb2.MeterTotal(
            contract=total.contract,
            requester=total.requester,
            dataset=total.dataset,
            metric=total.metric,
            used=total.used,
        )
        for total in meter_totals(tx, contract=contract)
    ]
    return audit_service_pb2.ListMeterResponse(totals=totals, log_size=0 if newest is None else newest[0])


def _newest(tx: Transaction) -> tuple[int, str]:
    newest = log.latest_checkpoint(tx)
    if newest is None:
        raise UnknownName("the log is still empty", rule="log.empty")
    return newest


def _index(value: int, *, field: str) -> int:
    if value >= 2**62:  # beyond the store's signed integers
        raise InvalidRequest("no log is that long", field=field, rule="log.size")
    return value
