# SPDX-License-Identifier: Apache-2.0
"""The Merkle tree in the database: hashes of complete subtrees, so that roots and proofs of any size are point reads.

Node (level, i) is the hash over leaves [i * 2**level, (i + 1) * 2**level); level 0 holds the leaf hashes.
Source: RFC 9162, sections 2.1.1, 2.1.3.1 and 2.1.4.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from weir.errors import InternalError, InvalidRequest
from weir.merkle import EMPTY_ROOT, node_hash
from weir_server.store import Transaction, blob

Node = tuple[int, int, bytes]
"""Level, index, hash."""


def grow(tx: Transaction, *, size: int, leaves: Sequence[bytes]) -> None:
    """Adds leaf hashes behind the first `size`, and every inner node they complete."""
    fresh: dict[tuple[int, int], bytes] = {}
    for offset, leaf in enumerate(leaves):
        level, index, node = 0, size + offset, leaf
        fresh[level, index] = node
        while index & 1:
            left = fresh.get((level, index - 1)) or _node(tx, level, index - 1)
            level, index, node = level + 1, index >> 1, node_hash(left, node)
            fresh[level, index] = node
    tx.execute_many(
        "INSERT INTO log_nodes (level, idx, hash) VALUES (?, ?, ?)",
        [(level, index, node) for (level, index), node in fresh.items()],
    )


def root(tx: Transaction, size: int) -> bytes:
    """Root of the tree of the first `size` leaves."""
    return _subtree(tx, 0, size) if size else EMPTY_ROOT


def inclusion_path(tx: Transaction, *, index: int, size: int) -> list[bytes]:
    """Sibling hashes from leaf `index` to the root of the first `size` leaves, lowest first.

    Raises:
        InvalidRequest: `index` lies outside that tree.
    """
    if not 0 <= index < size:
        raise InvalidRequest("the leaf lies outside the tree", field="index", rule="log.index")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_subtree(tx, middle, end))
            end = middle
        else:
            path.append(_subtree(tx, start, middle))
            start = middle
    return path[::-1]


def consistency_path(tx: Transaction, *, old_size: int, new_size: int) -> list[bytes]:
    """Hashes that show the first `old_size` leaves to be a prefix of the first `new_size`; empty where trivial.

    Raises:
        InvalidRequest: the older size is greater.
    """
    if not 0 <= old_size <= new_size:
        raise InvalidRequest("the older size is greater", field="known_size", rule="log.size")
    if old_size in (0, new_size):
        return []
    path: list[bytes] = []
    start, end, whole = 0, new_size, True
    # `whole`: the old tree is still exactly the left edge from 0, whose root the verifier knows.
    while old_size != end:
        middle = start + _split(end - start)
        if old_size <= middle:
            path.append(_subtree(tx, middle, end))
            end = middle
        else:
            path.append(_subtree(tx, start, middle))
            start, whole = middle, False
    if not whole:
        path.append(_subtree(tx, start, end))
    return path[::-1]


def _subtree(tx: Transaction, start: int, end: int) -> bytes:
    """Hash over leaves [start, end); `start` is a multiple of the largest power of two below or at the width."""
    width = end - start
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return _node(tx, level, start >> level)
    middle = start + _split(width)
    return node_hash(_subtree(tx, start, middle), _subtree(tx, middle, end))


def _split(width: int) -> int:
    """Largest power of two smaller than `width` (at least 2)."""
    return 1 << ((width - 1).bit_length() - 1)


def _node(tx: Transaction, level: int, index: int) -> bytes:
    rows = tx.execute("SELECT hash FROM log_nodes WHERE level = ? AND idx = ?", (level, index))
    if not rows:
        raise InternalError("the log's tree has a hole: run fsck")
    return blob(rows[0][0])
