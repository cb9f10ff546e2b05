# SPDX-License-Identifier: Apache-2.0
"""Who multiplies ciphertexts: worker processes of this machine, and for very long vectors a Spark cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from weir.paillier import PublicKey


class Reducer(Protocol):
    """Makes one ciphertext a column from a vector of them. The result is not masked, so it is not fit to leave."""

    async def matrix_dot(self, key: PublicKey, ciphertexts: bytes, columns: Sequence[Sequence[int]]) -> bytes:
        """`weir.paillier.matrix_dot` on ciphertexts in wire form, which MUST have been checked; one a column.

        Raises: InvalidCiphertext, InvalidRequest, Unavailable, InternalError.
        """
        ...


class Cluster(Reducer, Protocol):
    """A reducer that may be away, or unfit, when it is needed."""

    async def check(self) -> None:
        """Refuse before anything is uploaded or charged what could not be worked on afterwards. Raises: Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Reducers:
    """A choice by length: public, so that it tells nothing."""

    near: Reducer
    """For what is short enough."""
    far: Cluster | None = None
    """For what is longer, where there is one."""
    far_above: int = 0
    """Vectors of more ciphertexts than this go far."""

    def of(self, count: int) -> Reducer:
        """The one that reduces vectors of `count`."""
        return self.near if self.far is None or count <= self.far_above else self.far

    async def check(self, count: int) -> None:
        """Whether vectors of `count` can be reduced now. Raises: Unavailable."""
        if self.far is not None and count > self.far_above:
            await self.far.check()
