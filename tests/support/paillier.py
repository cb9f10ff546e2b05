# SPDX-License-Identifier: Apache-2.0
"""Keys and entropy for tests of encrypted queries: small keys where speed matters, real sizes where the size does."""

from __future__ import annotations

import hashlib
from functools import cache

from weir.paillier import Entropy, PublicKey
from weir.paillier._gmp import gcd, mpz, next_prime
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


def key_with_common_factor(bits: int = 2048) -> tuple[int, int]:
    """Primes p, q with p dividing q - 1: n = p·q has gcd(n, φ(n)) = p."""
    for p_bits in range(bits // 2 - 40, bits // 2 - 20):
        p = prime(p_bits // 8 * 8, "common")
        k = (mpz(1) << (bits - 2 * p.bit_length())) | 2
        k += k % 2
        while True:
            q = int(k * p + 1)
            if next_prime(mpz(q - 1)) == q and (p * q).bit_length() == bits:
                assert gcd(p * q, (p - 1) * (q - 1)) == p
                return p, q
            if (p * q).bit_length() > bits:
                break
            k += 2
    raise AssertionError("no such key found")
