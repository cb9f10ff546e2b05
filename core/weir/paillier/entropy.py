# SPDX-License-Identifier: Apache-2.0
"""Random integers drawn from a source that the caller hands in, so that nothing here is random by itself."""

from __future__ import annotations

from collections.abc import Callable

from weir.paillier._gmp import gcd

Entropy = Callable[[int], bytes]
"""Gives exactly that many unpredictable bytes: `secrets.token_bytes`, `os.urandom`, or a fixed stream in a test."""


def uniform_below(bound: int, *, entropy: Entropy) -> int:
    """An integer uniform in [0, bound), by rejection. `bound` ≥ 1."""
    if bound < 1:
        raise ValueError("bound must be at least 1")
    bits = (bound - 1).bit_length()
    size = (bits + 7) // 8
    excess = 8 * size - bits
    while True:
        drawn = int.from_bytes(entropy(size), "big") >> excess
        if drawn < bound:
            return drawn


def uniform_unit(n: int, *, entropy: Entropy) -> int:
    """A unit uniform in Z_n*."""
    while True:
        drawn = uniform_below(n, entropy=entropy)
        if gcd(drawn, n) == 1:
            return drawn
