# SPDX-License-Identifier: Apache-2.0
"""What documents say about each other: a policy whose parts cannot work together is refused, or warned of, as a whole.

A fault refuses the policy: what it asks for could never come true, or a signature under it would prove nothing. A
warning is told with the change that brings it: queries will be refused, or a dataset is still to be published. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from weir.agreements import ROLES
from weir.amounts import format_epsilon, format_rho
from weir_server.catalog.card import DatasetCard, Mode, modes_under
from weir_server.catalog.catalogue import Catalogue
from weir_server.catalog.rates import CURRENCY, CURRENCY_WORDS
from weir_server.policy.contract import Contract
from weir_server.policy.documents import Policy
from weir_server.policy.party import lies_in
from weir_server.policy.regrading import certificate_faults


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not fit."""

    subject: str
    """`contract/c-1`."""
    sentence: str
    refuses: bool
    """True for a fault, False for a warning."""


def check_policy(policy: Policy, catalogue: Catalogue, *, now: datetime) -> tuple[Finding, ...]:
    """Everything in which the documents do not fit each other, the datasets published, or the time, by subject."""
    found = list(_shared_keys(policy))
    found += [Finding(*fault, refuses=True) for fault in certificate_faults(policy, catalogue)]
    for contract in policy.contracts.values():
        subject = f"contract/{contract.id}"
        found += [Finding(subject, sentence, refuses=True) for sentence in _faults(policy, contract)]
        versions = catalogue.datasets.get(contract.dataset, ())
        card = versions[0].card if versions else None
        found += [Finding(subject, sentence, refuses=False) for sentence in _warnings(policy, contract, card, now)]
    return tuple(sorted(found, key=lambda finding: (finding.subject, finding.sentence)))


def _shared_keys(policy: Policy) -> Iterator[Finding]:
    """One key of two parties: nobody could tell who of them signed."""
    owners: dict[bytes, str] = {}
    for name, party in sorted(policy.parties.items()):
        for key in party.signing_keys:
            other = owners.setdefault(key, name)
            if other != name:
                yield Finding(f"party/{name}", f"has a signing key that {other} has too", refuses=True)


def _faults(policy: Policy, contract: Contract) -> Iterator[str]:
    # Here and not where documents are read: what a domain has in force must stay readable.
    if not CURRENCY.fullmatch(contract.rates.currency):
        yield f"states the currency {contract.rates.currency!r:.20}, which must be {CURRENCY_WORDS}"
    for role in ROLES if contract.signatures == "required" else ():
        name = getattr(contract, role)
        party = policy.parties.get(f"{role}/{name}")
        if party is None or not party.signing_keys:
            lack = "no party document" if party is None else "no signing key in its party document"
            yield (
                f"must be signed by its {role} {name}, which has {lack}: apply one of kind party, role {role}, with "
                "signing_keys (weir contracts key makes one), or state signatures: none"
            )
    if contract.regions and f"requester/{contract.requester}" not in policy.parties:
        yield f"holds for regions, but requester {contract.requester} has no party document that says where it is"


def _warnings(policy: Policy, contract: Contract, card: DatasetCard | None, now: datetime) -> Iterator[str]:
    if contract.valid_until <= now:
        yield f"ended at {contract.valid_until.isoformat()}: nothing is answered"
    party = policy.parties.get(f"requester/{contract.requester}")
    if contract.regions and party is not None and not any(lies_in(party.region, wider) for wider in contract.regions):
        yield f"holds for {', '.join(contract.regions)}, and its requester is in {party.region}: nothing is answered"
    if card is None:
        yield f"dataset {contract.dataset} is not published yet"
        return
    agreed = () if card.consent is None else card.consent.purposes
    if agreed and (beyond := sorted(set(contract.purposes) - set(agreed))):
        yield f"the units of {card.name} did not agree to {', '.join(beyond)}"
    offered = modes_under(card, card.grade)
    if missing := sorted(mode.value for mode in contract.modes if mode not in offered):
        yield f"the dataset does not answer in mode {', '.join(missing)}"
    yield from _beyond_budget(contract, card)
    if Mode.EXACT in contract.modes and contract.k > card.k:
        yield f"asks for k {contract.k}, the dataset keeps {card.k}: nothing is answered exactly"
    for key, known in (("dimensions", card.dimension), ("measures", card.measure)):
        if unknown := sorted(name for name in getattr(contract, key) if known(name) is None):
            yield f"the dataset has no {key} {', '.join(unknown)}"


def _beyond_budget(contract: Contract, card: DatasetCard) -> Iterator[str]:
    """A share that the whole lineage does not have: whoever counts on it is refused long before it is used."""
    concentrated = card.budget_metric == "rho_micro"
    share = contract.rho_micro if concentrated else contract.epsilon_nano
    if 0 < card.budget_lifetime < share:
        name, form = ("rho", format_rho) if concentrated else ("epsilon", format_epsilon)
        yield f"its share of {name} {form(share)} is more than the lineage's {form(card.budget_lifetime)} for life"
