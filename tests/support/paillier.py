# SPDX-License-Identifier: Apache-2.0
"""Keys and entropy for tests of encrypted queries: small keys where speed matters, real sizes where the size does."""

from __future__ import annotations

import hashlib
from functools import cache

from weir.paillier import Entropy, PublicKey
from weir.paillier._gmp import is_prime, mpz, next_prime
from weir_client._keys import KeyPair, generate_keypair


def fixed_entropy(seed: str) -> Entropy:
    """A stream of bytes that depends on `seed` and on how much was drawn before."""
    drawn = 0

    def draw(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_256(f"{seed}/{drawn}".encode()).digest(size)

    return draw


@cache
def prime(bits: int, seed: str, residue: int = 1, modulus: int = 1) -> int:
    """A prime of exactly `bits` bits, ≡ `residue` modulo `modulus`; the two highest bits are set."""
    start = int.from_bytes(fixed_entropy(f"{seed}/{bits}")(bits // 8), "big") | 3 << (bits - 2)
    candidate = next_prime(mpz(start & ~1))
    while candidate % modulus != residue % modulus:
        candidate = next_prime(candidate)
    assert candidate.bit_length() == bits
    return int(candidate)


@cache
def small_keypair(bits: int = 512, seed: str = "small") -> KeyPair:
    """A key too short to protect anything, and quick to use."""
    p, q = prime(bits // 2, f"{seed}/p"), prime(bits // 2, f"{seed}/q")
    return KeyPair(PublicKey.unchecked(p * q), p, q)


@cache
def real_keypair(bits: int = 2048, seed: str = "real") -> KeyPair:
    """A key of an accepted size, the same in every run."""
    return generate_keypair(bits, entropy=fixed_entropy(f"{seed}/{bits}"))


@cache
def key_with_common_factor() -> tuple[int, int]:
    """Primes p, q with p dividing q - 1, so that n = p·q (2048 bits) has gcd(n, φ(n)) = p."""
    p = prime(1000, "common")
    k = (mpz(3) << 1046) // p + 1
    k += k % 2
    while not is_prime(k * p + 1):
        k += 2
    return p, int(k * p + 1)


@cache
def smooth_keypair(bits: int = 512, factor_bits: int = 14) -> tuple[KeyPair, tuple[int, ...]]:
    """A key whose p - 1 has only small prime factors (given beside it, each once), as a hostile requester makes it:
    logarithms modulo p are then easy, and what a reply's randomness carries can be read."""
    factors, product = [2], 2
    candidate = next_prime(mpz(1) << (factor_bits - 1))
    while product.bit_length() < bits // 2 - factor_bits:
        factors.append(int(candidate))
        product *= int(candidate)
        candidate = next_prime(candidate)
    last = candidate
    while not is_prime(mpz(product) * last + 1):
        last = next_prime(last)
    p = int(product * last + 1)
    q = prime(bits // 2, "smooth/q")
    return KeyPair(PublicKey.unchecked(p * q), p, q), (*factors, int(last))
