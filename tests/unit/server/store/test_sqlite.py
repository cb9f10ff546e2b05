# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from weir.errors import InternalError, LedgerLocked, Unavailable
from weir_server.store import Transaction, blob, integer, text
from weir_server.store.schema import MIGRATIONS
from weir_server.store.sqlite import FILE_NAME, SqliteStore, open_reader, open_writer


def nothing(tx: Transaction) -> None:
    """A seal that seals nothing."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path, seal=nothing)
    opened.write_sync(lambda tx: tx.execute("CREATE TABLE notes (n INTEGER PRIMARY KEY)"))
    yield opened
    opened.close()


def put(n: int) -> Callable[[Transaction], int]:
    def operation(tx: Transaction) -> int:
        tx.execute("INSERT INTO notes (n) VALUES (?)", (n,))
        return n

    return operation


def nth(tx: Transaction, *, n: int) -> int:
    return n


def notes(store: SqliteStore) -> list[int]:
    return store.read(lambda tx: [integer(row[0]) for row in tx.execute("SELECT n FROM notes ORDER BY n")])


def test_what_was_written_is_read_by_another_connection(store: SqliteStore) -> None:
    assert store.write_sync(put(7)) == 7
    assert notes(store) == [7]


def test_an_operation_that_fails_undoes_only_itself(store: SqliteStore) -> None:
    def fails(tx: Transaction) -> None:
        tx.execute("INSERT INTO notes (n) VALUES (1)")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.write_sync(fails)
    with pytest.raises(sqlite3.IntegrityError):
        store.write_sync(lambda tx: tx.execute("INSERT INTO notes (n) VALUES (2), (2)"))
    store.write_sync(put(3))
    assert notes(store) == [3]
    assert not store.stopped


async def test_operations_that_wait_together_share_one_transaction(tmp_path: Path) -> None:
    groups: list[int] = []
    gate = threading.Event()
    store = SqliteStore(tmp_path, seal=lambda tx: groups.append(1))
    blocked = asyncio.create_task(store.write(lambda tx: gate.wait(5)))
    await asyncio.sleep(0.05)
    rest = [asyncio.create_task(store.write(partial(nth, n=n))) for n in range(100)]
    await asyncio.sleep(0.05)
    gate.set()
    assert await asyncio.gather(*rest) == list(range(100))
    assert await blocked is True
    assert len(groups) == 2
    store.close()


async def test_a_caller_that_goes_away_does_not_take_its_operation_with_it(store: SqliteStore) -> None:
    gate = threading.Event()
    blocked = asyncio.create_task(store.write(lambda tx: gate.wait(5)))
    await asyncio.sleep(0.02)
    leaving = asyncio.create_task(store.write(put(5)))
    await asyncio.sleep(0.02)
    leaving.cancel()
    gate.set()
    await blocked
    store.write_sync(put(6))
    assert notes(store) == [5, 6]


def test_a_reader_sees_one_state_even_while_others_write(store: SqliteStore) -> None:
    def twice(tx: Transaction) -> tuple[int, int]:
        before = len(tx.execute("SELECT n FROM notes"))
        store.write_sync(put(1))
        return before, len(tx.execute("SELECT n FROM notes"))

    assert store.read(twice) == (0, 0)
    assert notes(store) == [1]


def test_a_reader_cannot_write(store: SqliteStore) -> None:
    with pytest.raises(sqlite3.OperationalError):
        store.read(lambda tx: tx.execute("INSERT INTO notes (n) VALUES (1)"))
    assert notes(store) == []


def test_reads_work_from_many_threads(store: SqliteStore) -> None:
    store.write_sync(put(1))
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append(notes(store))) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[1]] * 24


def test_commits_are_synced_in_full(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / FILE_NAME)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.close()


def test_readers_are_read_only_connections(store: SqliteStore, tmp_path: Path) -> None:
    # They must never checkpoint the WAL beside the writer.
    connection = open_reader(tmp_path / FILE_NAME)
    with pytest.raises(sqlite3.OperationalError):
        connection.execute("PRAGMA query_only = OFF").connection.execute("INSERT INTO notes VALUES (1)")
    connection.close()


def test_a_second_store_on_the_directory_is_refused(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(LedgerLocked):
        SqliteStore(tmp_path, seal=nothing)


def test_a_second_process_on_the_directory_is_refused_until_the_first_has_closed(
    store: SqliteStore, tmp_path: Path
) -> None:
    script = (
        "import sys, pathlib\n"
        "from weir.errors import LedgerLocked\n"
        "from weir_server.store.sqlite import SqliteStore\n"
        "try:\n"
        "    SqliteStore(pathlib.Path(sys.argv[1]), seal=lambda tx: None).close()\n"
        "except LedgerLocked:\n"
        "    sys.exit(75)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(command, check=False, timeout=60).returncode == 75
    store.close()
    assert subprocess.run(command, check=False, timeout=60).returncode == 0


def test_data_of_a_newer_weir_is_refused_and_left_alone(tmp_path: Path) -> None:
    SqliteStore(tmp_path, seal=nothing).close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("UPDATE schema_version SET version = ?", (len(MIGRATIONS) + 1,))
    connection.commit()
    connection.close()
    with pytest.raises(Unavailable) as caught:
        SqliteStore(tmp_path, seal=nothing)
    assert caught.value.rule == "store.downgrade"
    # The refusal frees the lock: the newer Weir can have the directory at once.
    with pytest.raises(Unavailable):
        SqliteStore(tmp_path, seal=nothing)


def test_opening_again_migrates_nothing_and_keeps_everything(store: SqliteStore, tmp_path: Path) -> None:
    store.write_sync(put(9))
    store.close()
    again = SqliteStore(tmp_path, seal=nothing)
    assert notes(again) == [9]
    again.close()


def test_a_closed_store_finishes_what_it_accepted_and_refuses_the_rest(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, seal=nothing)
    store.write_sync(lambda tx: tx.execute("CREATE TABLE notes (n INTEGER PRIMARY KEY)"))
    futures = [store._writer.submit(put(n)) for n in range(500)]
    store.close()
    assert [future.result(timeout=0) for future in futures] == list(range(500))
    with pytest.raises(Unavailable):
        store.write_sync(put(1))
    store.close()


def test_a_seal_that_refuses_stops_the_store(tmp_path: Path) -> None:
    seen: list[BaseException] = []
    problem = InternalError("the head moved")

    def refuses(tx: Transaction) -> None:
        raise problem

    store = SqliteStore(tmp_path, seal=refuses, on_failure=seen.append)
    with pytest.raises(Unavailable) as caught:
        store.write_sync(lambda tx: tx.execute("CREATE TABLE notes (n INTEGER PRIMARY KEY)"))
    assert caught.value.rule == "ledger.stopped"
    assert seen == [problem]
    assert store.stopped
    store.close()
    again = SqliteStore(tmp_path, seal=nothing)
    with pytest.raises(sqlite3.OperationalError):
        again.read(lambda tx: tx.execute("SELECT n FROM notes"))
    again.close()


@pytest.mark.parametrize("convert", [integer, text, blob])
def test_a_column_of_another_type_is_reported_as_damage(convert: object) -> None:
    assert callable(convert)
    with pytest.raises(InternalError):
        convert(None)


def test_a_file_that_cannot_be_opened_now_is_no_end(store: SqliteStore, tmp_path: Path) -> None:
    """Mutant: SQLite's own error, which those that go on after `Unavailable` do not go on after."""
    away = tmp_path / "away"
    (tmp_path / FILE_NAME).rename(away)
    for read in (store.read, store.look):
        with pytest.raises(Unavailable) as caught:
            read(lambda tx: tx.execute("SELECT 1"))
        assert caught.value.rule == "store.read"
    away.rename(tmp_path / FILE_NAME)
    assert notes(store) == []
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        store.read(lambda tx: tx.execute("SELECT * FROM nowhere"))
