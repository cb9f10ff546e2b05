# SPDX-License-Identifier: Apache-2.0
"""Multi-exponentiation by buckets: Π cᵢ**sᵢ mod n² for many ciphertexts and signed scalars.

Three ideas together; the figures are in docs/performance.md.

* Buckets. Scalars are cut into windows of signed digits; in each window, ciphertexts with the same digit are
  multiplied together first, and running products weigh the buckets. Source: Pippenger 1976; in this form Bernstein,
  Doumen, Lange, Oosterwijk, "Faster batch forgery identification", INDOCRYPT 2012, section 4. Negative digits have
  buckets of their own, so the whole costs one inversion at the end.
* Splitting. With c = l·(1 + n·t), l < n, the factors (1 + n·t) multiply by adding s·t modulo n, so only the l go
  through the buckets: a product by l is two thirds of one by c.
* n-adic pairs. What is left (weighing the buckets) works on c = l + h·n as (l, h), three products of half the
  length in place of one of full length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from weir.paillier._gmp import f_divmod, invert, mpz, powmod

FEWEST = 3
"""Up to this many ciphertexts, one exponentiation each is as good."""
_PRODUCT_COST = 1.5
"""A product of two n-adic pairs, in units of one product by an l. Measured at 2048 and 3072 bits."""

Pair = tuple[int, int]
"""(l, h) for l + h·n with l, h in [0, n)."""
_ONE: Pair = (mpz(1), mpz(0))


@dataclass(frozen=True, slots=True)
class Split:
    """Ciphertexts as lᵢ·(1 + n·tᵢ)."""

    n: int
    low: list[int]
    """lᵢ = cᵢ mod n."""
    log: list[int]
    """tᵢ = (cᵢ div n)/lᵢ mod n."""

    @classmethod
    def of(cls, n: int, ciphertexts: Sequence[int]) -> Split:
        """Split each. Raises: ZeroDivisionError on a non-unit."""
        low, log = [], []
        for c in ciphertexts:
            high, rest = f_divmod(c, n)
            low.append(rest)
            log.append(high * invert(rest, n) % n)
        return cls(n, low, log)


@dataclass(frozen=True, slots=True)
class Window:
    """Digits (s + bias) >> shift, masked to `width` bits but for the top one, less 2**(width-1) below the top."""

    shift: int
    width: int
    top: bool


def dot(n: int, ciphertexts: Sequence[int], scalars: Sequence[int]) -> int:
    """Π cᵢ**sᵢ mod n² for one column. Raises: ZeroDivisionError on a non-unit."""
    # The sum of sᵢ·hᵢ/lᵢ is taken as one fraction: cheaper than an inverse for each when there is one column only.
    low = []
    numerator, denominator = mpz(0), mpz(1)
    for c, s in zip(ciphertexts, scalars, strict=True):
        high, rest = f_divmod(c, n)
        low.append(rest)
        numerator = (numerator * rest + denominator * (s * high)) % n
        denominator = denominator * rest % n
    return power_of_low(n, low, scalars) * (1 + numerator * invert(denominator, n) % n * n) % (n * n)


def split_dot(split: Split, scalars: Sequence[int]) -> int:
    """Π cᵢ**sᵢ mod n² for ciphertexts split ahead."""
    n = split.n
    log = sum(s * t for s, t in zip(scalars, split.log, strict=True)) % n
    return power_of_low(n, split.low, scalars) * (1 + log * n) % (n * n)


def power_of_low(n: int, low: Sequence[int], scalars: Sequence[int]) -> int:
    """Π lᵢ**sᵢ mod n² for lᵢ in (0, n). Raises: ZeroDivisionError on a non-unit."""
    if not any(scalars):
        return mpz(1)
    n_squared = n * n
    windows = plan(len(low), max(s.bit_length() for s in scalars), min(scalars) < 0)
    biased = [s + sum(1 << (w.shift + w.width - 1) for w in windows if not w.top) for s in scalars]
    positive = negative = mpz(1)
    for window in reversed(windows):
        plus, minus = _fill(n_squared, low, biased, window)
        positive = powmod(positive, 1 << window.width, n_squared) * _weigh(n, plus) % n_squared
        negative = powmod(negative, 1 << window.width, n_squared) * _weigh(n, minus) % n_squared
    return positive if negative == 1 else positive * invert(negative, n_squared) % n_squared


@lru_cache(maxsize=256)
def plan(count: int, bits: int, signed: bool) -> tuple[Window, ...]:
    """The cheapest cut of scalars of up to `bits` bits into windows for `count` ciphertexts, lowest first.

    The top window takes what is left with its sign, so that no carry can leave it; those below it hold digits in
    [-2**(width-1), 2**(width-1)).
    """
    return min((_cut(bits + signed, parts) for parts in range(1, bits + 2)), key=lambda cut: _cost(cut, count))


def _cut(bits: int, parts: int) -> tuple[Window, ...]:
    width, wider = divmod(bits, min(parts, bits))
    widths = [width] * (min(parts, bits) - wider) + [width + 1] * wider
    shifts = [sum(widths[:at]) for at in range(len(widths))]
    return tuple(Window(s, w, s == shifts[-1]) for s, w in zip(shifts, widths, strict=True))


def _cost(windows: Sequence[Window], count: int) -> float:
    return sum(count * (1 - 2.0**-w.width) + 2 * _PRODUCT_COST * 2.0**w.width for w in windows)


def _fill(
    n_squared: int, low: Sequence[int], biased: Sequence[int], window: Window
) -> tuple[dict[int, int], dict[int, int]]:
    """The product of the l of each digit: {digit: product} for the positive and, by magnitude, the negative ones."""
    plus: dict[int, int] = {}
    minus: dict[int, int] = {}
    shift = window.shift
    # The top digit keeps its sign and is not cut; -1 masks nothing.
    mask, half = (-1, 0) if window.top else ((1 << window.width) - 1, 1 << (window.width - 1))
    for x, s in zip(low, biased, strict=True):
        digit = (s >> shift & mask) - half
        if digit > 0:
            plus[digit] = plus[digit] * x % n_squared if digit in plus else x
        elif digit < 0:
            minus[-digit] = minus[-digit] * x % n_squared if -digit in minus else x
    return plus, minus


def _weigh(n: int, buckets: dict[int, int]) -> int:
    """Π bucket[d]**d, by running products from the largest digit down; runs of empty buckets are one power."""
    running, total = _ONE, _ONE
    above = 0
    for digit in sorted(buckets, reverse=True):
        if above:
            total = _raise_into(n, total, running, above - digit)
        high, rest = f_divmod(buckets[digit], n)
        running = _times(n, running, (rest, high))
        above = digit
    if above:
        total = _raise_into(n, total, running, above)
    return total[0] + total[1] * n


def _raise_into(n: int, total: Pair, running: Pair, gap: int) -> Pair:
    if gap > 4:
        power = powmod(running[0] + running[1] * n, gap, n * n)
        high, rest = f_divmod(power, n)
        return _times(n, total, (rest, high))
    for _ in range(gap):
        total = _times(n, total, running)
    return total


def _times(n: int, x: Pair, y: Pair) -> Pair:
    if x is _ONE:
        return y
    quotient, low = f_divmod(x[0] * y[0], n)
    return low, (quotient + x[0] * y[1] + x[1] * y[0]) % n
