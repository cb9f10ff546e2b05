# SPDX-License-Identifier: Apache-2.0
"""The arithmetic on many ciphertexts, behind one small interface.

`Kernels` is the seam: a native implementation can stand beside `GmpKernels` and be tested against it. Every kernel
is a deterministic function of its arguments. Its results are NOT fit to leave the domain: `masking.mask_reply`
finishes them. Ciphertexts MUST have passed `check_ciphertexts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from weir.errors import InvalidRequest
from weir.paillier import _buckets, _subsets
from weir.paillier._gmp import invert, mpz, powmod
from weir.paillier.ciphertexts import invalid_ciphertext
from weir.paillier.keys import PublicKey


class Kernels(Protocol):
    """What an implementation provides. Scalars are signed integers of any size; ciphertexts residues modulo n²."""

    def dot(self, key: PublicKey, ciphertexts: Sequence[int], scalars: Sequence[int]) -> int:
        """Π cᵢ**sᵢ mod n²: an encryption of Σ sᵢ·mᵢ; 1 for no ciphertexts."""
        ...

    def matrix_dot(self, key: PublicKey, ciphertexts: Sequence[int], columns: Sequence[Sequence[int]]) -> list[int]:
        """`dot` of the same ciphertexts with each column of scalars, sharing what can be shared."""
        ...

    def add_all(self, key: PublicKey, ciphertexts: Sequence[int]) -> int:
        """Π cᵢ mod n²: an encryption of Σ mᵢ."""
        ...

    def scale(self, key: PublicKey, ciphertext: int, scalar: int) -> int:
        """c**s mod n²: an encryption of s·m."""
        ...


class GmpKernels:
    """The kernels on gmpy2. Holds the interpreter lock for the whole of a call: run long ones in worker processes."""

    def dot(self, key: PublicKey, ciphertexts: Sequence[int], scalars: Sequence[int]) -> int:
        """See `Kernels.dot`. Raises: InvalidRequest on unequal lengths, InvalidCiphertext on a non-unit."""
        _same_length(ciphertexts, scalars)
        pairs = [(mpz(c), int(s)) for c, s in zip(ciphertexts, scalars, strict=True) if s]
        try:
            if len(pairs) <= _buckets.FEWEST:
                return _one_by_one(key, pairs)
            return _buckets.dot(key.n, [c for c, _ in pairs], [s for _, s in pairs])
        except ZeroDivisionError:
            raise invalid_ciphertext() from None

    def matrix_dot(self, key: PublicKey, ciphertexts: Sequence[int], columns: Sequence[Sequence[int]]) -> list[int]:
        """See `Kernels.matrix_dot`. Raises: as `dot`."""
        for column in columns:
            _same_length(ciphertexts, column)
        if len(columns) <= 1 or len(ciphertexts) <= _buckets.FEWEST:
            return [self.dot(key, ciphertexts, column) for column in columns]
        scalars = [[int(s) for s in column] for column in columns]
        try:
            split = _buckets.Split.of(key.n, [mpz(c) for c in ciphertexts])
            if _subsets.is_cheaper(scalars):
                return _subsets.matrix_dot(split, scalars)
            return [_buckets.split_dot(split, column) for column in scalars]
        except ZeroDivisionError:
            raise invalid_ciphertext() from None

    def add_all(self, key: PublicKey, ciphertexts: Sequence[int]) -> int:
        """See `Kernels.add_all`."""
        product, n_squared = mpz(1), key.n_squared
        for c in ciphertexts:
            product = product * c % n_squared
        return product

    def scale(self, key: PublicKey, ciphertext: int, scalar: int) -> int:
        """See `Kernels.scale`. Raises: InvalidCiphertext on a non-unit."""
        try:
            return _power(key, ciphertext, scalar)
        except ZeroDivisionError:
            raise invalid_ciphertext() from None


KERNELS: Kernels = GmpKernels()
"""The implementation that the functions below, and the worker processes, use."""


def dot(key: PublicKey, ciphertexts: Sequence[int], scalars: Sequence[int]) -> int:
    """Enc(Σ sᵢ·mᵢ) from ciphertexts of mᵢ and signed integers sᵢ, deterministic and unmasked.

    Raises: InvalidRequest on unequal lengths, InvalidCiphertext on a non-unit.
    """
    return KERNELS.dot(key, ciphertexts, scalars)


def matrix_dot(key: PublicKey, ciphertexts: Sequence[int], columns: Sequence[Sequence[int]]) -> list[int]:
    """`dot` of the same ciphertexts with each column. Raises: as `dot`."""
    return KERNELS.matrix_dot(key, ciphertexts, columns)


def add_all(key: PublicKey, ciphertexts: Sequence[int]) -> int:
    """Enc(Σ mᵢ), deterministic and unmasked."""
    return KERNELS.add_all(key, ciphertexts)


def scale(key: PublicKey, ciphertext: int, scalar: int) -> int:
    """Enc(s·m), deterministic and unmasked. Raises: InvalidCiphertext on a non-unit."""
    return KERNELS.scale(key, ciphertext, scalar)


def _one_by_one(key: PublicKey, pairs: Sequence[tuple[int, int]]) -> int:
    product = mpz(1)
    for c, s in pairs:
        product = product * _power(key, c, s) % key.n_squared
    return product


def _power(key: PublicKey, ciphertext: int, scalar: int) -> int:
    # An inversion costs less than the squarings of a full-length exponent n - |s|.
    base = invert(mpz(ciphertext), key.n_squared) if scalar < 0 else mpz(ciphertext)
    return powmod(base, abs(scalar), key.n_squared)


def _same_length(ciphertexts: Sequence[int], scalars: Sequence[int]) -> None:
    if len(ciphertexts) != len(scalars):
        raise InvalidRequest("there must be one weight for each cell", field="weights", rule="paillier.lengths")


__all__ = ["KERNELS", "GmpKernels", "Kernels", "add_all", "dot", "matrix_dot", "scale"]
