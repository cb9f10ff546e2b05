# SPDX-License-Identifier: Apache-2.0
"""QuotaService: balances for who is bound by them. QuotaAdminService: limits, for operators."""

from __future__ import annotations

import asyncio

from weir.errors import UnknownName
from weir.v1 import quota_service_pb2, quota_service_pb2_grpc
from weir_server.ledger import Subject, balances, list_quotas
from weir_server.policy.acting import checked_reason
from weir_server.policy.encode import balance_to_proto
from weir_server.services.guard import Call
from weir_server.services.paging import page_after, page_size
from weir_server.services.submission import checked_key, contract_id
from weir_server.state import State
from weir_server.store import Store
from weir_server.world import World


class QuotaService(quota_service_pb2_grpc.QuotaServiceServicer):
    """Balances of the caller's own contracts."""

    def __init__(self, state: State, store: Store) -> None:
        self._state, self._store = state, store

    async def GetBalance(
        self, request: quota_service_pb2.GetBalanceRequest, call: Call
    ) -> quota_service_pb2.GetBalanceResponse:
        """Every limit that binds the caller's next query."""
        wanted = contract_id(request.contract, field="contract") if request.contract else None
        subjects = _subjects(self._state.world, call.principal.name, wanted)
        found = await asyncio.to_thread(self._store.read, lambda tx: balances(tx, subjects, now=call.now))
        return quota_service_pb2.GetBalanceResponse(balances=[balance_to_proto(balance) for balance in found])


class QuotaAdminService(quota_service_pb2_grpc.QuotaAdminServiceServicer):
    """Setting of limits."""

    def __init__(self, state: State, store: Store) -> None:
        self._state, self._store = state, store

    async def SetQuota(
        self, request: quota_service_pb2.SetQuotaRequest, call: Call
    ) -> quota_service_pb2.SetQuotaResponse:
        """Sets one limit."""
        checked_key(request.idempotency_key)
        checked_reason(request.reason)
        return await self._state.set_quota(call.principal, request)

    async def ListQuotas(
        self, request: quota_service_pb2.ListQuotasRequest, call: Call
    ) -> quota_service_pb2.ListQuotasResponse:
        """Every quota with its balance, by id."""
        size = page_size(request.page_size, default=100)
        every = await asyncio.to_thread(self._store.read, lambda tx: list_quotas(tx, now=call.now))
        page, token = page_after(every, key=lambda item: item.quota.id, token=request.page_token, size=size)
        return quota_service_pb2.ListQuotasResponse(
            balances=[balance_to_proto(balance) for balance in page], next_page_token=token
        )


def _subjects(world: World, requester: str, contract: str | None) -> list[Subject]:
    """What the caller's next charge may belong to, under one contract or each of its own."""
    own = [item for item in world.policy.contracts.values() if item.requester == requester]
    chosen = [item for item in own if contract is None or item.id == contract]
    if contract is not None and not chosen:
        # The same words whether it is somebody else's or nobody's.
        raise UnknownName("no contract of this id is yours", field="contract", rule="name.contract")
    return [Subject(requester, item.id, item.dataset, _lineage(world, item.dataset)) for item in chosen]


def _lineage(world: World, dataset: str) -> str:
    snapshots = world.catalogue.datasets.get(dataset)
    return snapshots[0].card.lineage if snapshots else ""
