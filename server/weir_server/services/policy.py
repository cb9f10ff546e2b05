# SPDX-License-Identifier: Apache-2.0
"""PolicyService: what operators do. Shapes are checked here, meaning and log leaves are the state's."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import grpc

from weir.errors import InvalidRequest
from weir.v1 import policy_service_pb2, policy_service_pb2_grpc
from weir_server.policy import agreeing
from weir_server.policy.acting import checked_reason
from weir_server.services.guard import Call
from weir_server.services.submission import checked_key, contract_id
from weir_server.state import State

_MAX_DOCUMENTS = 10_000
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DATASET = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SCOPES = frozenset(policy_service_pb2.SuspensionScope.values())


class PolicyService(policy_service_pb2_grpc.PolicyServiceServicer):
    """Contracts, approvals, suspensions, snapshots."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def ApplyPolicy(
        self, request: policy_service_pb2.ApplyPolicyRequest, call: Call
    ) -> policy_service_pb2.ApplyPolicyResponse:
        """Replaces the documents in force, or shows what that would change."""
        if not request.dry_run:
            checked_key(request.idempotency_key)
        if len(request.documents) > _MAX_DOCUMENTS:
            raise InvalidRequest(f"at most {_MAX_DOCUMENTS} documents", field="documents", rule="policy.documents")
        return await self._state.apply_policy(call.principal, request)

    async def DecideApproval(
        self, request: policy_service_pb2.DecideApprovalRequest, call: Call
    ) -> policy_service_pb2.DecideApprovalResponse:
        """Approves or rejects a waiting query of somebody else."""
        checked_key(request.idempotency_key)
        checked_reason(request.reason)
        return await self._state.decide_approval(call.principal, request)

    async def SetSuspension(
        self, request: policy_service_pb2.SetSuspensionRequest, call: Call
    ) -> policy_service_pb2.SetSuspensionResponse:
        """Stops or resumes."""
        checked_key(request.idempotency_key)
        checked_reason(request.reason)
        if request.scope not in _SCOPES:
            raise InvalidRequest("not a known scope", field="scope", rule="suspension.scope")
        return await self._state.set_suspension(call.principal, request)

    async def ListSuspensions(
        self, request: policy_service_pb2.ListSuspensionsRequest, call: Call
    ) -> policy_service_pb2.ListSuspensionsResponse:
        """What is stopped now, by operators or by cases."""
        return await asyncio.to_thread(self._state.list_suspensions)

    async def SetContractState(
        self, request: policy_service_pb2.SetContractStateRequest, call: Call
    ) -> policy_service_pb2.SetContractStateResponse:
        """Moves a contract on."""
        checked_key(request.idempotency_key)
        contract_id(request.contract, field="contract")
        reply = await self._state.mutate(call.principal, request, lambda acting: agreeing.move(acting, request))
        return policy_service_pb2.SetContractStateResponse.FromString(reply)

    async def ActivateSnapshot(
        self, request: policy_service_pb2.ActivateSnapshotRequest, call: Call
    ) -> policy_service_pb2.ActivateSnapshotResponse:
        """Makes a published snapshot answerable."""
        checked_key(request.idempotency_key)
        if not _DATASET.fullmatch(request.dataset):
            raise InvalidRequest("not a dataset name", field="dataset", rule="name.form")
        if not _DIGEST.fullmatch(request.manifest_digest):
            raise InvalidRequest("a digest is 64 hex digits", field="manifest_digest", rule="digest.form")
        return await self._state.activate_snapshot(call.principal, request)


def add_party_handlers(service: PolicyService, server: Any) -> None:
    """What the public listener serves of PolicyService: how a party ends or suspends its own contract. All else of it
    is not even there."""
    handler = grpc.unary_unary_rpc_method_handler(
        service.SetContractState,
        request_deserializer=policy_service_pb2.SetContractStateRequest.FromString,
        response_serializer=policy_service_pb2.SetContractStateResponse.SerializeToString,
    )
    name = policy_service_pb2.DESCRIPTOR.services_by_name["PolicyService"].full_name
    handlers = {"SetContractState": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    server.add_registered_method_handlers(name, handlers)  # With a queue of its own, as generated code has it.
