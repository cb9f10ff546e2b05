# SPDX-License-Identifier: Apache-2.0
"""Powers of one base many times over, from a table: no squarings, one product for each window of the exponent.

Source: Brickell, Gordon, McCurley, Wilson, "Fast exponentiation with precomputation", EUROCRYPT 1992, in its plain
radix form (one row a window). Table look-ups depend on the exponent, as every product of GMP does: this is for
processes whose memory and cache the attacker does not share.
"""

from __future__ import annotations

from dataclasses import dataclass

from weir.paillier._gmp import mpz


@dataclass(frozen=True, slots=True)
class FixedBase:
    """A table of base**(d·2**(window·j)) modulo `modulus`."""

    modulus: int
    bits: int
    """Longest exponent in bits."""
    window: int
    """Bits of exponent a row covers, 1 to 8."""
    rows: tuple[tuple[int, ...], ...]
    """rows[j][d] = base**(d·2**(window·j))."""

    @classmethod
    def prepare(cls, base: int, *, modulus: int, bits: int, window: int) -> FixedBase:
        """Build the table: ceil(bits/window)·2**window products."""
        if not 1 <= window <= 8:
            raise ValueError("window must be from 1 to 8")
        modulus = mpz(modulus)
        step = mpz(base) % modulus
        rows = []
        for _ in range(-(-bits // window)):
            row = [mpz(1)]
            for _ in range((1 << window) - 1):
                row.append(row[-1] * step % modulus)
            rows.append(tuple(row))
            step = row[-1] * step % modulus
        return cls(modulus, bits, window, tuple(rows))

    def power(self, exponent: int) -> int:
        """base**exponent for 0 ≤ exponent < 2**bits."""
        if not 0 <= exponent < 1 << self.bits:
            raise ValueError("exponent out of range")
        modulus, window, mask = self.modulus, self.window, (1 << self.window) - 1
        product = mpz(1)
        for row in self.rows:
            digit = exponent & mask
            if digit:
                product = product * row[digit] % modulus
            exponent >>= window
        return product
