# SPDX-License-Identifier: Apache-2.0
"""In which account a dataset's losses are planned: pure epsilon, or zero-concentrated (rho) at a stated delta. Pure.

The card says which. Under zCDP a requester still says epsilon: this release alone is to be (epsilon, delta)-dp. It is
turned into the largest rho for which that holds, rho + 2 sqrt(rho ln(1/delta)) <= epsilon, in whole nano-rho; rho is
what is split over the parts and what adds up over many queries (FACTS: 1,000 releases cost 21.6 where pure epsilon
costs 100).

Source: Bun, Steinke, "Concentrated Differential Privacy" (2016), propositions 1.3 and 1.4, lemma 1.7.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from math import isqrt

from weir.amounts import NANO
from weir_server.catalog.card import DatasetCard

_PRECISE = Context(prec=60, rounding=ROUND_FLOOR)
_MARGIN = Decimal("1e-30")
MILLI = 1000
"""Nano-rho in a micro-rho."""


@dataclass(frozen=True, slots=True)
class Accounting:
    """How losses are planned."""

    concentrated: bool = False
    """False: discrete Laplace, pure epsilon. True: discrete Gaussian, zCDP."""
    delta_digits: int = 9
    """delta is 10**-delta_digits, 1 to 30; without meaning for pure epsilon."""

    def __post_init__(self) -> None:
        if not 1 <= self.delta_digits <= 30:
            raise ValueError("delta is 10**-1 to 10**-30")


PURE = Accounting()


def accounting_of(card: DatasetCard) -> Accounting:
    """How the card has losses planned."""
    return Accounting(concentrated=True, delta_digits=card.delta_digits) if card.concentrated else PURE


def rho_of_epsilon(epsilon_nano: int, delta_digits: int) -> int:
    """Largest whole nano-rho whose zCDP implies (epsilon, delta)-dp; rounded down."""
    epsilon = _PRECISE.divide(Decimal(epsilon_nano), Decimal(NANO))
    log = _PRECISE.multiply(Decimal(delta_digits), _PRECISE.ln(Decimal(10)))
    # rho + 2 sqrt(rho L) = epsilon has sqrt(rho) = sqrt(L + epsilon) - sqrt(L).
    root = _PRECISE.subtract(_PRECISE.sqrt(_PRECISE.add(log, epsilon)), _PRECISE.sqrt(log))
    rho = _PRECISE.subtract(_PRECISE.multiply(root, root), _MARGIN)
    return max(0, int(_PRECISE.multiply(rho, Decimal(NANO)).to_integral_value(rounding=ROUND_FLOOR)))


def pure_epsilon_of_rho(rho_nano: int) -> int:
    """Largest nano-epsilon whose pure dp implies this zCDP: sqrt(2 rho), rounded down."""
    return isqrt(2 * rho_nano * NANO)


def rho_of_pure_epsilon(epsilon_nano: int) -> int:
    """Nano-rho that pure dp of this epsilon implies: epsilon**2 / 2, rounded up."""
    return -(-(epsilon_nano**2) // (2 * NANO))


def micro_rho(rho_nano: int) -> int:
    """Whole micro-rho, as the ledger books them; rounded up."""
    return -(-rho_nano // MILLI)
