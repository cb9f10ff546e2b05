# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.ledger import VKEY, Books, fill, open_books
from weir.checkpoint import verify
from weir.errors import InvalidRequest, UnknownName
from weir.merkle import leaf_hash, verify_inclusion
from weir.receipts import verify_progress
from weir.replay import follow_all
from weir.statement import statement
from weir.v1 import audit_service_pb2
from weir_server import audit


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    opened = open_books(tmp_path)
    fill(opened)
    yield opened
    opened.store.close()


def everything(books: Books) -> list[audit_service_pb2.LogEntry]:
    found: list[audit_service_pb2.LogEntry] = []
    while page := books.store.read(partial(audit.entries_page, start=len(found), limit=7)):
        found += page
    return found


def test_an_auditor_pages_through_every_entry_and_arrives_at_the_meter(books: Books) -> None:
    entries = everything(books)
    replayed = follow_all((entry.index, entry.leaf) for entry in entries)
    shown = books.store.read(audit.meter)
    assert shown.log_size == len(entries) == replayed.size
    totals = {(t.contract, t.requester, t.dataset, t.metric): t.used for t in shown.totals}
    assert totals == replayed.totals
    billed = sum(line.price_micro for line in statement(entry.leaf for entry in entries))
    assert billed == sum(t.used for t in shown.totals if t.metric == "price_micro")


def test_the_meter_can_be_asked_for_one_contract(books: Books) -> None:
    assert {t.contract for t in books.store.read(lambda tx: audit.meter(tx, contract="c-2")).totals} == {"c-2"}


def test_entries_can_be_asked_for_by_type_and_range(books: Books) -> None:
    page = books.store.read(lambda tx: audit.entries_page(tx, start=0, end=8, type="weir.quota.set"))
    assert [entry.index for entry in page] == [0, 1]
    assert books.store.read(lambda tx: audit.entries_page(tx, start=2**63)) == []


def test_a_page_ends_before_it_is_too_large_for_a_message(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PAGE_BYTES", 1000)
    page = books.store.read(lambda tx: audit.entries_page(tx, start=0))
    assert 0 < len(page) < 5
    assert sum(len(entry.leaf) for entry in page[:-1]) < 1000


def test_an_inclusion_proof_leads_to_the_newest_checkpoint(books: Books) -> None:
    newest = books.store.read(lambda tx: audit.checkpoint(tx, known_size=0))
    head = verify(newest.checkpoint, VKEY)
    assert not newest.HasField("consistency")
    proof = books.store.read(lambda tx: audit.inclusion(tx, index=3, tree_size=0))
    leaf = leaf_hash(everything(books)[3].leaf)
    verify_inclusion(index=3, size=proof.tree_size, leaf=leaf, path=proof.path, root=head.root)


def test_the_checkpoint_comes_with_a_proof_from_what_the_caller_knew(books: Books) -> None:
    known = books.store.read(lambda tx: audit.checkpoint(tx, known_size=0)).checkpoint
    books.answer({"queries": 1})
    size = verify(known, VKEY).size
    newest = books.store.read(lambda tx: audit.checkpoint(tx, known_size=size))
    assert verify_progress(known, newest.checkpoint, newest.consistency, VKEY).size == size + 2


def test_a_caller_who_knows_a_longer_log_is_told_so(books: Books) -> None:
    with pytest.raises(InvalidRequest) as caught:
        books.store.read(lambda tx: audit.checkpoint(tx, known_size=10**6))
    assert caught.value.rule == "log.size"


def test_an_empty_log_has_no_checkpoint_to_show(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = open_books(tmp_path / "empty")
    with pytest.raises(UnknownName):
        empty.store.read(lambda tx: audit.checkpoint(tx, known_size=0))
    empty.store.close()
