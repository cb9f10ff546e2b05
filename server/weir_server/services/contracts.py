# SPDX-License-Identifier: Apache-2.0
"""ContractService: contracts and approvals, as each role may see them."""

from __future__ import annotations

import asyncio
import re

from weir.errors import InvalidRequest
from weir.v1 import policy_service_pb2, policy_service_pb2_grpc
from weir_server.identity.holder import PROVIDER, REQUESTER
from weir_server.policy import agreeing, approvals, approving, lifecycle, standings
from weir_server.policy.contract import Contract
from weir_server.policy.encode import contract_to_proto
from weir_server.services.guard import Call
from weir_server.services.paging import bad_token, page_after, page_size
from weir_server.services.submission import checked_key, contract_id
from weir_server.state import State
from weir_server.store import Store

_LONGEST_KEY = 256
_APPROVAL_TOKEN = re.compile(r"[0-9]{1,18}:ap-[0-9a-f]{1,64}")


class ContractService(policy_service_pb2_grpc.ContractServiceServicer):
    """Requesters and providers see their own, everybody else all."""

    def __init__(self, state: State, store: Store) -> None:
        self._state, self._store = state, store

    async def ListContracts(
        self, request: policy_service_pb2.ListContractsRequest, call: Call
    ) -> policy_service_pb2.ListContractsResponse:
        """Contracts by id."""
        size = page_size(request.page_size, default=100)
        visible = sorted(
            (item for item in self._state.world.policy.contracts.values() if _sees(call, item)),
            key=lambda item: item.id,
        )
        page, token = page_after(visible, key=lambda item: item.id, token=request.page_token, size=size)
        lives = await asyncio.to_thread(self._store.read, lambda tx: lifecycle.lives(tx, page))
        return policy_service_pb2.ListContractsResponse(
            contracts=[contract_to_proto(contract, life=lives[contract.id], now=call.now) for contract in page],
            next_page_token=token,
        )

    async def SignContract(
        self, request: policy_service_pb2.SignContractRequest, call: Call
    ) -> policy_service_pb2.SignContractResponse:
        """Signs an offered contract as its requester or its provider."""
        checked_key(request.idempotency_key)
        contract_id(request.contract, field="contract")
        if len(request.public_key) > _LONGEST_KEY or len(request.signature) > _LONGEST_KEY:
            raise InvalidRequest("a key has 32 bytes, a signature 64", field="signature", rule="contract.signature")
        reply = await self._state.mutate(call.principal, request, lambda acting: agreeing.sign(acting, request))
        return policy_service_pb2.SignContractResponse.FromString(reply)

    async def AttestDuty(
        self, request: policy_service_pb2.AttestDutyRequest, call: Call
    ) -> policy_service_pb2.AttestDutyResponse:
        """The requester says that a duty was met."""
        checked_key(request.idempotency_key)
        contract_id(request.contract, field="contract")
        reply = await self._state.mutate(call.principal, request, lambda acting: agreeing.attest(acting, request))
        return policy_service_pb2.AttestDutyResponse.FromString(reply)

    async def ListStandings(
        self, request: policy_service_pb2.ListStandingsRequest, call: Call
    ) -> policy_service_pb2.ListStandingsResponse:
        """Standings by requester: one's own, or everybody's."""
        size, world = page_size(request.page_size, default=100), self._state.world
        own = call.principal.name if call.principal.role == REQUESTER else None
        found = await asyncio.to_thread(
            self._store.read, lambda tx: standings.standings(tx, world, now=call.now, requester=own)
        )
        page, token = page_after(found, key=lambda item: item.requester, token=request.page_token, size=size)
        return policy_service_pb2.ListStandingsResponse(standings=page, next_page_token=token)

    async def ListApprovals(
        self, request: policy_service_pb2.ListApprovalsRequest, call: Call
    ) -> policy_service_pb2.ListApprovalsResponse:
        """Approvals, newest first."""
        size = page_size(request.page_size, default=100)
        if request.page_token and not _APPROVAL_TOKEN.fullmatch(request.page_token):
            raise bad_token()
        own = call.principal.name if call.principal.role == REQUESTER else None
        found = await asyncio.to_thread(
            self._store.read,
            lambda tx: approvals.page(tx, requester=own, before=request.page_token, limit=size + 1),
        )
        return policy_service_pb2.ListApprovalsResponse(
            approvals=[approving.approval_to_proto(approval, now=call.now) for approval in found[:size]],
            next_page_token=approvals.page_token(found[size - 1]) if len(found) > size else "",
        )


def _sees(call: Call, contract: Contract) -> bool:
    parties = {REQUESTER: contract.requester, PROVIDER: contract.provider}
    return parties.get(call.principal.role, call.principal.name) == call.principal.name
