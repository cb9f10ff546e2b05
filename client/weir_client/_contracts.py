# SPDX-License-Identifier: Apache-2.0
"""What a party or an operator does with contracts, as generators that yield calls (see `_calls`)."""

from __future__ import annotations

from typing import Any, cast

from weir.agreements import is_signed
from weir.canonical import NotCanonical, digest, parse_canonical
from weir.errors import InvalidReceipt, InvalidRequest, UnknownName
from weir.v1 import policy_service_pb2
from weir_client._calls import Operation
from weir_client._operations import Context, contracts, invoke
from weir_client._signing import SigningKey
from weir_client._terms import Contract, ContractSignature, contract_of

_STATES = ("active", "suspended", "terminated")


def contract(context: Context, name: str) -> Operation[Contract]:
    """One contract of the caller's.

    Raises:
        UnknownName: it has none of this id.
    """
    found = next((item for item in (yield from contracts(context)) if item.id == name), None)
    if found is None:
        raise UnknownName(f"no contract {name} for this identity", field="contract", rule="name.contract")
    return found


def sign(
    context: Context, wanted: str | Contract, key: SigningKey, expected: str | None, idempotency_key: str
) -> Operation[Contract]:
    """Sign the very terms that `wanted` shows, or those in force where it is a name."""
    shown = (yield from contract(context, wanted)) if isinstance(wanted, str) else wanted
    terms(shown)
    if expected is not None and expected != shown.digest:
        raise InvalidRequest("the terms in force are not those of this digest", field="digest", rule="contract.terms")
    request = policy_service_pb2.SignContractRequest(
        contract=shown.id,
        digest=shown.digest,
        public_key=key.public,
        signature=key.sign(shown.canonical),
        idempotency_key=idempotency_key,
    )
    reply = yield from invoke(context, "ContractService", "SignContract", request)
    return contract_of(reply.contract)


def attest(context: Context, name: str, duty: str, statement: str, idempotency_key: str) -> Operation[Contract]:
    """Say that a duty was met."""
    request = policy_service_pb2.AttestDutyRequest(
        contract=name, duty=duty, statement=statement, idempotency_key=idempotency_key
    )
    reply = yield from invoke(context, "ContractService", "AttestDuty", request)
    return contract_of(reply.contract)


def set_state(context: Context, name: str, state: str, reason: str, idempotency_key: str) -> Operation[Contract]:
    """Move a contract on."""
    if state not in _STATES:
        raise InvalidRequest(f"state is one of {', '.join(_STATES)}", field="state", rule="contract.state")
    number = policy_service_pb2.ContractState.Value(f"CONTRACT_STATE_{state.upper()}")
    request = policy_service_pb2.SetContractStateRequest(
        contract=name, state=cast(Any, number), reason=reason, idempotency_key=idempotency_key
    )
    reply = yield from invoke(context, "PolicyService", "SetContractState", request)
    return contract_of(reply.contract)


def terms(shown: Contract) -> dict[str, Any]:
    """The terms as they are signed, read from their canonical form: what a signer must look at.

    Raises:
        InvalidReceipt: canonical form, digest and contract do not fit each other.
    """
    try:
        content = parse_canonical(shown.canonical)
    except NotCanonical:
        content = None
    if not isinstance(content, dict) or digest(shown.canonical) != shown.digest or content.get("contract") != shown.id:
        raise InvalidReceipt("the service's text of the contract is not what its digest names", rule="contract.terms")
    return content


def verifies(shown: Contract, signature: ContractSignature) -> bool:
    """Whether a signature is one on these terms, in the name of the party that the terms name for its role."""
    party = terms(shown).get(signature.role)
    return party == signature.party and is_signed(
        shown.canonical, public_key=signature.public_key, signature=signature.signature
    )
