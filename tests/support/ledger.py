# SPDX-License-Identifier: Apache-2.0
"""A real ledger in a temporary directory, a clock that tests move, and an oracle that re-reads everything."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from weir.checkpoint import MLDSA44, Signer, new_signer
from weir_server.fsck import Report, check, fsck, postgres_rows
from weir_server.ledger import (
    Posted,
    Quota,
    Replay,
    Reservation,
    ReservationRequest,
    Subject,
    expire_holds,
    post,
    record,
    refuse,
    remove_quota,
    reserve,
    set_quota,
    start,
    void,
)
from weir_server.log import sealer
from weir_server.store import Store, Transaction
from weir_server.store.group import Admit
from weir_server.store.postgres import PostgresStore
from weir_server.store.sqlite import SqliteStore

LEDGER_SERVER = "WEIR_TEST_LEDGER"
"""Environment variable with the connection string of the PostgreSQL that keeps the books; without it SQLite does."""
ORIGIN = "log.weir.test/ledger"
SIGNER = new_signer(ORIGIN, seed=bytes(range(32)))
PQ_SIGNER = new_signer(ORIGIN, seed=bytes(range(32, 64)), kind=MLDSA44)
VKEY = SIGNER.verifier.vkey
ALICE = Subject("alice", "c-1", "census", "people")
BOB = Subject("bob", "c-2", "census", "people")


@dataclass(slots=True)
class Clock:
    """Time that tests move."""

    moment: datetime = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, **step: float) -> None:
        self.moment += timedelta(**step)


@dataclass(slots=True)
class Books:
    """An open ledger with its clock."""

    store: Store
    clock: Clock
    directory: Path
    keys: int = field(default=0)

    def new_key(self) -> str:
        self.keys += 1
        return f"key-{self.keys:012d}"

    def quota(self, quota_id: str, metric: str, limit: int, **scope: str) -> None:
        quota = Quota(id=quota_id, metric=metric, limit=limit, **scope)  # type: ignore[arg-type]
        self.store.write_sync(
            lambda tx: set_quota(tx, quota, reason="test", actor="operator", now=self.clock(), entropy=os.urandom)
        )

    def reserve(
        self, charge: Mapping[str, int], *, subject: Subject = ALICE, key: str | None = None
    ) -> Reservation | Replay:
        return self.store.write_sync(reserving(request(charge, subject=subject, key=key or self.new_key()), self.clock))

    def answer(
        self, charge: Mapping[str, int], *, subject: Subject = ALICE, key: str | None = None, answer: bytes = b"42"
    ) -> Posted:
        """Reserves and posts; the charge must fit."""
        reservation = self.reserve(charge, subject=subject, key=key)
        assert isinstance(reservation, Reservation)
        posted = self.store.write_sync(posting(reservation, self.clock, answer=answer))
        assert isinstance(posted, Posted)
        return posted


def open_store(directory: Path, **arguments: Any) -> Store:
    """The store of a directory in the engine that this test runs on; arguments as both engines take them."""
    server = os.environ.get(LEDGER_SERVER)
    if server is None:
        return SqliteStore(directory, **arguments)
    return PostgresStore(server, schema=schema_of(directory), **arguments)


def open_books(
    directory: Path,
    *,
    clock: Clock | None = None,
    connect: Callable[..., Any] | None = None,
    on_failure: Callable[[BaseException], None] = lambda error: None,
    signers: tuple[Signer, ...] = (SIGNER,),
    group_limit: int = 256,
    admit: Admit = lambda engine_time: None,
) -> Books:
    clock = clock or Clock()
    store = open_store(
        directory,
        seal=sealer(signers, now=clock),
        connect=connect,
        on_failure=on_failure,
        group_limit=group_limit,
        admit=admit,
    )
    start(store, origin=ORIGIN, now=clock, entropy=os.urandom)
    return Books(store, clock, directory)


def fsck_of(directory: Path) -> Report:
    """fsck of the books of a directory, whichever engine keeps them."""
    server = os.environ.get(LEDGER_SERVER)
    if server is None:
        return fsck(directory, vkey=VKEY)
    with postgres_rows(server, schema_of(directory)) as rows:
        return check(rows, vkey=VKEY, files=directory / "log")


def schema_of(directory: Path) -> str:
    """Schema that stands for a directory."""
    return "t_" + hashlib.sha256(str(directory).encode()).hexdigest()[:24]


def request(
    charge: Mapping[str, int], *, key: str, subject: Subject = ALICE, digest: str = "d" * 64
) -> ReservationRequest:
    return ReservationRequest(
        subject=subject,
        idempotency_key=key,
        request_digest=digest,
        charge=charge,
        plan_digest="a" * 64,
        policy_digest="b" * 64,
        event={"mode": "dp", "snapshot": 1},
        commitments={"query": b"SELECT COUNT(*) FROM census"},
    )


def reserving(
    asked: ReservationRequest, clock: Clock, *, hold_seconds: int = 60
) -> Callable[[Transaction], Reservation | Replay]:
    return lambda tx: reserve(tx, asked, now=clock(), hold_seconds=hold_seconds, entropy=os.urandom)


def posting(
    reservation: Reservation,
    clock: Clock,
    *,
    answer: bytes = b"42",
    release_key: str | None = None,
    release: bytes | None = None,
) -> Callable[[Transaction], object]:
    return lambda tx: post(
        tx,
        reservation,
        answer=answer,
        release_key=release_key,
        release=release,
        event={"mode": "dp", "snapshot": 1, "outcome": "released"},
        now=clock(),
        entropy=os.urandom,
    )


def fill(books: Books) -> None:
    """Lets everything happen that the ledger knows, at least once."""
    books.quota("epsilon", "epsilon_nano", 10**9, lineage="people")
    books.quota("daily", "queries", 20, requester="alice", window="day", zone="Asia/Shanghai")
    charge = {"queries": 1, "cells": 3, "epsilon_nano": 7, "price_micro": 11, "bytes": 5}
    for n in range(4):
        books.answer(charge, answer=f"answer {n}".encode())
        books.answer(charge, subject=BOB, answer=f"answer {n} to bob".encode())
    sticky, voided, lapsed = (books.reserve(charge) for _ in range(3))
    assert isinstance(sticky, Reservation)
    assert isinstance(voided, Reservation)
    assert isinstance(lapsed, Reservation)
    books.store.write_sync(posting(sticky, books.clock, release_key="r", release=b"release"))
    write = books.store.write_sync
    write(lambda tx: void(tx, voided, reason_code="engine.failed", now=books.clock(), entropy=os.urandom))
    books.clock.forward(hours=20)
    write(lambda tx: expire_holds(tx, now=books.clock(), entropy=os.urandom))
    write(lambda tx: refuse(tx, ALICE, event={"reason": "test"}, now=books.clock(), entropy=os.urandom))
    books.quota("late", "price_micro", 10**6, dataset="census")
    books.quota("gone", "cells", 10**6)
    write(lambda tx: remove_quota(tx, "gone", reason="test", actor="operator", now=books.clock(), entropy=os.urandom))
    write(
        lambda tx: record(
            tx,
            "weir.dataset.published",
            {"snapshot": 1},
            subject="dataset/census",
            now=books.clock(),
            entropy=os.urandom,
        )
    )
    books.answer(charge)
