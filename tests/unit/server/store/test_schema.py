# SPDX-License-Identifier: Apache-2.0
"""Numbered migrations on both engines: forward from the oldest tables, never back, and seen by who is running."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.ledger import LEDGER_SERVER, fsck_of, open_books, open_store, schema_of
from weir.errors import Unavailable
from weir_server.store import Transaction
from weir_server.store import schema as tables
from weir_server.store.sqlite import FILE_NAME

RELEASED = {
    1: "d9e39d98ddfb170a1c322f800c361b8fa600eee7854c999b874ff108323bff4d",
    2: "12ad8d4249475b6d3a485bd7e2ccd020017e14e53fb5a2344d23e49ee04b7ff2",
}
"""SHA-256 of the migrations that data out there may have been made with: they are never changed."""


@contextmanager
def beside(directory: Path) -> Iterator[Any]:
    """A session of somebody else on the same tables."""
    server = os.environ.get(LEDGER_SERVER)
    if server is None:
        with closing(sqlite3.connect(directory / FILE_NAME)) as connection, connection:
            yield connection
    else:
        with psycopg.connect(server) as connection:
            connection.execute(f"SET search_path = {schema_of(directory)}")
            yield connection


def migrated_by_a_newer_one(directory: Path) -> None:
    with beside(directory) as connection:
        connection.execute(f"UPDATE schema_version SET version = {tables.VERSION + 1}")


def nothing(tx: Transaction) -> None:
    """A seal that seals nothing, and an operation that does nothing."""


@pytest.mark.parametrize("number", sorted(RELEASED))
def test_a_released_migration_is_what_it_was(number: int) -> None:
    text = "\0".join(tables.MIGRATIONS[number - 1])
    assert hashlib.sha256(text.encode()).hexdigest() == RELEASED[number]


def test_an_old_process_writes_nothing_once_a_newer_one_has_migrated(engine: str, tmp_path: Path) -> None:
    """Mutant: tables looked at when they are opened only, as before; the write goes through."""
    failures: list[BaseException] = []
    books = open_books(tmp_path, on_failure=failures.append)
    books.quota("before", "cells", 5)
    migrated_by_a_newer_one(tmp_path)
    with pytest.raises(Unavailable):
        books.quota("after", "cells", 5)
    assert books.store.stopped
    assert [getattr(error, "rule", None) for error in failures] == ["store.downgrade"]
    books.store.close()
    with beside(tmp_path) as connection:
        assert connection.execute("SELECT id FROM quotas").fetchall() == [("before",)]


def test_a_downgrade_is_refused(engine: str, tmp_path: Path) -> None:
    open_books(tmp_path).store.close()
    migrated_by_a_newer_one(tmp_path)
    with pytest.raises(Unavailable) as caught:
        open_store(tmp_path, seal=nothing)
    assert caught.value.rule == "store.downgrade"


def test_who_waits_for_its_turn_while_another_migrates_does_not_write(
    ledger_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: the version read in the statement that waits, which sees what was there when it began to wait."""
    monkeypatch.setenv(LEDGER_SERVER, ledger_server)
    books, schema = open_books(tmp_path), schema_of(tmp_path)
    with psycopg.connect(ledger_server) as newer, ThreadPoolExecutor(1) as pool:
        newer.execute("SELECT pg_advisory_xact_lock(hashtextextended('weir/' || %s, 0))", (schema,))
        waiting = pool.submit(books.quota, "late", "cells", 5)
        until_waiting(ledger_server)
        newer.execute(f"UPDATE {schema}.schema_version SET version = version + 1")
        newer.commit()
        with pytest.raises(Unavailable):
            waiting.result(timeout=30)
    assert books.store.stopped
    books.store.close()


def until_waiting(server: str) -> None:
    """Until a session waits for an advisory lock."""
    with psycopg.connect(server, autocommit=True) as connection:
        for _ in range(1000):
            (found,) = connection.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            ).fetchone() or (0,)
            if found:
                return
            time.sleep(0.01)
    raise AssertionError("nobody waits")


@pytest.mark.parametrize("oldest", [1, 2])
def test_books_of_an_older_weir_are_brought_forward_and_go_on(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, oldest: int
) -> None:
    with monkeypatch.context() as older:
        older.setattr(tables, "MIGRATIONS", tables.MIGRATIONS[:oldest])
        older.setattr(tables, "VERSION", oldest)
        open_store(tmp_path, seal=nothing).close()
    with beside(tmp_path) as connection:
        for state, decided_by in (("used", "ann"), ("rejected", "bob"), ("waiting", "")):
            connection.execute(
                "INSERT INTO approvals (id, state, requester, contract, query, plan_digest, contract_digest, "
                "epsilon_nano, price_micro, requested, expires, decided_by, purpose, mode, snapshot, key_id, "
                f"key_owners, weight_bits) VALUES ('{state}', '{state}', 'alice', 'c-1', '{{}}', 'p', 'd', 0, 0, 7, 9, "
                f"'{decided_by}', 'care', 'dp', 1, '', '', 0)"
            )
        connection.execute(
            "INSERT INTO quotas (id, metric, requester, contract, dataset, lineage, period, zone, maximum) "
            "VALUES ('old', 'cells', '', 'c-1', '', '', 'lifetime', 'UTC', 9)"
        )
    books = open_books(tmp_path)
    books.answer({"queries": 1, "cells": 4})
    with beside(tmp_path) as connection:
        approvals = connection.execute("SELECT id, approvers, uses_left FROM approvals ORDER BY id").fetchall()
        acts = connection.execute("SELECT approval, person, act FROM approval_acts ORDER BY approval").fetchall()
        used = connection.execute("SELECT spent FROM quota_use WHERE quota = 'old'").fetchall()
    assert approvals == [("rejected", 1, 1), ("used", 1, 0), ("waiting", 1, 1)]
    assert acts == [("rejected", "bob", "reject"), ("used", "ann", "approve")]
    assert used == [(4,)]
    books.store.close()
    assert {finding.rule for finding in fsck_of(tmp_path).findings} == {"fsck.balance", "fsck.quota"}, "of no entry"


@pytest.mark.parametrize("pulse", [False, True], ids=["older tables", "tables with a pulse"])
def test_books_with_every_level_of_the_tree_come_forward_and_what_looks_for_those_levels_is_refused(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pulse: bool
) -> None:
    """Mutant: levels left out under the old number; a process from before starts, and ends at a hole in the tree."""
    with monkeypatch.context() as older:
        older.setattr(tables, "MIGRATIONS", tables.MIGRATIONS[:3])
        older.setattr(tables, "VERSION", 3)
        open_store(tmp_path, seal=nothing).close()
    if pulse:
        with beside(tmp_path) as connection:
            number = "BIGINT" if engine == "postgres" else "INTEGER"
            connection.execute(
                f"CREATE TABLE pulse (id {number} PRIMARY KEY CHECK (id = 1), at {number} NOT NULL, "
                f"boot TEXT NOT NULL, steady {number} NOT NULL)"
            )
    books = open_books(tmp_path)
    books.answer({"queries": 1})
    assert books.store.read(lambda tx: tx.execute("SELECT id FROM pulse")) == []
    books.store.close()
    assert fsck_of(tmp_path).ok
    with monkeypatch.context() as older:
        older.setattr(tables, "VERSION", 3)
        with pytest.raises(Unavailable) as caught:
            open_store(tmp_path, seal=nothing)
        assert caught.value.rule == "store.downgrade"


def test_several_processes_that_start_at_once_migrate_once(
    ledger_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LEDGER_SERVER, ledger_server)
    gate = threading.Barrier(4)

    def opened(number: int) -> int:
        gate.wait(30)
        store = open_store(tmp_path, seal=nothing)
        version = store.read(lambda tx: tx.execute("SELECT version FROM schema_version"))[0][0]
        store.close()
        assert isinstance(version, int)
        return version

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(opened, range(4))) == [tables.VERSION] * 4
