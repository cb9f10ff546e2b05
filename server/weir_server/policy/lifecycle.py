# SPDX-License-Identifier: Apache-2.0
"""Where a contract stands: offered → accepted → active → suspended | expired | terminated.

A state belongs to terms, that is to a contract's digest: changed terms begin anew, as an offer nobody has signed. What
moves a contract from one state to the next is in `agreeing`; here is what is known of each, read from the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from weir.agreements import ROLES, SignedTerms, is_signed
from weir_server.clock import from_micros, to_micros
from weir_server.policy.contract import Contract, Duty
from weir_server.policy.documents import Policy
from weir_server.store import Row, Transaction, blob, integer, text

OFFERED, ACCEPTED, ACTIVE, SUSPENDED = "offered", "accepted", "active", "suspended"
EXPIRED, TERMINATED = "expired", "terminated"
STATES = (OFFERED, ACCEPTED, ACTIVE, SUSPENDED, EXPIRED, TERMINATED)
ENDED = frozenset({EXPIRED, TERMINATED})
"""States that the same terms never leave."""
STANDING = ENDED | {SUSPENDED}
"""States that putting the same terms in force again does not lift: a stop is lifted by name alone."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One party's signature on the terms in force."""

    terms: SignedTerms
    signed: datetime


@dataclass(frozen=True, slots=True)
class ContractLife:
    """What became of the terms of one contract."""

    state: str = OFFERED
    """As stored; validity in time is apart, see `state_at`."""
    signatures: tuple[Signature, ...] = ()
    """By role."""
    attested: Mapping[str, datetime] = field(default_factory=dict)
    """Duty to when it was attested; open ones are absent."""


def keep_terms(tx: Transaction, contracts: Iterable[Contract]) -> None:
    """Keep the texts for good: replay, evidence and signatures need those that are in force no more as well."""
    tx.execute_many(
        "INSERT INTO contract_terms (digest, canonical) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING",
        [(contract.digest, contract.canonical) for contract in contracts],
    )


def lacks_terms(tx: Transaction, policy: Policy) -> bool:
    """Whether the text of a contract in force is not kept."""
    return any(terms(tx, contract.digest) is None for contract in policy.contracts.values())


def terms(tx: Transaction, digest: str) -> bytes | None:
    """Canonical form of the contract text of this digest, if it was ever in force; see `contract_of_terms`."""
    rows = tx.execute("SELECT canonical FROM contract_terms WHERE digest = ?", (digest,))
    return blob(rows[0][0]) if rows else None


def lives(tx: Transaction, contracts: Iterable[Contract]) -> Mapping[str, ContractLife]:
    """By contract id, what became of the terms in force."""
    named = list(contracts)
    if len(named) == 1:
        return {named[0].id: _life(named[0], *_rows_of(tx, named[0].digest))}
    known, signed, attested = _all_rows(tx)
    return {
        contract.id: _life(
            contract, known.get(contract.digest), signed.get(contract.digest, ()), attested.get(contract.digest, ())
        )
        for contract in named
    }


def states(tx: Transaction, policy: Policy) -> Mapping[str, str]:
    """State of the terms in force of every contract, signatures verified: one that does not verify counts for nothing,
    whatever the table says."""
    found = lives(tx, policy.contracts.values())
    return MappingProxyType(
        {name: life.state if holds(policy.contracts[name], life) else OFFERED for name, life in found.items()}
    )


def holds(contract: Contract, life: ContractLife) -> bool:
    """Whether the stored state rests on what it needs: for a contract to be signed, both parties' signatures."""
    return contract.signatures == "none" or life.state in (OFFERED, *ENDED) or is_signed_by_both(contract, life)


def is_signed_by_both(contract: Contract, life: ContractLife) -> bool:
    """Whether requester and provider have both signed these very terms, each in its own name."""
    by_role = {signature.terms.role: signature.terms for signature in life.signatures}
    return all(
        (signed := by_role.get(role)) is not None
        and signed.party == getattr(contract, role)
        and is_signed(contract.canonical, public_key=signed.public_key, signature=signed.signature)
        for role in ROLES
    )


def initial_state(contract: Contract) -> str:
    """State of terms that nobody has acted on: where no signature is asked for, applying them activates them."""
    return OFFERED if contract.signatures == "required" else ACTIVE


def state_when_offered(tx: Transaction, contract: Contract) -> str:
    """The state that putting these terms in force gives them: terms that have ended stay ended, and suspended ones stay
    suspended. Else a policy that is applied again, as after a restore, would lift a stop that no person lifts."""
    state = lives(tx, [contract])[contract.id].state
    return state if state in STANDING else initial_state(contract)


def state_at(contract: Contract, life: ContractLife, *, now: datetime) -> str:
    """The state that people see: past its validity a contract is expired, before any sweep has said so."""
    return EXPIRED if now >= contract.valid_until and life.state not in ENDED else life.state


def overdue_duties(tx: Transaction, policy: Policy, now: datetime) -> Mapping[str, int]:
    """How many duties each requester owes past their date: due, not attested, of terms that were agreed."""
    due = [contract for contract in policy.contracts.values() if any(duty.due < now for duty in contract.duties)]
    found = lives(tx, due) if due else {}  # Anybody may ask for a standing: what owes nothing is not read.
    owed = Counter[str]()
    for contract in due:
        owed[contract.requester] += sum(duty.due < now for duty in open_duties(contract, found[contract.id]))
    return MappingProxyType(dict(+owed))


def open_duties(contract: Contract, life: ContractLife) -> tuple[Duty, ...]:
    """Duties of agreed terms that nobody has attested; none of terms that were only offered."""
    agreed = contract.signatures == "none" or is_signed_by_both(contract, life)
    return tuple(duty for duty in contract.duties if agreed and duty.id not in life.attested)


def store_state(tx: Transaction, contract: Contract, state: str, *, now: datetime) -> None:
    """Write down the state of the terms in force."""
    tx.execute(
        "INSERT INTO contract_states (contract, digest, state, since) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (contract, digest) DO UPDATE SET state = excluded.state, since = excluded.since",
        (contract.id, contract.digest, state, to_micros(now)),
    )


def store_signature(tx: Transaction, signed: SignedTerms, *, now: datetime) -> None:
    """Write down a verified signature."""
    tx.execute(
        "INSERT INTO contract_signatures (digest, role, party, public_key, signature, signed) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (signed.digest, signed.role, signed.party, signed.public_key, signed.signature, to_micros(now)),
    )


def store_attestation(tx: Transaction, contract: Contract, duty: str, *, now: datetime) -> None:
    """Write down that a duty was attested."""
    tx.execute(
        "INSERT INTO contract_duties (digest, duty, attested) VALUES (?, ?, ?)",
        (contract.digest, duty, to_micros(now)),
    )


def forget(tx: Transaction, contract: Contract) -> None:
    """Drop signatures and attestations of terms that are offered again: nothing carries over. The log keeps them."""
    tx.execute("DELETE FROM contract_signatures WHERE digest = ?", (contract.digest,))
    tx.execute("DELETE FROM contract_duties WHERE digest = ?", (contract.digest,))


_SIGNED = "SELECT digest, role, party, public_key, signature, signed FROM contract_signatures"


def _rows_of(tx: Transaction, digest: str) -> tuple[str | None, list[Row], list[Row]]:
    state = tx.execute("SELECT state FROM contract_states WHERE digest = ?", (digest,))
    signed = tx.execute(f"{_SIGNED} WHERE digest = ? ORDER BY role", (digest,))
    attested = tx.execute("SELECT digest, duty, attested FROM contract_duties WHERE digest = ?", (digest,))
    return text(state[0][0]) if state else None, signed, attested


def _all_rows(tx: Transaction) -> tuple[dict[str, str], dict[str, list[Row]], dict[str, list[Row]]]:
    states = {text(digest): text(state) for digest, state in tx.execute("SELECT digest, state FROM contract_states")}
    signed = _by_digest(tx.execute(f"{_SIGNED} ORDER BY role"))
    attested = _by_digest(tx.execute("SELECT digest, duty, attested FROM contract_duties"))
    return states, signed, attested


def _by_digest(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(text(row[0]), []).append(row)
    return found


def _life(contract: Contract, state: str | None, signed: Iterable[Row], attested: Iterable[Row]) -> ContractLife:
    return ContractLife(
        state=initial_state(contract) if state is None else state,
        signatures=tuple(_signature(row) for row in signed),
        attested={text(duty): from_micros(integer(moment)) for _, duty, moment in attested},
    )


def _signature(row: Row) -> Signature:
    digest, role, party, public_key, signature, signed = row
    named = SignedTerms(text(digest), text(role), text(party), blob(public_key), blob(signature))
    return Signature(named, from_micros(integer(signed)))
