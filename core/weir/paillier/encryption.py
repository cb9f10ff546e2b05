# SPDX-License-Identifier: Apache-2.0
"""Encryption by whoever holds only the public key. The owner's faster path is in the client.

Enc(m) = (1 + n)**m · r**n mod n² = (1 + m·n) · r**n mod n². Source: Paillier, EUROCRYPT 1999, scheme 1 with
g = 1 + n. The cost is the obfuscator r**n; it does not depend on m, so it can be drawn ahead (`ObfuscatorPool`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from weir.errors import HeadroomExceeded
from weir.paillier._gmp import powmod
from weir.paillier.entropy import Entropy, uniform_below, uniform_unit
from weir.paillier.fixed_base import FixedBase
from weir.paillier.keys import PublicKey

Obfuscators = Callable[[], int]
"""Gives an encryption of zero that nobody else has seen or will see."""


def encrypt(key: PublicKey, plaintext: int, *, entropy: Entropy) -> int:
    """Enc(plaintext) with a full-length exponent; |plaintext| must leave it distinguishable by sign: (-n/2, n/2),
    or any residue in [0, n).

    Assumption: decisional composite residuosity (Paillier 1999), nothing else.

    Raises: HeadroomExceeded.
    """
    return obfuscate(key, trivial(key, plaintext), obfuscator(key, entropy=entropy))


def encrypt_with(key: PublicKey, plaintexts: Sequence[int], *, obfuscators: Obfuscators) -> list[int]:
    """Enc of each plaintext, with obfuscators from a pool or from `ShortExponent`. Raises: HeadroomExceeded."""
    return [obfuscate(key, trivial(key, m), obfuscators()) for m in plaintexts]


def trivial(key: PublicKey, plaintext: int) -> int:
    """(1 + n)**plaintext: the encryption without randomness, which hides nothing yet. Raises: HeadroomExceeded."""
    if not -key.n < 2 * plaintext or not plaintext < key.n:
        raise HeadroomExceeded("a plaintext does not fit the key", field="plaintexts", rule="paillier.plaintext")
    return 1 + plaintext % key.n * key.n


def obfuscate(key: PublicKey, ciphertext: int, encryption_of_zero: int) -> int:
    """The same plaintext under new randomness."""
    return ciphertext * encryption_of_zero % key.n_squared


def obfuscator(key: PublicKey, *, entropy: Entropy) -> int:
    """r**n mod n² for r uniform in Z_n*: a uniform n-th residue."""
    return powmod(uniform_unit(key.n, entropy=entropy), key.n, key.n_squared)


@dataclass(frozen=True, slots=True)
class ShortExponent:
    """Encryptions of zero as (h**n)**a with a uniform below 2**(bits/2), about 15 times faster than r**n.

    An option, never the default, because it adds to composite residuosity the assumption that short-exponent powers
    of h**n are indistinguishable from uniform n-th residues of Jacobi symbol 1. Source: Damgård, Jurik, Nielsen,
    "A generalization of Paillier's public-key system with applications to electronic voting", IJIS 2010, section 4.2
    (h = -x², exponent of half the length of n); they take primes p ≡ q ≡ 3 mod 4 with gcd(p-1, q-1) = 2, which a
    holder of n alone cannot check. Do not use it to finish a reply: against the key's owner, who can take logarithms
    in a group of smooth order, only the full-length exponent hides.
    """

    key: PublicKey
    base: FixedBase

    @classmethod
    def prepare(cls, key: PublicKey, *, entropy: Entropy, window: int = 8) -> ShortExponent:
        """Draw h and build the table (2**window entries for each `window` bits of exponent)."""
        x = uniform_unit(key.n, entropy=entropy)
        h = powmod(-x * x % key.n, key.n, key.n_squared)
        return cls(key, FixedBase.prepare(h, modulus=key.n_squared, bits=key.bits // 2, window=window))

    def draw(self, *, entropy: Entropy) -> int:
        """One fresh encryption of zero."""
        return self.base.power(uniform_below(1 << self.base.bits, entropy=entropy))
