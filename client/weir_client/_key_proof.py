# SPDX-License-Identifier: Apache-2.0
"""Making the proof that `weir.paillier.proof` verifies; it needs the factors and reveals nothing about them.

Everything shown is a function of the key and the challenges: two different square roots of one challenge would give
the factors away, so the choice among the four roots is made by a hash keyed with a secret, never at random.
"""

from __future__ import annotations

import hmac

from weir.paillier._gmp import invert, jacobi, mpz, powmod
from weir.paillier.keys import PublicKey
from weir.paillier.proof import encode_proof, root_challenges, square_challenges


def prove(key: PublicKey, p: int, q: int, *, context: bytes) -> bytes:
    """The proof for n = p·q, bound to `context`; about 36 KB at 2048 bits and 54 KB at 3072."""
    n = key.n
    exponent = invert(n, (p - 1) * (q - 1))
    roots = [_power_by_parts(challenge, exponent, p, q) for challenge in root_challenges(key, context)]
    secret = int(min(p, q)).to_bytes(key.modulus_bytes, "big")
    z = _pseudo_square(key, p, q, secret)
    squares = [_root(y if jacobi(y, p) == 1 else z * y % n, p, q, secret) for y in square_challenges(key, z, context)]
    return encode_proof(key, roots=roots, z=z, squares=squares)


def _power_by_parts(base: int, exponent: int, p: int, q: int) -> int:
    return _join(powmod(base % p, exponent % (p - 1), p), powmod(base % q, exponent % (q - 1), q), p, q)


def _join(at_p: int, at_q: int, p: int, q: int) -> int:
    return at_p + p * ((at_q - at_p) * invert(p, q) % q)


def _pseudo_square(key: PublicKey, p: int, q: int, secret: bytes) -> int:
    """The key's own element of Jacobi symbol 1 that is a square modulo neither prime."""
    counter = 0
    while True:
        z = _keyed(secret, b"z" + counter.to_bytes(4, "big"), key.modulus_bytes) % key.n
        if jacobi(z, p) == -1 and jacobi(z, q) == -1:
            return z
        counter += 1


def _root(square: int, p: int, q: int, secret: bytes) -> int:
    """One of the four square roots, chosen as if at random but always the same for the same square."""
    signs = _keyed(secret, b"sign" + int(square).to_bytes(1024, "big"), 1)
    at_p, at_q = _root_mod_prime(square, p), _root_mod_prime(square, q)
    return _join(p - at_p if signs & 1 else at_p, q - at_q if signs & 2 else at_q, p, q)


def _root_mod_prime(square: int, prime: int) -> int:
    """A square root modulo an odd prime, by Tonelli and Shanks. `square` MUST be a residue."""
    odd, twos = prime - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    start = powmod(square, (odd - 1) // 2, prime)
    root = start * square % prime
    error = start * root % prime
    generator = powmod(_non_residue(prime), odd, prime) if error != 1 else mpz(1)
    while error != 1:
        order, power = 0, error
        while power != 1:
            order, power = order + 1, power * power % prime
        fix = powmod(generator, 1 << (twos - order - 1), prime)
        root, generator, twos = root * fix % prime, fix * fix % prime, order
        error = error * generator % prime
    return root


def _non_residue(prime: int) -> int:
    return next(mpz(x) for x in range(2, 1 << 20) if jacobi(mpz(x), prime) == -1)


def _keyed(secret: bytes, message: bytes, size: int) -> int:
    blocks = [hmac.digest(secret, at.to_bytes(4, "big") + message, "sha256") for at in range(-(-size // 32) + 1)]
    return mpz(int.from_bytes(b"".join(blocks)[: size + 16], "big"))
