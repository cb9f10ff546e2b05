# SPDX-License-Identifier: Apache-2.0
"""Wire forms of contracts, quotas, balances and changes."""

from __future__ import annotations

from datetime import datetime

from weir.errors import InvalidRequest
from weir.query import Function
from weir.v1 import policy_service_pb2, quota_service_pb2
from weir_server.catalog.rates import Rates
from weir_server.ledger.values import METRICS, WINDOWS, Balance, Quota
from weir_server.policy.contract import Contract, Duty
from weir_server.policy.difference import Change
from weir_server.policy.lifecycle import ContractLife, Signature, state_at


def contract_to_proto(contract: Contract, *, life: ContractLife, now: datetime) -> policy_service_pb2.Contract:
    """A contract as its parties see it, with where it stands at `now`."""
    message = policy_service_pb2.Contract(
        id=contract.id,
        title=contract.title,
        provider=contract.provider,
        requester=contract.requester,
        dataset=contract.dataset,
        purposes=contract.purposes,
        modes=sorted(mode.value for mode in contract.modes),
        dimensions=sorted(contract.dimensions),
        measures=sorted(contract.measures),
        aggregates=[f"AGGREGATE_FUNCTION_{function.name}" for function in Function if function in contract.aggregates],
        epsilon_nano=contract.epsilon_nano,
        epsilon_per_query_nano=contract.epsilon_per_query_nano,
        rho_micro=contract.rho_micro,
        rho_per_query_micro=contract.rho_per_query_micro,
        approval=contract.approval,
        rates=rates_to_proto(contract.rates),
        digest=contract.digest,
        seal_to=contract.seal_to,
        k=contract.k,
        regions=contract.regions,
        duties=[_duty(duty, life) for duty in contract.duties],
        approvers=contract.approvers,
        state=f"CONTRACT_STATE_{state_at(contract, life, now=now).upper()}",
        canonical=contract.canonical,
        signatures=[_signature(signature) for signature in life.signatures],
        signed=contract.signatures == "required",
    )
    message.valid_from.FromDatetime(contract.valid_from)
    message.valid_until.FromDatetime(contract.valid_until)
    return message


def _duty(duty: Duty, life: ContractLife) -> policy_service_pb2.Duty:
    message = policy_service_pb2.Duty(id=duty.id, sentence=duty.sentence)
    message.due.FromDatetime(duty.due)
    if (attested := life.attested.get(duty.id)) is not None:
        message.attested.FromDatetime(attested)
    return message


def _signature(signature: Signature) -> policy_service_pb2.ContractSignature:
    terms = signature.terms
    message = policy_service_pb2.ContractSignature(
        role=terms.role, party=terms.party, public_key=terms.public_key, signature=terms.signature
    )
    message.signed.FromDatetime(signature.signed)
    return message


def rates_to_proto(rates: Rates) -> policy_service_pb2.RateCard:
    """A rate card."""
    return policy_service_pb2.RateCard(
        currency=rates.currency,
        per_query_micro=rates.per_query_micro,
        per_cell_micro=rates.per_cell_micro,
        per_epsilon_micro=rates.per_epsilon_micro,
        per_encrypted_operation_micro=rates.per_encrypted_operation_micro,
    )


def change_to_proto(change: Change) -> policy_service_pb2.PolicyChange:
    """One difference."""
    return policy_service_pb2.PolicyChange(
        subject=change.subject, kind=change.kind, fields=change.fields, loosens=change.loosens
    )


def quota_to_proto(quota: Quota) -> quota_service_pb2.Quota:
    """A limit."""
    return quota_service_pb2.Quota(
        id=quota.id,
        metric=quota.metric,
        requester=quota.requester or "",
        contract=quota.contract or "",
        dataset=quota.dataset or "",
        lineage=quota.lineage or "",
        window=quota.window,
        zone=quota.zone,
        limit=quota.limit,
    )


def quota_from_proto(message: quota_service_pb2.Quota) -> Quota:
    """A limit as an operator sends it; scope, id and range are checked by the ledger.

    Raises:
        InvalidRequest: unknown metric or window.
    """
    metric = next((known for known in METRICS if known == message.metric), None)
    window = next((known for known in WINDOWS if known == (message.window or "lifetime")), None)
    if metric is None or window is None:
        raise InvalidRequest(
            f"metric is one of {', '.join(METRICS)}; window one of {', '.join(WINDOWS)}",
            field="quota",
            rule="quota.metric",
        )
    return Quota(
        id=message.id,
        metric=metric,
        limit=message.limit,
        requester=message.requester or None,
        contract=message.contract or None,
        dataset=message.dataset or None,
        lineage=message.lineage or None,
        window=window,
        zone=message.zone or "UTC",
    )


def balance_to_proto(balance: Balance) -> quota_service_pb2.Balance:
    """A limit with what is used of it."""
    message = quota_service_pb2.Balance(quota=quota_to_proto(balance.quota), used=balance.used, held=balance.held)
    if balance.resets is not None:
        message.resets.FromDatetime(balance.resets)
    return message
