# SPDX-License-Identifier: Apache-2.0
"""The ledger beside a model so simple that it is plainly right: a list of charges, summed afresh for every question."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.ledger import LEDGER_SERVER, VKEY, Books, fsck_of, open_books, posting, request, reserving
from weir.errors import BudgetExhausted, IdempotencyConflict, Overloaded, QuotaExceeded, Unavailable
from weir.receipts import verify_progress, verify_receipt
from weir_server import ledger, log
from weir_server.ledger import PRIVACY_METRICS, Posted, Replay, Reservation, Subject
from weir_server.log.tiles import export_tiles

SUBJECTS = [
    Subject("alice", "c-1", "census", "people"),
    Subject("alice", "c-2", "visits", "people"),
    Subject("bob", "c-3", "firms", "firms"),
]
HOLD = 60


@dataclass
class Charged:
    """One attempt, as the model remembers it."""

    reservation: Reservation
    digest: str
    at: datetime
    state: str = "held"
    answer: bytes = b""
    index: int = -1


@dataclass
class Model:
    """Everything, in lists."""

    charged: list[Charged] = field(default_factory=list)
    limits: dict[str, tuple[str, int, dict[str, str], str]] = field(default_factory=dict)
    keys: dict[tuple[str, str], Charged] = field(default_factory=dict)

    def used(self, quota: str, now: datetime) -> tuple[int, int]:
        metric, _, scope, window = self.limits[quota]
        spent = held = 0
        for item in self.charged:
            subject = item.reservation.request.subject
            fits = all(getattr(subject, name) == value for name, value in scope.items())
            current = window == "lifetime" or item.at.date() == now.date()
            amount = item.reservation.request.charge.get(metric, 0)
            if fits and current and (metric in PRIVACY_METRICS or item.state == "posted"):
                spent += amount
            elif fits and current and item.state == "held":
                held += amount
        return spent, held

    def hits(self, subject: Subject, charge: dict[str, int], now: datetime) -> set[str]:
        found = set()
        for quota, (metric, limit, scope, _) in self.limits.items():
            fits = all(getattr(subject, name) == value for name, value in scope.items())
            amount = charge.get(metric, 0)
            if fits and amount and sum(self.used(quota, now)) + amount > limit:
                found.add(quota)
        return found


class LedgerMachine(RuleBasedStateMachine):
    """Random operations on a real ledger; after each, everything it says must be what the model says."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="ledger-machine-"))
        self.books: Books = open_books(self.directory)
        self.model = Model()
        self.note: str | None = None

    def teardown(self) -> None:
        export_tiles(self.books.store, self.directory / "log")
        self.books.store.close()
        report = fsck_of(self.directory)
        shutil.rmtree(self.directory)
        assert report.findings == ()

    @initialize()
    def start_with_two_limits(self) -> None:
        # Without limits from the start most runs would end before any is hit.
        self.set_limit(quota="q-1", limit=9)
        self.set_limit(quota="q-2", limit=4)

    @rule(
        quota=st.sampled_from(["q-1", "q-2", "q-3", "q-4"]),
        limit=st.integers(0, 12),
    )
    def set_limit(self, quota: str, limit: int) -> None:
        metric, scope, window = {
            "q-1": ("epsilon_nano", {"lineage": "people"}, "lifetime"),
            "q-2": ("queries", {"requester": "alice"}, "day"),
            "q-3": ("cells", {}, "lifetime"),
            "q-4": ("queries", {"contract": "c-2", "dataset": "visits"}, "lifetime"),
        }[quota]
        self.books.quota(quota, metric, limit, window=window, **scope)
        self.model.limits[quota] = (metric, limit, scope, window)

    @precondition(lambda self: self.model.limits)
    @rule(data=st.data())
    def remove_limit(self, data: st.DataObject) -> None:
        quota = data.draw(st.sampled_from(sorted(self.model.limits)))
        self.books.store.write_sync(
            lambda tx: ledger.remove_quota(
                tx, quota, reason="test", actor="o", now=self.books.clock(), entropy=os.urandom
            )
        )
        del self.model.limits[quota]

    @rule(
        subject=st.sampled_from(SUBJECTS),
        queries=st.integers(0, 2),
        cells=st.integers(0, 4),
        epsilon=st.integers(0, 3),
        key=st.sampled_from([f"key-{n}" for n in range(12)]),
        digest=st.sampled_from(["d", "d", "d", "e"]),
    )
    def reserve(self, subject: Subject, queries: int, cells: int, epsilon: int, key: str, digest: str) -> None:
        charge = {"queries": queries, "cells": cells, "epsilon_nano": epsilon}
        asked = request(charge, key=key, subject=subject, digest=digest)
        now = self.books.clock()
        old = self.model.keys.get((subject.requester, key))
        operation = reserving(asked, self.books.clock, hold_seconds=HOLD)
        if old is not None and old.digest != digest:
            self.expect(IdempotencyConflict, operation)
            return
        if old is not None and old.state == "posted":
            assert self.books.store.write_sync(operation) == Replay(old.answer, old.index)
            return
        if old is not None and old.state == "held" and old.at + timedelta(seconds=HOLD) > now:
            self.expect(Overloaded, operation)
            return
        before = None if old is None else old.state
        if old is not None and old.state == "held":
            old.state = "expired"  # Lapsed: the ledger expires it on the way.
        hits = self.model.hits(subject, charge, now)
        if hits:
            refusal = self.expect((BudgetExhausted, QuotaExceeded), operation)
            assert isinstance(refusal, BudgetExhausted | QuotaExceeded)
            assert {hit.quota for hit in refusal.limits} == hits
            if old is not None and before is not None:
                old.state = before  # A refused attempt changes nothing.
            return
        reservation = self.books.store.write_sync(operation)
        assert isinstance(reservation, Reservation)
        charged = Charged(reservation, digest, now)
        self.model.charged.append(charged)
        self.model.keys[subject.requester, key] = charged

    @rule(subject=st.sampled_from(SUBJECTS), first=st.integers(0, 7))
    def rush(self, subject: Subject, first: int) -> None:
        """Several at once, so that limits are hit by what is held and not only by what is spent."""
        for n in range(first, first + 5):
            self.reserve(subject=subject, queries=1, cells=1, epsilon=1, key=f"key-{n}", digest="d")

    @precondition(lambda self: self.model.charged)
    @rule(data=st.data())
    def post(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.model.charged))
        answer = f"answer {len(self.model.charged)}".encode()
        operation = posting(item.reservation, self.books.clock, answer=answer)
        if item.state != "held" or item.at + timedelta(seconds=HOLD) < self.books.clock():
            self.expect(Unavailable, operation)
            return
        posted = self.books.store.write_sync(operation)
        assert isinstance(posted, Posted)
        item.state, item.answer, item.index = "posted", answer, posted.leaf_index
        receipt = self.books.store.read(lambda tx: log.receipt(tx, posted.leaf_index))
        verify_receipt(receipt, vkey=VKEY, commitments={"answer": answer})

    @precondition(lambda self: self.model.charged)
    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.model.charged))

        def operation(tx: object) -> object:
            return ledger.void(
                tx,  # type: ignore[arg-type]
                item.reservation,
                reason_code="test",
                now=self.books.clock(),
                entropy=os.urandom,
            )

        if item.state != "held":
            self.expect(Unavailable, operation)
            return
        self.books.store.write_sync(operation)
        item.state = "voided"

    @rule()
    def sweep(self) -> None:
        now = self.books.clock()
        due = [item for item in self.model.charged if item.state == "held" and item.at + timedelta(seconds=HOLD) <= now]
        count = self.books.store.write_sync(lambda tx: ledger.expire_holds(tx, now=now, entropy=os.urandom))
        assert count == len(due)
        for item in due:
            item.state = "expired"

    @rule()
    def restart(self) -> None:
        self.books.store.close()
        self.books = open_books(self.directory, clock=self.books.clock)
        for item in self.model.charged:
            if item.state == "held":
                item.state = "expired"

    @rule(seconds=st.sampled_from([1, 30, 61, 40_000, 90_000]))
    def wait(self, seconds: int) -> None:
        self.books.clock.forward(seconds=seconds)

    @invariant()
    def balances_are_the_model_s(self) -> None:
        now = self.books.clock()
        shown = self.books.store.read(lambda tx: ledger.list_quotas(tx, now=now))
        assert {b.quota.id: (b.spent, b.held) for b in shown} == {
            quota: self.model.used(quota, now) for quota in self.model.limits
        }

    @invariant()
    def the_meter_is_the_model_s(self) -> None:
        expected: dict[tuple[str, str], int] = {}
        for item in self.model.charged:
            asked = item.reservation.request
            for metric, amount in asked.charge.items():
                if amount and (metric in PRIVACY_METRICS or item.state == "posted"):
                    key = (asked.subject.contract, metric)
                    expected[key] = expected.get(key, 0) + amount
        shown = self.books.store.read(ledger.meter_totals)
        assert {(t.contract, t.metric): t.used for t in shown} == expected

    @invariant()
    def the_log_only_grows(self) -> None:
        newest = self.books.store.read(log.latest_checkpoint)
        if newest is None:
            return
        if self.note is not None:
            old = int(self.note.split("\n")[1])
            proof = self.books.store.read(lambda tx: log.consistency(tx, old, newest[0]))
            verify_progress(self.note, newest[1], proof, VKEY)
        self.note = newest[1]

    def expect(self, kinds: object, operation: object) -> Exception:
        try:
            self.books.store.write_sync(operation)  # type: ignore[arg-type]
        except kinds as error:  # type: ignore[misc]
            return error  # type: ignore[no-any-return]
        raise AssertionError("the ledger allowed what the model refuses")


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


@pytest.mark.slow
def test_the_same_on_postgresql(ledger_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LEDGER_SERVER, ledger_server)
    run_state_machine_as_test(LedgerMachine, settings=settings(max_examples=15, stateful_step_count=30, deadline=None))
