# SPDX-License-Identifier: Apache-2.0
"""Verification in front of the reader: what a client computes, step by step, with every hash on the way.

The steps are told by this module; whether they hold is said by the pure functions that clients use, on the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weir import checkpoint as checkpoints
from weir.errors import InvalidReceipt, VerificationError
from weir.merkle import EMPTY_ROOT, fold_inclusion, leaf_hash, node_hash, verify_consistency, verify_inclusion
from weir.receipts import parse_event


@dataclass(frozen=True, slots=True)
class Fold:
    """One hash on the way to the root."""

    left: bool
    """Whether the sibling stands on the left."""
    sibling: str
    """Hex."""
    node: str
    """Hex of the hash over both."""


@dataclass(frozen=True, slots=True)
class Step:
    """One check."""

    key: str
    """Sentence of the catalogue, `verify.…`."""
    good: bool | None
    """None where there is nothing to check."""
    values: dict[str, str]
    """Values of the sentence."""
    shown: Sequence[tuple[str, str]] = ()
    """Further sentence keys with what was computed or found, in hex or as text."""
    folds: Sequence[Fold] = ()


@dataclass(frozen=True, slots=True)
class Verified:
    """All checks of one thing."""

    steps: Sequence[Step]

    @property
    def good(self) -> bool:
        """Whether everything that could be checked holds, and something could."""
        checked = [step.good for step in self.steps if step.good is not None]
        return bool(checked) and all(checked)


def verify_entry(
    *, index: int, leaf: bytes, path: Sequence[bytes], note: str, log_key: str, witness_key: str = ""
) -> Verified:
    """Checks that a leaf stands at its index in the tree of a signed checkpoint."""
    try:
        claimed, _ = checkpoints.parse(note)
    except VerificationError as error:
        return Verified([Step("verify.note", good=False, values={"rule": error.rule or ""})])
    hashed = leaf_hash(leaf)
    return Verified([
        Step("verify.hash", good=None, values={"bytes": str(len(leaf))}, shown=[("verify.leaf_hash", hashed.hex())]),
        _inclusion(index, hashed, path, claimed),
        _signatures(note, log_key),
        _event(index, leaf, claimed.origin),
        _witnesses(note, witness_key),
    ])  # fmt: skip


def verify_growth(*, older: str, newer: str, path: Sequence[bytes], log_key: str) -> Verified:
    """Checks that the log of the newer checkpoint extends the log of the older."""
    try:
        (old, _), (new, _) = checkpoints.parse(older), checkpoints.parse(newer)
    except VerificationError as error:
        return Verified([Step("verify.note", good=False, values={"rule": error.rule or ""})])
    try:
        verify_consistency(old_size=old.size, new_size=new.size, old_root=old.root, new_root=new.root, path=path)
        rule = ""
    except VerificationError as error:
        rule = error.rule or "merkle.root"
    sizes = {"old": str(old.size), "new": str(new.size), "hashes": str(len(path))}
    return Verified([
        _signatures(older, log_key),
        _signatures(newer, log_key),
        Step(
            "verify.consistency" if not rule else "verify.inconsistent",
            good=not rule,
            values={**sizes, "rule": rule},
            shown=[("verify.old_root", old.root.hex()), ("verify.new_root", new.root.hex())],
        ),
    ])  # fmt: skip


def verify_tree(*, note: str, size: int, root: bytes, log_key: str) -> Verified:
    """Checks that a checkpoint signs the tree that is stored now. `root`: as computed from the stored nodes."""
    try:
        claimed, _ = checkpoints.parse(note)
    except VerificationError as error:
        return Verified([Step("verify.note", good=False, values={"rule": error.rule or ""})])
    same = (claimed.size, claimed.root) == (size, root if size else EMPTY_ROOT)
    shown = [("verify.root_signed", claimed.root.hex()), ("verify.root_stored", root.hex())]
    return Verified([
        _signatures(note, log_key),
        Step("verify.same_tree" if same else "verify.other_tree", good=same, values={"size": str(size)}, shown=shown),
    ])  # fmt: skip


def _inclusion(index: int, hashed: bytes, path: Sequence[bytes], claimed: checkpoints.Checkpoint) -> Step:
    values = {"index": str(index), "size": str(claimed.size), "hashes": str(len(path))}
    try:
        reached = fold_inclusion(index=index, size=claimed.size, leaf=hashed, path=path)
    except VerificationError as error:
        return Step("verify.no_path", good=False, values={**values, "rule": error.rule or ""})
    try:
        verify_inclusion(index=index, size=claimed.size, leaf=hashed, path=path, root=claimed.root)
        good = True
    except VerificationError:
        good = False
    shown = [("verify.root_reached", reached.hex()), ("verify.root_signed", claimed.root.hex())]
    folds = _folds(index, claimed.size, hashed, path)
    return Step(
        "verify.included" if good else "verify.not_included", good=good, values=values, shown=shown, folds=folds
    )


def _folds(index: int, size: int, node: bytes, path: Sequence[bytes]) -> list[Fold]:
    """The same walk as `fold_inclusion`, told hash by hash. Source: RFC 9162, section 2.1.3.2."""
    folds, position, last = [], index, size - 1
    for sibling in path:
        left = bool(position & 1) or position == last
        node = node_hash(sibling, node) if left else node_hash(node, sibling)
        while left and position and not position & 1:
            position, last = position >> 1, last >> 1
        folds.append(Fold(left, sibling.hex(), node.hex()))
        position, last = position >> 1, last >> 1
    return folds


def _signatures(note: str, log_key: str) -> Step:
    values = {"keys": str(len(log_key.split()))}
    try:
        claimed = checkpoints.verify(note, log_key)
    except VerificationError as error:
        return Step("verify.unsigned", good=False, values={**values, "rule": error.rule or ""})
    names = [("verify.key", key.partition("+")[0] + "+" + key.split("+")[1]) for key in log_key.split()]
    return Step("verify.signed", good=True, values={**values, "size": str(claimed.size)}, shown=names)


def _event(index: int, leaf: bytes, origin: str) -> Step:
    try:
        event = parse_event(leaf)
        good = event.get("id") == str(index) and event.get("source") == origin
    except InvalidReceipt:
        good = False
    return Step("verify.event" if good else "verify.other_event", good=good, values={"index": str(index)})


def _witnesses(note: str, witness_key: str) -> Step:
    if not witness_key:
        return Step("verify.no_witness", good=None, values={})
    key = checkpoints.parse_vkey(witness_key)
    try:
        checkpoints.verify_signature(checkpoints.parse_note(note), key)
    except VerificationError as error:
        missing = error.rule == "note.unsigned"
        return Step("verify.not_witnessed", good=None if missing else False, values={"name": key.name})
    return Step("verify.witnessed", good=True, values={"name": key.name})
