# SPDX-License-Identifier: Apache-2.0
"""Receipts made from what a group was sealed with are those that the books give ever after."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.ledger import ALICE, PQ_SIGNER, SIGNER, VKEY, Books, open_books
from weir.errors import Unavailable, UnknownName
from weir.receipts import verify_receipt
from weir.v1 import receipt_pb2
from weir_server import ledger
from weir_server.ledger import Posted, Quota
from weir_server.log.receipts import GroupedReceipts, Receipts
from weir_server.store import Transaction

SIGNERS = (SIGNER, PQ_SIGNER)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    opened = open_books(tmp_path, signers=SIGNERS)
    yield opened
    opened.store.close()


def refuse(tx: Transaction, books: Books) -> Posted:
    return ledger.refuse(tx, ALICE, event={}, now=books.clock(), entropy=os.urandom)


def refused_together(books: Books, count: int) -> list[Posted]:
    """So many refusals, all in one group."""
    return books.store.write_sync(lambda tx: [refuse(tx, books) for _ in range(count)])


async def made(books: Books, posted: Posted) -> receipt_pb2.Receipt:
    return await GroupedReceipts(books.store, Receipts(SIGNERS)).of_leaf(posted)


@settings(max_examples=25)
@given(groups=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_they_are_byte_for_byte_those_of_the_books(tmp_path_factory: pytest.TempPathFactory, groups: list[int]) -> None:
    books = open_books(tmp_path_factory.mktemp("books"), signers=SIGNERS)
    leaves = [posted for count in groups for posted in refused_together(books, count)]
    for posted in leaves:
        assert posted.group.sealed is not None
        fresh = asyncio.run(made(books, posted))
        assert fresh == books.store.read(partial(Receipts(SIGNERS).of, index=posted.leaf_index))
        verify_receipt(fresh, vkey=VKEY, commitments={})
    books.store.close()


async def test_nothing_is_read_for_them(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    posted = books.store.write_sync(partial(refuse, books=books))
    monkeypatch.setattr(books.store, "read", lambda operation: pytest.fail("the books were read"))
    assert (await made(books, posted)).leaf_index == posted.leaf_index


async def test_a_leaf_whose_group_forgot_is_read_from_the_books(books: Books) -> None:
    def both(tx: Transaction) -> Posted:
        posted = refuse(tx, books)
        quota = Quota(id="late", metric="queries", limit=9)
        ledger.set_quota(tx, quota, reason="test", actor="olga", now=books.clock(), entropy=os.urandom)
        return posted

    posted = books.store.write_sync(both)
    assert posted.group.sealed is None
    verify_receipt(await made(books, posted), vkey=VKEY, commitments={})


async def test_a_mutant_that_tells_before_its_group_is_durable_has_no_receipt(books: Books) -> None:
    told: list[Posted] = []

    def tells(tx: Transaction) -> None:
        told.append(refuse(tx, books))
        with pytest.raises(UnknownName):  # What a caller would get who heard of the leaf at this moment.
            asyncio.run(made(books, told[0]))

    books.store.write_sync(tells)
    assert (await made(books, told[0])).leaf_index == told[0].leaf_index


async def test_an_operation_that_fails_takes_no_receipt_of_others_with_it(books: Books) -> None:
    async def fails() -> None:
        def operation(tx: Transaction) -> None:
            refuse(tx, books)
            raise Unavailable("no", rule="test")

        await books.store.write(operation)

    outcomes = await asyncio.gather(
        fails(), books.store.write(partial(refuse, books=books)), fails(), return_exceptions=True
    )
    posted = outcomes[1]
    assert isinstance(posted, Posted)
    verify_receipt(await made(books, posted), vkey=VKEY, commitments={})
