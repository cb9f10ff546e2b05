# SPDX-License-Identifier: Apache-2.0
"""Ledger and log beside a plain SQLite table, beside themselves without groups, and on a log of a million entries.

Run: `python -m bench.ledger`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.rows import Row, alone, compared
from weir.checkpoint import new_signer
from weir.merkle import Range, leaf_hash
from weir.replay import Books, follow
from weir_server import log
from weir_server.ledger import (
    Quota,
    Reservation,
    ReservationRequest,
    Subject,
    post,
    reserve,
    set_quota,
    start,
)
from weir_server.log.tree import grow, inclusion_path, read_edge
from weir_server.store import Transaction
from weir_server.store.group import GROUP_LIMIT
from weir_server.store.sqlite import SqliteStore, open_writer

_SIGNER = new_signer("bench.weir/log", seed=bytes(32))
_SUBJECT = Subject("alice", "c-1", "census", "people")
_CLIENTS = 64
_ROUNDS = 5
_MILLION = 1 << 20


def measure() -> list[Row]:
    """All rows."""
    return [
        _compared("log.group64_vs_raw_insert", "leaves/s", _log_in_groups, _raw_in_groups, "SQLite, ready bytes"),
        _compared("log.group64_vs_audit_table", "leaves/s", _log_in_groups, _audit_table, "SQLite, JSON of each event"),
        _compared("ledger.grouped_vs_single", "acknowledgements/s", _grouped, _single, "groups of one"),
        *_million(),
        _verified(),
    ]


def _compared(name: str, unit: str, ours: Callable[[], float], theirs: Callable[[], float], peer: str) -> Row:
    pairs = [(ours(), theirs()) for _ in range(_ROUNDS)]
    return compared(name, [mine for mine, _ in pairs], [other for _, other in pairs], unit=unit, peer=peer)


def _now() -> datetime:
    return datetime.now(UTC)


def _open(directory: str, *, group_limit: int = GROUP_LIMIT) -> SqliteStore:
    store = SqliteStore(Path(directory), seal=log.sealer((_SIGNER,), now=_now), group_limit=group_limit)
    start(store, origin=_SIGNER.name, now=_now, entropy=os.urandom)
    return store


_EVENT = {"record": {"mode": "dp"}, "charge": {"queries": "1"}, "subject": {"requester": "alice"}}
_KIND = "weir.bench.note"


def _log_in_groups(groups: int = 60) -> float:
    """Leaves a second, in groups of 64, with encoding, tree, checkpoint and signature."""

    def group(tx: Transaction) -> None:
        for _ in range(_CLIENTS):
            log.append(tx, _KIND, _EVENT, now=_now(), entropy=os.urandom, requester="alice")

    with TemporaryDirectory() as directory:
        store = _open(directory)
        began = time.perf_counter()
        for _ in range(groups):
            store.write_sync(group)
        took = time.perf_counter() - began
        store.close()
    return groups * _CLIENTS / took


def _raw_in_groups(groups: int = 60) -> float:
    """Rows a second of the same bytes, ready-made: leaf, salt, and the columns and indexes by which entries are found.

    Nothing of a log is in it: no encoding, no hash, no tree, no signature. A commit for each 64, as durable.
    """
    leaf, salt = _leaf(), os.urandom(32)
    return _table(groups, lambda: (_KIND, "alice", leaf, salt))


def _audit_table(groups: int = 60) -> float:
    """As `_raw_in_groups`, but with its own encoding of each event: what a service without a log would have."""
    event = json.loads(_leaf())

    def row() -> tuple[str, str, bytes, bytes]:
        fresh = {**event, "data": _EVENT, "time": _now().isoformat()}
        return _KIND, "alice", json.dumps(fresh).encode(), os.urandom(32)

    return _table(groups, row)


def _table(groups: int, row: Callable[[], tuple[str, str, bytes, bytes]]) -> float:
    with TemporaryDirectory() as directory:
        connection = open_writer(Path(directory) / "raw.db")
        connection.execute(
            "CREATE TABLE raw (idx INTEGER PRIMARY KEY, type TEXT, requester TEXT, leaf BLOB, salt BLOB)"
        )
        connection.execute("CREATE INDEX raw_by_type ON raw (type, idx)")
        connection.execute("CREATE INDEX raw_by_requester ON raw (requester, idx)")
        began = time.perf_counter()
        for _ in range(groups):
            connection.execute("BEGIN IMMEDIATE")
            rows = [row() for _ in range(_CLIENTS)]
            connection.executemany("INSERT INTO raw (type, requester, leaf, salt) VALUES (?, ?, ?, ?)", rows)
            connection.execute("COMMIT")
        took = time.perf_counter() - began
        connection.close()
    return groups * _CLIENTS / took


@cache
def _leaf() -> bytes:
    """A leaf as `_log_in_groups` writes them."""
    with TemporaryDirectory() as directory:
        store = _open(directory)
        leaf = store.write_sync(lambda tx: log.append(tx, _KIND, _EVENT, now=_now(), entropy=os.urandom)).leaf
        store.close()
    return leaf


def _grouped() -> float:
    return asyncio.run(_acknowledged(GROUP_LIMIT, queries=1500))


def _single() -> float:
    return asyncio.run(_acknowledged(1, queries=300))


async def _acknowledged(group_limit: int, *, queries: int) -> float:
    """Durable acknowledgements a second of 64 clients on one hot quota; a query has two (reserved, posted)."""
    with TemporaryDirectory() as directory:
        store = _open(directory, group_limit=group_limit)
        quota = Quota(id="hot", metric="queries", limit=10**9, lineage="people")
        store.write_sync(lambda tx: set_quota(tx, quota, reason="bench", actor="bench", now=_now(), entropy=os.urandom))
        numbers = iter(range(queries))
        began = time.perf_counter()
        await asyncio.gather(*(_client(store, numbers) for _ in range(_CLIENTS)))
        took = time.perf_counter() - began
        store.close()
    return 2 * queries / took


async def _client(store: SqliteStore, numbers: Iterator[int]) -> None:
    for number in numbers:
        reservation = await store.write(lambda tx, n=number: _reserve(tx, n))  # type: ignore[misc]
        await store.write(lambda tx, held=reservation: _post(tx, held))  # type: ignore[misc]


def _reserve(tx: Transaction, number: int) -> Reservation:
    request = ReservationRequest(
        subject=_SUBJECT,
        idempotency_key=f"bench-key-{number:012d}",
        request_digest="d" * 64,
        charge={"queries": 1, "cells": 10, "epsilon_nano": 5, "price_micro": 7},
        plan_digest="a" * 64,
        policy_digest="b" * 64,
        event={"mode": "dp"},
        commitments={"query": b"q" * 200},
    )
    reservation = reserve(tx, request, now=_now(), hold_seconds=60, entropy=os.urandom)
    if not isinstance(reservation, Reservation):
        raise TypeError("the bench's keys are fresh")
    return reservation


def _post(tx: Transaction, reservation: Reservation) -> object:
    return post(tx, reservation, answer=b"x" * 1000, event={"mode": "dp"}, now=_now(), entropy=os.urandom)


def _million() -> list[Row]:
    """Inclusion proofs in a tree of 2**20 leaves, cold pages aside."""
    with TemporaryDirectory() as directory:
        store = _open(directory)
        for first in range(0, _MILLION, 1 << 14):
            leaves = [hashlib.sha256(n.to_bytes(8, "big")).digest() for n in range(first, first + (1 << 14))]
            store.write_sync(lambda tx, f=first, x=leaves: grow(tx, size=f, edge=read_edge(tx, f), leaves=x))  # type: ignore[misc]
        indexes = [int.from_bytes(os.urandom(4), "big") % (_MILLION - 1) for _ in range(400)]
        rounds = [store.read(lambda tx: _proofs(tx, indexes)) for _ in range(_ROUNDS)]
        store.close()
    return [alone("log.inclusion_proof_us_at_1m", rounds, unit="microseconds")]


def _proofs(tx: Transaction, indexes: list[int]) -> float:
    began = time.perf_counter()
    for index in indexes:
        inclusion_path(tx, index=index, size=_MILLION - 1)
    return (time.perf_counter() - began) / len(indexes) * 1e6


def _verified() -> Row:
    """Entries a second that an auditor hashes, adds to the tree and replays."""
    with TemporaryDirectory() as directory:
        store = _open(directory)
        for first in range(0, 1000, 100):
            store.write_sync(lambda tx, f=first: [_post(tx, _reserve(tx, n)) for n in range(f, f + 100)])  # type: ignore[misc]
        entries = store.read(lambda tx: list(log.entries(tx)))
        store.close()
    return alone("log.verify_entries_per_s", [_replay(entries) for _ in range(_ROUNDS)], unit="entries/s")


def _replay(entries: list[tuple[int, bytes]]) -> float:
    books, covered = Books(), Range()
    began = time.perf_counter()
    for index, leaf in entries:
        follow(books, index, leaf)
        covered = covered.append(leaf_hash(leaf))
    covered.root()
    return len(entries) / (time.perf_counter() - began)


if __name__ == "__main__":
    print(json.dumps({"sqlite": sqlite3.sqlite_version, "rows": measure()}, indent=2))
