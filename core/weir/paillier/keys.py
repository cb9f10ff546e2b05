# SPDX-License-Identifier: Apache-2.0
"""Public keys: the modulus n of a Paillier key with generator g = n + 1, and the checks anybody can make on it.

What cannot be seen from n alone (two primes, gcd(n, φ(n)) = 1) is shown by the proof in `weir.paillier.proof`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from weir.errors import InvalidKey
from weir.paillier._gmp import gcd, iroot_rem, is_prime, mpz, primorial

if TYPE_CHECKING:
    from weir.paillier._phe import PaillierPublicKey

KEY_BITS = (2048, 3072)
"""Moduli that are accepted: 112 and 128 bits of security (NIST SP 800-57 part 1, table 2). 3072 is the default."""
DEFAULT_KEY_BITS = 3072
SMALL_FACTOR_BOUND = 1 << 16
"""No prime below this divides an accepted modulus; the key proof's soundness builds on it."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A Paillier public key. Construction refuses a wrong size or an even n; `check_modulus` says the rest."""

    n: int
    """Modulus."""
    n_squared: int = field(init=False, repr=False, compare=False)
    """n², the modulus of ciphertexts."""

    def __post_init__(self) -> None:
        check_size(self.n)
        self._set(self.n)

    def _set(self, n: int) -> None:
        # mpz once and for all: every kernel would otherwise convert again at each call.
        object.__setattr__(self, "n", mpz(n))
        object.__setattr__(self, "n_squared", mpz(n) * mpz(n))

    @classmethod
    def unchecked(cls, n: int) -> PublicKey:
        """A key of any size, for tests and for examining foreign keys. Never for a key that protects anything."""
        key = object.__new__(cls)
        key._set(n)
        return key

    @classmethod
    def from_bytes(cls, data: bytes) -> PublicKey:
        """From big-endian n; the length is refused before anything is computed on it.

        Raises: InvalidKey.
        """
        if 8 * len(data) not in KEY_BITS:
            raise _size_error()
        return cls(int.from_bytes(data, "big"))

    @classmethod
    def from_phe(cls, key: PaillierPublicKey) -> PublicKey:
        """From python-paillier's key. Raises: InvalidKey."""
        return cls(key.n)

    def to_phe(self) -> PaillierPublicKey:
        """The same key as python-paillier's type."""
        from weir.paillier._phe import PaillierPublicKey

        return PaillierPublicKey(int(self.n))

    @property
    def bits(self) -> int:
        """Length of n in bits."""
        return self.n.bit_length()

    @property
    def modulus_bytes(self) -> int:
        """Bytes of n, and of any plaintext, on the wire."""
        return (self.bits + 7) // 8

    @property
    def ciphertext_bytes(self) -> int:
        """Bytes of one ciphertext on the wire: 512 or 768."""
        return 2 * self.modulus_bytes

    @property
    def key_id(self) -> str:
        """`sha256:` and the hex digest of big-endian n."""
        return "sha256:" + hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Big-endian n: the wire form."""
        return int(self.n).to_bytes(self.modulus_bytes, "big")


def as_public_key(key: PublicKey | PaillierPublicKey) -> PublicKey:
    """`key` itself, or python-paillier's key converted. Raises: InvalidKey."""
    return key if isinstance(key, PublicKey) else PublicKey.from_phe(key)


def check_size(n: int) -> None:
    """Refuse a modulus of another length or an even one; costs the same for any size. Raises: InvalidKey."""
    if n <= 0 or n.bit_length() not in KEY_BITS:
        raise _size_error()
    if n % 2 == 0:
        raise _refusal("key.odd", "the modulus must be odd")


def check_modulus(n: int) -> None:
    """Refuse every modulus that can be told to be bad from n alone: wrong size, even, divisible by a prime below
    2**16, a perfect power, or prime. Takes well under the time of one encryption.

    Raises: InvalidKey.
    """
    check_size(n)
    n = mpz(n)
    if gcd(n, _primorial()) != 1:
        raise _refusal("key.small_factor", "the modulus has a small factor")
    if _is_perfect_power(n):
        raise _refusal("key.perfect_power", "the modulus is a perfect power")
    if is_prime(n, 25):
        raise _refusal("key.prime", "the modulus is prime")


def _is_perfect_power(n: int) -> bool:
    # Every factor is ≥ 2**16 by now, so exponents above bits/16 cannot occur; prime exponents suffice.
    largest = n.bit_length() // (SMALL_FACTOR_BOUND.bit_length() - 1)
    return any(iroot_rem(n, k)[1] == 0 for k in range(2, largest + 1) if is_prime(mpz(k)))


@cache
def _primorial() -> int:
    return primorial(SMALL_FACTOR_BOUND)


def _size_error() -> InvalidKey:
    sizes = " or ".join(str(bits) for bits in KEY_BITS)
    return _refusal("key.size", f"the modulus must have {sizes} bits")


def _refusal(rule: str, message: str) -> InvalidKey:
    return InvalidKey(message, field="public_key", rule=rule)
