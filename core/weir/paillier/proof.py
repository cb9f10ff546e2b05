# SPDX-License-Identifier: Apache-2.0
"""Verifying that a public key is well formed, without learning its factors.

The proof has two parts; both are non-interactive in the random oracle model (SHAKE-256) and bound to a context.

1. *gcd(n, φ(n)) = 1*, so that encryption is a bijection and r**n hides. The prover shows n-th roots of ROOTS
   challenges drawn from hash output. If n has no prime factor below SMALL_FACTOR_BOUND, a bad n passes one challenge
   with probability at most 1/6370, so eleven give 2**-139. Source: Goldberg, Reyzin, Sagga, Baldimtsi, "Efficient
   noninteractive certification of RSA moduli and beyond", eprint 2018/057, sections 3.1 and 3.3.
2. *At most two prime factors.* With part 1, n is square-free. Let z have Jacobi symbol 1. For a challenge y of
   Jacobi symbol 1 the prover shows a square root of y or of z·y. If n = p·q and z is a non-residue modulo both, one
   of them always exists. If n has k ≥ 3 primes, residues have index 2**(k-1) ≥ 4 in that group and {1, z} covers at
   most two cosets, so each challenge fails with probability at least 1/2; SQUARES challenges give 2**-128. Source:
   the same paper, section 3.4, with the published non-residue of Goldwasser and Micali (JCSS 1984) in place of
   counting residues, which would need thousands of challenges.

What it does not show: that the primes are of equal length, or hard to find. A requester who chooses them badly
harms nobody else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from weir.errors import InvalidKey
from weir.paillier._gmp import jacobi, mpz, powmod
from weir.paillier.keys import PublicKey, check_modulus

ROOTS = 11
"""Challenges of part 1: 6370**11 > 2**128."""
SQUARES = 128
"""Challenges of part 2."""
_VERSION = b"\x01"


def proof_bytes(key: PublicKey) -> int:
    """Length of a proof for a key of this size: about 36 or 54 KB."""
    return len(_VERSION) + (ROOTS + 1 + SQUARES) * key.modulus_bytes


def verify_key_proof(public_key: PublicKey, proof: bytes, *, context: bytes) -> None:
    """Accept the key, or say that it is not proven. Includes `check_modulus`.

    `context`: what the proof is bound to; for a registration, the requester's identity.

    Raises: InvalidKey.
    """
    # Cheapest first: a proof of the wrong length costs nothing, whatever the key.
    if len(proof) != proof_bytes(public_key) or proof[:1] != _VERSION:
        raise _unproven()
    check_modulus(public_key.n)
    numbers = _numbers(public_key, proof[1:])
    roots, z, squares = numbers[:ROOTS], numbers[ROOTS], numbers[ROOTS + 1 :]
    n = public_key.n
    for root, challenge in zip(roots, root_challenges(public_key, context), strict=True):
        if powmod(root, n, n) != challenge:
            raise _unproven()
    if jacobi(z, n) != 1:
        raise _unproven()
    for root, challenge in zip(squares, square_challenges(public_key, z, context), strict=True):
        if root * root % n not in (challenge, z * challenge % n):
            raise _unproven()


def encode_proof(key: PublicKey, *, roots: list[int], z: int, squares: list[int]) -> bytes:
    """The wire form: a version byte, then every number big-endian at the length of n."""
    numbers = (*roots, z, *squares)
    return _VERSION + b"".join(int(x).to_bytes(key.modulus_bytes, "big") for x in numbers)


def root_challenges(key: PublicKey, context: bytes) -> list[int]:
    """Part 1's challenges: uniform in [1, n)."""
    stream = _stream(key, b"weir.paillier/n-th-root/v1", context)
    return [next(stream) for _ in range(ROOTS)]


def square_challenges(key: PublicKey, z: int, context: bytes) -> list[int]:
    """Part 2's challenges: uniform among residues of Jacobi symbol 1."""
    bound = int(z).to_bytes(key.modulus_bytes, "big") + context
    stream = (y for y in _stream(key, b"weir.paillier/two-primes/v1", bound) if jacobi(y, key.n) == 1)
    return [next(stream) for _ in range(SQUARES)]


def _stream(key: PublicKey, label: bytes, context: bytes) -> Iterator[int]:
    """Uniform residues in [1, n) from SHAKE-256 of length-prefixed label, n and context, by rejection."""
    prefix = b"".join(len(part).to_bytes(8, "big") + part for part in (label, key.to_bytes(), context))
    excess = 8 * key.modulus_bytes - key.bits
    counter = 0
    while True:
        block = hashlib.shake_256(prefix + counter.to_bytes(8, "big")).digest(key.modulus_bytes)
        counter += 1
        drawn = int.from_bytes(block, "big") >> excess
        if 0 < drawn < key.n:
            yield mpz(drawn)


def _numbers(key: PublicKey, data: bytes) -> list[int]:
    size = key.modulus_bytes
    numbers = [mpz(int.from_bytes(data[at : at + size], "big")) for at in range(0, len(data), size)]
    if not all(0 < x < key.n for x in numbers):
        raise _unproven()
    return numbers


def _unproven() -> InvalidKey:
    return InvalidKey("the key's proof does not verify", field="proof", rule="key.proof")
