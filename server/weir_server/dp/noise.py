# SPDX-License-Identifier: Apache-2.0
"""Discrete Laplace and Gaussian noise of an exact scale, from OpenDP's measurements over integers.

A scale is a binary fraction of 20 significant bits, rounded up: OpenDP takes it as a float and loses nothing, people
can read it, and the loss it causes is at most the planned one. OpenDP draws from the operating system's generator;
there is no seed, here or anywhere.

Source: Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy" (2020), algorithms 2 and 3, as
implemented and proved in OpenDP; proposition 25 for the Gaussian's tails.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from math import ceil, inf, isqrt, nextafter
from typing import Any

import opendp.prelude as dp

from weir.amounts import NANO
from weir.errors import InternalError, InvalidQuery

dp.enable_features("contrib")

SCALE_LIMIT = 2**50
"""Noise of a larger scale could leave 64 bits, where OpenDP would saturate; such an answer would say nothing anyway."""
TRUE_LIMIT = 2**61
"""True integers are clamped to this before noise, which cannot raise their sensitivity."""
RELEASE_LIMIT = 2**62
"""Released integers are clamped to this: the public bound that encrypted queries rely on."""
_SCALE_BITS = 20
_PRECISE = Context(prec=60)
_MARGIN = Decimal("1e-30")


def laplace_scale(sensitivity: int, epsilon_nano: int) -> Fraction:
    """Least scale b of the stated form with sensitivity / b <= epsilon.

    Raises:
        InvalidQuery: epsilon is so small that the noise would leave 64 bits.
    """
    return round_up(as_float(Fraction(sensitivity)) * NANO / epsilon_nano)


def as_float(value: Fraction) -> Fraction:
    """Least double at or above `value`: OpenDP computes losses in doubles, each rounded up."""
    nearest = float(value)
    return Fraction(nearest if Fraction(nearest) >= value else nextafter(nearest, inf))


def round_up(scale: Fraction) -> Fraction:
    """Least binary fraction of 20 significant bits at or above `scale`.

    Raises:
        InvalidQuery: at or above 2**50.
    """
    if scale >= SCALE_LIMIT:
        raise InvalidQuery(
            "epsilon is too small for this aggregate: its noise would exceed 64-bit integers",
            field="epsilon_nano",
            rule="dp.epsilon_too_small",
        )
    exponent = _SCALE_BITS - (scale.numerator.bit_length() - scale.denominator.bit_length())
    unit = Fraction(2) ** -exponent
    return -(-scale // unit) * unit


def exact_decimal(value: Fraction) -> str:
    """A binary fraction as decimal text without rounding."""
    digits = value.denominator.bit_length() - 1  # 2**-k has k decimal digits
    scaled = value.numerator * 10**digits // value.denominator
    text = str(scaled).zfill(digits + 1)
    whole, rest = (text[:-digits], text[-digits:].rstrip("0")) if digits else (text, "")
    return f"{whole}.{rest}" if rest else whole


@lru_cache(maxsize=4096)
def laplace_loss(sensitivity: int, scale: Fraction) -> Fraction:
    """Privacy loss that OpenDP's compiled measurement states for this sensitivity."""
    return Fraction(float(_laplace(float(scale)).map(sensitivity)))


def check_laplace(sensitivity: int, scale: Fraction, epsilon_nano: int) -> None:
    """Holds the compiled measurement against the plan, before any data is touched.

    Raises:
        InternalError: it would lose more than planned.
    """
    hold_loss(laplace_loss(sensitivity, scale), sensitivity / scale, scale, epsilon_nano)


def hold_loss(stated: Fraction, exact: Fraction, scale: Fraction, loss_nano: int) -> None:
    """Two losses against the plan: the exact one, and the one that the compiled measurement states in doubles.

    Raises:
        InternalError: one is larger than planned, or the scale is not the one compiled.
    """
    planned = Fraction(loss_nano, NANO)
    if Fraction(float(scale)) != scale or exact > planned or stated > as_float(planned):
        raise InternalError("a measurement exceeds its planned loss", rule="dp.loss_check")


def add_laplace(values: Sequence[int], scale: Fraction) -> list[int]:
    """`values` with independent discrete Laplace noise each, clamped to the release range. Drawn once, now."""
    clamped = [max(-TRUE_LIMIT, min(TRUE_LIMIT, value)) for value in values]
    noisy: list[int] = _laplace(float(scale))(clamped) if clamped else []
    return [max(-RELEASE_LIMIT, min(RELEASE_LIMIT, value)) for value in noisy]


@lru_cache(maxsize=1024)
def _laplace(scale: float) -> Any:
    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    return dp.m.make_laplace(domain, dp.l1_distance(T="i64"), scale)


@lru_cache(maxsize=4096)
def laplace_interval95(scale: Fraction) -> int:
    """Least integer t with P(|noise| <= t) >= 95 %, at most one too large.

    From P(|noise| > t) = 2 q^(t+1) / (1 + q) with q = exp(-1/b): t + 1 >= b ln(40 / (1 + q)). Computed to 60 digits
    and rounded up, with a margin far above the rounding error.
    """
    b = _PRECISE.divide(Decimal(scale.numerator), Decimal(scale.denominator))
    q = _PRECISE.exp(_PRECISE.divide(Decimal(-1), b))
    bound = _PRECISE.multiply(b, _PRECISE.ln(_PRECISE.divide(Decimal(40), _PRECISE.add(Decimal(1), q))))
    margin = _PRECISE.multiply(_MARGIN, _PRECISE.add(bound, Decimal(1)))
    return max(0, int(_PRECISE.add(bound, margin).to_integral_value(rounding=ROUND_CEILING)) - 1)


def gaussian_scale(l2_squared: int, rho_nano: int) -> Fraction:
    """Least scale sigma of the stated form with l2_squared / (2 sigma**2) <= rho.

    Raises:
        InvalidQuery: rho is so small that the noise would leave 64 bits.
    """
    if rho_nano <= 0:
        return round_up(Fraction(SCALE_LIMIT))
    variance = Fraction(l2_squared * NANO, 2 * rho_nano) * (1 + Fraction(1, 2**45))  # room for OpenDP's own rounding
    shift = 2**64
    root = isqrt(variance.numerator * shift * shift // variance.denominator) + 1
    return round_up(Fraction(root, shift))


def check_gaussian(l2_squared: int, scale: Fraction, rho_nano: int) -> None:
    """Holds the compiled measurement against the plan, before any data is touched.

    Raises:
        InternalError: it would lose more than planned.
    """
    hold_loss(_gaussian_loss(l2_squared, scale), l2_squared / (2 * scale * scale), scale, rho_nano)


def add_gaussian(values: Sequence[int], scale: Fraction) -> list[int]:
    """`values` with independent discrete Gaussian noise each, clamped to the release range. Drawn once, now."""
    clamped = [max(-TRUE_LIMIT, min(TRUE_LIMIT, value)) for value in values]
    noisy: list[int] = _gaussian(float(scale))(clamped) if clamped else []
    return [max(-RELEASE_LIMIT, min(RELEASE_LIMIT, value)) for value in noisy]


def gaussian_interval95(scale: Fraction) -> int:
    """An integer t with P(|noise| <= t) >= 95 %, at most one too large.

    P(noise >= t + 1) is at most that of a continuous Gaussian at t, so t = 1.95996... sigma, rounded up.
    """
    return ceil(scale * Fraction(1_959_963_984_541, 10**12))


@lru_cache(maxsize=4096)
def _gaussian_loss(l2_squared: int, scale: Fraction) -> Fraction:
    root = isqrt(l2_squared)
    # The root rounded up, so that what is checked is never less than what can happen.
    length = Fraction(root) if root * root == l2_squared else Fraction(isqrt(l2_squared << 120) + 1, 1 << 60)
    change = float(as_float(length))
    return Fraction(float(_gaussian(float(scale)).map(change)))


@lru_cache(maxsize=1024)
def _gaussian(scale: float) -> Any:
    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    return dp.m.make_gaussian(domain, dp.l2_distance(T="f64"), scale)
