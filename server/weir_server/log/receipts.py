# SPDX-License-Identifier: Apache-2.0
"""Receipts as they leave: the plain proof, and beside it the same proof as a COSE Receipt (RFC 9942)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol

from weir.checkpoint import ED25519, Checkpoint, Signer, parse
from weir.cose import cose_receipt
from weir.errors import UnknownName
from weir.v1 import receipt_pb2
from weir_server import log
from weir_server.log.seal import Group, Sealed
from weir_server.store import Store, Transaction
from weir_server.store.aside import read_aside


class Leaf(Protocol):
    """A leaf as the operation that appended it knows it."""

    @property
    def leaf_index(self) -> int:
        """Its index."""
        ...

    @property
    def leaf(self) -> bytes:
        """Its canonical event."""
        ...

    @property
    def salt(self) -> bytes:
        """What opens its commitments."""
        ...

    @property
    def group(self) -> Group:
        """What its group was sealed with."""
        ...


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
        return self._read(log.receipt(tx, index))

    def of_group(self, index: int, leaf: bytes, salt: bytes, sealed: Sealed) -> receipt_pb2.Receipt:
        """The same receipt as `of`, of a leaf whose group has become durable."""
        plain = receipt_pb2.Receipt(
            leaf_index=index,
            leaf=leaf,
            salt=salt,
            inclusion_path=sealed.growth.path(index),
            checkpoint=sealed.note,
        )
        return self._with_cose(plain, size=sealed.growth.size, root=sealed.growth.root)

    def of_all(self, tx: Transaction, indexes: Iterable[int]) -> dict[int, receipt_pb2.Receipt]:
        """Receipts by index, as `of`; without those that `of` would not find."""
        return {index: self._read(plain) for index, plain in log.receipts_at(tx, indexes).items()}

    def of_requester(
        self, tx: Transaction, requester: str, *, before: int | None = None, limit: int = 50
    ) -> list[receipt_pb2.Receipt]:
        """Receipts of one requester's answers and refusals, newest first, with an index below `before`."""
        return [self._read(plain) for plain in log.receipts_of(tx, requester, before=before, limit=limit)]

    def _with_cose(self, plain: receipt_pb2.Receipt, *, size: int, root: bytes) -> receipt_pb2.Receipt:
        plain.cose_receipt = cose_receipt(
            index=plain.leaf_index, size=size, path=list(plain.inclusion_path), root=root, signer=self._signer
        )
        return plain

    def _read(self, plain: receipt_pb2.Receipt) -> receipt_pb2.Receipt:
        head = _head(plain.checkpoint)
        return self._with_cose(plain, size=head.size, root=head.root)


_Asked = tuple[int, asyncio.Future[receipt_pb2.Receipt]]
"""Index of a leaf, and who waits for its receipt."""


class GroupedReceipts:
    """Reads together the receipts that are asked for in one step of the event loop: those of a group's commits."""

    def __init__(self, store: Store, receipts: Receipts) -> None:
        self._store, self._receipts = store, receipts
        self._asked: list[_Asked] = []
        self._reading: set[asyncio.Task[None]] = set()

    async def of_leaf(self, posted: Leaf) -> receipt_pb2.Receipt:
        """The receipt of a leaf that has just become durable, from memory where its group was signed as a whole."""
        sealed = posted.group.sealed
        if sealed is None:
            return await self.of(posted.leaf_index)
        return self._receipts.of_group(posted.leaf_index, posted.leaf, posted.salt, sealed)

    async def of(self, index: int) -> receipt_pb2.Receipt:
        """The receipt of a durable leaf.

        Raises:
            UnknownName: as `Receipts.of`.
        """
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._start)
        waiter: asyncio.Future[receipt_pb2.Receipt] = loop.create_future()
        self._asked.append((index, waiter))
        return await waiter

    def _start(self) -> None:
        asked, self._asked = self._asked, []
        task = asyncio.get_running_loop().create_task(self._read(asked))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read(self, asked: Sequence[_Asked]) -> None:
        try:
            indexes = [index for index, _ in asked]
            found = await read_aside(self._store, lambda tx: self._receipts.of_all(tx, indexes))
        except Exception as error:  # Not swallowed: whoever waits is told.
            for _, waiter in asked:
                if not waiter.done():
                    waiter.set_exception(error)
            return
        for index, waiter in asked:
            if waiter.done():  # Its caller went away.
                continue
            if index in found:
                waiter.set_result(found[index])
            else:
                waiter.set_exception(UnknownName("no receipt for this index", field="index", rule="log.index"))


@lru_cache(maxsize=64)
def _head(note: str) -> Checkpoint:
    """Head that a note of our own states: one note for all receipts of a group."""
    return parse(note)[0]
