# SPDX-License-Identifier: Apache-2.0
"""The Merkle tree in the database: hashes of complete subtrees, so that roots and proofs of any size are few reads.

Node (level, i) is the hash over leaves [i * 2**level, (i + 1) * 2**level); level 0 holds the leaf hashes. Every
second level is stored, in blocks of four nodes that hash to one of the next; what lies between is hashed again when it
is asked for. So a leaf costs one row and a third, and books in which every level is stored read the same.
Source: RFC 9162, sections 2.1.1, 2.1.3.1 and 2.1.4.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from weir.errors import InternalError, InvalidRequest
from weir.merkle import EMPTY_ROOT, node_hash
from weir_server.store import SqlValue, Transaction, blob, integer
from weir_server.store.pending import Table

Place = tuple[int, int]
"""Level and index of a node."""
Span = tuple[int, int]
"""Leaves [start, end); `start` is a multiple of the largest power of two below or at the width."""
_NODES = Table("log_nodes", ("level", "idx", "hash"))
_HEIGHT = 2
"""Levels from one that is stored to the next. Divides the eight of a tile, so that tiles are read as they are."""
_MOST_BLOCKS = 200
"""Blocks read by one statement: engines limit how deep a condition may be."""


@dataclass(frozen=True, slots=True)
class Growth:
    """A tree that has grown by the leaves of one group."""

    size: int
    """Leaves it has."""
    root: bytes
    edge: Sequence[bytes]
    """The whole subtrees that it consists of, from left to right: all that is needed to grow on."""
    nodes: Mapping[Place, bytes]
    """The nodes that were added, and the whole subtrees that the tree consisted of before."""

    def path(self, index: int) -> list[bytes]:
        """Inclusion path of one of the leaves that were added. It needs no node beside those: what lies left of such a
        leaf at any height is whole, and was a maximal subtree before or came about now."""
        path, level, place = list[bytes](), 0, index
        while 1 << level < self.size:
            start = (place ^ 1) << level
            if start + (1 << level) <= self.size:
                path.append(self.nodes[level, place ^ 1])
            elif start < self.size:  # What lies right of the leaf up to the end, where that is no whole subtree.
                path.append(fold([self.nodes[part] for part in _parts((start, self.size))]))
            level, place = level + 1, place >> 1
        return path


def read_edge(tx: Transaction, size: int) -> list[bytes]:
    """The whole subtrees that the tree of the first `size` leaves consists of, from left to right."""
    whole = _parts((0, size))
    nodes = _read(tx, whole)
    return [nodes[place] for place in whole]


def grow(tx: Transaction, *, size: int, edge: Sequence[bytes], leaves: Sequence[bytes]) -> Growth:
    """Adds leaf hashes behind the first `size`, and every inner node they complete. `edge`: as `read_edge` gives it."""
    # Whatever the new leaves complete has its left part among themselves or among the whole subtrees of the old tree.
    nodes = dict(zip(_parts((0, size)), edge, strict=True))
    whole, stored = list(edge), list[SqlValue]()
    for position, leaf in enumerate(leaves, start=size):
        level, index, node = 0, position, leaf
        while True:
            nodes[level, index] = node
            if not level % _HEIGHT:
                stored += (level, index, node)
            if not index & 1:
                break
            level, index, node = level + 1, index >> 1, node_hash(whole.pop(), node)
        whole.append(node)
    tx.add(_NODES, stored)
    return Growth(size + len(leaves), fold(whole), whole, nodes)


def fold(edge: Sequence[bytes]) -> bytes:
    """Root over whole subtrees, from left to right."""
    if not edge:
        return EMPTY_ROOT
    *left, node = edge
    for other in reversed(left):
        node = node_hash(other, node)
    return node


def root(tx: Transaction, size: int) -> bytes:
    """Root of the tree of the first `size` leaves."""
    return _hashes(tx, [(0, size)])[0] if size else EMPTY_ROOT


def inclusion_path(tx: Transaction, *, index: int, size: int) -> list[bytes]:
    """Sibling hashes from leaf `index` to the root of the first `size` leaves, lowest first.

    Raises:
        InvalidRequest: `index` lies outside that tree.
    """
    return inclusion_paths(tx, [(index, size)])[0]


def inclusion_paths(tx: Transaction, leaves: Sequence[tuple[int, int]]) -> list[list[bytes]]:
    """As `inclusion_path`, for many (index, size) at once: what their paths share is read once.

    Raises:
        InvalidRequest: an index lies outside its tree.
    """
    spans = [_path_spans(index, size) for index, size in leaves]
    hashes = iter(_hashes(tx, [span for path in spans for span in path]))
    return [[next(hashes) for _ in path] for path in spans]


def _path_spans(index: int, size: int) -> list[Span]:
    """What each sibling on the way to leaf `index` covers, lowest first."""
    if not 0 <= index < size:
        raise InvalidRequest("the leaf lies outside the tree", field="index", rule="log.index")
    spans: list[Span] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((start, middle))
            start = middle
    return spans[::-1]


def consistency_path(tx: Transaction, *, old_size: int, new_size: int) -> list[bytes]:
    """Hashes that show the first `old_size` leaves to be a prefix of the first `new_size`; empty where trivial.

    Raises:
        InvalidRequest: the older size is greater.
    """
    if not 0 <= old_size <= new_size:
        raise InvalidRequest("the older size is greater", field="known_size", rule="log.size")
    if old_size in (0, new_size):
        return []
    spans: list[Span] = []
    start, end, whole = 0, new_size, True
    # `whole`: the old tree is still exactly the left edge from 0, whose root the verifier knows.
    while old_size != end:
        middle = start + _split(end - start)
        if old_size <= middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((start, middle))
            start, whole = middle, False
    if not whole:
        spans.append((start, end))
    return _hashes(tx, spans)[::-1]


def _hashes(tx: Transaction, spans: Sequence[Span]) -> list[bytes]:
    """Hash over each span, all read together."""
    parts = [_parts(span) for span in spans]
    nodes = _read(tx, [place for places in parts for place in places])
    hashes = []
    for places in parts:
        hashes.append(fold([nodes[place] for place in places]))
    return hashes


def _parts(span: Span) -> list[Place]:
    """The complete subtrees that make up a span, from left to right."""
    start, end = span
    places = []
    while start < end:
        level = (end - start).bit_length() - 1
        places.append((level, start >> level))
        start += 1 << level
    return places


def _split(width: int) -> int:
    """Largest power of two smaller than `width` (at least 2)."""
    return 1 << ((width - 1).bit_length() - 1)


def _read(tx: Transaction, places: Sequence[Place]) -> dict[Place, bytes]:
    """Nodes by place, stored or hashed from those that are; every one of them must be there."""
    stored: dict[Place, bytes] = {}
    blocks = list(dict.fromkeys(_block(place) for place in places))
    for start in range(0, len(blocks), _MOST_BLOCKS):
        some = blocks[start : start + _MOST_BLOCKS]
        # As alternatives, each of which is a range of the key; `IN (VALUES …)` would scan the table.
        wanted = " OR ".join(["level = ? AND idx >= ? AND idx < ?"] * len(some))
        rows = tx.execute(
            f"SELECT level, idx, hash FROM log_nodes WHERE {wanted}",  # noqa: S608
            [bound for level, index in some for bound in (level, index << _HEIGHT, (index + 1) << _HEIGHT)],
        )
        stored.update({(integer(level), integer(index)): blob(node) for level, index, node in rows})
    try:
        return {place: _hash(stored, place) for place in dict.fromkeys(places)}
    except KeyError:
        raise InternalError("the log's tree has a hole: run fsck", rule="log.node") from None


def _block(place: Place) -> Place:
    """Level and number of the block of stored nodes that a node is in, or is hashed from."""
    level, index = place
    below = level % _HEIGHT
    return level - below, (index << below) >> _HEIGHT


def _hash(stored: Mapping[Place, bytes], place: Place) -> bytes:
    level, index = place
    below = level % _HEIGHT
    hashes = [stored[level - below, part] for part in range(index << below, (index + 1) << below)]
    while len(hashes) > 1:
        hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]
