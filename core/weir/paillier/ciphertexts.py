# SPDX-License-Identifier: Apache-2.0
"""Ciphertexts: their wire form (fixed length, big-endian) and the checks made before any is used.

Every refusal is the same error with the same text, without an index: which of the tests failed, and on which
ciphertext, would be an oracle on whoever produced them.
"""

from __future__ import annotations

from collections.abc import Sequence

from weir.errors import InvalidCiphertext
from weir.paillier._gmp import gcd, mpz
from weir.paillier.keys import PublicKey


def encode_ciphertexts(key: PublicKey, ciphertexts: Sequence[int]) -> bytes:
    """`ciphertexts` one after another, each `key.ciphertext_bytes` long, big-endian.

    Raises: InvalidCiphertext when one is outside [0, n²).
    """
    size = key.ciphertext_bytes
    if not all(0 <= c < key.n_squared for c in ciphertexts):
        raise invalid_ciphertext()
    return b"".join(int(c).to_bytes(size, "big") for c in ciphertexts)


def decode_ciphertexts(key: PublicKey, data: bytes) -> list[int]:
    """The integers (gmpy2.mpz at run time) of a wire form. `check_ciphertexts` has still to be called on them.

    Raises: InvalidCiphertext when the length is not a multiple of `key.ciphertext_bytes`.
    """
    size = key.ciphertext_bytes
    if len(data) % size:
        raise invalid_ciphertext()
    return [mpz(int.from_bytes(data[at : at + size], "big")) for at in range(0, len(data), size)]


def check_ciphertexts(key: PublicKey, ciphertexts: Sequence[int]) -> None:
    """Refuse what is no encryption under `key`: outside (0, n²), not a unit, or trivial.

    A trivial ciphertext has randomness ±1: it hides nothing, so its sender meant something else than encryption.
    Units modulo n² are the units modulo n, so one gcd of the product modulo n tests them all; a product keeps every
    common factor with n.

    Raises: InvalidCiphertext.
    """
    n, n_squared = key.n, key.n_squared
    product = mpz(1)
    for c in ciphertexts:
        low = c % n
        if not 0 < c < n_squared or low == 1 or low == n - 1:
            raise invalid_ciphertext()
        product = product * low % n
    if gcd(product, n) != 1:
        raise invalid_ciphertext()


def invalid_ciphertext() -> InvalidCiphertext:
    """The one error for every bad ciphertext."""
    return InvalidCiphertext(
        "a ciphertext is not one of the named key's", field="ciphertexts", rule="paillier.ciphertext"
    )
