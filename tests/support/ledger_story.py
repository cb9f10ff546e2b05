# SPDX-License-Identifier: Apache-2.0
"""A fixed course of business that a test can cut off anywhere and run again: the child process of the crash tests.

Run as `python -m tests.support.ledger_story DIRECTORY STATEMENT SIDE`: the process kills itself (SIGKILL) before or
after the writer's statement of that number, or never when the number is negative. It prints a line for each
acknowledged step as soon as it is acknowledged, and at the end the number of statements it ran.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg

from tests.support.ledger import ALICE, BOB, LEDGER_SERVER, Books, open_books, posting, request, reserving
from weir_server import ledger
from weir_server.ledger import Replay, Reservation, Subject
from weir_server.store.postgres import open_connection
from weir_server.store.sqlite import open_writer

CHARGE = {"queries": 1, "epsilon_nano": 10, "price_micro": 3}
ANSWERS = 9
"""Answers in the end, however often the story is cut off and begun again."""


class CountingConnection(sqlite3.Connection):
    """Calls `hook(number, side, sql)` around every statement."""

    hook: Callable[[int, str, str], None] = staticmethod(lambda number, side, sql: None)
    count = 0

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        return self._around(sql, lambda: super(CountingConnection, self).execute(sql, parameters))

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        return self._around(sql, lambda: super(CountingConnection, self).executemany(sql, parameters))

    def _around(self, sql: str, run: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
        number = self.count
        self.count += 1
        self.hook(number, "before", sql)
        cursor = run()
        self.hook(number, "after", sql)
        return cursor


class CountingPostgres(psycopg.Connection[Any]):
    """The same for what the writer does with its transactions, commits above all."""

    hook: Callable[[int, str, str], None] = staticmethod(lambda number, side, sql: None)
    count = 0

    def execute(self, query: Any, *arguments: Any, **more: Any) -> psycopg.Cursor[Any]:
        number = self.count
        self.count += 1
        self.hook(number, "before", str(query))
        cursor = super().execute(query, *arguments, **more)
        self.hook(number, "after", str(query))
        return cursor


def counting(
    made: list[Any], hook: Callable[[int, str, str], None]
) -> Callable[..., sqlite3.Connection | psycopg.Connection[Any]]:
    """A `connect` for the store whose statements are counted from the first after its set-up."""

    def connect_postgres(server: str, schema: str) -> psycopg.Connection[Any]:
        connection = open_connection(server, schema, kind=CountingPostgres)
        assert isinstance(connection, CountingPostgres)
        connection.count, connection.hook = 0, hook
        made.append(connection)
        return connection

    def connect(path: Path) -> sqlite3.Connection:
        open_writer(path).close()
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=CountingConnection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.count, connection.hook = 0, hook
        made.append(connection)
        return connection

    return connect_postgres if LEDGER_SERVER in os.environ else connect


def run(books: Books, acknowledge: Callable[[str], None]) -> None:
    """The story. Every step is safe to repeat: keys are fixed."""
    books.quota("epsilon", "epsilon_nano", 10_000, lineage="people")
    acknowledge("quota")
    for n in range(3):
        answer(books, f"key-{n:012d}", ALICE, acknowledge)
    reservation = books.reserve(CHARGE, key="key-that-is-voided", subject=BOB)
    acknowledge("held for void")
    assert isinstance(reservation, Reservation)
    books.store.write_sync(
        lambda tx: ledger.void(tx, reservation, reason_code="engine.failed", now=books.clock(), entropy=os.urandom)
    )
    acknowledge("voided")
    asyncio.run(parallel(books, acknowledge))


def answer(books: Books, key: str, subject: Subject, acknowledge: Callable[[str], None]) -> None:
    held = books.reserve(CHARGE, key=key, subject=subject)
    acknowledge(f"reserved {key}")
    if isinstance(held, Reservation):
        books.store.write_sync(posting(held, books.clock, answer=key.encode()))
    else:
        assert held.answer == key.encode()
    acknowledge(f"answered {key}")


async def parallel(books: Books, acknowledge: Callable[[str], None]) -> None:
    """Six queries whose reservations, and then answers, share groups."""
    keys = [f"key-{n:012d}" for n in range(3, ANSWERS)]

    async def one(key: str) -> None:
        held = await books.store.write(reserving(request(CHARGE, key=key, subject=BOB), books.clock))
        acknowledge(f"reserved {key}")
        if isinstance(held, Replay):
            assert held.answer == key.encode()
        else:
            await books.store.write(posting(held, books.clock, answer=key.encode()))
        acknowledge(f"answered {key}")

    await asyncio.gather(*(one(key) for key in keys))


def main(arguments: Sequence[str]) -> None:
    directory, statement, side = Path(arguments[0]), int(arguments[1]), arguments[2]
    made: list[Any] = []

    def hook(number: int, now: str, sql: str) -> None:
        if (number, now) == (statement, side):
            os.kill(os.getpid(), signal.SIGKILL)

    books = open_books(directory, connect=counting(made, hook))
    run(books, lambda line: print(line, flush=True))
    print(f"statements {made[0].count}", flush=True)
    books.store.close()


if __name__ == "__main__":
    main(sys.argv[1:])
