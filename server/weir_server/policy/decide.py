# SPDX-License-Identifier: Apache-2.0
"""Stage 3: decide. A pure function of plan, contract and time; its inputs are logged, so anyone can replay it.

Deny by default: every clause below only ever adds a reason, and an answer needs that none was found. All reasons are
reported, each with a stable code and a sentence that says what would be allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from weir.amounts import format_epsilon, format_price, format_rho
from weir.errors import DenialReason
from weir.query import leaves
from weir_server.catalog.card import DatasetCard, Mode
from weir_server.plan.values import BoundQuery, Plan
from weir_server.policy.contract import Contract


@dataclass(frozen=True, slots=True)
class Allow:
    """The query may run."""

    policy_digest: str


@dataclass(frozen=True, slots=True)
class NeedsApproval:
    """The query may run once a person other than the requester approved this very plan."""

    policy_digest: str
    reasons: tuple[DenialReason, ...]


@dataclass(frozen=True, slots=True)
class Deny:
    """The query may not run; at least one reason."""

    policy_digest: str
    reasons: tuple[DenialReason, ...]


Decision = Allow | NeedsApproval | Deny


def red_lines(bound: BoundQuery) -> tuple[DenialReason, ...]:
    """What no contract can lift: the technique that the grade allows (DESIGN §4). Checked before any analysis."""
    modes = bound.card.modes
    asked = {bound.mode} | ({Mode.ENCRYPTED} if bound.submission.encrypted is not None else set())
    if asked <= set(modes):
        return ()
    offered = ", ".join(mode.value for mode in modes) or "nothing: it is catalogued only"
    sentence = f"data of grade {bound.card.grade.name} as in {bound.card.name} is answered by {offered}"
    return (DenialReason("grade.technique", sentence),)


def decide(plan: Plan, contract: Contract, *, policy_digest: str, now: datetime) -> Decision:
    """Whether the contract allows the plan at `now`."""
    reasons = tuple(_reasons(plan, contract, now))
    if reasons:
        return Deny(policy_digest, reasons)
    if contract.approval == "per_query":
        return NeedsApproval(
            policy_digest, (DenialReason("contract.approval", "the contract asks a person to approve each query"),)
        )
    return Allow(policy_digest)


def _reasons(plan: Plan, contract: Contract, now: datetime) -> Iterator[DenialReason]:
    yield from red_lines(plan.bound)
    yield from _party_reasons(plan, contract, now)
    yield from _scope_reasons(plan.bound, contract)
    yield from _loss_reasons(plan, contract)


def _party_reasons(plan: Plan, contract: Contract, now: datetime) -> Iterator[DenialReason]:
    submission, dataset = plan.bound.submission, plan.bound.query.dataset
    if contract.requester != submission.principal.name or submission.principal.role != "requester":
        yield DenialReason("contract.requester", "the contract entitles another requester")
    if contract.dataset != dataset:
        yield DenialReason("contract.dataset", f"the contract covers {contract.dataset}")
    if now < contract.valid_from:
        yield DenialReason("contract.not_yet_valid", f"the contract begins {contract.valid_from.isoformat()}")
    if now >= contract.valid_until:
        yield DenialReason("contract.expired", f"the contract ended {contract.valid_until.isoformat()}")
    if purpose_of(submission.purpose, contract) not in contract.purposes:
        yield DenialReason("contract.purpose", f"state one of the purposes {', '.join(contract.purposes)}")


def purpose_of(stated: str, contract: Contract) -> str:
    """The purpose that counts: the stated one, or the contract's only one."""
    return contract.purposes[0] if not stated and len(contract.purposes) == 1 else stated


def _scope_reasons(bound: BoundQuery, contract: Contract) -> Iterator[DenialReason]:
    asked = {bound.mode} if bound.submission.encrypted is None else {Mode.ENCRYPTED}
    if not asked <= contract.modes:
        yield DenialReason("contract.mode", f"the contract allows {_listing(m.value for m in contract.modes)}")
    # By the names as written: binding lowers a filter to its base dimension, and a contract for the coarser one alone
    # must not let its base be told apart.
    filters = {leaf.column for leaf in leaves(bound.query.where)}
    written = {dimension.name for dimension in bound.groups} | {
        name for name in filters if not _covers_base(name, bound.card, contract)
    }
    if outside := {name for name in written if bound.card.dimension(name) is not None} - contract.dimensions:
        yield DenialReason(
            "contract.dimension",
            f"{_listing(outside)} not covered; the contract allows {_listing(contract.dimensions)}",
        )
    terms = bound.submission.encrypted
    if terms is not None and terms.kind == "sealed" and not (terms.key_owners <= set(contract.seal_to)):
        # A release sealed to one's own key, or to a key one shares, is the plain table.
        yield DenialReason("contract.seal_to", f"the contract allows sealing to keys of {_listing(contract.seal_to)}")
    measures = {measure.name for _, measure in bound.aggregates if measure is not None}
    measures |= {name for name in filters if bound.card.measure(name) is not None}
    if outside := measures - contract.measures:
        yield DenialReason(
            "contract.measure", f"{_listing(outside)} not covered; the contract allows {_listing(contract.measures)}"
        )
    functions = {aggregate.function for aggregate, _ in bound.aggregates}
    if functions - contract.aggregates:
        yield DenialReason(
            "contract.aggregate",
            f"{_listing(f.value for f in functions - contract.aggregates)} not covered; "
            f"the contract allows {_listing(f.value for f in contract.aggregates)}",
        )


def _covers_base(name: str, card: DatasetCard, contract: Contract) -> bool:
    """Whether the contract names the base of a coarser dimension: a filter on the coarser one says less."""
    dimension = card.dimension(name)
    return dimension is not None and dimension.coarsens in contract.dimensions


def _loss_reasons(plan: Plan, contract: Contract) -> Iterator[DenialReason]:
    loss, binding = plan.analysis.loss, plan.bound.card.budget_metric
    # The share in the account that binds must be there; one in the other account holds as well, where it is stated.
    epsilon, rho = contract.epsilon_per_query_nano, contract.rho_per_query_micro
    if loss.epsilon_nano > epsilon and (epsilon or binding == "epsilon_nano"):
        yield DenialReason(
            "contract.epsilon_per_query",
            f"one query may spend at most epsilon {format_epsilon(epsilon)}, "
            f"this one asks {format_epsilon(loss.epsilon_nano)}",
        )
    if loss.rho_micro > rho and (rho or binding == "rho_micro"):
        yield DenialReason(
            "contract.rho_per_query",
            f"one query may spend at most rho {format_rho(rho)}, this one asks {format_rho(loss.rho_micro)}",
        )
    limit, price = plan.bound.submission.max_price_micro, plan.charge["price_micro"]
    if limit is not None and price > limit:
        yield DenialReason("price.limit", f"it costs {format_price(price)}, more than the limit {format_price(limit)}")


def _listing(names: object) -> str:
    return ", ".join(sorted(str(name) for name in names)) or "none"  # type: ignore[attr-defined]
