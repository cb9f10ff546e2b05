# SPDX-License-Identifier: Apache-2.0
"""What a group puts and remembers: one operation that fails leaves nothing of itself and everything of the others."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger_story import CountingConnection, counting
from weir.errors import Unavailable
from weir_server.store import Row, Transaction, group, integer
from weir_server.store.pending import Table
from weir_server.store.sqlite import SqliteStore

NOTES = Table("notes", ("n", "v"), "ON CONFLICT (n) DO UPDATE SET v = excluded.v")
FIRM = Table("notes", ("n", "v"))
LINES = Table("lines", ("n", "v"))


def nothing(tx: Transaction) -> None:
    """A seal that seals nothing."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = made(tmp_path)
    yield opened
    opened.close()


def made(directory: Path, **more: object) -> SqliteStore:
    opened = SqliteStore(directory, seal=nothing, **more)  # type: ignore[arg-type]
    opened.write_sync(lambda tx: tx.execute("CREATE TABLE notes (n INTEGER PRIMARY KEY, v INTEGER NOT NULL)"))
    opened.write_sync(lambda tx: tx.execute("CREATE TABLE lines (n INTEGER, v INTEGER NOT NULL)"))
    return opened


def notes(store: SqliteStore) -> dict[int, int]:
    rows = store.read(lambda tx: tx.execute("SELECT n, v FROM notes"))
    return {integer(n): integer(v) for n, v in rows}


def lines(store: SqliteStore) -> list[Row]:
    return store.read(lambda tx: tx.execute("SELECT n, v FROM lines ORDER BY rowid"))


def together(store: SqliteStore, *operations: Callable[[Transaction], object]) -> list[object]:
    """Runs the operations in one group; gives results, and what was raised in their place."""

    async def run() -> list[object]:
        gate = threading.Event()
        first = asyncio.ensure_future(store.write(lambda tx: gate.wait(5)))
        await asyncio.sleep(0.02)
        rest = [store.write(operation) for operation in operations]
        waiting = asyncio.gather(*rest, return_exceptions=True)
        await asyncio.sleep(0.02)
        gate.set()
        await first
        return list(await waiting)

    return asyncio.run(run())


def put(tx: Transaction, n: int, v: int) -> None:
    tx.put(NOTES, n, (n, v))


def put_and_fail(tx: Transaction, n: int, v: int) -> None:
    put(tx, n, v)
    tx.remember("last", v)
    raise ValueError("no")


def put_execute_and_fail(tx: Transaction, n: int, v: int) -> None:
    put(tx, n, v)
    tx.execute("INSERT INTO notes (n, v) VALUES (?, ?)", (n + 1, v))
    put(tx, n, v + 1)
    raise ValueError("no")


def test_what_was_put_is_written_with_the_group_and_seen_by_every_statement_before(store: SqliteStore) -> None:
    def operation(tx: Transaction) -> list[object]:
        put(tx, 1, 10)
        return [tx.pending(NOTES, 1), tx.look_up("SELECT v FROM notes"), tx.execute("SELECT v FROM notes")]

    assert store.write_sync(operation) == [(1, 10), [], [(10,)]]
    assert notes(store) == {1: 10}


def test_a_row_put_again_replaces_the_one_before(store: SqliteStore) -> None:
    together(store, partial(put, n=1, v=1), partial(put, n=1, v=2), partial(put, n=2, v=3))
    together(store, partial(put, n=2, v=4))
    assert notes(store) == {1: 2, 2: 4}


def test_an_operation_that_fails_takes_back_what_it_put_and_remembered_and_nothing_else(store: SqliteStore) -> None:
    def remembering(tx: Transaction) -> None:
        put(tx, 1, 1)
        tx.remember("last", 1)

    seen: list[object] = []
    outcomes = together(
        store,
        remembering,
        partial(put_and_fail, n=1, v=5),
        partial(put_and_fail, n=2, v=5),
        lambda tx: seen.extend([tx.recall("last"), tx.pending(NOTES, 1), tx.pending(NOTES, 2)]),
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), ValueError, ValueError, type(None)]
    assert seen == [1, (1, 1), None]
    assert notes(store) == {1: 1}


def test_rows_of_earlier_operations_survive_the_failure_of_one_that_had_them_written(store: SqliteStore) -> None:
    together(
        store,
        partial(put, n=1, v=1),
        partial(put_execute_and_fail, n=10, v=5),
        partial(put_execute_and_fail, n=1, v=5),
        partial(put, n=2, v=2),
        partial(put_execute_and_fail, n=20, v=5),
    )
    assert notes(store) == {1: 1, 2: 2}


def test_a_statement_that_is_refused_undoes_its_own_operation_only(store: SqliteStore) -> None:
    def doubled(tx: Transaction) -> None:
        tx.put(FIRM, 1, (1, 9))
        tx.execute("SELECT 1")

    outcomes = together(store, partial(put, n=1, v=1), doubled, partial(put, n=2, v=2))
    assert [type(outcome) for outcome in outcomes] == [type(None), sqlite3.IntegrityError, type(None)]
    assert notes(store) == {1: 1, 2: 2}
    assert not store.stopped


def test_a_row_that_cannot_be_written_with_the_group_stops_the_store_and_loses_the_group(tmp_path: Path) -> None:
    store = made(tmp_path)
    outcomes = together(store, partial(put, n=1, v=1), lambda tx: tx.put(FIRM, 1, (1, 9)))
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
    assert store.stopped
    assert notes(store) == {}
    store.close()


def test_nothing_is_remembered_from_one_group_to_the_next(store: SqliteStore) -> None:
    store.write_sync(lambda tx: tx.remember("last", 1))
    assert store.write_sync(lambda tx: tx.recall("last")) is None


def test_forgetting_is_undone_with_the_operation_that_forgot(store: SqliteStore) -> None:
    def forgetting(tx: Transaction) -> None:
        tx.forget()
        assert tx.recall("last") is None
        raise ValueError("no")

    seen: list[object] = []
    together(store, lambda tx: tx.remember("last", 7), forgetting, lambda tx: seen.append(tx.recall("last")))
    assert seen == [7]


def test_a_group_s_rows_are_few_statements(tmp_path: Path) -> None:
    seen: list[str] = []
    connections: list[CountingConnection] = []
    store = made(tmp_path, connect=counting(connections, lambda n, side, sql: seen.append(f"{side} {sql[:6]}")))
    seen.clear()
    together(store, *(partial(put, n=n, v=n) for n in range(100)))
    assert seen.count("before INSERT") == 3, "100 rows are 64, 32 and 4"
    assert seen.count("before SAVEPO") == 0
    assert len(notes(store)) == 100
    store.close()


def test_whoever_is_alone_waits_for_nobody(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group.time, "sleep", lambda seconds: pytest.fail("an operation was kept waiting"))
    for n in range(5):
        store.write_sync(partial(put, n=n, v=n))
    assert len(notes(store)) == 5


def test_among_many_a_group_waits_while_others_come_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, slept = list[int](), list[float]()
    store = made(tmp_path)
    store._writer._seal = lambda tx: groups.append(len(tx.execute("SELECT n FROM notes")))
    together(store, *(partial(put, n=n, v=n) for n in range(3)))
    late = iter([3, 4])

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if (n := next(late, None)) is not None:
            store._writer.submit(partial(put, n=n, v=n))

    monkeypatch.setattr(group.time, "sleep", sleep)
    store.write_sync(partial(put, n=9, v=9))
    assert groups[-1] == 6, "those that came while it waited are in the same group"
    assert len(slept) == 3, "nobody came the third time"
    store.close()


def test_a_reader_puts_nothing(store: SqliteStore) -> None:
    with pytest.raises(TypeError):
        store.read(lambda tx: tx.put(NOTES, 1, (1, 1)))
    with pytest.raises(TypeError):
        store.read(lambda tx: tx.add(LINES, (1, 1)))
    assert store.look(lambda tx: (tx.recall("last"), tx.pending(NOTES, 1))) == (None, None)


def test_a_look_sees_what_is_durable(store: SqliteStore) -> None:
    store.write_sync(partial(put, n=1, v=1))
    assert store.look(lambda tx: tx.execute("SELECT v FROM notes")) == [(1,)]


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "add", "write", "read"]), st.integers(0, 5), st.integers(0, 99)), max_size=6
)


@given(operations=st.lists(st.tuples(STEPS, st.booleans()), max_size=8))
def test_a_group_is_what_its_successful_operations_would_be_one_after_the_other(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[list[Step], bool]]
) -> None:
    model: dict[int, int] = {}
    added: list[tuple[int, int]] = []
    store = made(tmp_path_factory.mktemp("group"))

    def operation(tx: Transaction, steps: list[Step], fails: bool, before: dict[int, int]) -> None:
        mine = dict(before)
        for kind, n, v in steps:
            if kind == "put":
                put(tx, n, v)
                mine[n] = v
            elif kind == "add":
                tx.add(LINES, (n, v, n, v))
            elif kind == "write":
                tx.execute("INSERT INTO notes (n, v) VALUES (?, ?) ON CONFLICT (n) DO UPDATE SET v = ?", (n, v, v))
                mine[n] = v
            else:
                rows = tx.execute("SELECT n, v FROM notes")
                assert {integer(n): integer(v) for n, v in rows} == mine
        if fails:
            raise ValueError("no")

    prepared = []
    for steps, fails in operations:
        prepared.append(partial(operation, steps=steps, fails=fails, before=dict(model)))
        if not fails:
            model |= {n: v for kind, n, v in steps if kind in ("put", "write")}
            added += [(n, v) for kind, n, v in steps if kind == "add" for _ in range(2)]
    outcomes = together(store, *prepared)
    assert [isinstance(outcome, ValueError) for outcome in outcomes] == [fails for _, fails in operations]
    assert all(outcome is None or isinstance(outcome, ValueError) for outcome in outcomes)
    assert notes(store) == model
    assert lines(store) == added
    store.close()
