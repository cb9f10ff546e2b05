# SPDX-License-Identifier: Apache-2.0
"""Merkle trees of RFC 6962: hashes, roots, and the checking of inclusion and consistency proofs. Pure.

Source: RFC 9162, sections 2.1.1 (hashes), 2.1.3.2 (inclusion), 2.1.4.2 (consistency); the tree is that of RFC 6962.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from weir.errors import VerificationError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves."""


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of one leaf: SHA-256 over 0x00 and its bytes, so that no node can pass for a leaf."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256 over 0x01 and its two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Range:
    """The complete subtrees that make up a tree, largest first: all that is needed to append and to take the root."""

    size: int = 0
    """Leaves covered."""
    roots: tuple[bytes, ...] = ()
    """One hash per bit set in `size`."""

    def append(self, leaf: bytes) -> Range:
        """The range after one more leaf, given by its leaf hash."""
        roots, node, size = list(self.roots), leaf, self.size
        while size & 1:
            node = node_hash(roots.pop(), node)
            size >>= 1
        return Range(self.size + 1, (*roots, node))

    def root(self) -> bytes:
        """Root of the tree."""
        if not self.roots:
            return EMPTY_ROOT
        node = self.roots[-1]
        for left in reversed(self.roots[:-1]):
            node = node_hash(left, node)
        return node


def root_of(leaf_hashes: Iterable[bytes]) -> bytes:
    """Root of the tree over these leaf hashes, in order."""
    covered = Range()
    for leaf in leaf_hashes:
        covered = covered.append(leaf)
    return covered.root()


def verify_inclusion(*, index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> None:
    """Checks that `leaf` (a leaf hash) stands at `index` of the tree of `size` leaves with this root.

    Raises:
        VerificationError: it does not, or index, size or a hash is out of range.
    """
    _require_hashes((root,))
    if not hmac.compare_digest(fold_inclusion(index=index, size=size, leaf=leaf, path=path), root):
        raise VerificationError("inclusion path does not lead to the root", rule="merkle.root")


def fold_inclusion(*, index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The root that `path` leads to from `leaf` (a leaf hash) at `index` of `size` leaves; it proves nothing yet.

    Raises:
        VerificationError: index, size, length of the path or a hash is out of range.
    """
    if not 0 <= index < size:
        raise VerificationError("leaf index lies outside the tree", rule="merkle.index")
    _require_hashes((leaf, *path))
    position, last, node = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise VerificationError("inclusion path is too long", rule="merkle.path")
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise VerificationError("inclusion path is too short", rule="merkle.path")
    return node


def verify_consistency(
    *, old_size: int, new_size: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]
) -> None:
    """Checks that the tree of `old_size` leaves is a prefix of the tree of `new_size` leaves.

    Raises:
        VerificationError: it is not, or sizes or a hash are out of range.
    """
    if not 0 <= old_size <= new_size:
        raise VerificationError("the newer tree is smaller", rule="merkle.size")
    _require_hashes((old_root, new_root, *path))
    if old_size == 0 or old_size == new_size:
        _verify_trivial(old_size, old_root, new_root if old_size else EMPTY_ROOT, path)
        return
    if not path:
        raise VerificationError("consistency path is empty", rule="merkle.path")
    old, new = _fold_consistency(old_size, new_size, old_root, path)
    if not (hmac.compare_digest(old, old_root) and hmac.compare_digest(new, new_root)):
        raise VerificationError("consistency path does not lead to both roots", rule="merkle.root")


def _fold_consistency(old_size: int, new_size: int, old_root: bytes, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Both roots that the path leads to (RFC 9162, 2.1.4.2). A complete old tree is its own first hash."""
    hashes = list(path) if old_size & (old_size - 1) else [old_root, *path]
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise VerificationError("consistency path is too long", rule="merkle.path")
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise VerificationError("consistency path is too short", rule="merkle.path")
    return old, new


def _verify_trivial(old_size: int, old_root: bytes, expected: bytes, path: Sequence[bytes]) -> None:
    if path:
        raise VerificationError("consistency path is too long", rule="merkle.path")
    if not hmac.compare_digest(old_root, expected):
        raise VerificationError(f"two roots for {old_size} leaves", rule="merkle.root")


def _require_hashes(hashes: Iterable[bytes]) -> None:
    if any(len(item) != HASH_BYTES for item in hashes):
        raise VerificationError("a hash has 32 bytes", rule="merkle.hash")
