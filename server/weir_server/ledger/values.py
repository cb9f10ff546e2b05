# SPDX-License-Identifier: Apache-2.0
"""Values of the ledger: who is charged, what, under which limits, and how a reservation stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from weir.errors import InvalidRequest
from weir_server.store import TryAgain

Metric = Literal["queries", "cells", "epsilon_nano", "rho_micro", "encrypted_operations", "bytes", "price_micro"]
METRICS: tuple[Metric, ...] = (
    "queries",
    "cells",
    "epsilon_nano",
    "rho_micro",
    "encrypted_operations",
    "bytes",
    "price_micro",
)
"""Everything that is metered, in the order of the columns that hold it."""
_KNOWN: frozenset[str] = frozenset(METRICS)
PRIVACY_METRICS: frozenset[Metric] = frozenset({"epsilon_nano", "rho_micro"})
"""Spent at reservation and never given back: data may have been touched from then on."""
Window = Literal["lifetime", "day", "month"]
WINDOWS: tuple[Window, ...] = ("lifetime", "day", "month")
MAX_CHARGE = 2**53 - 1
"""Most of one metric in one charge."""
MAX_LIMIT = 2**62
"""Most a limit can be: sums stay inside a signed 64-bit column."""
Charge = Mapping[str, int]
"""Amount per metric; absent means 0."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom and what a charge belongs to. Every field is set, though `contract` may be unknown in a refusal."""

    requester: str
    """Who asked."""
    contract: str
    """Under which contract."""
    dataset: str
    """Of which dataset."""
    lineage: str
    """Of which lineage of data: snapshots and derived datasets share one, and one privacy budget."""


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `limit` of `metric` in each window, over all charges that fit every scope field that is set."""

    id: str
    """`[a-z][a-z0-9-]{0,126}`."""
    metric: Metric
    """What is counted."""
    limit: int
    """Most in one window; 0 stops everything that uses the metric. Up to 2**62."""
    requester: str | None = None
    """Only charges of this requester."""
    contract: str | None = None
    """Only charges under this contract."""
    dataset: str | None = None
    """Only charges for this dataset."""
    lineage: str | None = None
    """Only charges for datasets of this lineage."""
    namespace: str | None = None
    """Only charges for datasets of lineages that are in this namespace of units; for life, and with no other scope."""
    window: Window = "lifetime"
    """Calendar window in `zone`, or for life."""
    zone: str = "UTC"
    """IANA time zone of calendar windows."""


@dataclass(frozen=True, slots=True)
class Balance:
    """How a quota stands in its current window."""

    quota: Quota
    """The limit."""
    spent: int
    """Used up."""
    held: int
    """Held by reservations that have not resolved."""
    resets: datetime | None
    """When the window ends; None for lifetime."""

    @property
    def used(self) -> int:
        """Spent and held."""
        return self.spent + self.held

    @property
    def left(self) -> int:
        """What still fits; 0 where a lowered limit is overdrawn."""
        return max(0, self.quota.limit - self.used)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a decision was made from, kept beside its leaf for anybody to decide again."""

    contract_digest: str
    """Names the contract's text, which is kept for good."""
    facts: bytes
    """Canonical form of everything else; the leaf commits to it under the label `facts`."""


@dataclass(frozen=True, slots=True)
class ReservationRequest:
    """What a decided query asks of the books before data is touched."""

    subject: Subject
    """Who pays."""
    idempotency_key: str
    """Chosen by the requester."""
    request_digest: str
    """Digest of the whole request: the same key with another digest is an error."""
    charge: Charge
    """What the plan says it costs."""
    plan_digest: str
    """Digest of the plan; logged as a commitment, since plans can be guessed."""
    policy_digest: str
    """Digest of the policy it was decided under."""
    event: Mapping[str, object] = field(default_factory=dict)
    """The meter record so far: JSON without floats, nothing guessable."""
    commitments: Mapping[str, bytes] = field(default_factory=dict)
    """Per label the bytes that the leaves commit to, for example `query`."""
    budget: Metric | None = None
    """Privacy metric in which the lineage MUST have a lifetime budget of all requesters; None where data is answered
    without privacy loss."""
    inputs: Inputs | None = None
    """What was decided from; committed to and kept by the reservation's leaf alone."""
    release_key: str = ""
    """What will be released; of processes that share the books one draws it, once. Empty: nothing new."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A durable hold. Resolves once: posted, voided or expired."""

    id: int
    """Index of its `weir.query.reserved` leaf."""
    request: ReservationRequest
    """What was reserved."""
    reserved_at: datetime
    """Ledger time."""
    held_until: datetime
    """When the sweeper may expire it."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The request was answered before; nothing was charged."""

    answer: bytes
    """The same bytes as then."""
    leaf_index: int
    """Leaf of the answer: its receipt is the same as then, too."""


class ReleasePending(TryAgain):
    """Another process is drawing the same release, or has drawn it; look for it again in a moment."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """Another query released first under the same key. Nothing was posted: answer from this release, and post again."""

    release: bytes
    """The release that won."""
    leaf_index: int
    """Leaf that first released it."""


@dataclass(frozen=True, slots=True)
class StoredRelease:
    """A sticky release."""

    release: bytes
    """As it was stored."""
    leaf_index: int
    """Leaf that first released it."""


@dataclass(frozen=True, slots=True)
class MeterTotal:
    """Sum of one metric for one contract, requester and dataset."""

    contract: str
    requester: str
    dataset: str
    metric: str
    used: int
    """Over the lifetime."""


def checked_charge(charge: Charge) -> dict[Metric, int]:
    """Every metric with its amount.

    Raises:
        InvalidRequest: an unknown metric, or an amount outside 0 … 2**53 - 1.
    """
    if not charge.keys() <= _KNOWN:
        raise InvalidRequest("the charge names an unknown metric", field="charge", rule="charge.metric")
    amounts = {metric: charge.get(metric, 0) for metric in METRICS}
    for amount in amounts.values():
        if type(amount) is bool or not 0 <= amount <= MAX_CHARGE:
            raise InvalidRequest("an amount is out of range", field="charge", rule="charge.range")
    return amounts
