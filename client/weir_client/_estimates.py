# SPDX-License-Identifier: Apache-2.0
"""What a query would cost, and the noise it carries, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from weir.amounts import MICRO, NANO
from weir.errors import DenialReason
from weir.query import Aggregate, Function
from weir.v1 import (
    answer_pb2,
    query_service_pb2,
)
from weir_client._catalogue import Dataset, Measure
from weir_client._sql import ParsedQuery
from weir_client._values import texts_of

GRID_STEPS = "grid steps"
"""Unit of noise whose measure's grid is not known."""
LIMITS = "quota."
"""Codes of reasons that begin so name limits that bind the caller, and what they lack."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise in one column."""

    column: str
    distribution: str
    """`discrete laplace`, `discrete gaussian`, `noisy max (exponential)` or `composite`."""
    scale: str
    """Scale in grid steps, exact decimal text."""
    sensitivity: str
    """Most that one unit can change, in grid steps."""
    epsilon_nano: int
    rho_micro: int
    interval95: Decimal | None
    """With probability at least 95 % a cell's noise is at most this, in the aggregate's unit; None for composites."""
    unit: str


@dataclass(frozen=True, slots=True)
class Exposure:
    """How far a privacy account is used, all datasets that share it taken together."""

    scope: str
    """`lineage` or `namespace`: what is shared."""
    name: str
    metric: str
    """`epsilon_nano` or `rho_micro`."""
    limit: int
    """Lifetime limit."""
    used: int
    """By everybody so far."""
    adds: int
    """What this query would add."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a query would do now; nothing is reserved by it."""

    verdict: str
    """`allow`, `needs_approval` or `deny`. `deny` too where the policy allows it and a limit cannot take it."""
    reasons: tuple[DenialReason, ...]
    """Every reason found. Codes that begin with `quota.` name limits, with what is left of them and what this asks;
    what needs approval would be refused for these even when approved."""
    epsilon_nano: int
    rho_micro: int
    """Loss in concentrated accounting, rounded up; what binds where the dataset accounts in rho."""
    cells: int
    price_micro: int
    sticky: bool
    """Whether an earlier release would be returned again."""
    noise: tuple[Noise, ...]
    """Per value column in canonical order, named as the statement shows it. Intervals are in the aggregate's unit; in
    `grid steps` where an older snapshot is asked, whose grid is not known."""
    snapshot: int
    policy_digest: str
    plan_digest: str
    exposures: tuple[Exposure, ...] = ()
    """Accounts that a dp query draws on; empty where the policy denies it."""

    @property
    def allowed(self) -> bool:
        """Whether the query would be answered."""
        return self.verdict == "allow"

    @property
    def lacking(self) -> tuple[DenialReason, ...]:
        """Reasons that are limits which cannot take it now."""
        return tuple(reason for reason in self.reasons if reason.code.startswith(LIMITS))

    @property
    def epsilon(self) -> Decimal:
        """Privacy loss."""
        return Decimal(self.epsilon_nano) / NANO

    @property
    def price(self) -> Decimal:
        """Price in the contract's currency."""
        return Decimal(self.price_micro) / MICRO


def noise_of(message: answer_pb2.Noise, *, column: str, unit: str, scale: int) -> Noise:
    """Noise with its interval brought from grid steps of 10^-scale into the aggregate's unit."""
    interval = message.interval95
    return Noise(
        column=column,
        **texts_of(message, "distribution scale sensitivity"),
        epsilon_nano=message.epsilon_nano,
        rho_micro=message.rho_micro,
        interval95=Decimal(f"{interval}e-{scale}") if interval else None,
        unit=unit,
    )


def estimate_of(
    message: query_service_pb2.EstimateQueryResponse, parsed: ParsedQuery, card: Dataset | None
) -> Estimate:
    """An estimate of `parsed`. `card`: of its dataset, with which noise is brought into its units; None where the
    grid is not known."""
    verdict = query_service_pb2.Verdict.Name(message.decision.verdict).removeprefix("VERDICT_").lower()
    return Estimate(
        verdict=verdict,
        reasons=tuple(DenialReason(item.code, item.sentence) for item in message.decision.reasons),
        noise=_noise(message.noise, parsed, card),
        exposures=tuple(Exposure(**texts_of(item, "scope name metric limit used adds")) for item in message.exposures),
        **texts_of(message, "epsilon_nano rho_micro cells price_micro sticky snapshot policy_digest plan_digest"),
    )


def _noise(found: Sequence[answer_pb2.Noise], parsed: ParsedQuery, card: Dataset | None) -> tuple[Noise, ...]:
    columns = [column for item in parsed.query.aggregates for column in _columns(item, parsed, card)]
    if len(columns) != len(found):  # Buckets that nobody can count without the card.
        columns = [(str(index), GRID_STEPS, 0) for index in range(len(found))]
    return tuple(
        noise_of(item, column=name, unit=unit, scale=scale)
        for item, (name, unit, scale) in zip(found, columns, strict=True)
    )


def _columns(aggregate: Aggregate, parsed: ParsedQuery, card: Dataset | None) -> list[tuple[str, str, int]]:
    """Name, unit and decimal digits of the columns of one aggregate, as its answer would have them."""
    shown = (item.name for item in parsed.presentation.columns if item.aggregate == aggregate.name)
    name = next(shown, aggregate.name)
    if aggregate.measure is None:
        return [(name, "", 0)]
    measure = None if card is None else next((item for item in card.measures if item.name == aggregate.measure), None)
    if aggregate.function is Function.HISTOGRAM:  # Rows are counted.
        buckets = () if measure is None else measure.buckets
        return [(f"{name} [{lower.normalize():f}, {upper.normalize():f})", "", 0) for lower, upper in buckets]
    return [(name, GRID_STEPS, 0)] if measure is None else [(name, _unit(aggregate, measure), measure.scale)]


def _unit(aggregate: Aggregate, measure: Measure) -> str:
    squared = aggregate.function is Function.VARIANCE
    return f"{measure.unit}^2" if measure.unit and squared else measure.unit
