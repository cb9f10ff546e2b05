# SPDX-License-Identifier: Apache-2.0
"""`phe.EncryptedNumber` in and out. Fixed-scale integers only: an exponent travels in clear and tells the scale of
the value, so any other than 0 is refused rather than rescaled.

Importing this imports phe (GPL-3.0) and is therefore kept out of the worker processes.
"""

from __future__ import annotations

from collections.abc import Sequence

from weir.errors import InvalidCiphertext
from weir.paillier._gmp import mpz
from weir.paillier._phe import EncryptedNumber, PaillierPublicKey
from weir.paillier.ciphertexts import check_ciphertexts, invalid_ciphertext
from weir.paillier.keys import PublicKey, as_public_key


def from_phe_encrypted(key: PublicKey | PaillierPublicKey, numbers: Sequence[EncryptedNumber]) -> list[int]:
    """The ciphertexts of python-paillier's numbers, obfuscated if they were not yet, and checked.

    Raises: InvalidCiphertext when one is of another key, has an exponent other than 0, or is malformed.
    """
    public_key = as_public_key(key)
    if any(number.public_key.n != public_key.n for number in numbers):
        raise invalid_ciphertext()
    if any(number.exponent != 0 for number in numbers):
        raise InvalidCiphertext(
            "only integers are accepted: scale values to integers before encrypting",
            field="ciphertexts",
            rule="paillier.exponent",
        )
    ciphertexts = [mpz(number.ciphertext()) for number in numbers]
    check_ciphertexts(public_key, ciphertexts)
    return ciphertexts


def to_phe_encrypted(key: PublicKey | PaillierPublicKey, ciphertexts: Sequence[int]) -> list[EncryptedNumber]:
    """The same ciphertexts as python-paillier's type, exponent 0."""
    phe_key = key.to_phe() if isinstance(key, PublicKey) else key
    return [EncryptedNumber(phe_key, int(c), 0) for c in ciphertexts]
