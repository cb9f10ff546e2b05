# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.ledger import ALICE, BOB, Books, open_books, posting
from weir.errors import InvalidRequest, QuotaExceeded, UnknownName
from weir_server import ledger, log
from weir_server.clock import from_micros, to_micros
from weir_server.ledger import Quota, Reservation, Subject
from weir_server.ledger.windows import window_opened, window_resets, window_start
from weir_server.store import Transaction


@pytest.fixture
def books(tmp_path: Path, engine: str) -> Iterator[Books]:
    opened = open_books(tmp_path)
    yield opened
    opened.store.close()


def use(books: Books) -> dict[str, tuple[int, int]]:
    found = books.store.read(lambda tx: ledger.list_quotas(tx, now=books.clock()))
    return {item.quota.id: (item.spent, item.held) for item in found}


@pytest.mark.parametrize(
    ("scope", "binds"),
    [
        ({}, True),
        ({"requester": "alice"}, True),
        ({"requester": "bob"}, False),
        ({"contract": "c-1"}, True),
        ({"contract": "c-2"}, False),
        ({"dataset": "census"}, True),
        ({"lineage": "people"}, True),
        ({"lineage": "firms"}, False),
        ({"requester": "alice", "contract": "c-1", "dataset": "census", "lineage": "people"}, True),
        ({"requester": "alice", "contract": "c-2"}, False),
        ({"requester": "bob", "dataset": "census"}, False),
    ],
)
def test_a_quota_binds_exactly_the_charges_that_fit_all_of_its_scope(
    books: Books, scope: dict[str, str], binds: bool
) -> None:
    books.quota("q", "queries", 1, **scope)
    books.answer({"queries": 1})
    assert use(books)["q"] == ((1, 0) if binds else (0, 0))
    if binds:
        with pytest.raises(QuotaExceeded):
            books.reserve({"queries": 1})
    else:
        books.answer({"queries": 1})


def test_a_charge_of_nothing_passes_an_overdrawn_quota(books: Books) -> None:
    books.quota("q", "queries", 5)
    books.answer({"queries": 5})
    books.quota("q", "queries", 1)
    books.answer({"cells": 1})
    with pytest.raises(QuotaExceeded):
        books.reserve({"queries": 1})
    assert books.store.read(lambda tx: ledger.list_quotas(tx, now=books.clock()))[0].left == 0


def test_raising_a_limit_lets_the_next_query_through_and_keeps_what_was_used(books: Books) -> None:
    books.quota("q", "queries", 1)
    books.answer({"queries": 1})
    with pytest.raises(QuotaExceeded):
        books.reserve({"queries": 1})
    books.quota("q", "queries", 2)
    books.answer({"queries": 1})
    assert use(books)["q"] == (2, 0)


@pytest.mark.parametrize("metric", ["queries", "epsilon_nano"])
def test_a_new_quota_counts_what_was_used_before_it(books: Books, metric: str) -> None:
    books.answer({metric: 3})
    waiting = books.reserve({metric: 2})
    assert isinstance(waiting, Reservation)
    voided = books.reserve({metric: 10}, subject=BOB)
    assert isinstance(voided, Reservation)
    books.store.write_sync(
        lambda tx: ledger.void(tx, voided, reason_code="test", now=books.clock(), entropy=os.urandom)
    )
    books.quota("q", metric, 100, dataset="census")
    assert use(books)["q"] == ((15, 0) if metric == "epsilon_nano" else (3, 2))
    books.store.write_sync(posting(waiting, books.clock))
    assert use(books)["q"] == ((15, 0) if metric == "epsilon_nano" else (5, 0))


def test_a_new_daily_quota_counts_only_its_own_day(books: Books) -> None:
    books.answer({"queries": 3})
    old = books.reserve({"queries": 1})
    assert isinstance(old, Reservation)
    books.clock.forward(seconds=30)
    books.clock.forward(days=1)
    books.quota("q", "queries", 100, window="day")
    assert use(books)["q"] == (0, 0)
    books.answer({"queries": 2})
    assert use(books)["q"] == (2, 0)


def test_a_removed_quota_that_is_set_again_remembers(books: Books) -> None:
    books.quota("q", "queries", 10)
    books.answer({"queries": 4})

    def remove(tx: Transaction) -> None:
        ledger.remove_quota(tx, "q", reason="test", actor="operator", now=books.clock(), entropy=os.urandom)

    books.store.write_sync(remove)
    assert use(books) == {}
    with pytest.raises(UnknownName):
        books.store.write_sync(remove)
    books.answer({"queries": 1})
    books.quota("q", "queries", 10)
    assert use(books)["q"] == (5, 0)


def test_setting_a_quota_leaves_one_leaf_and_setting_it_again_none(books: Books) -> None:
    books.quota("q", "queries", 10, requester="alice")
    books.quota("q", "queries", 10, requester="alice")
    leaves = books.store.read(lambda tx: [json.loads(leaf) for _, leaf in log.entries(tx)])
    assert len(leaves) == 1
    assert leaves[0]["type"] == "weir.quota.set"
    assert leaves[0]["data"] == {
        "id": "q",
        "metric": "queries",
        "scope": {"requester": "alice"},
        "window": "lifetime",
        "zone": "UTC",
        "limit": "10",
        "reason": "test",
        "actor": "operator",
    }


GOOD = Quota(id="q-1", metric="queries", limit=1)


@pytest.mark.parametrize(
    "quota",
    [
        pytest.param(replace(GOOD, id="Q"), id="upper case id"),
        pytest.param(replace(GOOD, id=""), id="no id"),
        pytest.param(replace(GOOD, id="q\n"), id="newline behind the id"),
        pytest.param(replace(GOOD, metric="rows"), id="unknown metric"),  # type: ignore[arg-type]
        pytest.param(replace(GOOD, limit=-1), id="negative limit"),
        pytest.param(replace(GOOD, limit=2**62 + 1), id="limit too large"),
        pytest.param(replace(GOOD, window="week"), id="unknown window"),  # type: ignore[arg-type]
        pytest.param(replace(GOOD, zone="Mars/Olympus"), id="unknown zone"),
        pytest.param(replace(GOOD, zone="../../etc/passwd"), id="zone that is a path"),
        pytest.param(replace(GOOD, requester=""), id="empty scope"),
    ],
)
def test_a_malformed_quota_is_refused(books: Books, quota: Quota) -> None:
    with pytest.raises(InvalidRequest):
        books.store.write_sync(
            lambda tx: ledger.set_quota(
                tx, quota, reason="test", actor="operator", now=books.clock(), entropy=os.urandom
            )
        )
    assert use(books) == {}


def test_metric_scope_and_window_of_a_quota_cannot_change(books: Books) -> None:
    books.quota("q", "queries", 10)
    for change in ({"metric": "cells"}, {"requester": "alice"}, {"window": "day"}):
        with pytest.raises(InvalidRequest) as caught:
            books.quota("q", **{"metric": "queries", "limit": 10, **change})  # type: ignore[arg-type]
        assert caught.value.rule == "quota.shape"


def test_balances_are_those_that_bind_the_given_subjects(books: Books) -> None:
    books.quota("all", "queries", 9)
    books.quota("for-alice", "queries", 9, requester="alice")
    books.quota("for-bob", "queries", 9, requester="bob")
    books.quota("for-c-3", "queries", 9, contract="c-3")
    found = books.store.read(lambda tx: ledger.balances(tx, [ALICE], now=books.clock()))
    assert [item.quota.id for item in found] == ["all", "for-alice"]
    both = [ALICE, Subject("alice", "c-3", "census", "people")]
    found = books.store.read(lambda tx: ledger.balances(tx, both, now=books.clock()))
    assert [item.quota.id for item in found] == ["all", "for-alice", "for-c-3"]


def test_a_monthly_quota_in_shanghai_resets_at_shanghai_s_midnight(books: Books) -> None:
    books.clock.moment = datetime(2026, 11, 30, 15, 59, 59, tzinfo=UTC)
    books.quota("q", "queries", 1, window="month", zone="Asia/Shanghai")
    books.answer({"queries": 1})
    with pytest.raises(QuotaExceeded) as caught:
        books.reserve({"queries": 1})
    assert caught.value.limits[0].resets_at == "2026-11-30T16:00:00.000000Z"
    books.clock.forward(seconds=1)
    books.answer({"queries": 1})


@pytest.mark.parametrize(
    ("window", "zone", "moment", "start", "opened", "resets"),
    [
        ("lifetime", "UTC", "2026-11-22T12:00Z", "", "1970-01-01T00:00Z", None),
        ("day", "UTC", "2026-12-31T23:59Z", "2026-12-31", "2026-12-31T00:00Z", "2027-01-01T00:00Z"),
        ("month", "UTC", "2026-12-31T23:59Z", "2026-12", "2026-12-01T00:00Z", "2027-01-01T00:00Z"),
        ("day", "Asia/Shanghai", "2026-11-22T16:00Z", "2026-11-23", "2026-11-22T16:00Z", "2026-11-23T16:00Z"),
        # Clocks go back an hour in New York on 1 November 2026: that day has 25 hours.
        ("day", "America/New_York", "2026-11-01T05:30Z", "2026-11-01", "2026-11-01T04:00Z", "2026-11-02T05:00Z"),
    ],
)
def test_windows_open_and_reset_at_local_midnight(
    window: str, zone: str, moment: str, start: str, opened: str, resets: str | None
) -> None:
    at = datetime.fromisoformat(moment)
    assert window_start(window, zone, at) == start  # type: ignore[arg-type]
    assert window_opened(window, zone, at) == datetime.fromisoformat(opened)  # type: ignore[arg-type]
    expected = None if resets is None else datetime.fromisoformat(resets)
    assert window_resets(window, zone, at) == expected  # type: ignore[arg-type]


def test_times_are_kept_to_the_microsecond() -> None:
    moment = datetime(2026, 11, 22, 1, 2, 3, 456789, tzinfo=UTC)
    assert from_micros(to_micros(moment)) == moment
