# SPDX-License-Identifier: Apache-2.0
"""The tree in the books against the definition of RFC 9162: any size, any order of groups, older books too."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.ledger import ALICE, ORIGIN, SIGNER, VKEY, Books, Clock, open_books
from weir.errors import InternalError, Unavailable
from weir.merkle import root_of, verify_consistency, verify_inclusion
from weir_server import ledger
from weir_server.fsck import fsck
from weir_server.log import sealer
from weir_server.log.tree import consistency_path, grow, inclusion_path, read_edge, root
from weir_server.store import Transaction
from weir_server.store.sqlite import SqliteStore


def nothing(tx: Transaction) -> None:
    """A seal that seals nothing."""


def hashes(count: int) -> list[bytes]:
    return [hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(count)]


def grown(store: SqliteStore, leaves: Sequence[bytes], groups: Sequence[int]) -> None:
    size = 0
    for count in groups:
        part = leaves[size : size + count]
        growth = store.write_sync(lambda tx, s=size, p=part: grow(tx, size=s, edge=read_edge(tx, s), leaves=p))  # type: ignore[misc]
        size += count
        assert (growth.size, growth.root) == (size, root_of(leaves[:size]))
        assert list(growth.edge) == store.read(lambda tx, s=size: read_edge(tx, s))  # type: ignore[misc]
        for index in range(size - count, size):
            verify_inclusion(index=index, size=size, leaf=leaves[index], path=growth.path(index), root=growth.root)


@settings(max_examples=30)
@given(groups=st.lists(st.integers(1, 70), min_size=1, max_size=12), data=st.data())
def test_roots_and_proofs_are_those_of_the_definition(
    tmp_path_factory: pytest.TempPathFactory, groups: list[int], data: st.DataObject
) -> None:
    total, leaves = sum(groups), hashes(sum(groups))
    store = SqliteStore(tmp_path_factory.mktemp("tree"), seal=nothing)
    grown(store, leaves, groups)
    size = data.draw(st.integers(1, total))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    top = root_of(leaves[:size])
    assert store.read(lambda tx: root(tx, size)) == top
    path = store.read(lambda tx: inclusion_path(tx, index=index, size=size))
    verify_inclusion(index=index, size=size, leaf=leaves[index], path=path, root=top)
    between = store.read(lambda tx: consistency_path(tx, old_size=old, new_size=size))
    verify_consistency(old_size=old, new_size=size, old_root=root_of(leaves[:old]), new_root=top, path=between)
    store.close()


def test_a_leaf_costs_one_row_and_a_third(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, seal=nothing)
    grown(store, hashes(512), [64] * 8)
    rows = store.read(lambda tx: tx.execute("SELECT level, COUNT(*) FROM log_nodes GROUP BY level ORDER BY level"))
    assert rows == [(0, 512), (2, 128), (4, 32), (6, 8), (8, 2)]
    store.close()


def test_a_missing_node_is_a_hole_and_no_proof(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, seal=nothing)
    grown(store, hashes(20), [20])
    store.write_sync(lambda tx: tx.execute("DELETE FROM log_nodes WHERE level = 0 AND idx = 7"))
    with pytest.raises(InternalError) as caught:
        store.read(lambda tx: inclusion_path(tx, index=5, size=20))
    assert caught.value.rule == "log.node"
    store.close()


def refused(books: Books, count: int) -> None:
    for _ in range(count):
        books.store.write_sync(lambda tx: ledger.refuse(tx, ALICE, event={}, now=books.clock(), entropy=os.urandom))


def store_every_level(directory: Path) -> None:
    """As books were kept before every second level was."""
    connection = sqlite3.connect(directory / "ledger.db")
    nodes = [row[0] for row in connection.execute("SELECT hash FROM log_nodes WHERE level = 0 ORDER BY idx")]
    level = 0
    while len(nodes) > 1:
        level += 1
        nodes = [hashlib.sha256(b"\x01" + a + b).digest() for a, b in zip(nodes[::2], nodes[1::2], strict=False)]
        if level % 2:
            connection.executemany(
                "INSERT INTO log_nodes VALUES (?, ?, ?)", [(level, i, n) for i, n in enumerate(nodes)]
            )
    connection.commit()
    connection.close()


def test_books_in_which_every_level_is_stored_grow_on_and_stay_checkable(tmp_path: Path) -> None:
    books = open_books(tmp_path)
    refused(books, 37)
    books.store.close()
    store_every_level(tmp_path)
    assert fsck(tmp_path, vkey=VKEY).ok
    books = open_books(tmp_path)
    refused(books, 40)
    books.store.close()
    assert fsck(tmp_path, vkey=VKEY).ok


def test_nothing_is_signed_where_the_nodes_do_not_lead_to_the_head(tmp_path: Path) -> None:
    books = open_books(tmp_path)
    refused(books, 5)
    books.store.close()
    connection = sqlite3.connect(tmp_path / "ledger.db")
    connection.execute("UPDATE log_nodes SET hash = zeroblob(32) WHERE level = 0 AND idx = 4")
    connection.commit()
    connection.close()
    books = open_books(tmp_path)
    with pytest.raises(Unavailable):
        refused(books, 1)
    assert books.store.stopped
    books.store.close()


def test_what_is_kept_of_a_tree_is_used_for_that_tree_alone(tmp_path: Path) -> None:
    """Mutant: held against the head's size only, as after a group that was not kept and another in its place."""
    clock = Clock()
    hook = sealer((SIGNER,), now=clock)
    directories = [tmp_path / "one", tmp_path / "other"]
    opened = []
    for directory in directories:
        directory.mkdir()
        store = SqliteStore(directory, seal=hook)
        ledger.start(store, origin=ORIGIN, now=clock, entropy=os.urandom)
        opened.append(Books(store, clock, directory))
    for _ in range(9):
        for books in opened:
            books.answer({"queries": 1}, answer=books.directory.name.encode())
    for books in opened:
        books.store.close()
        assert fsck(books.directory, vkey=VKEY).ok
