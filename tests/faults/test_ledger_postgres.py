# SPDX-License-Identifier: Apache-2.0
"""Faults of the served store: its connection is cut, its server dies, its commit lies. Each fault both ways."""

from __future__ import annotations

import asyncio
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from tests.support.ledger import ALICE, LEDGER_SERVER, Books, fsck_of, open_books, posting, request, reserving
from tests.support.ledger_story import CHARGE, counting, run
from tests.support.postgres import Server, find_binaries, postgres_server
from weir.errors import Unavailable
from weir_server import ledger
from weir_server.ledger import Replay, Reservation
from weir_server.store.postgres import PostgresStore, open_connection

Hook = Callable[[int, str, str], None]


@pytest.fixture
def on_postgres(ledger_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(LEDGER_SERVER, ledger_server)
    return ledger_server


@pytest.fixture
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    binaries = find_binaries()
    if binaries is None:
        assert "CI" not in os.environ, "CI must have PostgreSQL"
        pytest.skip("PostgreSQL is not installed")
    with postgres_server(binaries, durable=True) as server:
        monkeypatch.setenv(LEDGER_SERVER, server.conninfo)
        yield server


def at_commit(number: int, side: str, act: Callable[[Any], None], made: list[Any]) -> Hook:
    """Calls `act` with the connection around the writer's commit of that number."""
    seen = {"before": 0, "after": 0}

    def hook(_: int, now: str, sql: str) -> None:
        if sql != "COMMIT":
            return
        seen[now] += 1
        if now == side and seen[now] == number:
            act(made[0])

    return hook


def cut(connection: Any, *, server: str) -> None:
    """Another session ends the writer's."""
    with psycopg.connect(server, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))


def lose(connection: Any) -> None:
    """The answer to the commit never arrives."""
    raise psycopg.OperationalError("server closed the connection unexpectedly")


def check(directory: Path) -> None:
    """Whatever happened: books follow from entries, and the story goes to its end exactly once."""
    assert fsck_of(directory).findings == ()
    books = open_books(directory)
    run(books, lambda line: None)
    totals = books.store.read(ledger.meter_totals)
    assert sum(total.used for total in totals if total.metric == "queries") == 9
    books.store.close()
    assert fsck_of(directory).findings == ()


@pytest.mark.parametrize("number", [2, 3, 5, 9])
@pytest.mark.parametrize("fault", ["cut before the commit", "answer of the commit lost"])
def test_a_lost_connection_stops_the_store_and_loses_nothing(
    on_postgres: str, tmp_path: Path, fault: str, number: int
) -> None:
    made: list[Any] = []
    failures: list[BaseException] = []
    side, act = ("before", partial(cut, server=on_postgres)) if fault.startswith("cut") else ("after", lose)
    books = open_books(tmp_path, connect=counting(made, at_commit(number, side, act, made)), on_failure=failures.append)
    with pytest.raises(Unavailable):
        run(books, lambda line: None)
    assert books.store.stopped
    assert len(failures) == 1
    with pytest.raises(Unavailable):
        books.quota("later", "cells", 5)
    books.store.close()
    check(tmp_path)


def test_what_was_committed_before_its_answer_was_lost_is_found_by_its_key(on_postgres: str, tmp_path: Path) -> None:
    made: list[Any] = []
    armed: list[str] = []

    def hook(_: int, now: str, sql: str) -> None:
        if armed and (now, sql) == ("after", "COMMIT"):
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    books = open_books(tmp_path, connect=counting(made, hook))
    held = books.reserve(CHARGE, key="key-of-the-lost-answer")
    assert isinstance(held, Reservation)
    armed.append("now")
    with pytest.raises(Unavailable):
        books.store.write_sync(posting(held, books.clock, answer=b"the answer"))
    books.store.close()
    again = open_books(tmp_path, clock=books.clock)
    asked = request(CHARGE, key="key-of-the-lost-answer", subject=ALICE)
    replay = again.store.write_sync(reserving(asked, again.clock))
    assert isinstance(replay, Replay)
    assert replay.answer == b"the answer"
    again.store.close()


@pytest.mark.parametrize("number", [3, 6])
def test_a_server_that_dies_keeps_what_it_acknowledged(own_server: Server, tmp_path: Path, number: int) -> None:
    made: list[Any] = []
    hook = at_commit(number, "after", lambda connection: own_server.crash(), made)
    books = open_books(tmp_path, connect=counting(made, hook))
    acknowledged: list[str] = []
    with pytest.raises(Unavailable):
        run(books, acknowledged.append)
    books.store.close()
    own_server.start()
    reserved = sum(line.startswith(("reserved", "held")) for line in acknowledged)
    reopened = open_books(tmp_path)
    spent = [t.used for t in reopened.store.read(ledger.meter_totals) if t.metric == "epsilon_nano"]
    assert sum(spent) >= 10 * reserved
    reopened.store.close()
    check(tmp_path)


def test_a_commit_that_the_server_turned_into_a_rollback_is_no_success(on_postgres: str, tmp_path: Path) -> None:
    """Mutant: `commit` that does not look at the command's tag acknowledges what was rolled back."""
    made: list[Any] = []

    def spoil(connection: Any) -> None:
        with pytest.raises(psycopg.Error):
            psycopg.Cursor(connection).execute("SELECT 1 / 0")

    books = open_books(tmp_path, connect=counting(made, at_commit(2, "before", spoil, made)))
    with pytest.raises(Unavailable):
        books.quota("epsilon", "epsilon_nano", 10, lineage="people")
    assert books.store.stopped
    books.store.close()


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_may_lose_what_it_acknowledged_is_refused(setting: str) -> None:
    binaries = find_binaries()
    if binaries is None:
        assert "CI" not in os.environ, "CI must have PostgreSQL"
        pytest.skip("PostgreSQL is not installed")
    with postgres_server(binaries, durable=setting != "fsync") as server:
        if setting != "fsync":
            with psycopg.connect(server.conninfo, autocommit=True) as connection:
                connection.execute(f"ALTER SYSTEM SET {setting} = off")
            server.crash()
            server.start()
        with pytest.raises(Unavailable) as caught:
            PostgresStore(server.conninfo, seal=lambda tx: None)
    assert caught.value.rule == "store.durable"


def test_synchronous_commit_is_on_whatever_the_database_says(own_server: Server) -> None:
    with psycopg.connect(own_server.conninfo, autocommit=True) as connection:
        connection.execute("ALTER DATABASE postgres SET synchronous_commit = off")
    connection = open_connection(own_server.conninfo, "weir")
    assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
    connection.close()


def test_writers_of_two_stores_take_turns_and_quotas_stay_exact(on_postgres: str, tmp_path: Path) -> None:
    """Mutant: a `begin` without the advisory lock lets both read the same balance."""
    first, second = open_books(tmp_path), open_books(tmp_path)
    first.quota("fifty", "queries", 50, contract="c-1")

    async def flood(books: Books, prefix: str) -> list[object]:
        async def one(n: int) -> object:
            asked = request(CHARGE, key=f"{prefix}-{n:012d}")
            return await books.store.write(reserving(asked, books.clock))

        return await asyncio.gather(*(one(n) for n in range(100)), return_exceptions=True)

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda item: asyncio.run(flood(*item)), [(first, "a"), (second, "b")]))
    granted = [item for outcome in outcomes for item in outcome if isinstance(item, Reservation)]
    assert len(granted) == 50
    assert len({item.id for item in granted}) == 50
    first.store.close()
    second.store.close()
    assert fsck_of(tmp_path).findings == ()


def test_a_process_that_hangs_inside_its_turn_loses_it(
    on_postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: without a limit of the server's, one stopped process or one machine that is cut off stops all others."""
    monkeypatch.setattr("weir_server.store.postgres._LONGEST_PAUSE", "500ms")
    failures: list[BaseException] = []
    first, second = open_books(tmp_path, on_failure=failures.append), open_books(tmp_path)
    inside, go_on = threading.Event(), threading.Event()

    def hang(tx: Any) -> None:
        tx.execute("SELECT 1")
        inside.set()
        go_on.wait(60)

    with ThreadPoolExecutor(max_workers=1) as pool:
        hanging = pool.submit(first.store.write_sync, hang)
        assert inside.wait(30)
        try:
            held = second.reserve(CHARGE)
            assert not hanging.done(), "it was the server that ended the turn"
        finally:
            go_on.set()
        with pytest.raises(Unavailable):
            hanging.result()
    assert isinstance(held, Reservation)
    assert first.store.stopped
    assert len(failures) == 1
    first.store.close()
    second.store.close()
    assert fsck_of(tmp_path).findings == ()


def test_what_a_database_sets_for_others_does_not_bind_the_ledger(own_server: Server) -> None:
    limits = ("statement_timeout", "lock_timeout", "idle_session_timeout")
    with psycopg.connect(own_server.conninfo, autocommit=True) as connection:
        for name in limits:
            connection.execute(f"ALTER ROLE CURRENT_USER SET {name} = '50ms'")
    with open_connection(own_server.conninfo, "weir") as connection:
        assert [connection.execute(f"SHOW {name}").fetchone() for name in limits] == [("0",)] * 3


def test_an_end_of_long_transactions_is_lifted_where_the_server_knows_one(own_server: Server) -> None:
    """PostgreSQL 17 has `transaction_timeout`: set for others, it would end a group that waits for its turn. An older
    one must not be asked for what it does not know."""
    asked: list[object] = []

    class Recording(psycopg.Connection[Any]):
        def execute(self, query: Any, params: Any = None, **more: Any) -> Any:
            asked.append(params)
            return super().execute(query, params, **more)

    with psycopg.connect(own_server.conninfo, autocommit=True) as connection:
        if knows := connection.info.server_version >= 170_000:
            connection.execute("ALTER ROLE CURRENT_USER SET transaction_timeout = '50ms'")
    with open_connection(own_server.conninfo, "weir", kind=Recording) as connection:
        assert ("0", "transaction_timeout") in asked
        if knows:
            assert connection.execute("SHOW transaction_timeout").fetchone() == ("0",)


def test_a_server_that_takes_no_writes_is_refused(own_server: Server) -> None:
    """As a standby would: what it answers was true a moment ago."""
    with psycopg.connect(own_server.conninfo, autocommit=True) as connection:
        connection.execute("ALTER ROLE CURRENT_USER SET default_transaction_read_only = on")
    with pytest.raises(Unavailable):
        open_connection(own_server.conninfo, "weir")


def test_a_pool_of_connections_is_refused(ledger_server: str) -> None:
    """A pool tells its clients numbers of its own, and gives their session's locks to others."""

    class Pooled(psycopg.Connection[Any]):
        @property
        def info(self) -> Any:
            return SimpleNamespace(server_version=super().info.server_version, backend_pid=1)

    with pytest.raises(Unavailable) as caught:
        open_connection(ledger_server, "weir", kind=Pooled)
    assert caught.value.rule == "store.pool"


def test_a_malformed_connection_string_is_not_repeated() -> None:
    secret = "hunter" + "2"
    with pytest.raises(Unavailable) as caught:
        open_connection(f"host=db user=weir {secret}", "weir")
    assert secret not in "".join(traceback.format_exception(caught.value))


def test_a_role_that_owns_its_schema_needs_no_other_right(own_server: Server) -> None:
    with psycopg.connect(own_server.conninfo, autocommit=True) as connection:
        connection.execute("CREATE ROLE books LOGIN")
        connection.execute("REVOKE CREATE ON DATABASE postgres FROM PUBLIC")
        connection.execute("CREATE SCHEMA weir AUTHORIZATION books")
    conninfo = psycopg.conninfo.make_conninfo(own_server.conninfo, user="books")
    store = PostgresStore(conninfo, seal=lambda tx: None)
    assert store.read(ledger.meter_totals) == []
    store.close()
