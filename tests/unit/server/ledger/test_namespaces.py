# SPDX-License-Identifier: Apache-2.0
"""Quotas of namespaces of units, on every engine: whatever the order of joins, limits and charges, use is the sum."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.ledger import Books, fsck_of, open_books, posting
from weir.errors import BudgetExhausted, InvalidRequest, WeirError
from weir_server import ledger
from weir_server.ledger import Quota, Subject
from weir_server.ledger.quotas import binding
from weir_server.store import Transaction

PEOPLE = Subject("alice", "c-1", "census", "people")
MONEY = Subject("bob", "c-2", "spending", "money")
FIRMS = Subject("alice", "c-3", "firms", "firms")
SUBJECTS = {"people": PEOPLE, "money": MONEY, "firms": FIRMS}


@pytest.fixture
def books(tmp_path: Path, engine: str) -> Iterator[Books]:
    opened = open_books(tmp_path)
    yield opened
    opened.store.close()


def join(books: Books, lineage: str, namespace: str = "residents") -> None:
    books.store.write_sync(
        lambda tx: ledger.join_namespace(tx, lineage, namespace, now=books.clock(), entropy=os.urandom)
    )


def used(books: Books, quota: str) -> tuple[int, int]:
    found = books.store.read(lambda tx: ledger.list_quotas(tx, now=books.clock()))
    return next((item.spent, item.held) for item in found if item.quota.id == quota)


def test_all_lineages_of_a_namespace_share_its_limit_and_no_other_does(books: Books) -> None:
    join(books, "people")
    join(books, "money")
    books.quota("shared", "epsilon_nano", 10, namespace="residents")
    books.answer({"epsilon_nano": 6}, subject=PEOPLE)
    with pytest.raises(BudgetExhausted):
        books.reserve({"epsilon_nano": 5}, subject=MONEY)
    books.answer({"epsilon_nano": 4}, subject=MONEY)
    books.answer({"epsilon_nano": 99}, subject=FIRMS)
    assert used(books, "shared") == (10, 0)


def test_what_is_held_when_a_lineage_joins_resolves_once(books: Books) -> None:
    books.quota("shared", "queries", 10, namespace="residents")
    held = books.reserve({"queries": 2}, subject=PEOPLE)
    books.answer({"queries": 3}, subject=PEOPLE)
    join(books, "people")
    assert used(books, "shared") == (3, 2)
    books.store.write_sync(posting(held, books.clock))  # type: ignore[arg-type]
    assert used(books, "shared") == (5, 0)
    books.store.close()
    assert fsck_of(books.directory).findings == ()


def test_a_join_in_the_group_of_a_charge_binds_it(books: Books) -> None:
    books.quota("shared", "epsilon_nano", 5, namespace="residents")
    quota = Quota(id="l", metric="epsilon_nano", limit=100, lineage="people")

    def both(tx: Transaction) -> list[str]:
        ledger.set_quota(tx, quota, reason="t", actor="t", now=books.clock(), entropy=os.urandom)
        before = [item.id for item in binding(tx, PEOPLE)]
        ledger.join_namespace(tx, "people", "residents", now=books.clock(), entropy=os.urandom)
        return [*before, "|", *(item.id for item in binding(tx, PEOPLE))]

    assert books.store.write_sync(both) == ["l", "|", "l", "shared"]


def test_a_lineage_is_in_one_namespace_for_good(books: Books) -> None:
    join(books, "people")
    join(books, "people")
    with pytest.raises(InvalidRequest) as caught:
        join(books, "people", "companies")
    assert caught.value.rule == "lineage.namespace"
    assert books.store.read(lambda tx: ledger.namespace_of(tx, "people")) == "residents"
    assert books.store.read(lambda tx: ledger.namespace_of(tx, "money")) is None


STEP = st.one_of(
    st.tuples(st.just("join"), st.sampled_from(sorted(SUBJECTS)), st.sampled_from(["residents", "companies"])),
    st.tuples(st.just("limit"), st.sampled_from(["residents", "companies"]), st.integers(0, 60)),
    st.tuples(st.just("drop"), st.sampled_from(["residents", "companies"]), st.just(0)),
    st.tuples(st.just("charge"), st.sampled_from(sorted(SUBJECTS)), st.integers(1, 20)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=4, max_size=14))
def test_use_is_the_sum_of_what_the_lineages_in_it_ever_spent(steps: list[tuple[str, str, int | str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        books = open_books(Path(folder))
        members: dict[str, str] = {}
        spent = dict.fromkeys(SUBJECTS, 0)
        limits: dict[str, int] = {}
        for kind, name, value in steps:
            if kind == "join" and members.get(name, value) == value:
                join(books, name, str(value))
                members[name] = str(value)
            elif kind == "limit":
                books.quota(f"q-{name}", "epsilon_nano", int(value), namespace=name)
                limits[name] = int(value)
            elif kind == "drop" and name in limits:
                _drop(books, f"q-{name}")
                del limits[name]
            elif kind == "charge":
                spent[name] += _charge(books, name, int(value), members, spent, limits)
        for namespace in limits:
            total = sum(amount for lineage, amount in spent.items() if members.get(lineage) == namespace)
            assert used(books, f"q-{namespace}") == (total, 0)
        books.store.close()
        assert fsck_of(Path(folder)).findings == ()


def _drop(books: Books, quota: str) -> None:
    books.store.write_sync(
        lambda tx: ledger.remove_quota(tx, quota, reason="t", actor="t", now=books.clock(), entropy=os.urandom)
    )


def _charge(
    books: Books, name: str, amount: int, members: dict[str, str], spent: dict[str, int], limits: dict[str, int]
) -> int:
    """Charges where it fits, by the model's own account; gives what was spent."""
    namespace = members.get(name)
    total = sum(other for lineage, other in spent.items() if members.get(lineage) == namespace)
    fits = namespace is None or namespace not in limits or total + amount <= limits[namespace]
    try:
        books.answer({"epsilon_nano": amount}, subject=SUBJECTS[name])
    except WeirError:
        assert not fits
        return 0
    assert fits
    return amount
