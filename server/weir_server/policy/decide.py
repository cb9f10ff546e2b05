# SPDX-License-Identifier: Apache-2.0
"""Stage 3: decide. A pure function of facts and contract; its inputs are kept and committed to, for anyone to replay.

Deny by default: every clause below only ever adds a reason, and an answer needs that none was found. All reasons are
reported, each with a stable code and a sentence that says what would be allowed. Red lines come first; no contract,
gate or certificate lifts one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from weir.amounts import format_epsilon, format_price, format_rho
from weir.errors import DenialReason
from weir_server.catalog.card import K_FLOOR, Mode
from weir_server.plan.values import BoundQuery
from weir_server.policy.contract import Contract
from weir_server.policy.facts import Facts, asked_modes
from weir_server.policy.party import lies_in


@dataclass(frozen=True, slots=True)
class Allow:
    """The query may run."""

    policy_digest: str


@dataclass(frozen=True, slots=True)
class NeedsApproval:
    """The query may run once other persons than the requester have approved it."""

    policy_digest: str
    reasons: tuple[DenialReason, ...]
    persons: int
    """How many: 1 or 2."""


@dataclass(frozen=True, slots=True)
class Deny:
    """The query may not run; at least one reason."""

    policy_digest: str
    reasons: tuple[DenialReason, ...]


Decision = Allow | NeedsApproval | Deny


def decide(facts: Facts, contract: Contract, *, policy_digest: str) -> Decision:
    """Whether the contract allows what the facts say."""
    if reasons := tuple(_reasons(facts, contract)):
        return Deny(policy_digest, reasons)
    persons = persons_needed(facts, contract)
    if not persons:
        return Allow(policy_digest)
    return NeedsApproval(policy_digest, tuple(_approval_reasons(facts, contract)), persons)


def outcome_json(decision: Decision) -> dict[str, object]:
    """What a leaf says of a decision: verdict, codes of its reasons, and how many persons it asks for."""
    match decision:
        case Allow():
            return {"verdict": "allow"}
        case Deny(_, reasons):
            return {"verdict": "deny", "reasons": [reason.code for reason in reasons]}
        case NeedsApproval(_, reasons, persons):
            return {
                "verdict": "needs_approval",
                "reasons": [reason.code for reason in reasons],
                "persons": persons,
            }


def persons_needed(facts: Facts, contract: Contract) -> int:
    """How many persons must approve: the most that contract or standing asks for."""
    return persons_asked(contract, gate_approvers=facts.gate_approvers)


def persons_asked(contract: Contract, *, gate_approvers: int) -> int:
    """As `persons_needed`, for whoever has no facts."""
    return max(contract.approvers if contract.approval == "per_query" else 0, gate_approvers)


def _approval_reasons(facts: Facts, contract: Contract) -> Iterator[DenialReason]:
    if contract.approval == "per_query":
        yield DenialReason("contract.approval", "the contract asks a person to approve each query")
    if facts.gate_approvers:
        yield DenialReason("recipient.approval", "the requester's standing asks a person to approve each query")


def red_lines(bound: BoundQuery, *, grade: str, offered: Iterable[Mode]) -> tuple[DenialReason, ...]:
    """The technique that the grade allows (DESIGN §4), asked before any analysis."""
    terms = bound.submission.encrypted
    asked = {bound.mode.value} | ({Mode.ENCRYPTED.value} if terms is not None else set())
    return tuple(_technique(asked, [mode.value for mode in offered], grade=grade, dataset=bound.card.name))


def _technique(asked: Iterable[str], offered: Iterable[str], *, grade: str, dataset: str) -> Iterator[DenialReason]:
    allowed = list(offered)
    if not set(asked) <= set(allowed):
        listed = ", ".join(allowed) or "nothing: it is catalogued only"
        yield DenialReason("grade.technique", f"data of grade {grade} as in {dataset} is answered by {listed}")


def _reasons(facts: Facts, contract: Contract) -> Iterator[DenialReason]:
    yield from _red_lines(facts, contract)
    yield from _party_reasons(facts, contract)
    yield from _scope_reasons(facts, contract)
    yield from _standing_reasons(facts)
    yield from _loss_reasons(facts, contract)


def _red_lines(facts: Facts, contract: Contract) -> Iterator[DenialReason]:
    yield from _technique(asked_modes(facts), facts.offered, grade=facts.grade, dataset=facts.dataset)
    if facts.role != "requester" or contract.provider == contract.requester:
        yield DenialReason("redline.roles", "who asks neither provides, operates nor audits what is asked")
    if facts.mode == Mode.EXACT.value and facts.k < K_FLOOR:
        yield DenialReason("redline.k_floor", f"exact answers stand on atoms of at least {K_FLOOR} units")


def _party_reasons(facts: Facts, contract: Contract) -> Iterator[DenialReason]:
    if contract.requester != facts.requester:
        yield DenialReason("contract.requester", "the contract entitles another requester")
    if contract.dataset != facts.dataset:
        yield DenialReason("contract.dataset", f"the contract covers {contract.dataset}")
    if facts.now < contract.valid_from:
        yield DenialReason("contract.not_yet_valid", f"the contract begins {contract.valid_from.isoformat()}")
    if facts.now >= contract.valid_until:
        yield DenialReason("contract.expired", f"the contract ended {contract.valid_until.isoformat()}")
    if facts.contract_state != "active":
        yield DenialReason("contract.state", f"the contract is {facts.contract_state}, and answers only while active")
    if purpose_of(facts.purpose, contract) not in contract.purposes:
        yield DenialReason("contract.purpose", f"state one of the purposes {', '.join(contract.purposes)}")
    if contract.regions and not any(lies_in(facts.region, region) for region in contract.regions):
        yield DenialReason("contract.region", f"the contract holds for {_listing(contract.regions)}")


def purpose_of(stated: str, contract: Contract) -> str:
    """The purpose that counts: the stated one, or the contract's only one."""
    return contract.purposes[0] if not stated and len(contract.purposes) == 1 else stated


def _scope_reasons(facts: Facts, contract: Contract) -> Iterator[DenialReason]:
    asked = Mode.ENCRYPTED.value if facts.terms else facts.mode
    if asked not in {mode.value for mode in contract.modes}:
        yield DenialReason("contract.mode", f"the contract allows {_listing(m.value for m in contract.modes)}")
    # By the names as written: binding lowers a filter to its base dimension, and a contract for the coarser one alone
    # must not let its base be told apart. A filter on a coarser one says less than one on its base.
    coarser = {name for name, base in facts.filters.items() if base and base in contract.dimensions}
    written = {*facts.groups, *(facts.filters.keys() - coarser)}
    if outside := written - contract.dimensions:
        yield DenialReason(
            "contract.dimension",
            f"{_listing(outside)} not covered; the contract allows {_listing(contract.dimensions)}",
        )
    if facts.terms == "sealed" and not set(facts.key_owners) <= set(contract.seal_to):
        # A release sealed to one's own key, or to a key one shares, is the plain table.
        yield DenialReason("contract.seal_to", f"the contract allows sealing to keys of {_listing(contract.seal_to)}")
    if outside := set(facts.measures) - contract.measures:
        yield DenialReason(
            "contract.measure", f"{_listing(outside)} not covered; the contract allows {_listing(contract.measures)}"
        )
    allowed = {function.value for function in contract.aggregates}
    if outside := set(facts.functions) - allowed:
        yield DenialReason(
            "contract.aggregate", f"{_listing(outside)} not covered; the contract allows {_listing(allowed)}"
        )
    if facts.mode == Mode.EXACT.value and facts.k < contract.k:
        yield DenialReason(
            "contract.k", f"the contract asks atoms of at least {contract.k} units, these keep {facts.k}"
        )


def _standing_reasons(facts: Facts) -> Iterator[DenialReason]:
    if facts.mode == Mode.EXACT.value and facts.k < facts.gate_k:
        yield DenialReason(
            "recipient.k", f"the requester's standing asks atoms of at least {facts.gate_k} units, these keep {facts.k}"
        )
    cap = facts.gate_epsilon_nano
    if cap is not None and facts.epsilon_nano > cap:
        yield DenialReason(
            "recipient.epsilon_per_query",
            f"the requester's standing lets one query spend at most epsilon {format_epsilon(cap)}, "
            f"this one asks {format_epsilon(facts.epsilon_nano)}",
        )


def _loss_reasons(facts: Facts, contract: Contract) -> Iterator[DenialReason]:
    # The share in the account that binds must be there; one in the other account holds as well, where it is stated.
    epsilon, rho = contract.epsilon_per_query_nano, contract.rho_per_query_micro
    if facts.epsilon_nano > epsilon and (epsilon or facts.budget_metric == "epsilon_nano"):
        yield DenialReason(
            "contract.epsilon_per_query",
            f"one query may spend at most epsilon {format_epsilon(epsilon)}, "
            f"this one asks {format_epsilon(facts.epsilon_nano)}",
        )
    if facts.rho_micro > rho and (rho or facts.budget_metric == "rho_micro"):
        yield DenialReason(
            "contract.rho_per_query",
            f"one query may spend at most rho {format_rho(rho)}, this one asks {format_rho(facts.rho_micro)}",
        )
    limit, price = facts.max_price_micro, facts.price_micro
    if limit is not None and price > limit:
        yield DenialReason("price.limit", f"it costs {format_price(price)}, more than the limit {format_price(limit)}")


def _listing(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
