# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path

import pytest

from tests.support.ledger import (
    ALICE,
    BOB,
    VKEY,
    Books,
    Clock,
    fsck_of,
    open_books,
    posting,
    request,
    reserving,
)
from weir.errors import (
    BudgetExhausted,
    IdempotencyConflict,
    InternalError,
    InvalidRequest,
    Overloaded,
    QuotaExceeded,
    Unavailable,
)
from weir.receipts import verify_receipt
from weir_server import ledger, log
from weir_server.ledger import Balance, Posted, Replay, Reservation, Superseded, expire_holds, windows
from weir_server.store import Transaction

CHARGE = {"queries": 1, "cells": 4, "epsilon_nano": 100, "price_micro": 50}


@pytest.fixture
def books(tmp_path: Path, engine: str) -> Iterator[Books]:
    opened = open_books(tmp_path)
    opened.quota("people-epsilon", "epsilon_nano", 1000, lineage="people")
    opened.quota("alice-queries", "queries", 3, requester="alice", window="day")
    yield opened
    opened.store.close()


def balance(books: Books, quota_id: str) -> Balance:
    found = books.store.read(lambda tx: ledger.list_quotas(tx, now=books.clock()))
    return next(item for item in found if item.quota.id == quota_id)


def used(books: Books) -> dict[str, int]:
    totals: dict[str, int] = {}
    for total in books.store.read(ledger.meter_totals):
        totals[total.metric] = totals.get(total.metric, 0) + total.used
    return totals


def types(books: Books) -> list[str]:
    return books.store.read(lambda tx: [json.loads(leaf)["type"].removeprefix("weir.") for _, leaf in log.entries(tx)])[
        2:
    ]


def void(books: Books, reservation: Reservation) -> Posted:
    return books.store.write_sync(
        lambda tx: ledger.void(tx, reservation, reason_code="engine.failed", now=books.clock(), entropy=os.urandom)
    )


def held(books: Books, key: str = "key-of-alice-0001") -> Reservation:
    reservation = books.reserve(CHARGE, key=key)
    assert isinstance(reservation, Reservation)
    return reservation


def test_a_reservation_spends_privacy_at_once_and_holds_the_rest(books: Books) -> None:
    held(books)
    epsilon, queries = balance(books, "people-epsilon"), balance(books, "alice-queries")
    assert (epsilon.spent, epsilon.held, epsilon.left) == (100, 0, 900)
    assert (queries.spent, queries.held, queries.left) == (0, 1, 2)
    assert used(books) == {"epsilon_nano": 100}
    assert types(books) == ["query.reserved"]


def test_posting_spends_meters_stores_and_logs_in_one_step(books: Books) -> None:
    posted = books.answer(CHARGE, answer=b"the answer")
    queries = balance(books, "alice-queries")
    assert (queries.spent, queries.held) == (1, 0)
    assert used(books) == CHARGE
    assert types(books) == ["query.reserved", "query.released"]
    receipt = books.store.read(lambda tx: log.receipt(tx, posted.leaf_index))
    verified = verify_receipt(receipt, vkey=VKEY, commitments={"answer": b"the answer"})
    data = verified.event["data"]
    assert isinstance(data, dict)
    assert data["charge"]["epsilon_nano"] == "100"
    assert data["subject"] == {"requester": "alice", "contract": "c-1", "dataset": "census", "lineage": "people"}
    assert data["record"] == {"mode": "dp", "snapshot": 1, "outcome": "released"}


def test_no_leaf_carries_the_query_the_plan_or_the_answer_in_clear(books: Books) -> None:
    books.answer(CHARGE, answer=b"secret answer")
    leaves = books.store.read(lambda tx: b"".join(leaf for _, leaf in log.entries(tx)))
    for secret in (b"secret answer", b"SELECT", b"a" * 64, b"d" * 64):
        assert secret not in leaves


def test_the_same_key_and_request_give_the_same_bytes_and_charge_nothing_more(books: Books) -> None:
    posted = books.answer(CHARGE, key="key-of-alice-0001", answer=b"first")
    again = books.reserve(CHARGE, key="key-of-alice-0001")
    assert again == Replay(b"first", posted.leaf_index)
    assert used(books) == CHARGE
    found = books.store.read(lambda tx: ledger.find_answer(tx, "alice", "key-of-alice-0001", request_digest="d" * 64))
    assert found == again


def test_a_replay_needs_no_budget(books: Books) -> None:
    books.answer(CHARGE, key="key-of-alice-0001")
    books.quota("people-epsilon", "epsilon_nano", 0, lineage="people")
    assert isinstance(books.reserve(CHARGE, key="key-of-alice-0001"), Replay)


def test_the_same_key_with_another_request_is_an_error_that_changes_nothing(books: Books) -> None:
    books.answer(CHARGE, key="key-of-alice-0001")
    before = types(books)
    with pytest.raises(IdempotencyConflict):
        books.store.write_sync(reserving(request(CHARGE, key="key-of-alice-0001", digest="e" * 64), books.clock))
    with pytest.raises(IdempotencyConflict):
        books.store.read(lambda tx: ledger.find_answer(tx, "alice", "key-of-alice-0001", request_digest="e" * 64))
    assert types(books) == before


def test_keys_belong_to_their_requester(books: Books) -> None:
    books.answer(CHARGE, key="key-of-alice-0001")
    assert isinstance(books.reserve(CHARGE, subject=BOB, key="key-of-alice-0001"), Reservation)


def test_a_key_whose_request_still_runs_is_told_to_wait(books: Books) -> None:
    held(books)
    with pytest.raises(Overloaded):
        books.reserve(CHARGE, key="key-of-alice-0001")
    nothing = books.store.read(lambda tx: ledger.find_answer(tx, "alice", "key-of-alice-0001", request_digest="d" * 64))
    assert nothing is None


def test_a_void_gives_back_everything_but_privacy(books: Books) -> None:
    void(books, held(books))
    assert balance(books, "alice-queries").used == 0
    assert balance(books, "people-epsilon").spent == 100
    assert used(books) == {"epsilon_nano": 100}
    assert types(books) == ["query.reserved", "query.voided"]


def test_after_a_void_the_key_starts_again_and_privacy_is_charged_anew(books: Books) -> None:
    void(books, held(books))
    assert isinstance(books.reserve(CHARGE, key="key-of-alice-0001"), Reservation)
    assert balance(books, "people-epsilon").spent == 200


def test_a_reservation_resolves_once(books: Books) -> None:
    reservation = held(books)
    void(books, reservation)
    with pytest.raises(Unavailable) as caught:
        void(books, reservation)
    assert caught.value.rule == "reservation.resolved"
    with pytest.raises(Unavailable):
        books.store.write_sync(posting(reservation, books.clock))
    other = held(books, "key-of-alice-0002")
    books.store.write_sync(posting(other, books.clock))
    with pytest.raises(Unavailable):
        books.store.write_sync(posting(other, books.clock))
    with pytest.raises(Unavailable):
        void(books, other)


def test_a_hold_expires_when_its_time_is_up_and_a_late_answer_does_not_leave(books: Books) -> None:
    reservation = held(books)
    books.clock.forward(seconds=61)
    with pytest.raises(Unavailable):
        books.store.write_sync(posting(reservation, books.clock))
    sweep = lambda tx: ledger.expire_holds(tx, now=books.clock(), entropy=os.urandom)  # noqa: E731
    assert books.store.write_sync(sweep) == 1
    assert books.store.write_sync(sweep) == 0
    assert balance(books, "alice-queries").used == 0
    assert types(books) == ["query.reserved", "query.expired"]


def test_a_hold_whose_time_is_not_up_stays(books: Books) -> None:
    held(books)
    books.clock.forward(seconds=59)
    assert books.store.write_sync(lambda tx: ledger.expire_holds(tx, now=books.clock(), entropy=os.urandom)) == 0


def test_an_overdue_hold_does_not_block_its_key(books: Books) -> None:
    held(books)
    books.clock.forward(seconds=61)
    assert isinstance(books.reserve(CHARGE, key="key-of-alice-0001"), Reservation)
    assert types(books) == ["query.reserved", "query.expired", "query.reserved"]


def test_opening_again_expires_what_no_process_holds(books: Books) -> None:
    held(books)
    books.store.close()
    again = open_books(books.directory, clock=books.clock)
    assert balance(again, "alice-queries").used == 0
    assert balance(again, "people-epsilon").spent == 100
    assert types(again) == ["query.reserved", "query.expired"]
    again.store.close()


def test_every_limit_hit_is_named_with_what_is_used_and_when_it_resets(books: Books) -> None:
    books.quota("c-1-cells", "cells", 10, contract="c-1")
    with pytest.raises(QuotaExceeded) as caught:
        books.reserve({"queries": 4, "cells": 11, "price_micro": 1})
    hits = {hit.quota: hit for hit in caught.value.limits}
    assert set(hits) == {"alice-queries", "c-1-cells"}
    queries = hits["alice-queries"]
    assert (queries.limit, queries.used, queries.requested) == (3, 0, 4)
    assert queries.resets_at == "2026-11-23T00:00:00.000000Z"
    assert hits["c-1-cells"].resets_at is None
    assert types(books) == ["quota.set"]
    assert used(books) == {}


def test_an_exhausted_privacy_budget_has_a_class_of_its_own(books: Books) -> None:
    with pytest.raises(BudgetExhausted) as caught:
        books.reserve({"queries": 4, "epsilon_nano": 1001})
    assert {hit.quota for hit in caught.value.limits} == {"people-epsilon", "alice-queries"}


def test_budgets_bind_all_requesters_of_a_lineage_together(books: Books) -> None:
    books.answer({"epsilon_nano": 600})
    with pytest.raises(BudgetExhausted):
        books.reserve({"epsilon_nano": 401}, subject=BOB)
    books.answer({"epsilon_nano": 400}, subject=BOB)
    assert balance(books, "people-epsilon").left == 0


@pytest.mark.parametrize(
    "charge", [{"queries": -1}, {"rows": 1}, {"queries": True}, {"epsilon_nano": 2**53}, {"cells": -(2**70)}]
)
def test_a_malformed_charge_is_refused(books: Books, charge: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest):
        books.reserve(charge)
    assert types(books) == []


def test_the_first_release_of_a_key_wins_and_the_second_is_told_so(books: Books) -> None:
    first, second = held(books), books.reserve(CHARGE, key="key-of-bob-000001", subject=BOB)
    assert isinstance(second, Reservation)
    clock = books.clock
    won = books.store.write_sync(posting(first, clock, release_key="r1", release=b"noise 1", answer=b"a1"))
    assert isinstance(won, Posted)
    lost = books.store.write_sync(posting(second, clock, release_key="r1", release=b"noise 2", answer=b"a2"))
    assert lost == Superseded(b"noise 1", won.leaf_index)
    assert balance(books, "alice-queries").held == 0
    again = books.store.write_sync(posting(second, clock, release_key="r1", release=b"noise 1", answer=b"a3"))
    assert isinstance(again, Posted)
    stored = books.store.read(lambda tx: ledger.find_release(tx, "r1"))
    assert stored is not None
    assert (stored.release, stored.leaf_index) == (b"noise 1", won.leaf_index)
    assert books.store.read(lambda tx: ledger.find_release(tx, "r2")) is None


def test_a_sticky_answer_is_charged_and_posted_at_once(books: Books) -> None:
    books.store.write_sync(posting(held(books), books.clock, release_key="r1", release=b"noise"))

    def sticky(key: str, release: bytes) -> object:
        return books.store.write_sync(
            lambda tx: ledger.charge_and_post(
                tx,
                request({"queries": 1}, key=key),
                answer=b"again",
                release_key="r1",
                release=release,
                event={"sticky": True},
                now=books.clock(),
                entropy=os.urandom,
            )
        )

    posted = sticky("key-of-alice-0002", b"noise")
    assert isinstance(posted, Posted)
    assert balance(books, "people-epsilon").spent == 100
    assert balance(books, "alice-queries").spent == 2
    assert sticky("key-of-alice-0002", b"noise") == Replay(b"again", posted.leaf_index)
    with pytest.raises(InternalError):
        sticky("key-of-alice-0003", b"other noise")
    assert balance(books, "alice-queries").used == 2


def test_a_refusal_is_logged_costs_nothing_and_has_a_receipt(books: Books) -> None:
    refused = books.store.write_sync(
        lambda tx: ledger.refuse(
            tx,
            ALICE,
            event={"reasons": ["contract.expired"]},
            commitments={"query": b"q"},
            now=books.clock(),
            entropy=os.urandom,
        )
    )
    receipt = books.store.read(lambda tx: log.receipt(tx, refused.leaf_index))
    verified = verify_receipt(receipt, vkey=VKEY, commitments={"query": b"q"})
    assert verified.event["type"] == "weir.query.refused"
    assert used(books) == {}


def test_other_events_are_recorded_but_never_in_the_ledger_s_own_name(books: Books) -> None:
    def recording(type: str) -> Callable[[Transaction], Posted]:
        return lambda tx: ledger.record(
            tx, type, {"by": "operator"}, subject="dataset/census", now=books.clock(), entropy=os.urandom
        )

    books.store.write_sync(recording("weir.dataset.published"))
    assert types(books) == ["dataset.published"]
    for forged in ("weir.query.released", "weir.quota.set", "other.event"):
        with pytest.raises(InvalidRequest):
            books.store.write_sync(recording(forged))


def test_a_clock_that_goes_back_opens_no_window_twice(books: Books) -> None:
    for _ in range(3):
        books.answer({"queries": 1})
    books.clock.forward(days=-1)
    with pytest.raises(QuotaExceeded):
        books.reserve({"queries": 1})
    times = books.store.read(lambda tx: [json.loads(leaf)["time"] for _, leaf in log.entries(tx)])
    assert times == sorted(times)
    books.clock.forward(days=2)
    books.answer({"queries": 1})


def test_a_hold_is_given_back_in_the_window_it_was_taken_in(books: Books) -> None:
    books.clock.forward(hours=11, minutes=59, seconds=50)
    reservation = held(books)
    books.clock.forward(seconds=20)  # Past midnight: a new day.
    assert balance(books, "alice-queries").used == 0
    books.store.write_sync(posting(reservation, books.clock))
    assert balance(books, "alice-queries").used == 0
    assert used(books)["queries"] == 1


@pytest.fixture
def almaty(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the zone's distance from UTC, as another edition of the time zone database does (+6 until 2024, then +5)."""
    known = windows._zone

    def rule(hours: int) -> None:
        def zone(name: str) -> tzinfo:
            return timezone(timedelta(hours=hours)) if name == "Asia/Almaty" else known(name)

        monkeypatch.setattr(windows, "_zone", zone)

    return rule


@pytest.mark.parametrize("ends", ["answered", "expired", "restarted"])
def test_a_hold_ends_in_its_window_whatever_the_rules_of_the_zone_are_by_then(
    almaty: Callable[[int], None], engine: str, tmp_path: Path, ends: str
) -> None:
    """Fault: new rules name another day, which holds nothing; no hold could expire any more, and no server start."""
    almaty(6)
    books = open_books(tmp_path, clock=Clock(datetime(2026, 11, 22, 12, 0, tzinfo=UTC)))
    books.quota("daily", "queries", 20, requester="alice", window="day", zone="Asia/Almaty")
    books.answer({"queries": 1})
    books.clock.moment = datetime(2026, 11, 22, 18, 30, tzinfo=UTC)
    held = books.reserve({"queries": 1})
    books.reserve({"price_micro": 7}, subject=BOB)
    assert isinstance(held, Reservation)
    almaty(5)
    if ends == "answered":
        books.store.write_sync(posting(held, books.clock))
    elif ends == "expired":
        books.clock.forward(hours=1)
        assert books.store.write_sync(lambda tx: expire_holds(tx, now=books.clock(), entropy=os.urandom)) == 2
    else:
        books.store.close()
        books = open_books(tmp_path, clock=books.clock)
    used = books.store.read(
        lambda tx: tx.execute("SELECT period_start, spent, held FROM quota_use ORDER BY period_start")
    )
    assert used == [("2026-11-22", 1, 0), ("2026-11-23", int(ends == "answered"), 0)]
    books.store.close()


def test_one_hold_that_its_limit_does_not_hold_keeps_no_other_from_its_end(
    engine: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault: books that were changed by hand; one hold stopped the ends of all, and the start."""
    books = open_books(tmp_path)
    books.quota("l", "queries", 20, requester="alice")
    books.quota("m", "cells", 20, requester="alice")
    books.reserve({"queries": 1, "cells": 2})
    books.reserve({"price_micro": 7}, subject=BOB)
    books.store.write_sync(lambda tx: tx.execute("UPDATE quota_use SET held = 0 WHERE quota = 'm'"))
    books.clock.forward(hours=1)
    assert books.store.write_sync(lambda tx: expire_holds(tx, now=books.clock(), entropy=os.urandom)) == 1
    assert [record.msg for record in caplog.records] == ["hold_stuck"]
    books.store.close()
    books = open_books(tmp_path, clock=books.clock)
    states = books.store.read(lambda tx: tx.execute("SELECT requester, state FROM reservations ORDER BY id"))
    assert states == [("alice", "held"), ("bob", "expired")]
    assert books.store.read(lambda tx: tx.execute("SELECT held FROM quota_use ORDER BY quota")) == [(1,), (0,)]
    books.store.close()
    assert {finding.rule for finding in fsck_of(tmp_path).findings} == {"fsck.balance"}


def test_a_failed_operation_leaves_neither_leaf_nor_gap(books: Books) -> None:
    def half(tx: Transaction) -> None:
        ledger.reserve(
            tx,
            request(CHARGE, key="key-of-alice-0009"),
            now=books.clock(),
            hold_seconds=60,
            entropy=os.urandom,
        )
        raise ValueError("after the reservation")

    with pytest.raises(ValueError, match="after"):
        books.store.write_sync(half)
    assert types(books) == []
    assert balance(books, "people-epsilon").used == 0
    books.answer(CHARGE)
    assert types(books) == ["query.reserved", "query.released"]


def test_a_meter_total_that_would_pass_what_a_column_holds_is_refused_and_changes_nothing(books: Books) -> None:
    books.answer({"bytes": 2**53 - 1})
    books.store.write_sync(lambda tx: tx.execute("UPDATE meter SET used = ? WHERE metric = 'bytes'", (2**62 - 5,)))
    reservation = books.reserve({"bytes": 6})
    assert isinstance(reservation, Reservation)
    with pytest.raises(InternalError):
        books.store.write_sync(posting(reservation, books.clock))
    assert not books.store.stopped
    assert used(books) == {"bytes": 2**62 - 5}
    books.store.write_sync(posting(reservation_of(books, 5), books.clock))
    assert used(books) == {"bytes": 2**62}


def reservation_of(books: Books, size: int) -> Reservation:
    reservation = books.reserve({"bytes": size})
    assert isinstance(reservation, Reservation)
    return reservation
