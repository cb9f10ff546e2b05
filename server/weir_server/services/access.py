# SPDX-License-Identifier: Apache-2.0
"""Which role may make which call, on which listener: one table, closed to everything that has no row.

A new call needs a row here before it can be reached, and a test fails until it has one. The table says which roles a
call is for; which of its objects a caller may see or change (a provider its own contracts, say) the service decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from weir_server.identity.holder import APPROVER, AUDITOR, OPERATOR, PROVIDER, REQUESTER, ROLES

PUBLIC = "public"
ADMIN = "admin"

_EVERYBODY = frozenset(ROLES)
_REQUESTERS = frozenset({REQUESTER})
_PARTIES = frozenset({REQUESTER, PROVIDER})
_OPERATORS = frozenset({OPERATOR})
_DECIDERS = frozenset({OPERATOR, APPROVER})
_OVERSEERS = frozenset({OPERATOR, AUDITOR})
_OBSERVERS = frozenset({OPERATOR, APPROVER, AUDITOR})
_BOTH = frozenset({PUBLIC, ADMIN})


@dataclass(frozen=True, slots=True)
class Access:
    """Row of the table."""

    roles: frozenset[str]
    """Roles that may call it."""
    listeners: frozenset[str]
    """Where it is served."""
    metered: bool = False
    """True where a refusal leaves a leaf in the log, whatever refused it."""
    policy: bool = False
    """True where a message may be as large as a set of policy files."""
    public_roles: frozenset[str] | None = None
    """Roles that may call it on the public listener, where that is not all of them."""

    def allows(self, role: str, *, listener: str) -> bool:
        """Whether a role may call it there."""
        roles = self.public_roles if listener == PUBLIC and self.public_roles is not None else self.roles
        return role in roles and listener in self.listeners


def _public(roles: frozenset[str], *, metered: bool = False) -> Access:
    return Access(roles, frozenset({PUBLIC}), metered=metered)


def _admin(roles: frozenset[str], *, policy: bool = False) -> Access:
    return Access(roles, frozenset({ADMIN}), policy=policy)


ACCESS: Mapping[str, Access] = MappingProxyType({
    "/weir.v1.CatalogueService/ListDatasets": Access(_EVERYBODY, _BOTH),
    "/weir.v1.CatalogueService/GetDataset": Access(_EVERYBODY, _BOTH),
    "/weir.v1.CatalogueService/ExportCatalogue": Access(_EVERYBODY, _BOTH),
    "/weir.v1.QueryService/EstimateQuery": _public(_REQUESTERS),
    "/weir.v1.QueryService/RunQuery": _public(_REQUESTERS, metered=True),
    "/weir.v1.QueryService/RunSandboxQuery": _public(_REQUESTERS),
    "/weir.v1.QueryService/ListReceipts": _public(_REQUESTERS),
    "/weir.v1.EncryptedQueryService/RegisterPublicKey": _public(_REQUESTERS, metered=True),
    "/weir.v1.EncryptedQueryService/RunEncryptedQuery": _public(_REQUESTERS, metered=True),
    "/weir.v1.EncryptedQueryService/RunSealedQuery": _public(_REQUESTERS, metered=True),
    "/weir.v1.ContractService/ListContracts": Access(_EVERYBODY, _BOTH),
    "/weir.v1.ContractService/ListApprovals": Access(_OBSERVERS | _REQUESTERS, _BOTH),
    "/weir.v1.ContractService/SignContract": Access(_PARTIES, _BOTH),
    "/weir.v1.ContractService/AttestDuty": Access(_REQUESTERS, _BOTH),
    "/weir.v1.ContractService/ListStandings": Access(_OBSERVERS | _REQUESTERS, _BOTH),
    "/weir.v1.CaseService/OpenCase": Access(_PARTIES | _OPERATORS, _BOTH),
    "/weir.v1.CaseService/ListCases": Access(_EVERYBODY, _BOTH),
    "/weir.v1.CaseService/GetEvidence": Access(_OVERSEERS, _BOTH),
    "/weir.v1.CaseAdminService/AdvanceCase": _admin(_OPERATORS),
    "/weir.v1.QuotaService/GetBalance": _public(_REQUESTERS),
    "/weir.v1.AuditService/GetCheckpoint": Access(_EVERYBODY, _BOTH),
    "/weir.v1.AuditService/ListEntries": Access(_OVERSEERS, _BOTH),
    "/weir.v1.AuditService/GetInclusionProof": Access(_OVERSEERS, _BOTH),
    "/weir.v1.AuditService/ListMeter": Access(_OVERSEERS, _BOTH),
    "/weir.v1.PolicyService/ApplyPolicy": _admin(_OPERATORS, policy=True),
    "/weir.v1.PolicyService/DecideApproval": _admin(_DECIDERS),
    "/weir.v1.PolicyService/SetSuspension": _admin(_OPERATORS),
    "/weir.v1.PolicyService/ListSuspensions": _admin(_OBSERVERS),
    "/weir.v1.PolicyService/SetContractState": Access(_OPERATORS | _PARTIES, _BOTH, public_roles=_PARTIES),
    "/weir.v1.PolicyService/ActivateSnapshot": _admin(_OPERATORS),
    "/weir.v1.QuotaAdminService/SetQuota": _admin(_OPERATORS),
    "/weir.v1.QuotaAdminService/ListQuotas": _admin(_OPERATORS),
    "/grpc.health.v1.Health/Check": Access(_EVERYBODY, _BOTH),
    "/grpc.health.v1.Health/List": Access(_EVERYBODY, _BOTH),
    "/grpc.health.v1.Health/Watch": Access(_EVERYBODY, _BOTH),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _admin(_OPERATORS),
})  # fmt: skip
"""Every call that exists, by full name."""
