# SPDX-License-Identifier: Apache-2.0
"""Random n-th residues modulo p² for the owner of n = p·q, from a table of powers of one base.

The n-th residues modulo p² are the cyclic group of order p - 1 that maps one to one onto Z_p* (when
gcd(n, φ(n)) = 1), so a random one is g**a with a uniform below p - 1, and its residue modulo p determines it. The
table keeps each power as l·(1 + p·t): then a draw multiplies half-length l and merely adds t.

Assumption: none beyond Paillier's if g generates the group. Since p - 1 cannot be factored in general, g is chosen
to be no s-th power for any prime s < 2**16 that divides p - 1; a larger s is missed with probability below 1/s each.
Even then the residues drawn are uniform in a subgroup whose index has no small factor, which only the owner, who
knows p, can tell from the whole. Exponents are full-length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from weir.paillier._gmp import f_divmod, invert, is_prime, mpz, powmod
from weir.paillier.entropy import Entropy, uniform_below

_INDEX_BOUND = 1 << 16


@dataclass(frozen=True, slots=True)
class ResidueTable:
    """Powers g**(d·2**(window·j)) of one generator g of the n-th residues modulo prime²."""

    prime: int
    window: int
    """Bits of exponent in a row, 1 to 8: the table has 2**window entries of two half-length numbers a row."""
    rows: tuple[tuple[tuple[int, int], ...], ...]
    """rows[j][d] = (l, t) for g**(d·2**(window·j)) = l·(1 + prime·t) mod prime²."""

    @classmethod
    def prepare(cls, prime: int, *, window: int, entropy: Entropy) -> ResidueTable:
        """Draw a generator and build its table."""
        power = _lift(_draw_generator(prime, entropy=entropy), prime)
        rows = []
        for _ in range(-(-prime.bit_length() // window)):
            row = _row(power, prime, 1 << window)
            rows.append(row[:-1])
            power = _join(row[-1], prime)
        return cls(prime, window, tuple(tuple(row) for row in rows))

    def draw(self, *, entropy: Entropy) -> int:
        """One residue, uniform in the group g generates."""
        return self.power(uniform_below(self.prime - 1, entropy=entropy))

    def power(self, exponent: int) -> int:
        """g**exponent mod prime² for 0 ≤ exponent < prime."""
        square = self.prime * self.prime
        product, log = mpz(1), mpz(0)
        for row, digit in zip(self.rows, _digits(exponent, self.window, len(self.rows)), strict=True):
            low, slope = row[digit]
            product = product * low % square
            log += slope
        return product * (1 + log % self.prime * self.prime) % square


def _digits(exponent: int, window: int, count: int) -> bytes:
    if window == 8:
        return exponent.to_bytes(count, "little")
    mask = (1 << window) - 1
    return bytes(exponent >> (window * at) & mask for at in range(count))


def _draw_generator(prime: int, *, entropy: Entropy) -> int:
    factors = [s for s in _small_primes() if (prime - 1) % s == 0]
    while True:
        g = mpz(1 + uniform_below(int(prime) - 1, entropy=entropy))
        if all(powmod(g, (prime - 1) // s, prime) != 1 for s in factors):
            return g


def _lift(g: int, prime: int) -> int:
    """The element of order dividing prime - 1 modulo prime² that is g modulo prime."""
    return powmod(g, prime, prime * prime)


def _row(base: int, prime: int, length: int) -> list[tuple[int, int]]:
    """base**0 … base**length, split. Inverses are carried along, so that the row needs one inversion only."""
    high, low = f_divmod(base, prime)
    inverse = invert(low, prime)
    slope = high * inverse % prime
    row, running = [(mpz(1), mpz(0))], mpz(1)
    for _ in range(length):
        quotient, rest = f_divmod(row[-1][0] * low, prime)
        running = running * inverse % prime
        row.append((rest, (row[-1][1] + slope + quotient * running) % prime))
    return row


def _join(entry: tuple[int, int], prime: int) -> int:
    return entry[0] * (1 + entry[1] * prime) % (prime * prime)


@cache
def _small_primes() -> tuple[int, ...]:
    return tuple(s for s in range(2, _INDEX_BOUND) if is_prime(mpz(s)))
