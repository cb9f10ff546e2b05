# SPDX-License-Identifier: Apache-2.0
"""Others' code accepts what ours writes: the tree by pymerkle, receipts by cwt and cbor2 (see also unit tests)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cbor2
import pymerkle
import rfc8785

from tests.support.ledger import SIGNER, VKEY, fill, open_books
from weir.checkpoint import verify
from weir.cose import verify_cose_receipt
from weir_server import log


def test_another_library_builds_the_same_roots_and_inclusion_paths_from_our_entries(tmp_path: Path) -> None:
    books = open_books(tmp_path)
    fill(books)
    leaves = [leaf for _, leaf in books.store.read(lambda tx: list(log.entries(tx)))]
    theirs = pymerkle.InmemoryTree(algorithm="sha256")
    for leaf in leaves:
        theirs.append_entry(leaf)
    notes = books.store.read(lambda tx: tx.execute("SELECT size, note FROM log_checkpoints"))
    assert len(notes) > 10
    for size, note in notes:
        assert verify(str(note), VKEY).root == theirs.get_root(size)
    for index in range(len(leaves)):
        path = books.store.read(partial(log.inclusion, index=index, size=len(leaves)))
        shown = theirs.prove_inclusion(index + 1, len(leaves)).serialize()["path"]
        assert sorted(item.hex() for item in path) == sorted(set(shown) - {_leaf_hash(leaves[index])})
    books.store.close()


def _leaf_hash(leaf: bytes) -> str:
    from hashlib import sha256

    return sha256(b"\x00" + leaf).hexdigest()


def test_every_leaf_is_canonical_by_the_reference_implementation(tmp_path: Path) -> None:
    import json

    books = open_books(tmp_path)
    fill(books)
    for _, leaf in books.store.read(lambda tx: list(log.entries(tx))):
        assert rfc8785.dumps(json.loads(leaf)) == leaf
    books.store.close()


def test_every_answer_has_a_cose_receipt_of_the_same_tree_as_its_plain_one(tmp_path: Path) -> None:
    books = open_books(tmp_path)
    posted = [books.answer({"queries": 1}) for _ in range(5)]
    for item in posted:
        plain = books.store.read(partial(log.receipt, index=item.leaf_index))
        first, again = (books.store.read(partial(log.cose, index=item.leaf_index, signer=SIGNER)) for _ in range(2))
        books.answer({"cells": 1})
        assert first == again == books.store.read(partial(log.cose, index=item.leaf_index, signer=SIGNER))
        proved = verify_cose_receipt(first, leaf=item.leaf, vkey=VKEY)
        head = verify(plain.checkpoint, VKEY)
        assert (proved.index, proved.size, proved.root) == (item.leaf_index, head.size, head.root)
        assert cbor2.loads(first).tag == 18
    books.store.close()
