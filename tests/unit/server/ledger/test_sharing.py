# SPDX-License-Identifier: Apache-2.0
"""Several processes on one ledger: each keeps what it holds, for as long as it lives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.ledger import LEDGER_SERVER, Books, fsck_of, open_books, posting, request, reserving
from tests.support.ledger_story import counting
from weir.errors import Unavailable
from weir_server import ledger
from weir_server.ledger import Posted, ReleasePending, Reservation
from weir_server.store import Transaction

CHARGE = {"queries": 1, "epsilon_nano": 7, "price_micro": 3}


@pytest.fixture
def directory(tmp_path: Path, ledger_server: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(LEDGER_SERVER, ledger_server)
    return tmp_path


@pytest.fixture
def two(directory: Path) -> Iterator[tuple[Books, Books]]:
    first, second = open_books(directory), open_books(directory)
    yield first, second
    first.store.close()
    second.store.close()


def recover(books: Books) -> int:
    return books.store.write_sync(lambda tx: ledger.recover(tx, now=books.clock(), entropy=os.urandom))


def test_a_process_that_starts_leaves_the_others_their_holds(directory: Path) -> None:
    """Mutant: a `recover` that expires every hold would take the answer of a living process away."""
    first = open_books(directory)
    held = first.reserve(CHARGE)
    assert isinstance(held, Reservation)
    second = open_books(directory)
    assert recover(second) == 0
    assert isinstance(first.store.write_sync(posting(held, first.clock)), Posted)
    first.store.close()
    second.store.close()
    assert fsck_of(directory).findings == ()


def test_holds_of_a_process_that_died_are_given_back_by_another(directory: Path, ledger_server: str) -> None:
    made: list[Any] = []
    first, second = open_books(directory, connect=counting(made, lambda *_: None)), open_books(directory)
    first.quota("money", "price_micro", 100)
    held = first.reserve(CHARGE)
    assert isinstance(held, Reservation)
    with psycopg.connect(ledger_server, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (made[0].info.backend_pid,))
    assert recover(second) == 1
    balances = second.store.read(lambda tx: ledger.list_quotas(tx, now=second.clock()))
    assert [balance.used for balance in balances] == [0]
    totals = {total.metric: total.used for total in second.store.read(ledger.meter_totals)}
    assert totals == {"epsilon_nano": 7}, "privacy that was reserved is spent"
    with pytest.raises(Unavailable):
        first.store.write_sync(posting(held, first.clock))
    first.store.close()
    second.store.close()
    assert fsck_of(directory).findings == ()


def test_a_process_that_ends_in_order_gives_up_its_own_holds_only(two: tuple[Books, Books]) -> None:
    first, second = two
    mine, theirs = first.reserve(CHARGE, key="key-of-the-first-1"), second.reserve(CHARGE, key="key-of-the-second")
    assert isinstance(mine, Reservation)
    assert isinstance(theirs, Reservation)
    given = first.store.write_sync(lambda tx: ledger.give_up(tx, now=first.clock(), entropy=os.urandom))
    assert given == 1
    assert isinstance(second.store.write_sync(posting(theirs, second.clock)), Posted)


def test_one_release_is_drawn_by_one_process_at_a_time(two: tuple[Books, Books]) -> None:
    """Mutants: without the look at holds both would reserve, both would draw, and privacy be charged twice; without the
    look at releases so would one that looked for it a moment before it was there."""
    first, second = two
    asked = [replace(request(CHARGE, key=f"key-of-process-{n}"), release_key="release") for n in range(2)]
    held = first.store.write_sync(reserving(asked[0], first.clock))
    assert isinstance(held, Reservation)
    with pytest.raises(ReleasePending):
        second.store.write_sync(reserving(asked[1], second.clock))
    first.store.write_sync(posting(held, first.clock, release_key="release", release=b"r"))
    assert second.store.read(lambda tx: ledger.find_release(tx, "release")) is not None
    with pytest.raises(ReleasePending):
        second.store.write_sync(reserving(asked[1], second.clock))
    again = replace(asked[1], release_key="")
    assert isinstance(second.store.write_sync(reserving(again, second.clock)), Reservation)


def test_a_release_of_the_same_group_counts_before_it_is_written(two: tuple[Books, Books]) -> None:
    """Mutant: a look at the table alone, which the group's releases are not in yet."""
    first, _ = two
    asked = [replace(request(CHARGE, key=f"key-of-query-{n}"), release_key="release") for n in range(2)]
    held = first.store.write_sync(reserving(asked[0], first.clock))
    assert isinstance(held, Reservation)

    def both(tx: Transaction) -> None:
        posting(held, first.clock, release_key="release", release=b"r")(tx)
        with pytest.raises(ReleasePending):
            reserving(asked[1], first.clock)(tx)

    first.store.write_sync(both)


def test_reservations_of_one_group_are_written_together(directory: Path) -> None:
    """Mutant: a look at the other processes' holds that has everything before it written first, in a savepoint."""
    statements: list[str] = []
    books = open_books(directory, connect=counting([], lambda number, side, statement: statements.append(statement)))
    asked = [replace(request(CHARGE, key=f"key-of-query-{n:02d}"), release_key=f"release {n}") for n in range(16)]
    statements.clear()
    books.store.write_sync(lambda tx: [reserving(one, books.clock)(tx) for one in asked])
    assert "COMMIT" in statements
    assert not [statement for statement in statements if "SAVEPOINT" in statement]
    books.store.close()


def test_the_sweep_leaves_no_trace_of_holds_that_resolved(two: tuple[Books, Books]) -> None:
    first, _ = two
    first.answer(CHARGE)
    first.store.write_sync(lambda tx: ledger.expire_holds(tx, now=first.clock(), entropy=os.urandom))
    assert first.store.read(lambda tx: tx.execute("SELECT COUNT(*) FROM holds")) == [(0,)]
