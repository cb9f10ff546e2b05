# SPDX-License-Identifier: Apache-2.0
"""Exact amounts: privacy loss in nano-epsilon or micro-rho, money in micro-units, all integers.

No float ever adds up a budget (DESIGN §3.9). People write decimals; they are read here once, exactly, and refused
where they carry more digits than the unit holds.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from weir.errors import InvalidRequest

NANO = 1_000_000_000
MICRO = 1_000_000
MAX_AMOUNT = 2**62
"""Amounts stay below this, so that sums of two fit a signed 64-bit column."""


def parse_epsilon(text: str | int | float | Decimal, *, field: str = "epsilon") -> int:
    """Nano-epsilon of a decimal such as "0.5".

    A float is read by its shortest decimal form (0.1 means one tenth). Range: (0, 2**62) nano.

    Raises:
        InvalidRequest: not a finite positive decimal of at most nine fractional digits.
    """
    value = parse_decimal(text, unit=NANO, field=field)
    if value <= 0:
        raise InvalidRequest(f"{field} must be greater than 0", field=field, rule="amount.positive")
    return value


def parse_rho(text: str | int | float | Decimal, *, field: str = "rho") -> int:
    """Micro-rho of a decimal such as "0.02": concentrated privacy loss (zCDP). Range: (0, 2**62) micro.

    Raises:
        InvalidRequest: not a finite positive decimal of at most six fractional digits.
    """
    value = parse_decimal(text, unit=MICRO, field=field)
    if value <= 0:
        raise InvalidRequest(f"{field} must be greater than 0", field=field, rule="amount.positive")
    return value


def parse_price(text: str | int | float | Decimal, *, field: str = "price") -> int:
    """Micro-units of a decimal price such as "0.05"; zero is allowed.

    Raises:
        InvalidRequest: not a finite non-negative decimal of at most six fractional digits.
    """
    return parse_decimal(text, unit=MICRO, field=field)


def parse_decimal(text: str | int | float | Decimal, *, unit: int, field: str) -> int:
    """Integer count of 1/`unit` in a non-negative decimal.

    Raises:
        InvalidRequest: negative, not finite, too large, or finer than the unit.
    """
    try:
        number = Decimal(str(text).strip())
    except InvalidOperation as error:
        raise InvalidRequest(f"{field} is not a decimal number", field=field, rule="amount.decimal") from error
    if not number.is_finite() or (number.is_signed() and number != 0) or abs(number) >= MAX_AMOUNT // unit:
        raise InvalidRequest(f"{field} must be a finite, non-negative decimal", field=field, rule="amount.range")
    # A ratio of integers, since Decimal arithmetic rounds at its context's precision.
    numerator, denominator = number.as_integer_ratio()
    scaled, rest = divmod(numerator * unit, denominator)
    if rest:
        raise InvalidRequest(f"{field} is finer than 1/{unit}", field=field, rule="amount.precision")
    return scaled


def format_epsilon(nano: int) -> str:
    """Shortest exact decimal of a nano-epsilon amount: 500_000_000 → "0.5"."""
    return format_decimal(nano, unit=NANO)


def format_rho(micro: int) -> str:
    """Shortest exact decimal of a micro-rho amount."""
    return format_decimal(micro, unit=MICRO)


def format_price(micro: int) -> str:
    """Shortest exact decimal of a micro-unit amount."""
    return format_decimal(micro, unit=MICRO)


def format_decimal(count: int, *, unit: int) -> str:
    """Shortest exact decimal of `count`/`unit`; `unit` is a power of ten."""
    digits = len(str(unit)) - 1
    sign = "-" if count < 0 else ""
    whole, rest = divmod(abs(count), unit)
    fraction = str(rest).zfill(digits).rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
