# SPDX-License-Identifier: Apache-2.0
"""When a group is signed: at once where somebody may hold a receipt, within a second otherwise, whoever dies."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger import ALICE, PQ_SIGNER, SIGNER, VKEY, Books, open_books, posting
from weir.canonical import parse_canonical
from weir.checkpoint import verify
from weir.errors import UnknownName
from weir.receipts import verify_progress, verify_receipt
from weir_server import ledger, log
from weir_server.fsck import fsck
from weir_server.ledger import Posted, Reservation
from weir_server.log import background
from weir_server.log.seal import MOST_BEHIND, is_behind
from weir_server.store import Transaction

CHARGE = {"queries": 1, "price_micro": 3}
module = importlib.import_module("weir_server.log.seal")
"""`weir_server.log.seal` names the function."""


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    opened = open_books(tmp_path, signers=(SIGNER, PQ_SIGNER))
    opened.answer(CHARGE)
    yield opened
    opened.store.close()


def nothing(tx: Transaction) -> None:
    """Only its group is sealed."""


def sizes(books: Books) -> tuple[int, int]:
    """Leaves in the tree, and leaves under the newest checkpoint."""
    head, newest = books.store.read(lambda tx: (log.read_head(tx), log.latest_checkpoint(tx)))
    assert head is not None
    return head.size, 0 if newest is None else newest[0]


def held(books: Books) -> Reservation:
    reservation = books.reserve(CHARGE)
    assert isinstance(reservation, Reservation)
    return reservation


def test_a_reservation_alone_is_in_the_tree_at_once_and_under_no_signature_yet(books: Books) -> None:
    before = sizes(books)
    reservation = held(books)
    assert sizes(books) == (before[0] + 1, before[1])
    assert books.store.look(is_behind)
    with pytest.raises(UnknownName):
        books.store.read(lambda tx: log.receipt(tx, reservation.id))


def test_the_answer_s_group_signs_reservation_and_answer(books: Books) -> None:
    reservation = held(books)
    posted = books.store.write_sync(posting(reservation, books.clock))
    assert isinstance(posted, Posted)
    assert sizes(books) == (posted.leaf_index + 1, posted.leaf_index + 1)
    for index in (reservation.id, posted.leaf_index):
        verify_receipt(books.store.read(lambda tx, i=index: log.receipt(tx, i)), vkey=VKEY, commitments={})  # type: ignore[misc]


@pytest.mark.parametrize("kind", ["refused", "voided", "recorded", "quota"])
def test_every_other_leaf_is_signed_with_its_group(books: Books, kind: str) -> None:
    reservation = held(books)
    write, now = books.store.write_sync, books.clock()
    if kind == "refused":
        write(lambda tx: ledger.refuse(tx, ALICE, event={}, now=now, entropy=os.urandom))
    elif kind == "voided":
        write(lambda tx: ledger.void(tx, reservation, reason_code="engine.failed", now=now, entropy=os.urandom))
    elif kind == "recorded":
        write(lambda tx: ledger.record(tx, "weir.test.note", {}, subject="note", now=now, entropy=os.urandom))
    else:
        books.quota("late", "queries", 9)
    size, signed = sizes(books)
    assert size == signed


def test_leaves_that_waited_long_enough_are_signed_by_any_group(books: Books) -> None:
    held(books)
    books.store.write_sync(nothing)
    size, signed = sizes(books)
    assert signed < size, "not before their time: a signature costs more than the group"
    books.clock.moment += MOST_BEHIND
    books.store.write_sync(nothing)
    assert sizes(books) == (size, size)


def test_a_clock_set_back_does_not_put_a_signature_off(books: Books) -> None:
    held(books)
    books.clock.moment -= timedelta(days=1)
    books.store.write_sync(nothing)
    assert not books.store.look(is_behind)


def test_a_group_that_changes_nothing_is_not_signed_again(books: Books) -> None:
    before = books.store.read(log.latest_checkpoint)
    books.clock.forward(days=1)
    books.store.write_sync(nothing)
    assert books.store.read(log.latest_checkpoint) == before


async def test_the_tick_signs_what_no_answer_followed(books: Books) -> None:
    held(books)
    books.clock.moment += MOST_BEHIND
    task = asyncio.create_task(background.keep_signed(books.store))
    for _ in range(100):
        await asyncio.sleep(0.02)
        if not books.store.look(is_behind):
            break
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    size, signed = sizes(books)
    assert size == signed


def test_the_tick_and_the_longest_wait_are_less_than_a_second_together() -> None:
    assert MOST_BEHIND.total_seconds() + background._SIGN_SECONDS < 1


def test_a_process_that_died_before_a_signature_leaves_good_books_and_the_next_one_signs(tmp_path: Path) -> None:
    books = open_books(tmp_path)
    books.answer(CHARGE)
    old = books.store.read(log.latest_checkpoint)
    assert old is not None
    held(books)
    # What a kill leaves on disk is what is durable: the head without its checkpoint.
    books.store.close()
    assert fsck(tmp_path, vkey=VKEY).findings == ()
    again = open_books(tmp_path)
    newest = again.store.read(log.latest_checkpoint)
    assert newest is not None
    head = again.store.read(log.read_head)
    assert head is not None
    assert (verify(newest[1], VKEY).size, verify(newest[1], VKEY).root) == (head.size, head.root)
    proof = again.store.read(lambda tx: log.consistency(tx, old[0], newest[0]))
    verify_progress(old[1], newest[1], proof, VKEY)
    again.store.close()


def test_an_answer_without_a_signature_is_damage(books: Books) -> None:
    books.store.write_sync(lambda tx: tx.execute("DELETE FROM log_checkpoints WHERE size > 1"))
    books.store.close()
    assert [finding.rule for finding in fsck(books.directory, vkey=VKEY).findings] == ["fsck.checkpoint"]


def test_a_mutant_that_puts_off_the_signature_of_answers_has_no_receipt_to_give(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Any:
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 0

    monkeypatch.setattr(module, "UNSIGNED", Any())
    posted = books.answer(CHARGE)
    with pytest.raises(UnknownName):
        books.store.read(lambda tx: log.receipt(tx, posted.leaf_index))


def test_no_reader_sees_a_note_before_its_group_is_durable(books: Books) -> None:
    posted = books.answer(CHARGE)

    def look_before_commit(tx: Transaction) -> object:
        ledger.refuse(tx, ALICE, event={}, now=books.clock(), entropy=os.urandom)
        module.seal(tx, origin=SIGNER.name, signers=(SIGNER,), now=books.clock())
        return books.store.look(log.latest_checkpoint)

    seen = books.store.write_sync(look_before_commit)
    assert isinstance(seen, tuple)
    assert seen[0] == posted.leaf_index + 1


@given(subject=st.text(max_size=8), note=st.text(max_size=8), requester=st.text(max_size=4))
def test_a_leaf_of_any_text_is_in_canonical_form(subject: str, note: str, requester: str) -> None:
    with_text = {"note": note, "requester": requester, "deeper": {"\U0001f600": 1, "\ufb33": [note]}}

    class Paper:
        def recall(self, key: object) -> tuple[str, int, log.Group]:
            return "log.weir.test/ledger", 7, log.Group()

        def add(self, *row: object) -> None: ...

        def remember(self, *fact: object) -> None: ...

    appended = log.append(
        Paper(),  # type: ignore[arg-type]
        "weir.test.note",
        with_text,
        now=datetime(2026, 11, 22, tzinfo=UTC),
        entropy=bytes,
        subject=subject,
        commitments={"answer": note.encode(), "Zwei": b""},
    )
    event = parse_canonical(appended.leaf)
    assert isinstance(event, dict)
    assert event["subject"] == (subject or "log.weir.test/ledger")
    assert {key: event["data"][key] for key in with_text} == with_text
