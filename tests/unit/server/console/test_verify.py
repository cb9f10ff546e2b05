# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger import PQ_SIGNER, SIGNER, VKEY, fill, open_books
from weir.checkpoint import COSIGNATURE_ED25519, Checkpoint, new_signer, sign, signature_line
from weir.merkle import fold_inclusion, leaf_hash, root_of
from weir_server import log
from weir_server.console.verify import Verified, _folds, verify_entry, verify_growth, verify_tree

LEAVES = [f'{{"id":"{n}"}}'.encode() for n in range(40)]


def failed(verified: Verified) -> list[str]:
    return [step.key for step in verified.steps if step.good is False]


@given(size=st.integers(1, 40), data=st.data())
def test_the_hashes_that_are_told_lead_where_the_proof_leads(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    path = _path([leaf_hash(leaf) for leaf in LEAVES[:size]], index)
    folds = _folds(index, size, leaf_hash(LEAVES[index]), path)
    reached = fold_inclusion(index=index, size=size, leaf=leaf_hash(LEAVES[index]), path=path)
    assert len(folds) == len(path)
    assert (folds[-1].node if folds else leaf_hash(LEAVES[index]).hex()) == reached.hex()


@pytest.fixture
def entry(tmp_path: Path) -> dict[str, object]:
    """A real entry of a real log, with what its page verifies it by."""
    books = open_books(tmp_path)
    try:
        fill(books)
        newest = books.store.read(log.latest_checkpoint)
        assert newest is not None
        leaves = dict(books.store.read(lambda tx: list(log.entries(tx))))
        return {
            "index": 5,
            "leaf": leaves[5],
            "path": books.store.read(lambda tx: log.inclusion(tx, 5, newest[0])),
            "note": newest[1],
            "log_key": VKEY,
        }
    finally:
        books.store.close()


def test_an_entry_as_it_was_signed_verifies(entry: dict[str, object]) -> None:
    verified = verify_entry(**entry)  # type: ignore[arg-type]
    assert verified.good
    assert not failed(verified)


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        pytest.param({"leaf": b"{}"}, ["verify.not_included", "verify.other_event"], id="another leaf"),
        pytest.param({"index": 6}, ["verify.not_included", "verify.other_event"], id="another place"),
        pytest.param({"path": []}, ["verify.no_path"], id="no path"),
        pytest.param({"log_key": PQ_SIGNER.verifier.vkey}, ["verify.unsigned"], id="another key"),
        pytest.param({"note": "nonsense"}, ["verify.note"], id="no checkpoint"),
    ],
)
def test_what_does_not_fit_is_told_by_its_step(
    entry: dict[str, object], change: dict[str, object], steps: list[str]
) -> None:
    verified = verify_entry(**{**entry, **change})  # type: ignore[arg-type]
    assert failed(verified) == steps
    assert not verified.good


def test_a_witness_is_told_when_it_signed_and_never_counts_as_a_fault_when_it_did_not(entry: dict[str, object]) -> None:
    witness = new_signer("witness.test", seed=bytes(32), kind=COSIGNATURE_ED25519)
    key, note = witness.verifier.vkey, str(entry["note"])
    body = note.partition("\n\n")[0] + "\n"
    without = verify_entry(**entry, witness_key=key)  # type: ignore[arg-type]
    assert without.good
    assert without.steps[-1].key == "verify.not_witnessed"
    signed = verify_entry(**{**entry, "note": note + signature_line(body, witness, time=1)}, witness_key=key)  # type: ignore[arg-type]
    assert (signed.good, signed.steps[-1].key) == (True, "verify.witnessed")
    forged = signature_line(body.replace("log", "lag"), witness, time=1)
    lie = verify_entry(**{**entry, "note": note + forged}, witness_key=key)  # type: ignore[arg-type]
    assert not lie.good


def test_a_log_that_grew_verifies_and_one_that_was_rewritten_does_not(tmp_path: Path) -> None:
    books = open_books(tmp_path)
    try:
        fill(books)
        head = books.store.read(log.read_head)
        assert head is not None
        sizes = books.store.read(lambda tx: tx.execute("SELECT size, note FROM log_checkpoints ORDER BY size"))
        old_size, older = int(str(sizes[2][0])), str(sizes[2][1])
        newer = str(sizes[-1][1])
        path = list(books.store.read(lambda tx: log.consistency(tx, old_size, head.size)).path)
    finally:
        books.store.close()
    assert verify_growth(older=older, newer=newer, path=path, log_key=VKEY).good
    rewritten = sign(Checkpoint(head.origin, head.size, bytes(32)), SIGNER)
    assert failed(verify_growth(older=older, newer=rewritten, path=path, log_key=VKEY)) == ["verify.inconsistent"]


def test_a_checkpoint_that_signs_another_tree_than_the_stored_one_shows() -> None:
    root = root_of(leaf_hash(leaf) for leaf in LEAVES)
    note = sign(Checkpoint(SIGNER.name, len(LEAVES), root), SIGNER)
    assert verify_tree(note=note, size=len(LEAVES), root=root, log_key=VKEY).good
    assert failed(verify_tree(note=note, size=len(LEAVES), root=bytes(32), log_key=VKEY)) == ["verify.other_tree"]


def _path(hashes: list[bytes], index: int) -> list[bytes]:
    """Inclusion path by the textbook recursion of RFC 9162, section 2.1.3.1."""
    if len(hashes) == 1:
        return []
    split = 1 << ((len(hashes) - 1).bit_length() - 1)
    if index < split:
        return [*_path(hashes[:split], index), root_of(hashes[split:])]
    return [*_path(hashes[split:], index - split), root_of(hashes[:split])]
