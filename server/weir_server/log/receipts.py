# SPDX-License-Identifier: Apache-2.0
"""Receipts as they leave: the plain proof, and beside it the same proof as a COSE Receipt (RFC 9942)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from weir.checkpoint import ED25519, Checkpoint, Signer, parse
from weir.cose import cose_receipt
from weir.v1 import receipt_pb2
from weir_server import log
from weir_server.store import Transaction


class Receipts:
    """Makes receipts; holds the log's Ed25519 key, since a COSE Receipt is signed when it is asked for.

    Ed25519 has no randomness and a receipt always leads to the first checkpoint above its leaf: so whoever asks again
    gets the same bytes, and nothing has to be stored.
    """

    def __init__(self, signers: Sequence[Signer]) -> None:
        """`signers`: the log's keys; one of them MUST be Ed25519."""
        self._signer = next(signer for signer in signers if signer.kind == ED25519)

    def of(self, tx: Transaction, index: int) -> receipt_pb2.Receipt:
        """The receipt of one leaf.

        Raises:
            UnknownName: no such leaf, or none that a checkpoint covers yet; or its salt was erased.
        """
        return self._with_cose(log.receipt(tx, index))

    def of_requester(
        self, tx: Transaction, requester: str, *, before: int | None = None, limit: int = 50
    ) -> list[receipt_pb2.Receipt]:
        """Receipts of one requester's answers and refusals, newest first, with an index below `before`."""
        return [self._with_cose(plain) for plain in log.receipts_of(tx, requester, before=before, limit=limit)]

    def _with_cose(self, plain: receipt_pb2.Receipt) -> receipt_pb2.Receipt:
        head = _head(plain.checkpoint)
        plain.cose_receipt = cose_receipt(
            index=plain.leaf_index, size=head.size, path=list(plain.inclusion_path), root=head.root, signer=self._signer
        )
        return plain


@lru_cache(maxsize=64)
def _head(note: str) -> Checkpoint:
    """Head that a note of our own states: one note for all receipts of a group."""
    return parse(note)[0]
