# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.ledger import ALICE, VKEY, fsck_of, open_books, posting, request, reserving
from weir.errors import BudgetExhausted, QuotaExceeded
from weir.receipts import verify_receipt
from weir_server import ledger, log
from weir_server.ledger import Posted, Reservation
from weir_server.store import Transaction


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("round_number", range(10))
async def test_two_hundred_parallel_queries_on_a_quota_of_fifty_give_exactly_fifty(
    tmp_path: Path, round_number: int
) -> None:
    books = open_books(tmp_path, group_limit=1 + 17 * round_number)
    books.quota("q", "queries", 50, contract="c-1")

    async def one(n: int) -> Posted | None:
        asked = request({"queries": 1, "price_micro": 3}, key=f"key-{n:012d}")
        try:
            reservation = await books.store.write(reserving(asked, books.clock))
        except QuotaExceeded:
            return None
        assert isinstance(reservation, Reservation)
        posted = await books.store.write(posting(reservation, books.clock, answer=str(n).encode()))
        assert isinstance(posted, Posted)
        return posted

    results = await asyncio.gather(*(one(n) for n in range(200)))
    answered = [(n, posted) for n, posted in enumerate(results) if posted is not None]
    assert len(answered) == 50
    for n, posted in answered:
        index = posted.leaf_index
        receipt = books.store.read(lambda tx, index=index: log.receipt(tx, index))  # type: ignore[misc]
        verify_receipt(receipt, vkey=VKEY, commitments={"answer": str(n).encode()})
    totals = {total.metric: total.used for total in books.store.read(ledger.meter_totals)}
    assert totals == {"queries": 50, "price_micro": 150}
    books.store.close()
    assert fsck_of(tmp_path).ok


def test_ten_thousand_charges_of_a_tenth_fit_a_thousand_exactly_and_the_next_is_refused(tmp_path: Path) -> None:
    tenth, thousand = 100_000_000, 1_000_000_000_000
    books = open_books(tmp_path)
    books.quota("people-epsilon", "epsilon_nano", thousand, lineage="people")

    def many(tx: Transaction, first: int) -> None:
        for n in range(first, first + 1000):
            ledger.reserve(
                tx,
                request({"epsilon_nano": tenth}, key=f"key-{n:012d}"),
                now=books.clock(),
                hold_seconds=60,
                entropy=os.urandom,
            )

    for first in range(0, 10_000, 1000):
        books.store.write_sync(lambda tx, first=first: many(tx, first))  # type: ignore[misc]
    (standing,) = books.store.read(lambda tx: ledger.balances(tx, [ALICE], now=books.clock()))
    assert (standing.spent, standing.left) == (thousand, 0)
    for amount in (1, tenth):
        with pytest.raises(BudgetExhausted):
            books.reserve({"epsilon_nano": amount}, key=f"key-of-amount-{amount}")
    books.store.close()
    assert fsck_of(tmp_path).ok
