# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.errors import VerificationError
from weir.merkle import EMPTY_ROOT, Range, leaf_hash, node_hash, root_of, verify_consistency, verify_inclusion

LEAVES = [leaf_hash(bytes([n])) for n in range(70)]


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word by word: the oracle."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if index < k:
        return [*naive_path(index, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(index - k, leaves[k:]), naive_root(leaves[:k])]


def naive_consistency(old: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    if old == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if old <= k:
        return [*naive_consistency(old, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_consistency(old - k, leaves[k:], False), naive_root(leaves[:k])]


def test_roots_are_those_of_the_certificate_transparency_test_vectors() -> None:
    # The eight inputs and roots that the reference implementations of RFC 6962 share.
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    hashes = [leaf_hash(bytes.fromhex(item)) for item in inputs]
    assert root_of(hashes[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert root_of(hashes[:2]).hex() == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    assert root_of(hashes).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@pytest.mark.parametrize("size", range(70))
def test_appending_one_by_one_gives_the_root_of_the_definition(size: int) -> None:
    covered = Range()
    for leaf in LEAVES[:size]:
        covered = covered.append(leaf)
    assert (covered.size, covered.root()) == (size, naive_root(LEAVES[:size]))
    assert len(covered.roots) == size.bit_count()


def test_an_empty_tree_has_the_hash_of_nothing_as_its_root() -> None:
    assert root_of([]) == EMPTY_ROOT == hashlib.sha256(b"").digest()


def test_a_leaf_never_hashes_like_a_node() -> None:
    left, right = LEAVES[:2]
    assert leaf_hash(left + right) != node_hash(left, right)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 11, 16, 31, 33, 70])
def test_every_leaf_of_every_tree_is_shown_to_be_in_it(size: int) -> None:
    root = naive_root(LEAVES[:size])
    for index in range(size):
        path = naive_path(index, LEAVES[:size])
        verify_inclusion(index=index, size=size, leaf=LEAVES[index], path=path, root=root)


@given(st.data())
def test_no_changed_inclusion_proof_passes(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 70))
    index = data.draw(st.integers(0, size - 1))
    path, root, leaf = naive_path(index, LEAVES[:size]), naive_root(LEAVES[:size]), LEAVES[index]
    change = data.draw(st.sampled_from(["leaf", "root", "index", "longer", "shorter", "hash"]))
    if change == "leaf":
        leaf = LEAVES[(index + 1) % 70]
    elif change == "root":
        root = naive_root(LEAVES[: size - 1])
    elif change == "index":
        index = data.draw(st.integers(-1, size + 1).filter(lambda other: other != index))
    elif change == "longer":
        path = [*path, LEAVES[0]]
    elif not path:
        return
    elif change == "shorter":
        path = path[:-1]
    else:
        at = data.draw(st.integers(0, len(path) - 1))
        path[at] = bytes(32)
    with pytest.raises(VerificationError):
        verify_inclusion(index=index, size=size, leaf=leaf, path=path, root=root)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (5, 5), (6, 5), (-1, 5)])
def test_an_index_outside_the_tree_is_refused_before_anything_is_hashed(index: int, size: int) -> None:
    with pytest.raises(VerificationError) as caught:
        verify_inclusion(index=index, size=size, leaf=LEAVES[0], path=[], root=LEAVES[0])
    assert caught.value.rule == "merkle.index"


@pytest.mark.parametrize("new", [1, 2, 3, 4, 6, 8, 9, 21, 32, 70])
def test_every_prefix_of_every_tree_is_shown_to_be_one(new: int) -> None:
    for old in range(new + 1):
        path = naive_consistency(old, LEAVES[:new]) if old else []
        verify_consistency(
            old_size=old,
            new_size=new,
            old_root=naive_root(LEAVES[:old]),
            new_root=naive_root(LEAVES[:new]),
            path=path,
        )


@given(st.data())
def test_no_changed_consistency_proof_passes(data: st.DataObject) -> None:
    new = data.draw(st.integers(2, 70))
    old = data.draw(st.integers(1, new - 1))
    path = naive_consistency(old, LEAVES[:new])
    old_root, new_root = naive_root(LEAVES[:old]), naive_root(LEAVES[:new])
    change = data.draw(st.sampled_from(["old root", "new root", "longer", "shorter", "hash", "empty"]))
    if change == "old root":
        old_root = naive_root([*LEAVES[: old - 1], LEAVES[-1] if old < 70 else LEAVES[0]])
    elif change == "new root":
        new_root = naive_root([LEAVES[1], *LEAVES[1:new]])
    elif change == "longer":
        path = [*path, LEAVES[0]]
    elif change == "shorter":
        path = path[:-1]
    elif change == "empty":
        path = []
    else:
        path[data.draw(st.integers(0, len(path) - 1))] = bytes(32)
    with pytest.raises(VerificationError):
        verify_consistency(old_size=old, new_size=new, old_root=old_root, new_root=new_root, path=path)


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        pytest.param(3, 2, [], id="shrunk"),
        pytest.param(0, 2, [LEAVES[0]], id="path from nothing"),
        pytest.param(2, 2, [LEAVES[0]], id="path to itself"),
        pytest.param(-1, 2, [], id="negative"),
        pytest.param(1, 2, [b"short"], id="hash of another length"),
    ],
)
def test_a_consistency_proof_out_of_range_is_refused(old: int, new: int, path: list[bytes]) -> None:
    root = naive_root(LEAVES[: max(old, 0)])
    with pytest.raises(VerificationError):
        verify_consistency(old_size=old, new_size=new, old_root=root, new_root=root, path=path)


def test_two_roots_of_one_size_are_inconsistent() -> None:
    with pytest.raises(VerificationError):
        verify_consistency(old_size=2, new_size=2, old_root=LEAVES[0], new_root=LEAVES[1], path=[])


def test_a_root_for_nothing_that_is_not_the_empty_root_is_refused() -> None:
    with pytest.raises(VerificationError):
        verify_consistency(old_size=0, new_size=2, old_root=LEAVES[0], new_root=LEAVES[1], path=[])
