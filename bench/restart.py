# SPDX-License-Identifier: Apache-2.0
"""A server that starts on books of 100,000 entries, and what those entries cost on disk and to check.

`restart.seconds_100k_entries`: from the start of the process until it serves, beside a domain with nothing but its
publications; `detail` has what SQLite's own `PRAGMA quick_check` of the file takes. `books.*`: what docs/performance.md
reckons with.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench.rows import Row, alone, compared
from tests.support.sample import publish_sample
from tests.support.server import make_domain, start_server
from weir.replay import follow_all
from weir.statement import statement
from weir_server import ledger, log
from weir_server.books import check_books, open_books, read_books
from weir_server.identity.pki import load_domain
from weir_server.ledger import Reservation, ReservationRequest, Subject
from weir_server.log.background import DIRECTORY as TILES
from weir_server.store import Transaction
from weir_server.store.sqlite import FILE_NAME

ENTRIES = int(os.environ.get("WEIR_BENCH_RESTART_ENTRIES", "100000"))
ROUNDS = 3
_GROUP = 100
_ANSWER = 600
"""Bytes of an answer: a dozen cells."""


def measure() -> list[Row]:
    """Rows."""
    with tempfile.TemporaryDirectory() as directory:
        full, empty = _domain(Path(directory) / "full"), _domain(Path(directory) / "empty")
        _fill(full)
        book = full / "ledger" / FILE_NAME
        starts, bare, checks = [], [], []
        for _ in range(ROUNDS):
            starts.append(_starts(full))
            bare.append(_starts(empty))
            checks.append(_seconds(partial(_quick_check, book)))
        _wait_for_tiles(full)
        return [
            compared(
                "restart.seconds_100k_entries",
                starts,
                bare,
                unit="s",
                peer="the same on a domain that nobody has asked",
                detail=f"{ENTRIES} entries; PRAGMA quick_check {statistics.median(checks):.2f} s",
            ),
            *_costs(full, book),
        ]


def _domain(directory: Path) -> Path:
    data_dir = make_domain(directory)
    publish_sample(data_dir)
    return data_dir


def _fill(data_dir: Path) -> None:
    """Answers of ten requesters, each a reservation and a post, as the pipeline makes them."""
    store = open_books(data_dir, load_domain(data_dir))
    try:
        for first in range(0, ENTRIES // 2, _GROUP):
            store.write_sync(partial(_answers, range(first, first + _GROUP)))
    finally:
        store.close()


def _answers(numbers: range, tx: Transaction) -> None:
    for number in numbers:
        name = f"r-{number % 10}"
        request = ReservationRequest(
            subject=Subject(name, f"c-{number % 10}", "clinic", "clinic"),
            idempotency_key=f"bench-key-{number:012d}",
            request_digest=f"{number:064x}",
            charge={"queries": 1, "cells": 12, "price_micro": 220_000},
            plan_digest="a" * 64,
            policy_digest="b" * 64,
            event={"mode": "exact", "purpose": "research"},
            commitments={"query": b"q" * 200, "request": b"r" * 200},
        )
        moment = datetime.now(UTC)
        held = ledger.reserve(tx, request, now=moment, hold_seconds=60, entropy=os.urandom)
        if not isinstance(held, Reservation):
            raise TypeError("the bench's keys are fresh")
        ledger.post(tx, held, answer=os.urandom(_ANSWER), event=request.event, now=moment, entropy=os.urandom)


def _starts(data_dir: Path) -> float:
    began = time.perf_counter()
    server = start_server(data_dir, settings="[encrypted]\nworkers = 0\n")
    took = time.perf_counter() - began
    server.stop()
    return took


def _quick_check(book: Path) -> None:
    with closing(sqlite3.connect(f"file:{book}?mode=ro", uri=True)) as connection:
        if connection.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
            raise ValueError("the bench's books are damaged")


def _wait_for_tiles(data_dir: Path) -> None:
    """Lets a server export the whole log."""
    server = start_server(data_dir, settings="[encrypted]\nworkers = 0\n")
    try:
        deadline, checkpoint = time.monotonic() + 120, data_dir / TILES / "checkpoint"
        while not checkpoint.exists() or int(checkpoint.read_text(encoding="utf-8").split("\n")[1]) < ENTRIES:
            if time.monotonic() > deadline:
                raise TimeoutError("the log was not exported")
            time.sleep(0.2)
    finally:
        server.stop()


def _costs(data_dir: Path, book: Path) -> list[Row]:
    with read_books(data_dir) as tx:
        entries = list(log.entries(tx))
    many = len(entries)
    leaves = [leaf for _, leaf in entries]
    tiles = sum(path.stat().st_size for path in (data_dir / TILES).rglob("*") if path.is_file())

    def per_second(work: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
        return [many / _seconds(work) for _ in range(rounds)]

    return [
        alone("books.bytes_per_entry", [book.stat().st_size / many], unit="bytes"),
        alone("books.tile_bytes_per_entry", [tiles / many], unit="bytes"),
        alone("books.fsck_entries_per_s", per_second(lambda: check_books(data_dir), 1), unit="entries/s"),
        alone("books.statement_entries_per_s", per_second(lambda: statement(leaves)), unit="entries/s"),
        alone("books.replay_entries_per_s", per_second(lambda: follow_all(entries)), unit="entries/s"),
    ]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
