# SPDX-License-Identifier: Apache-2.0
"""Every call by every role on every listener, through a real server. A new call fails here until it has a row."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import descriptor_pool

from tests.support.server import RunningServer, running_server
from tests.support.wire import WireFailure, raw_call, typed
from weir.errors import InternalError, PermissionDenied, Unauthenticated, WeirError
from weir.v1 import (  # noqa: F401  (their descriptors are what the completeness test walks)
    audit_service_pb2,
    case_service_pb2,
    catalogue_service_pb2,
    encrypted_service_pb2,
    policy_service_pb2,
    query_service_pb2,
    quota_service_pb2,
)
from weir_server.identity.holder import ROLES
from weir_server.services.access import ACCESS, ADMIN, PUBLIC

R, P, O, V, A = "requester", "provider", "operator", "approver", "auditor"  # noqa: E741
EVERYBODY = {R, P, O, V, A}
# Written out on purpose, and not computed from the server's table: it is what the table is checked against.
MATRIX: dict[str, tuple[set[str], set[str]]] = {
    "/weir.v1.CatalogueService/ListDatasets": (EVERYBODY, {PUBLIC, ADMIN}),
    "/weir.v1.CatalogueService/GetDataset": (EVERYBODY, {PUBLIC, ADMIN}),
    "/weir.v1.CatalogueService/ExportCatalogue": (EVERYBODY, {PUBLIC, ADMIN}),
    "/weir.v1.QueryService/EstimateQuery": ({R}, {PUBLIC}),
    "/weir.v1.QueryService/RunQuery": ({R}, {PUBLIC}),
    "/weir.v1.QueryService/RunSandboxQuery": ({R}, {PUBLIC}),
    "/weir.v1.QueryService/ListReceipts": ({R}, {PUBLIC}),
    "/weir.v1.EncryptedQueryService/RegisterPublicKey": ({R}, {PUBLIC}),
    "/weir.v1.EncryptedQueryService/RunEncryptedQuery": ({R}, {PUBLIC}),
    "/weir.v1.EncryptedQueryService/RunSealedQuery": ({R}, {PUBLIC}),
    "/weir.v1.ContractService/ListContracts": (EVERYBODY, {PUBLIC, ADMIN}),
    "/weir.v1.ContractService/ListApprovals": ({R, O, V, A}, {PUBLIC, ADMIN}),
    "/weir.v1.ContractService/SignContract": ({R, P}, {PUBLIC, ADMIN}),
    "/weir.v1.ContractService/AttestDuty": ({R}, {PUBLIC, ADMIN}),
    "/weir.v1.ContractService/ListStandings": ({R, O, V, A}, {PUBLIC, ADMIN}),
    "/weir.v1.CaseService/OpenCase": ({R, P, O}, {PUBLIC, ADMIN}),
    "/weir.v1.CaseService/ListCases": (EVERYBODY, {PUBLIC, ADMIN}),
    "/weir.v1.CaseService/GetEvidence": ({O, A}, {PUBLIC, ADMIN}),
    "/weir.v1.CaseAdminService/AdvanceCase": ({O}, {ADMIN}),
    "/weir.v1.QuotaService/GetBalance": ({R}, {PUBLIC}),
    "/weir.v1.AuditService/GetCheckpoint": (EVERYBODY, {PUBLIC, ADMIN}),
    "/weir.v1.AuditService/ListEntries": ({O, A}, {PUBLIC, ADMIN}),
    "/weir.v1.AuditService/GetInclusionProof": ({O, A}, {PUBLIC, ADMIN}),
    "/weir.v1.AuditService/ListMeter": ({O, A}, {PUBLIC, ADMIN}),
    "/weir.v1.PolicyService/ApplyPolicy": ({O}, {ADMIN}),
    "/weir.v1.PolicyService/DecideApproval": ({O, V}, {ADMIN}),
    "/weir.v1.PolicyService/SetSuspension": ({O}, {ADMIN}),
    "/weir.v1.PolicyService/ListSuspensions": ({O, V, A}, {ADMIN}),
    "/weir.v1.PolicyService/SetContractState": ({O, P, R}, {PUBLIC, ADMIN}),
    "/weir.v1.PolicyService/ActivateSnapshot": ({O}, {ADMIN}),
    "/weir.v1.QuotaAdminService/SetQuota": ({O}, {ADMIN}),
    "/weir.v1.QuotaAdminService/ListQuotas": ({O}, {ADMIN}),
    "/grpc.health.v1.Health/Check": (EVERYBODY, {PUBLIC, ADMIN}),
    "/grpc.health.v1.Health/Watch": (EVERYBODY, {PUBLIC, ADMIN}),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ({O}, {ADMIN}),
}
NARROWER = {("/weir.v1.PolicyService/SetContractState", PUBLIC): {P, R}}
"""Where a listener is open to fewer roles: operators act on the admin listener only."""
CELLS = [
    (rpc, role, listener, role in NARROWER.get((rpc, listener), roles) and listener in listeners, listener in listeners)
    for rpc, (roles, listeners) in MATRIX.items()
    for role in (R, P, O, V, A)
    for listener in (PUBLIC, ADMIN)
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("roles")) as running:
        yield running


def test_the_matrix_has_a_row_for_every_call_of_every_service() -> None:
    pool = descriptor_pool.Default()
    modules = ("audit", "case", "catalogue", "encrypted", "policy", "query", "quota")
    files = [pool.FindFileByName(f"weir/v1/{name}_service.proto") for name in modules]
    declared = {
        f"/{service.full_name}/{method.name}"
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert declared == {rpc for rpc in MATRIX if rpc.startswith("/weir.")}
    assert set(ROLES) == EVERYBODY


def test_the_servers_table_says_what_the_matrix_says() -> None:
    served = {rpc: (set(row.roles), set(row.listeners)) for rpc, row in ACCESS.items() if not rpc.endswith("/List")}
    assert served == MATRIX
    narrower = {(rpc, PUBLIC): set(row.public_roles) for rpc, row in ACCESS.items() if row.public_roles is not None}
    assert narrower == NARROWER


@pytest.mark.parametrize(
    ("rpc", "role", "listener", "allowed", "served"),
    [pytest.param(*cell, id=f"{cell[0].rpartition('.')[2]} {cell[1]} {cell[2]}") for cell in CELLS],
)
def test_a_call_is_open_to_its_roles_and_to_nobody_else(
    server: RunningServer, rpc: str, role: str, listener: str, *, allowed: bool, served: bool
) -> None:
    channel = server.channel(server.identity(role, f"some-{role}"), admin=listener == ADMIN)
    outcome = _outcome(channel, rpc)
    if not served:
        assert isinstance(outcome, WireFailure)
        assert outcome.code is grpc.StatusCode.UNIMPLEMENTED
    elif allowed:
        assert not isinstance(outcome, PermissionDenied | Unauthenticated | WireFailure | InternalError)
    else:
        assert isinstance(outcome, PermissionDenied)
        assert outcome.rule == "access.role"


@pytest.mark.parametrize("role", sorted(EVERYBODY - {R}))
def test_no_role_but_the_requesters_ever_asks_data(role: str) -> None:
    asking = {rpc for rpc in MATRIX if rpc.split("/")[1].endswith(("QueryService", "QuotaService"))}
    assert len(asking) == 8
    assert [rpc for rpc in asking if role in ACCESS[rpc].roles] == []


def test_auditors_change_nothing() -> None:
    changing = ("Apply", "Set", "Decide", "Activate", "Sign", "Attest", "Open", "Advance", "Register", "Run")
    assert [rpc for rpc in ACCESS if A in ACCESS[rpc].roles and rpc.split("/")[2].startswith(changing)] == []


def _outcome(channel: grpc.Channel, rpc: str) -> Exception | None:
    """What an empty request meets. A stream counts as open once it ends, or stays open, without a refusal."""
    try:
        if rpc.endswith(("/RunEncryptedQuery", "/ServerReflectionInfo")):
            list(channel.stream_stream(rpc)(iter(()), timeout=10.0))
        elif rpc.endswith(("/RunSealedQuery", "/ListEntries", "/GetEvidence")):
            list(channel.unary_stream(rpc)(b"", timeout=10.0))
        elif rpc.endswith("/Watch"):
            call = channel.unary_stream(rpc)(b"", timeout=10.0)
            next(call)
            call.cancel()
        else:
            raw_call(channel, rpc, b"", timeout=10.0)
    except grpc.RpcError as error:
        return typed(error)
    except (WeirError, WireFailure) as error:
        return error
    return None
