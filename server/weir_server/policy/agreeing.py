# SPDX-License-Identifier: Apache-2.0
"""What moves a contract on: offering, signing, activating, suspending, resuming, terminating, attesting, expiring.

Each step is one transaction with one leaf that names the digest of the terms, who did it and why. Operators alone
activate and resume; a provider may suspend or terminate its own contract, a requester terminate its own: whoever lets
data go, or is bound, can always stop.

    offered ──both sign──► accepted ──operator──► active ◄──► suspended
       └────────────┬──────────┴──────────┬─────────┴────────────┘
                    ▼                     ▼
                terminated             expired, by server time
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime

from weir.agreements import ROLES, SIGNED, SignedTerms, is_signed, signed_data
from weir.errors import InvalidRequest, PermissionDenied, UnknownName
from weir.v1 import policy_service_pb2
from weir_server import ledger
from weir_server.identity.holder import OPERATOR, PROVIDER, REQUESTER
from weir_server.ledger.windows import advance, ledger_time
from weir_server.plan.values import Principal
from weir_server.policy import approvals, lifecycle
from weir_server.policy.acting import Acting, checked_reason
from weir_server.policy.contract import Contract
from weir_server.policy.documents import Policy
from weir_server.policy.encode import contract_to_proto
from weir_server.policy.lifecycle import ACCEPTED, ACTIVE, ENDED, EXPIRED, OFFERED, SUSPENDED, TERMINATED, ContractLife
from weir_server.store import Transaction

_SERVICE = {"actor": "weir", "role": "service"}
"""Who expires a contract."""
_STEPS = {
    (ACCEPTED, ACTIVE): "activated",
    (SUSPENDED, ACTIVE): "resumed",
    (ACTIVE, SUSPENDED): "suspended",
    **{(state, TERMINATED): "terminated" for state in (OFFERED, ACCEPTED, ACTIVE, SUSPENDED)},
}
"""Every step that a person can make, from state to state."""
_MAY = {
    OPERATOR: frozenset({ACTIVE, SUSPENDED, TERMINATED}),
    PROVIDER: frozenset({SUSPENDED, TERMINATED}),
    REQUESTER: frozenset({TERMINATED}),
}
"""Which states each role may bring a contract to; parties their own contracts only."""


def offer(acting: Acting, contract: Contract, *, reason: str) -> None:
    """Begin anew with terms that are put in force: nothing carries over. Terms that have ended stay ended; those that
    are suspended stay so, signed and attested as they are, until somebody resumes them by name."""
    state = lifecycle.state_when_offered(acting.tx, contract)
    if state in ENDED:
        return
    approvals.lapse(acting.tx, contract, now=acting.now)
    if state == SUSPENDED:
        return
    lifecycle.forget(acting.tx, contract)
    lifecycle.store_state(acting.tx, contract, state, now=acting.now)
    data = {"reason": reason, "signatures": contract.signatures}
    # Without signatures, applying is offer, acceptance and activation in one; `signatures` says so.
    _leaf(acting, contract, "offered" if state == OFFERED else "activated", data)


def sign(acting: Acting, request: policy_service_pb2.SignContractRequest) -> bytes:
    """The caller's signature on an offered contract; the second of two accepts it.

    Raises:
        UnknownName: no contract of the caller's.
        InvalidRequest: other terms than those in force, no offer to be signed, a key that the policy does not name for
            the caller, or a signature that does not verify.
    """
    contract, role = _own_contract(acting, request.contract, roles=ROLES), acting.principal.role
    now = advance(acting.tx, acting.now)
    life = lifecycle.lives(acting.tx, [contract])[contract.id]
    _check_signable(contract, life, role, digest=request.digest, now=now)
    signed = SignedTerms(contract.digest, role, acting.principal.name, request.public_key, request.signature)
    if not _names_key(acting.world.policy, role, signed.party, signed.public_key):
        raise InvalidRequest(
            "the policy does not name this key for you: an operator enters it in your party document",
            field="public_key",
            rule="contract.key",
        )
    if not is_signed(contract.canonical, public_key=signed.public_key, signature=signed.signature):
        raise InvalidRequest(
            "the signature does not verify on these terms under this key", field="signature", rule="contract.signature"
        )
    lifecycle.store_signature(acting.tx, signed, now=now)
    acting.record(SIGNED, _subject(contract), signed_data(signed))
    signatures = tuple(sorted([*life.signatures, lifecycle.Signature(signed, now)], key=lambda item: item.terms.role))
    life = replace(life, signatures=signatures)
    if lifecycle.is_signed_by_both(contract, life):
        life = _enter(acting, contract, life, ACCEPTED, now=now)
        _leaf(acting, contract, "accepted", {"reason": "signed by both parties", "previous": OFFERED})
    message = contract_to_proto(contract, life=life, now=now)
    return policy_service_pb2.SignContractResponse(contract=message).SerializeToString(deterministic=True)


def move(acting: Acting, request: policy_service_pb2.SetContractStateRequest) -> bytes:
    """Activate, suspend, resume or terminate, for a reason.

    Raises:
        UnknownName: no contract that the caller may move.
        PermissionDenied: not this role's to do.
        InvalidRequest: no such step from where the contract stands.
    """
    reason = checked_reason(request.reason)
    contract, target = _own_contract(acting, request.contract, roles=_MAY), _state_name(request.state)
    if target not in _MAY[acting.principal.role]:
        raise PermissionDenied(
            f"the role {acting.principal.role} may not make a contract {target}",
            rule="contract.role",
            metadata={"role": acting.principal.role},
        )
    now = advance(acting.tx, acting.now)
    life = lifecycle.lives(acting.tx, [contract])[contract.id]
    before = lifecycle.state_at(contract, life, now=now)
    step = _STEPS.get((before, target))
    if step is None:
        raise InvalidRequest(
            f"the contract is {before}: it cannot become {target}", field="state", rule="contract.state"
        )
    if step == "activated":
        _check_signed(acting.world.policy, contract, life)
    life = _enter(acting, contract, life, target, now=now)
    _leaf(acting, contract, step, {"reason": reason, "previous": before})
    message = contract_to_proto(contract, life=life, now=now)
    return policy_service_pb2.SetContractStateResponse(contract=message).SerializeToString(deterministic=True)


def attest(acting: Acting, request: policy_service_pb2.AttestDutyRequest) -> bytes:
    """The requester says, once, that it met a duty; late is late, and still better than never.

    Raises:
        UnknownName: no contract of the caller's, or no such duty in it.
        InvalidRequest: attested before, or the terms were never agreed.
    """
    statement = _checked_statement(request.statement)
    contract = _own_contract(acting, request.contract, roles=(REQUESTER,))
    now = advance(acting.tx, acting.now)
    life = lifecycle.lives(acting.tx, [contract])[contract.id]
    duty = next((duty for duty in contract.duties if duty.id == request.duty), None)
    if duty is None:
        raise UnknownName("the contract has no duty of this id", field="duty", rule="name.duty")
    if duty.id in life.attested or life.state == OFFERED:
        raise InvalidRequest(
            "the duty was attested before" if duty.id in life.attested else "the contract is only offered",
            field="duty",
            rule="contract.duty",
        )
    lifecycle.store_attestation(acting.tx, contract, duty.id, now=now)
    data = {"duty": duty.id, "statement": statement, "due": duty.due.isoformat(), "late": now > duty.due}
    _leaf(acting, contract, "duty_attested", data)
    life = replace(life, attested={**life.attested, duty.id: now})
    message = contract_to_proto(contract, life=life, now=now)
    return policy_service_pb2.AttestDutyResponse(contract=message).SerializeToString(deterministic=True)


def expire(tx: Transaction, policy: Policy, *, now: datetime, entropy: Callable[[int], bytes]) -> int:
    """Leave one leaf for every contract whose validity has ended since the last sweep; gives how many. Nothing depends
    on it but the log: queries are held against server time itself."""
    ended = past_validity(tx, policy, now=now)
    for contract, before in ended:
        lifecycle.store_state(tx, contract, EXPIRED, now=ledger_time(tx, now))
        data = {
            "contract_digest": contract.digest,
            "reason": "its validity has ended",
            "previous": before,
            "valid_until": contract.valid_until.isoformat(),
            **_SERVICE,
        }
        ledger.record(tx, "weir.contract.expired", data, subject=_subject(contract), now=now, entropy=entropy)
    return len(ended)


def past_validity(tx: Transaction, policy: Policy, *, now: datetime) -> list[tuple[Contract, str]]:
    """Contracts whose validity has ended and that no sweep has met yet, by id, with their states."""
    moment = ledger_time(tx, now)
    ended = [contract for _, contract in sorted(policy.contracts.items()) if moment >= contract.valid_until]
    found = lifecycle.lives(tx, ended) if ended else {}
    return [(contract, found[contract.id].state) for contract in ended if found[contract.id].state not in ENDED]


def _enter(acting: Acting, contract: Contract, life: ContractLife, state: str, *, now: datetime) -> ContractLife:
    lifecycle.store_state(acting.tx, contract, state, now=now)
    return replace(life, state=state)


def _leaf(acting: Acting, contract: Contract, step: str, data: Mapping[str, object]) -> None:
    acting.record(f"weir.contract.{step}", _subject(contract), {"contract_digest": contract.digest, **data})


def _subject(contract: Contract) -> str:
    return f"contract/{contract.id}"


def _own_contract(acting: Acting, name: str, *, roles: Collection[str]) -> Contract:
    """The contract, if the caller acts in one of these roles and is its party or an operator; else it looks as if
    there were none."""
    contract, caller = acting.world.policy.contracts.get(name), acting.principal
    mine = contract is not None and (caller.role == OPERATOR or is_party(caller, contract))
    if contract is None or not mine or caller.role not in roles:
        raise UnknownName("you have no contract of this id", field="contract", rule="name.contract")
    return contract


def is_party(principal: Principal, contract: Contract) -> bool:
    """Whether the contract is this requester's or this provider's own."""
    own = {REQUESTER: contract.requester, PROVIDER: contract.provider}
    return own.get(principal.role) == principal.name


def _check_signable(contract: Contract, life: ContractLife, role: str, *, digest: str, now: datetime) -> None:
    if digest != contract.digest:
        raise InvalidRequest(
            "the terms have changed, or are others than you signed: read them again",
            field="digest",
            rule="contract.terms",
        )
    if contract.signatures == "none":
        raise InvalidRequest("this contract asks for no signatures", field="contract", rule="contract.unsigned")
    state = lifecycle.state_at(contract, life, now=now)
    if state != OFFERED:
        raise InvalidRequest(
            f"the contract is {state}: only an offer is signed", field="contract", rule="contract.state"
        )
    if any(signature.terms.role == role for signature in life.signatures):
        raise InvalidRequest(f"the {role} has signed these terms already", field="contract", rule="contract.state")


def _check_signed(policy: Policy, contract: Contract, life: ContractLife) -> None:
    """Signatures are looked at again where they take effect: a key may have been struck from the policy since."""
    keys_stand = all(
        _names_key(policy, item.terms.role, item.terms.party, item.terms.public_key) for item in life.signatures
    )
    if not keys_stand or not lifecycle.is_signed_by_both(contract, life):
        raise InvalidRequest(
            "it needs both parties' signatures under keys that the policy names for them",
            field="contract",
            rule="contract.signature",
        )


def _names_key(policy: Policy, role: str, party: str, key: bytes) -> bool:
    known = policy.parties.get(f"{role}/{party}")
    return known is not None and key in known.signing_keys


def _state_name(number: int) -> str:
    names: dict[int, str] = {
        policy_service_pb2.CONTRACT_STATE_ACTIVE: ACTIVE,
        policy_service_pb2.CONTRACT_STATE_SUSPENDED: SUSPENDED,
        policy_service_pb2.CONTRACT_STATE_TERMINATED: TERMINATED,
    }
    if number not in names:
        raise InvalidRequest("state is ACTIVE, SUSPENDED or TERMINATED", field="state", rule="contract.state")
    return names[number]


def _checked_statement(text: str) -> str:
    try:
        return checked_reason(text)
    except InvalidRequest as error:
        raise InvalidRequest(
            "a statement has 1 to 500 printable characters", field="statement", rule="reason.form"
        ) from error
