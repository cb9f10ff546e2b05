# SPDX-License-Identifier: Apache-2.0
"""The Merkle tree in the database: hashes of complete subtrees, so that roots and proofs of any size are point reads.

Node (level, i) is the hash over leaves [i * 2**level, (i + 1) * 2**level); level 0 holds the leaf hashes.
Source: RFC 9162, sections 2.1.1, 2.1.3.1 and 2.1.4.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from weir.errors import InternalError, InvalidRequest
from weir.merkle import EMPTY_ROOT, node_hash
from weir_server.store import Transaction, blob, integer
from weir_server.store.pending import Table

Place = tuple[int, int]
"""Level and index of a node."""
Span = tuple[int, int]
"""Leaves [start, end); `start` is a multiple of the largest power of two below or at the width."""
_NODES = Table("log_nodes", ("level", "idx", "hash"))
_MOST_PLACES = 200
"""Nodes read by one statement: engines limit how deep a condition may be."""


@dataclass(frozen=True, slots=True)
class Growth:
    """A tree that has grown by the leaves of one group."""

    size: int
    """Leaves it has."""
    root: bytes
    nodes: Mapping[Place, bytes]
    """The nodes that were added, and the whole subtrees that the tree consisted of before."""

    def path(self, index: int) -> list[bytes]:
        """Inclusion path of one of the leaves that were added. It needs no node beside those: what lies left of such a
        leaf at any height is whole, and was a maximal subtree before or came about now."""
        return [fold([self.nodes[place] for place in _parts(span)]) for span in _path_spans(index, self.size)]


def grow(tx: Transaction, *, size: int, leaves: Sequence[bytes]) -> Growth:
    """Adds leaf hashes behind the first `size`, and every inner node they complete."""
    # Whatever the new leaves complete has its left part among themselves or among the whole subtrees of the old tree.
    whole = _parts((0, size))
    nodes = _read(tx, whole)
    edge = [nodes[place] for place in whole]
    for offset, leaf in enumerate(leaves):
        level, index, node = 0, size + offset, leaf
        while True:
            tx.put(_NODES, (level, index), (level, index, node))
            nodes[level, index] = node
            if not index & 1:
                break
            level, index, node = level + 1, index >> 1, node_hash(edge.pop(), node)
        edge.append(node)
    return Growth(size + len(leaves), fold(edge), nodes)


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
    """Nodes by place; every one of them must be there."""
    distinct = list(dict.fromkeys(places))
    nodes: dict[Place, bytes] = {}
    for start in range(0, len(distinct), _MOST_PLACES):
        some = distinct[start : start + _MOST_PLACES]
        # As alternatives, each of which is a point look-up on the key; `IN (VALUES …)` would scan the table.
        wanted = " OR ".join(["level = ? AND idx = ?"] * len(some))
        rows = tx.execute(
            f"SELECT level, idx, hash FROM log_nodes WHERE {wanted}",  # noqa: S608
            [number for place in some for number in place],
        )
        nodes.update({(integer(level), integer(index)): blob(node) for level, index, node in rows})
    if len(nodes) != len(distinct):
        raise InternalError("the log's tree has a hole: run fsck")
    return nodes
