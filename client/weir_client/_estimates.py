# SPDX-License-Identifier: Apache-2.0
"""What a query would cost, and the noise it carries, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from weir.amounts import MICRO, NANO
from weir.errors import DenialReason
from weir.v1 import (
    answer_pb2,
    query_service_pb2,
)

if TYPE_CHECKING:
    pass
from weir_client._values import texts_of


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
    """`allow`, `needs_approval` or `deny`."""
    reasons: tuple[DenialReason, ...]
    epsilon_nano: int
    rho_micro: int
    """Loss in concentrated accounting, rounded up; what binds where the dataset accounts in rho."""
    cells: int
    price_micro: int
    sticky: bool
    """Whether an earlier release would be returned again."""
    noise: tuple[Noise, ...]
    """Per value column in canonical order; `column` is its position. Intervals are in grid steps."""
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


def estimate_of(message: query_service_pb2.EstimateQueryResponse) -> Estimate:
    """An estimate."""
    verdict = query_service_pb2.Verdict.Name(message.decision.verdict).removeprefix("VERDICT_").lower()
    return Estimate(
        verdict=verdict,
        reasons=tuple(DenialReason(item.code, item.sentence) for item in message.decision.reasons),
        noise=tuple(noise_of(item, column=str(index), unit="", scale=0) for index, item in enumerate(message.noise)),
        exposures=tuple(Exposure(**texts_of(item, "scope name metric limit used adds")) for item in message.exposures),
        **texts_of(message, "epsilon_nano rho_micro cells price_micro sticky snapshot policy_digest plan_digest"),
    )
