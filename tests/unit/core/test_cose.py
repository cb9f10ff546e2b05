# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.checkpoint import MLDSA44, new_signer
from weir.cose import Tag, cose_receipt, decode, encode, verify_cose_receipt
from weir.errors import InvalidReceipt
from weir.merkle import leaf_hash, root_of

SIGNER = new_signer("log.weir.test/ledger", seed=bytes(range(32)))
VKEY = SIGNER.verifier.vkey
LEAVES = [b"first", b"second", b"third"]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]
ROOT = root_of(HASHES)
RECEIPT = cose_receipt(index=1, size=3, path=[HASHES[0], HASHES[2]], root=ROOT, signer=SIGNER)


def test_a_receipt_proves_index_size_and_root() -> None:
    proved = verify_cose_receipt(RECEIPT, leaf=b"second", vkey=VKEY)
    assert (proved.index, proved.size, proved.root) == (1, 3, ROOT)


def test_the_same_proof_always_gives_the_same_bytes() -> None:
    assert cose_receipt(index=1, size=3, path=[HASHES[0], HASHES[2]], root=ROOT, signer=SIGNER) == RECEIPT


def test_the_form_is_that_of_rfc_9942_as_another_library_reads_it() -> None:
    read = cbor2.loads(RECEIPT)
    assert read.tag == 18
    protected, unprotected, payload, signature = read.value
    assert cbor2.loads(protected) == {1: -8, 4: SIGNER.verifier.key_id, 395: 1}
    assert [cbor2.loads(proof) for proof in unprotected[396][-1]] == [[3, 1, [HASHES[0], HASHES[2]]]]
    assert payload is None
    assert len(signature) == 64


def test_another_library_verifies_the_signature_over_the_detached_root() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from cwt import COSE, COSEKey
    from cwt.exceptions import VerifyError

    public = Ed25519PublicKey.from_public_bytes(SIGNER.verifier.public)
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    key = COSEKey.from_pem(pem, kid=SIGNER.verifier.key_id)
    assert COSE.new().decode(RECEIPT, key, detached_payload=ROOT) == ROOT
    with pytest.raises(VerifyError):
        COSE.new().decode(RECEIPT, key, detached_payload=HASHES[0])


@pytest.mark.parametrize("leaf", [b"first", b"third", b"", b"secone"])
def test_a_receipt_for_another_leaf_is_refused(leaf: bytes) -> None:
    with pytest.raises(InvalidReceipt):
        verify_cose_receipt(RECEIPT, leaf=leaf, vkey=VKEY)


def test_a_receipt_of_another_log_is_refused() -> None:
    other = new_signer("log.weir.test/ledger", seed=bytes(32))
    with pytest.raises(InvalidReceipt) as caught:
        verify_cose_receipt(RECEIPT, leaf=b"second", vkey=other.verifier.vkey)
    assert caught.value.rule == "cose.key"


@given(st.integers(0, len(RECEIPT) - 1), st.integers(1, 255))
def test_a_changed_byte_anywhere_is_refused(at: int, mask: int) -> None:
    changed = RECEIPT[:at] + bytes([RECEIPT[at] ^ mask]) + RECEIPT[at + 1 :]
    with pytest.raises(InvalidReceipt):
        verify_cose_receipt(changed, leaf=b"second", vkey=VKEY)


@given(st.binary(max_size=80))
def test_random_bytes_are_refused_and_never_crash(data: bytes) -> None:
    with pytest.raises(InvalidReceipt):
        verify_cose_receipt(data, leaf=b"second", vkey=VKEY)


def parts() -> tuple[dict[int, Any], dict[int, Any], bytes]:
    read = decode(RECEIPT)
    return decode(read.item[0]), read.item[1], read.item[3]


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param(lambda h, u, s: Tag(18, [encode(h), u, b"payload", s]), id="payload attached"),
        pytest.param(lambda h, u, s: Tag(17, [encode(h), u, None, s]), id="another tag"),
        pytest.param(lambda h, u, s: [encode(h), u, None, s], id="no tag"),
        pytest.param(lambda h, u, s: Tag(18, [encode(h), {}, None, s]), id="no proof"),
        pytest.param(lambda h, u, s: Tag(18, [encode(h), {396: {-1: u[396][-1] * 2}}, None, s]), id="two proofs"),
        pytest.param(lambda h, u, s: Tag(18, [encode(h), {396: {-2: u[396][-1]}}, None, s]), id="of consistency"),
        pytest.param(lambda h, u, s: Tag(18, [encode({**h, 395: 2}), u, None, s]), id="another tree"),
        pytest.param(lambda h, u, s: Tag(18, [encode({**h, 1: -7}), u, None, s]), id="another algorithm"),
        pytest.param(lambda h, u, s: Tag(18, [encode([]), u, None, s]), id="header that is no map"),
        pytest.param(lambda h, u, s: Tag(18, [encode(h), {396: {-1: [encode([3, 1])]}}, None, s]), id="no path"),
        pytest.param(lambda h, u, s: Tag(18, [encode(h), {396: {-1: [encode([3, 3, []])]}}, None, s]), id="outside"),
        pytest.param(lambda h, u, s: Tag(18, [encode(h), {396: {-1: [encode([3, 1, [b"x"]])]}}, None, s]), id="short"),
        pytest.param(lambda h, u, s: Tag(18, [encode(h), u, None, b"x"]), id="short signature"),
    ],
)
def test_another_form_is_refused(forged: Any) -> None:
    with pytest.raises(InvalidReceipt):
        verify_cose_receipt(encode(forged(*parts())), leaf=b"second", vkey=VKEY)


def test_an_oversize_or_deep_receipt_is_refused() -> None:
    for data in (b"\x81" * 10_000, b"\x81" * 100, b"\x9b" + b"\xff" * 8, b"\x5b" + b"\xff" * 8):
        with pytest.raises(InvalidReceipt):
            verify_cose_receipt(data, leaf=b"second", vkey=VKEY)


def test_only_the_log_s_ed25519_key_signs() -> None:
    other = new_signer("log.weir.test/ledger", seed=bytes(32), kind=MLDSA44)
    with pytest.raises(ValueError, match="Ed25519"):
        cose_receipt(index=0, size=1, path=[], root=HASHES[0], signer=other)
    with pytest.raises(InvalidReceipt):
        verify_cose_receipt(RECEIPT, leaf=b"second", vkey=other.verifier.vkey)


items = st.recursive(
    st.none() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=300) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.integers(-(2**64), 2**64 - 1), inner, max_size=5),
    max_leaves=10,
)


@given(items)
def test_cbor_is_that_of_another_library(value: object) -> None:
    data = encode(value)
    assert cbor2.loads(data) == value
    assert decode(data) == value if data.count(b"\x81") < 7 else True


@pytest.mark.parametrize("value", [True, 1.5, object(), 2**64, {1, 2}])
def test_what_a_receipt_never_holds_has_no_cbor_form(value: object) -> None:
    with pytest.raises(TypeError):
        encode(value)
