# SPDX-License-Identifier: Apache-2.0
"""Limits by page, and those that are nearly used up."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.ledger import Books, open_books
from weir_server.ledger import find_balance, list_quotas, nearly_used

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    opened = open_books(tmp_path)
    yield opened
    opened.store.close()


def fullest(books: Books, *, part: int = 5, limit: int = 10) -> list[str]:
    found = books.store.read(lambda tx: nearly_used(tx, now=books.clock(), part=part, limit=limit))
    return [item.quota.id for item in found]


def test_pages_of_limits_show_every_limit_once_in_order(books: Books) -> None:
    for number in (3, 1, 2, 5, 4):
        books.quota(f"q-{number}", "queries", 10, requester=f"r-{number}")
    shown: list[str] = []
    while page := books.store.read(partial(list_quotas, now=books.clock(), after=shown[-1] if shown else "", limit=2)):
        shown += [item.quota.id for item in page]
    assert shown == ["q-1", "q-2", "q-3", "q-4", "q-5"]
    assert [item.quota.id for item in books.store.read(lambda tx: list_quotas(tx, now=books.clock()))] == shown


def test_a_limit_is_nearly_used_up_when_a_fifth_or_less_is_left_in_its_window(books: Books) -> None:
    books.quota("life", "queries", 5, requester="alice")
    books.quota("daily", "queries", 4, contract="c-1", window="day", zone="Asia/Shanghai")
    books.quota("wide", "queries", 100, dataset="census")
    books.quota("none", "cells", 0, requester="bob")
    for _ in range(3):
        books.answer({"queries": 1})
    assert fullest(books) == []
    books.answer({"queries": 1})
    assert fullest(books) == ["daily", "life"]
    assert fullest(books, limit=1) == ["daily"]
    books.clock.forward(days=2)
    assert fullest(books) == ["life"]


def test_what_running_queries_hold_counts(books: Books) -> None:
    books.quota("life", "queries", 2, requester="alice")
    books.reserve({"queries": 1})
    assert fullest(books) == []
    books.reserve({"queries": 1})
    assert fullest(books) == ["life"]
    balance = books.store.read(lambda tx: find_balance(tx, "life", now=books.clock()))
    assert balance is not None
    assert (balance.held, balance.left) == (2, 0)
    assert books.store.read(lambda tx: find_balance(tx, "gone", now=books.clock())) is None
