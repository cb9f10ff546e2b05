# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.ledger import ORIGIN, PQ_SIGNER, SIGNER, VKEY, Books, Clock, open_books
from weir.canonical import NotCanonical, commit
from weir.checkpoint import new_signer, verify
from weir.errors import InternalError, InvalidRequest, Unavailable, UnknownName
from weir.merkle import leaf_hash, root_of, verify_inclusion
from weir.receipts import verify_progress, verify_receipt
from weir_server import log
from weir_server.log.tiles import export_tiles, exported_size, tile_path
from weir_server.store import Transaction


@pytest.fixture
def books(tmp_path: Path, engine: str) -> Iterator[Books]:
    opened = open_books(tmp_path, signers=(SIGNER, PQ_SIGNER))
    yield opened
    opened.store.close()


def add(books: Books, n: int, *, requester: str = "") -> log.Appended:
    def operation(tx: Transaction) -> log.Appended:
        return log.append(
            tx,
            "weir.test.note",
            {"n": n},
            now=books.clock(),
            entropy=os.urandom,
            subject="note",
            requester=requester,
            commitments={"answer": str(n).encode()},
        )

    return books.store.write_sync(operation)


def test_a_leaf_is_a_canonical_event_that_names_its_place_and_hides_what_could_be_guessed(books: Books) -> None:
    add(books, 0)
    appended = add(books, 41)
    assert json.loads(appended.leaf) == {
        "specversion": "1.0",
        "id": "1",
        "source": ORIGIN,
        "type": "weir.test.note",
        "time": "2026-11-22T12:00:00.000000Z",
        "subject": "note",
        "datacontenttype": "application/json",
        "data": {"n": 41, "commitments": {"answer": commit(appended.salt, "answer", b"41")}},
    }
    assert len(appended.salt) == 32


def test_every_group_ends_in_a_checkpoint_that_both_keys_signed(books: Books) -> None:
    leaves = [add(books, n).leaf for n in range(5)]
    newest = books.store.read(log.latest_checkpoint)
    assert newest is not None
    checkpoint = verify(newest[1], f"{VKEY} {PQ_SIGNER.verifier.vkey}")
    assert checkpoint.size == newest[0] == 5
    assert checkpoint.root == root_of(leaf_hash(leaf) for leaf in leaves)


def test_an_empty_log_has_no_checkpoint(books: Books) -> None:
    assert books.store.read(log.latest_checkpoint) is None


def test_receipts_verify_and_stay_byte_for_byte_the_same_as_the_log_grows(books: Books) -> None:
    first: dict[int, bytes] = {}
    for n in range(20):
        add(books, n)
        for index in range(n + 1):
            receipt = books.store.read(partial(log.receipt, index=index))
            verify_receipt(receipt, vkey=VKEY, commitments={"answer": str(index).encode()})
            assert first.setdefault(index, receipt.SerializeToString()) == receipt.SerializeToString()


def test_every_pair_of_checkpoints_is_shown_to_be_one_growing_log(books: Books) -> None:
    notes = {}
    for n in range(17):
        add(books, n)
        size, notes[n + 1] = books.store.read(log.latest_checkpoint) or (0, "")
        assert size == n + 1
    for old in notes:
        for new in range(old, 18):
            proof = books.store.read(partial(log.consistency, old=old, new=new))
            assert verify_progress(notes[old], notes[new], proof, VKEY).size == new


def test_inclusion_is_proved_in_any_sealed_size(books: Books) -> None:
    leaves = [leaf_hash(add(books, n).leaf) for n in range(9)]
    for size in range(1, 10):
        for index in range(size):
            path = books.store.read(partial(log.inclusion, index=index, size=size))
            verify_inclusion(index=index, size=size, leaf=leaves[index], path=path, root=root_of(leaves[:size]))


@pytest.mark.parametrize(("index", "size"), [(3, 3), (0, 0), (-1, 3), (0, 4), (5, 9)])
def test_a_proof_outside_the_sealed_log_is_refused(books: Books, index: int, size: int) -> None:
    for n in range(3):
        add(books, n)
    with pytest.raises(InvalidRequest):
        books.store.read(lambda tx: log.inclusion(tx, index, size))


@pytest.mark.parametrize(("old", "new"), [(2, 1), (-1, 1), (1, 4)])
def test_a_consistency_proof_outside_the_sealed_log_is_refused(books: Books, old: int, new: int) -> None:
    for n in range(3):
        add(books, n)
    with pytest.raises(InvalidRequest):
        books.store.read(lambda tx: log.consistency(tx, old, new))


def test_there_is_no_receipt_for_a_leaf_that_does_not_exist_or_is_not_sealed_yet(books: Books) -> None:
    with pytest.raises(UnknownName):
        books.store.read(lambda tx: log.receipt(tx, 0))

    def unsealed(tx: Transaction) -> None:
        placed = log.append(tx, "weir.test.note", {}, now=books.clock(), entropy=os.urandom)
        log.receipt(tx, placed.leaf_index)

    with pytest.raises(UnknownName):
        books.store.write_sync(unsealed)


def test_an_event_longer_than_an_entry_can_be_is_refused_and_leaves_nothing(books: Books) -> None:
    def long(tx: Transaction) -> None:
        log.append(tx, "weir.test.note", {"text": "x" * 66_000}, now=books.clock(), entropy=os.urandom)

    with pytest.raises(InvalidRequest) as caught:
        books.store.write_sync(long)
    assert caught.value.rule == "log.leaf_size"
    assert add(books, 1).leaf_index == 0


def test_a_float_or_a_large_integer_cannot_get_into_the_log(books: Books) -> None:
    for value in (0.1, 2**53):
        with pytest.raises(NotCanonical):
            books.store.write_sync(
                partial(
                    log.append,
                    type="weir.test.note",
                    data={"v": value},
                    now=books.clock(),
                    entropy=os.urandom,
                )
            )


def test_entries_come_in_order_by_range_and_type(books: Books) -> None:
    for n in range(3):
        add(books, n)
    leaves = books.store.read(lambda tx: list(log.entries(tx)))
    assert [index for index, _ in leaves] == [0, 1, 2]
    assert books.store.read(lambda tx: [i for i, _ in log.entries(tx, start=1, end=2)]) == [1]
    assert books.store.read(lambda tx: list(log.entries(tx, type="weir.other"))) == []


def test_entries_cross_page_boundaries_without_loss(books: Books) -> None:
    def many(tx: Transaction) -> None:
        for n in range(700):
            log.append(tx, "weir.test.note", {"n": n}, now=books.clock(), entropy=os.urandom)

    books.store.write_sync(many)
    assert books.store.read(lambda tx: [i for i, _ in log.entries(tx)]) == list(range(700))


def test_erasing_a_salt_keeps_the_tree_and_ends_the_receipt(books: Books) -> None:
    appended = add(books, 42)
    add(books, 43)
    books.store.write_sync(lambda tx: log.erase(tx, appended.leaf_index))
    with pytest.raises(UnknownName):
        books.store.read(lambda tx: log.receipt(tx, appended.leaf_index))
    embedded = books.directory / "ledger.db"  # What PostgreSQL forgets is a matter of its vacuum and its archives.
    assert not embedded.exists() or appended.salt not in embedded.read_bytes()
    verify_receipt(books.store.read(lambda tx: log.receipt(tx, 1)), vkey=VKEY, commitments={"answer": b"43"})


def test_receipts_of_a_requester_are_its_own_and_newest_first(books: Books) -> None:
    for key in range(5):
        books.answer({"queries": 1}, answer=str(key).encode())
    mine = books.store.read(lambda tx: log.receipts_of(tx, "alice", limit=3))
    assert [receipt.leaf_index for receipt in mine] == [9, 7, 5]
    rest = books.store.read(lambda tx: log.receipts_of(tx, "alice", before=5))
    assert [receipt.leaf_index for receipt in rest] == [3, 1]
    assert books.store.read(lambda tx: log.receipts_of(tx, "bob")) == []


def test_a_store_of_another_log_is_refused(books: Books) -> None:
    with pytest.raises(InternalError) as caught:
        books.store.write_sync(lambda tx: log.initialise(tx, origin="other.test/log"))
    assert caught.value.rule == "log.origin"


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        pytest.param(("UPDATE log_leaves SET leaf = ? WHERE idx = 1", (b"{}",)), "log.leaf", id="leaf changed"),
        pytest.param(("UPDATE log_leaves SET idx = 7 WHERE idx = 1",), "log.gap", id="gap"),
        pytest.param(("UPDATE log_head SET origin = 'other'",), "log.origin", id="another origin"),
    ],
)
def test_nothing_is_signed_over_damage_and_the_ledger_stops(books: Books, statement: Any, rule: str) -> None:
    add(books, 0)
    before = books.store.read(log.latest_checkpoint)

    def damaged(tx: Transaction) -> None:
        log.append(tx, "weir.test.note", {}, now=books.clock(), entropy=os.urandom)
        tx.execute(*statement)

    with pytest.raises(Unavailable):
        books.store.write_sync(damaged)
    assert books.store.stopped
    assert books.store.read(log.latest_checkpoint) == before
    books.store.close()
    again = open_books(books.directory)
    assert again.store.read(log.latest_checkpoint) == before
    again.store.close()
    assert rule.startswith("log.")


def test_signers_of_two_names_are_refused() -> None:
    with pytest.raises(ValueError, match="one name"):
        log.sealer((SIGNER, new_signer("other", seed=bytes(32))), now=Clock())


@pytest.mark.parametrize(
    ("index", "width", "path"),
    [
        (0, 256, "000"),
        (999, 256, "999"),
        (1000, 256, "x001/000"),
        (1_234_067, 256, "x001/x234/067"),
        (5, 17, "005.p/17"),
    ],
)
def test_tile_paths_are_those_of_the_specification(index: int, width: int, path: str) -> None:
    assert tile_path(index, width) == path


def _read_log(directory: Path) -> tuple[list[bytes], list[bytes]]:
    """Leaves and level-0 hashes, read from files alone."""
    checkpoint = verify((directory / "checkpoint").read_text(), VKEY)
    leaves, hashes = [], []
    for index in range((checkpoint.size + 255) // 256):
        width = min(256, checkpoint.size - index * 256)
        bundle = (directory / "tile" / "entries" / tile_path(index, width)).read_bytes()
        while bundle:
            length = int.from_bytes(bundle[:2], "big")
            leaves.append(bundle[2 : 2 + length])
            bundle = bundle[2 + length :]
        tile = (directory / "tile" / "0" / tile_path(index, width)).read_bytes()
        hashes += [tile[at : at + 32] for at in range(0, len(tile), 32)]
    assert root_of(hashes) == checkpoint.root
    return leaves, hashes


def test_the_log_can_be_read_and_verified_from_its_files_alone(books: Books) -> None:
    directory = books.directory / "log"
    for batch in (1, 254, 1, 3, 300):

        def many(tx: Transaction, batch: int = batch) -> None:
            for n in range(batch):
                log.append(tx, "weir.test.note", {"n": n}, now=books.clock(), entropy=os.urandom)

        books.store.write_sync(many)
        size = export_tiles(books.store, directory)
        leaves, hashes = _read_log(directory)
        assert len(leaves) == size == exported_size(directory)
        assert hashes == [leaf_hash(leaf) for leaf in leaves]
    # 559 leaves: two full tiles, whose roots make a partial tile of width 2 one level up.
    tile = (directory / "tile" / "1" / "000.p" / "2").read_bytes()
    assert tile == root_of(hashes[:256]) + root_of(hashes[256:512])


def test_exporting_again_writes_nothing_and_repairs_a_lost_checkpoint(books: Books) -> None:
    directory = books.directory / "log"
    assert export_tiles(books.store, directory) == 0
    add(books, 1)
    export_tiles(books.store, directory)
    checkpoint = directory / "checkpoint"
    before = checkpoint.stat().st_mtime_ns
    assert export_tiles(books.store, directory) == 1
    assert checkpoint.stat().st_mtime_ns == before
    checkpoint.write_bytes(b"\xff torn")
    assert export_tiles(books.store, directory) == 1
    assert verify(checkpoint.read_text(), VKEY).size == 1
