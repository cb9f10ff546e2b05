# SPDX-License-Identifier: Apache-2.0
"""Statements of standing, stops and cases mean the same on every engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.domain import OLGA
from tests.support.ledger import ALICE, BOB, VKEY, Books, fsck_of, open_books
from weir.evidence import verify_evidence
from weir.v1 import case_service_pb2
from weir_server import ledger
from weir_server.cases import book, evidence, transitions
from weir_server.catalog.catalogue import Catalogue
from weir_server.policy import standing
from weir_server.policy.acting import Acting
from weir_server.policy.documents import Policy
from weir_server.state import stops_now
from weir_server.store import Transaction
from weir_server.world import World

POLICY = Policy()


@pytest.fixture
def books(tmp_path: Path, engine: str) -> Iterator[Books]:
    opened = open_books(tmp_path)
    yield opened
    opened.store.close()


def refuse(books: Books, reason: str = "POLICY_DENIED", **record: object) -> None:
    event = {"decision": "refused", "reason": reason, **record}
    books.store.write_sync(
        lambda tx: ledger.refuse(tx, ALICE, event=event, now=books.clock(), entropy=os.urandom).leaf_index
    )


def count(books: Books) -> None:
    found = books.store.read(standing.tally)
    books.store.write_sync(lambda tx: standing.book(tx, found))


def test_refusals_are_counted_and_levels_follow(books: Books) -> None:
    books.quota("own", "queries", 0, requester="alice")
    books.quota("shared", "queries", 0, dataset="census")
    for _ in range(49):
        refuse(books)
    refuse(books, "INVALID_QUERY")
    refuse(books, "QUOTA_EXCEEDED", limits=["shared"])
    count(books)
    now = books.clock()
    assert not books.store.read(lambda tx: standing.outdated(tx, POLICY, now=now))
    refuse(books, "QUOTA_EXCEEDED", limits=["own", "shared"])
    count(books)
    assert books.store.read(lambda tx: standing.outdated(tx, POLICY, now=now))
    assert books.store.write_sync(lambda tx: standing.refresh(tx, POLICY, now=now, entropy=os.urandom))
    assert books.store.read(standing.levels) == {"alice": "watched"}
    counts = books.store.read(lambda tx: standing.counts_now(tx, POLICY, now=now))
    assert counts == {"alice": standing.Counts(refusals=50)}
    assert fsck_of(books.directory).findings == ()


def test_cases_are_kept_held_and_proved(books: Books) -> None:
    answer = books.answer({"queries": 1}, subject=BOB).leaf_index
    world = World(Catalogue(), POLICY, frozenset())
    request = case_service_pb2.OpenCaseRequest(
        kind=case_service_pb2.CASE_KIND_DISPUTE, against="alice", entries=[answer], statement="It differs, 不同."
    )

    def act(tx: Transaction) -> str:
        acting = Acting(tx, OLGA, books.clock(), os.urandom, world)
        case = transitions.file(acting, request)
        transitions.advance(acting, case.id, state="accepted", note="read", freeze=False)
        return case.id

    case = books.store.write_sync(act)
    assert books.store.read(book.open_against) == {"alice": 1}
    assert books.store.read(stops_now) == {}
    assert [found.id for found in books.store.read(lambda tx: book.page(tx, owner=None, before=None, limit=9))] == [
        case
    ]
    found = verify_evidence(books.store.read(lambda tx: evidence.bundle(tx, case)), vkey=VKEY)
    assert found.case["statement"] == "It differs, 不同."
    assert answer in [entry.index for entry in found.entries]
    assert fsck_of(books.directory).findings == ()
