# SPDX-License-Identifier: Apache-2.0
"""Everything a decision depends on beside the contract, as one value with a JSON form.

The facts of each decision are kept beside its leaf, which commits to them: whoever opens the commitment can decide
again and compare. They are functions of the query, the policy and public metadata; nothing of the data is in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from weir.canonical import canonical_json
from weir.query import leaves
from weir_server.catalog.card import Mode
from weir_server.plan.values import BoundQuery, Loss, Plan
from weir_server.world import World


@dataclass(frozen=True, slots=True)
class Facts:
    """Inputs of `decide`. Tuples of names are ordered."""

    now: datetime
    """Server time, which never runs back."""
    requester: str
    role: str
    region: str
    """ISO 3166 code of the requester's registration; empty where the policy names none."""
    contract_state: str
    """`offered`, `accepted`, `active`, `suspended` or `terminated`."""
    gate_k: int
    """Least k that the requester's standing asks for in exact mode; 0 for none beyond the contract's."""
    gate_epsilon_nano: int | None
    """Most epsilon that its standing lets one query spend; None for no cap."""
    gate_approvers: int
    """Persons who must approve its queries, whatever the contract says; 0 to 2."""
    purpose: str
    """As stated; may be empty."""
    dataset: str
    snapshot: int
    grade: str
    """Grade that holds now, certificates considered: `GENERAL`, `IMPORTANT` or `CORE`."""
    offered: tuple[str, ...]
    """Modes in which data of that grade and card is answered."""
    k: int
    """The k that the dataset keeps."""
    mode: str
    """Mode of the release: `exact` or `dp`."""
    terms: str
    """`weights` or `sealed` for encrypted queries; empty otherwise."""
    key_owners: tuple[str, ...]
    """Who holds the key of the reply."""
    groups: tuple[str, ...]
    """Dimensions grouped by."""
    filters: Mapping[str, str]
    """Dimensions in conditions, as written, with the base dimension that each coarsens; empty for a base."""
    measures: tuple[str, ...]
    """Measures aggregated or compared."""
    functions: tuple[str, ...]
    """Aggregates."""
    budget_metric: str
    """Account that binds: `epsilon_nano` or `rho_micro`."""
    epsilon_nano: int
    rho_micro: int
    price_micro: int
    max_price_micro: int | None
    """The requester's own ceiling."""


def facts_of(plan: Plan, world: World, *, now: datetime) -> Facts:
    """Facts of a plan in a world at `now`."""
    return _facts(plan.bound, world, now=now, loss=plan.analysis.loss, price_micro=plan.charge["price_micro"])


def facts_before_analysis(bound: BoundQuery, world: World, *, now: datetime) -> Facts:
    """Facts of a query that a red line refuses before anything looks at what it would lose or cost: both are 0."""
    return _facts(bound, world, now=now, loss=Loss(), price_micro=0)


def _facts(bound: BoundQuery, world: World, *, now: datetime, loss: Loss, price_micro: int) -> Facts:
    submission, card = bound.submission, bound.card
    terms, gate = submission.encrypted, world.gate_of(submission.principal.name, now=now)
    filtered = {leaf.column for leaf in leaves(bound.query.where)}
    dimensions = {name: dimension for name in filtered if (dimension := card.dimension(name)) is not None}
    measures = {measure.name for _, measure in bound.aggregates if measure is not None}
    measures |= {name for name in filtered if card.measure(name) is not None}
    return Facts(
        now=now,
        requester=submission.principal.name,
        role=submission.principal.role,
        region=world.region_of(submission.principal.name),
        contract_state=world.state_of(submission.contract),
        gate_k=gate.k,
        gate_epsilon_nano=gate.epsilon_nano,
        gate_approvers=gate.approvers,
        purpose=submission.purpose,
        dataset=bound.query.dataset,
        snapshot=bound.snapshot.version,
        grade=world.grade_of(card, now=now).name,
        offered=tuple(mode.value for mode in world.modes_of(card, now=now)),
        k=card.k,
        mode=bound.mode.value,
        terms="" if terms is None else terms.kind,
        key_owners=() if terms is None else tuple(sorted(terms.key_owners)),
        groups=tuple(sorted(dimension.name for dimension in bound.groups)),
        filters={name: dimensions[name].coarsens or "" for name in sorted(dimensions)},
        measures=tuple(sorted(measures)),
        functions=tuple(sorted({aggregate.function.value for aggregate, _ in bound.aggregates})),
        budget_metric=card.budget_metric,
        epsilon_nano=loss.epsilon_nano,
        rho_micro=loss.rho_micro,
        price_micro=price_micro,
        max_price_micro=submission.max_price_micro,
    )


def asked_modes(facts: Facts) -> frozenset[str]:
    """Modes that the query needs: that of its release, and `encrypted` on top of it."""
    return frozenset({facts.mode, Mode.ENCRYPTED.value} if facts.terms else {facts.mode})


def facts_json(facts: Facts) -> dict[str, object]:
    """JSON form: amounts as text, since they may pass 2**53. Not `asdict`: deep copies are slow."""
    content: dict[str, object] = {name: getattr(facts, name) for name in _NAMES}
    content["now"] = facts.now.isoformat()
    content["filters"] = dict(facts.filters)
    for name in _AMOUNTS:
        amount = content[name]
        content[name] = None if amount is None else str(amount)
    return content


def facts_bytes(facts: Facts) -> bytes:
    """Canonical form: what a leaf commits to under the label `facts`."""
    values = (*(getattr(facts, name) for name in _BESIDE), tuple(facts.filters.items()))
    before, after = _around_now(values)
    return b'%s"now":"%s"%s' % (before, facts.now.isoformat().encode(), after)


@lru_cache(maxsize=1024)
def _around_now(values: tuple[Any, ...]) -> tuple[bytes, bytes]:
    """What stands before and behind the time in the canonical form of facts: few differ in anything else.

    `values`: every other field, in the order of `_BESIDE`, and the filters; each is of the one type that its field has,
    so that equal values are written the same.
    """
    *others, filters = values
    named = dict(zip(_BESIDE, others, strict=True))
    before, after = canonical_json(facts_json(Facts(now=_MARK, filters=dict(filters), **named))).split(_MARKED)
    return before, after


def facts_from_json(content: Mapping[str, Any]) -> Facts:
    """Facts of their JSON form.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    # Python holds `true` equal to 1: what is written for the one would be found for the other.
    if wrong := [key for key, value in content.items() if isinstance(value, bool)]:
        raise ValueError(f"no yes or no is a fact: {', '.join(wrong)}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    values["now"] = datetime.fromisoformat(content["now"])
    for key in _AMOUNTS:
        values[key] = None if content[key] is None else int(content[key])
    return Facts(**values)


_NAMES = tuple(field.name for field in fields(Facts))
_BESIDE = tuple(name for name in _NAMES if name not in ("now", "filters"))
_MARK = datetime.min.replace(tzinfo=UTC)
_MARKED = b'"now":"%s"' % _MARK.isoformat().encode()
"""As a member of an object, which no text inside a value can look like: a quote within a text is escaped."""
_AMOUNTS = ("gate_epsilon_nano", "epsilon_nano", "rho_micro", "price_micro", "max_price_micro")
