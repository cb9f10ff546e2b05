# SPDX-License-Identifier: Apache-2.0
"""Parties with signing keys, contracts that need signatures, and the requests that move them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml

from tests.support.domain import ALICE, DOMAIN, OLGA, Domain, contract_document
from weir.agreements import format_signing_key, public_key_of, sign_terms
from weir.v1 import policy_service_pb2
from weir_server.plan.values import Principal
from weir_server.policy import agreeing, lifecycle
from weir_server.policy.contract import Contract

HOSPITAL = Principal("hospital", "provider", DOMAIN)
CLINIC = Principal("clinic", "provider", DOMAIN)
SEEDS = {name: bytes([number]) * 32 for number, name in enumerate(("alice", "bob", "hospital", "stranger"), start=1)}
"""Private keys."""
STATES = {
    "active": policy_service_pb2.CONTRACT_STATE_ACTIVE,
    "suspended": policy_service_pb2.CONTRACT_STATE_SUSPENDED,
    "terminated": policy_service_pb2.CONTRACT_STATE_TERMINATED,
}


def party_document(name: str = "alice", role: str = "requester", **changes: Any) -> str:
    """A party whose signing key is the one of its name."""
    content: dict[str, Any] = {
        "kind": "party",
        "party": name,
        "role": role,
        "organisation": f"{name} Ltd",
        "responsible": f"Head of {name}",
        "region": "CN-31",
        "signing_keys": [format_signing_key(public_key_of(SEEDS[name]))],
    }
    return yaml.safe_dump(content | changes)


PARTIES = (party_document(), party_document("hospital", "provider"), party_document("bob"))


def signed_document(contract: str = "s-1", **changes: Any) -> str:
    """A contract of Alice for the census that both parties must sign."""
    return contract_document(contract, **({"signatures": "required"} | changes))


SIGNED_POLICY = (signed_document(), *PARTIES)


def terms_of(domain: Domain, contract: str = "s-1") -> Contract:
    """The contract in force."""
    return domain.state.world.policy.contracts[contract]


def signing(
    domain: Domain,
    who: Principal,
    *,
    contract: str = "s-1",
    seed: bytes | None = None,
    public_key: bytes | None = None,
    canonical: bytes | None = None,
    digest: str | None = None,
    key: str | None = None,
) -> policy_service_pb2.SignContractRequest:
    """An honest signature of the terms in force by the key of the caller's name; attacks bend it."""
    own, terms = SEEDS[who.name] if seed is None else seed, terms_of(domain, contract)
    return policy_service_pb2.SignContractRequest(
        contract=contract,
        digest=terms.digest if digest is None else digest,
        public_key=public_key_of(own) if public_key is None else public_key,
        signature=sign_terms(terms.canonical if canonical is None else canonical, seed=own),
        idempotency_key=key or domain.new_key(),
    )


async def sign(
    domain: Domain, who: Principal, request: policy_service_pb2.SignContractRequest | None = None, **bent: Any
) -> policy_service_pb2.Contract:
    """Sign, and see the contract."""
    asked = signing(domain, who, **bent) if request is None else request
    reply = await domain.state.mutate(who, asked, lambda acting: agreeing.sign(acting, asked))
    return policy_service_pb2.SignContractResponse.FromString(reply).contract


async def move(
    domain: Domain, state: str, *, who: Principal = OLGA, contract: str = "s-1", reason: str = "test"
) -> policy_service_pb2.Contract:
    """Move a contract on, and see it."""
    asked = policy_service_pb2.SetContractStateRequest(
        contract=contract, state=STATES[state], reason=reason, idempotency_key=domain.new_key()
    )
    reply = await domain.state.mutate(who, asked, lambda acting: agreeing.move(acting, asked))
    return policy_service_pb2.SetContractStateResponse.FromString(reply).contract


async def attest(
    domain: Domain, duty: str, *, who: Principal = ALICE, contract: str = "s-1", statement: str = "done"
) -> policy_service_pb2.Contract:
    """Attest a duty, and see the contract."""
    asked = policy_service_pb2.AttestDutyRequest(
        contract=contract, duty=duty, statement=statement, idempotency_key=domain.new_key()
    )
    reply = await domain.state.mutate(who, asked, lambda acting: agreeing.attest(acting, asked))
    return policy_service_pb2.AttestDutyResponse.FromString(reply).contract


async def agree(domain: Domain, contract: str = "s-1", *, requester: Principal = ALICE) -> None:
    """Both parties sign and an operator activates."""
    await sign(domain, HOSPITAL, contract=contract)
    await sign(domain, requester, contract=contract)
    await move(domain, "active", contract=contract)


def stored_state(domain: Domain, contract: str = "s-1") -> str:
    """The state that the store holds of the terms in force."""
    terms = terms_of(domain, contract)
    return domain.store.read(lambda tx: lifecycle.lives(tx, [terms]))[contract].state


def as_provider(who: Principal) -> Principal:
    """The same name with a provider's certificate."""
    return replace(who, role="provider")
