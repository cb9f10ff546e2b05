# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.canonical import canonical_json, commit
from weir.checkpoint import MLDSA44, Checkpoint, new_signer, parse, sign, signature_line
from weir.cose import cose_receipt
from weir.errors import InvalidReceipt, LogInconsistent
from weir.merkle import leaf_hash, node_hash, root_of
from weir.receipts import parse_event, verify_progress, verify_receipt
from weir.v1 import receipt_pb2

ORIGIN = "log.weir.test/ledger"
SIGNER = new_signer(ORIGIN, seed=bytes(32))
VKEY = SIGNER.verifier.vkey
SALT = bytes(range(32))
ANSWER, QUERY = b"answer bytes", b"canonical query"


def event(**changes: object) -> dict[str, object]:
    made = {"answer": commit(SALT, "answer", ANSWER), "query": commit(SALT, "query", QUERY)}
    return {
        "specversion": "1.0",
        "id": "1",
        "source": ORIGIN,
        "type": "weir.query.released",
        "data": {"commitments": made},
        **changes,
    }


def receipt(leaf: bytes | None = None, *, origin: str = ORIGIN) -> receipt_pb2.Receipt:
    """The second leaf of a log of three."""
    leaf = canonical_json(event()) if leaf is None else leaf
    hashes = [leaf_hash(b"first"), leaf_hash(leaf), leaf_hash(b"third")]
    head = Checkpoint(origin, 3, root_of(hashes))
    return receipt_pb2.Receipt(
        leaf_index=1,
        leaf=leaf,
        salt=SALT,
        inclusion_path=[hashes[0], hashes[2]],
        checkpoint=sign(head, SIGNER),
    )


def test_a_receipt_proves_its_event_its_place_and_what_was_answered() -> None:
    verified = verify_receipt(receipt(), vkey=VKEY, commitments={"answer": ANSWER, "query": QUERY})
    assert verified.event == event()
    assert (verified.index, verified.checkpoint.size) == (1, 3)


@pytest.mark.parametrize(
    ("commitments", "rule"),
    [
        ({"answer": b"another"}, "receipt.answer"),
        ({"query": b"another"}, "receipt.query"),
        ({"answer": QUERY}, "receipt.answer"),
        ({"price": b"1"}, "receipt.price"),
    ],
)
def test_a_receipt_for_another_answer_or_query_is_refused(commitments: dict[str, bytes], rule: str) -> None:
    with pytest.raises(InvalidReceipt) as caught:
        verify_receipt(receipt(), vkey=VKEY, commitments=commitments)
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    "leaf",
    [
        pytest.param(b"not json", id="not JSON"),
        pytest.param(b'{"b":1,"a":2}', id="not canonical"),
        pytest.param(canonical_json(["a"]), id="not an object"),
        pytest.param(canonical_json(event(specversion="0.3")), id="another CloudEvents"),
        pytest.param(canonical_json(event(type=None)), id="no type"),
        pytest.param(canonical_json(event(data="text")), id="no data"),
        pytest.param(canonical_json(event(id="2")), id="another index"),
        pytest.param(canonical_json(event(source="other/log")), id="another log"),
        pytest.param(b" " * 65_536, id="too long"),
    ],
)
def test_a_signed_leaf_that_is_not_an_event_of_this_place_is_refused(leaf: bytes) -> None:
    with pytest.raises(InvalidReceipt):
        verify_receipt(receipt(leaf), vkey=VKEY, commitments={})


def test_a_receipt_under_another_log_s_key_is_refused() -> None:
    other = new_signer(ORIGIN, seed=bytes(range(1, 33)))
    with pytest.raises(InvalidReceipt) as caught:
        verify_receipt(receipt(), vkey=other.verifier.vkey, commitments={})
    assert caught.value.rule == "note.unsigned"


@given(st.data())
def test_a_receipt_with_any_byte_changed_is_refused(data: st.DataObject) -> None:
    changed = receipt()
    part = data.draw(st.sampled_from(["leaf", "salt", "path", "index"]))
    if part == "index":
        changed.leaf_index = data.draw(st.integers(0, 2**63).filter(lambda index: index != 1))
    elif part == "path":
        at = data.draw(st.integers(0, 1))
        changed.inclusion_path[at] = _flip(data, changed.inclusion_path[at])
    else:
        setattr(changed, part, _flip(data, getattr(changed, part)))
    with pytest.raises(InvalidReceipt):
        verify_receipt(changed, vkey=VKEY, commitments={"answer": ANSWER})


def _flip(data: st.DataObject, raw: bytes) -> bytes:
    at = data.draw(st.integers(0, len(raw) - 1))
    mask = data.draw(st.integers(1, 255))
    return raw[:at] + bytes([raw[at] ^ mask]) + raw[at + 1 :]


def test_an_empty_receipt_is_refused() -> None:
    with pytest.raises(InvalidReceipt):
        verify_receipt(receipt_pb2.Receipt(), vkey=VKEY, commitments={})


@dataclass
class Logs:
    """A log at one leaf and at two, and a fork of it."""

    a, b, c = leaf_hash(b"a"), leaf_hash(b"b"), leaf_hash(b"c")
    one = sign(Checkpoint(ORIGIN, 1, a), SIGNER)
    two = sign(Checkpoint(ORIGIN, 2, node_hash(a, b)), SIGNER)
    fork = sign(Checkpoint(ORIGIN, 2, node_hash(c, b)), SIGNER)


def proof(old: int, new: int, *path: bytes) -> receipt_pb2.ConsistencyProof:
    return receipt_pb2.ConsistencyProof(old_size=old, new_size=new, path=path)


def test_a_log_that_grew_is_accepted() -> None:
    assert verify_progress(Logs.one, Logs.two, proof(1, 2, Logs.b), VKEY).size == 2
    assert verify_progress(Logs.two, Logs.two, proof(2, 2), VKEY).size == 2


@pytest.mark.parametrize(
    ("older", "newer", "shown"),
    [
        pytest.param(Logs.two, Logs.one, proof(2, 1), id="rollback"),
        pytest.param(Logs.two, Logs.fork, proof(2, 2), id="fork of one length"),
        pytest.param(Logs.one, Logs.fork, proof(1, 2, Logs.b), id="rewritten prefix"),
    ],
)
def test_a_rollback_or_fork_is_reported_with_both_signed_checkpoints(
    older: str, newer: str, shown: receipt_pb2.ConsistencyProof
) -> None:
    with pytest.raises(LogInconsistent) as caught:
        verify_progress(older, newer, shown, VKEY)
    assert (caught.value.older, caught.value.newer) == (older, newer)


def test_an_unsigned_checkpoint_accuses_nobody() -> None:
    with pytest.raises(InvalidReceipt):
        verify_progress(Logs.two, Logs.one.replace("\n1\n", "\n0\n"), proof(2, 1), VKEY)


def test_a_proof_about_other_sizes_accuses_nobody() -> None:
    with pytest.raises(InvalidReceipt) as caught:
        verify_progress(Logs.one, Logs.two, proof(0, 2), VKEY)
    assert caught.value.rule == "consistency.sizes"


def test_an_event_is_given_as_its_fields() -> None:
    assert parse_event(canonical_json(event()))["type"] == "weir.query.released"


def with_cose(**changes: object) -> receipt_pb2.Receipt:
    """The receipt with its COSE form, or with that of another leaf or key."""
    plain = receipt()
    hashes = [leaf_hash(b"first"), leaf_hash(plain.leaf), leaf_hash(b"third")]
    proof: dict[str, object] = {
        "index": 1, "size": 3, "path": [hashes[0], hashes[2]], "root": root_of(hashes), "signer": SIGNER, **changes
    }  # fmt: skip
    plain.cose_receipt = cose_receipt(**proof)  # type: ignore[arg-type]
    return plain


def test_both_forms_of_a_receipt_are_checked() -> None:
    assert verify_receipt(with_cose(), vkey=VKEY, commitments={}).index == 1
    post_quantum = new_signer(ORIGIN, seed=bytes(32), kind=MLDSA44)
    both = with_cose()
    both.checkpoint += signature_line(parse(both.checkpoint)[1].text, post_quantum)
    assert verify_receipt(both, vkey=f"{VKEY} {post_quantum.verifier.vkey}", commitments={}).index == 1
    assert verify_receipt(both, vkey=post_quantum.verifier.vkey, commitments={}).index == 1


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"signer": new_signer("log.weir.test/ledger", seed=bytes(range(32)))}, "cose.key"),
        ({"root": bytes(32)}, "cose.signature"),
        ({"index": 0}, "cose.signature"),
        (
            {"index": 0, "size": 1, "path": [], "root": leaf_hash(receipt().leaf)},
            "cose.tree",
        ),
    ],
)
def test_a_cose_form_of_something_else_fails_the_receipt(changes: dict[str, object], rule: str) -> None:
    with pytest.raises(InvalidReceipt) as caught:
        verify_receipt(with_cose(**changes), vkey=VKEY, commitments={})
    assert caught.value.rule == rule
