# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.checkpoint import (
    COSIGNATURE_ED25519,
    MLDSA44,
    Checkpoint,
    body,
    new_signer,
    parse,
    parse_note,
    parse_skey,
    parse_vkey,
    sign,
    signature_line,
    verify,
    verify_signature,
)
from weir.errors import VerificationError

ORIGIN = "log.weir.test/ledger"
LOG = new_signer(ORIGIN, seed=bytes(range(32)))
LOG_PQ = new_signer(ORIGIN, seed=bytes(range(32)), kind=MLDSA44)
WITNESS = new_signer("witness.test/w1", seed=bytes(32), kind=COSIGNATURE_ED25519)
HEAD = Checkpoint(ORIGIN, 20_852_163, bytes(range(32)))
NOTE = sign(HEAD, LOG)

# The example of the Go package golang.org/x/mod/sumdb/note: keys and signature made by another implementation.
GO_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_keys_are_those_of_the_go_note_package() -> None:
    signer = parse_skey(GO_SKEY)
    assert signer.verifier.vkey == GO_VKEY
    assert signer.skey == GO_SKEY
    assert parse_vkey(GO_VKEY) == signer.verifier


def test_signatures_are_those_of_the_go_note_package() -> None:
    assert signature_line(GO_TEXT, parse_skey(GO_SKEY)) == GO_LINE
    verify_signature(parse_note(f"{GO_TEXT}\n{GO_LINE}"), parse_vkey(GO_VKEY))


def test_the_example_of_the_checkpoint_specification_parses() -> None:
    note = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE"
        "+xeMcTOAYQ8=\n"
    )
    checkpoint, parsed = parse(note)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20_852_163)
    assert body(checkpoint) == parsed.text
    assert parsed.signatures[0].name == "example.com/behind-the-sofa"


@pytest.mark.parametrize("signer", [LOG, LOG_PQ], ids=["Ed25519", "ML-DSA-44"])
def test_a_signed_checkpoint_verifies_and_states_what_was_signed(signer: object) -> None:
    assert isinstance(signer, type(LOG))
    assert verify(sign(HEAD, signer, time=1_700_000_000), signer.verifier.vkey) == HEAD


def test_both_signatures_stand_side_by_side_and_every_named_key_must_have_signed() -> None:
    both = f"{LOG.verifier.vkey}\n{LOG_PQ.verifier.vkey}\n"
    assert verify(sign(HEAD, (LOG, LOG_PQ)), both) == HEAD
    with pytest.raises(VerificationError) as caught:
        verify(NOTE, both)
    assert caught.value.rule == "note.unsigned"


def test_a_witness_cosigns_with_its_time_and_the_log_still_verifies() -> None:
    cosigned = NOTE + signature_line(body(HEAD), WITNESS, time=1_679_315_147)
    assert verify(cosigned, LOG.verifier.vkey) == HEAD
    assert verify_signature(parse_note(cosigned), WITNESS.verifier) == 1_679_315_147


def test_a_cosignature_with_another_time_does_not_verify() -> None:
    line = signature_line(body(HEAD), WITNESS, time=5)
    name, encoded = line.removeprefix("— ").split()
    raw = bytearray(base64.b64decode(encoded))
    raw[11] ^= 1
    forged = f"{NOTE}— {name} {base64.b64encode(raw).decode()}\n"
    with pytest.raises(VerificationError):
        verify_signature(parse_note(forged), WITNESS.verifier)


def test_lines_of_unknown_keys_are_ignored() -> None:
    stranger = new_signer(ORIGIN, seed=bytes(32))
    assert verify(sign(HEAD, (stranger, LOG)), LOG.verifier.vkey) == HEAD


def test_a_wrong_line_of_a_known_key_fails_the_note_even_beside_a_right_one() -> None:
    wrong = signature_line(body(Checkpoint(ORIGIN, 1, bytes(32))), LOG)
    with pytest.raises(VerificationError) as caught:
        verify(NOTE + wrong, LOG.verifier.vkey)
    assert caught.value.rule == "note.signature"


@given(st.integers(0, len(NOTE.encode()) - 1), st.integers(1, 255))
def test_a_changed_byte_anywhere_in_a_note_never_verifies(position: int, mask: int) -> None:
    raw = bytearray(NOTE.encode())
    raw[position] ^= mask
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return
    with pytest.raises(VerificationError):
        verify(text, LOG.verifier.vkey)


def test_a_key_named_like_another_log_cannot_sign_for_this_one() -> None:
    other = new_signer("other.test/log", seed=bytes(range(32)))
    with pytest.raises(VerificationError) as caught:
        verify(sign(HEAD, other), other.verifier.vkey)
    assert caught.value.rule == "checkpoint.origin"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("o\n01\n{root}\n", id="leading zero"),
        pytest.param("o\n-1\n{root}\n", id="negative"),
        pytest.param("o\n١\n{root}\n", id="digits of another script"),
        pytest.param("o\n99999999999999999999\n{root}\n", id="too large"),
        pytest.param("o\n1\nAAAA\n", id="short root"),
        pytest.param("o\n1\n{root}x\n", id="root that is not base64"),
        pytest.param("o\n1\n{root}\nextension\n", id="extension line"),
        pytest.param("\n1\n{root}\n", id="no origin"),
        pytest.param("o\n1\n", id="no root"),
    ],
)
def test_a_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    filled = text.replace("{root}", base64.b64encode(bytes(32)).decode())
    signer = new_signer("o", seed=bytes(32))
    with pytest.raises(VerificationError):
        verify(f"{filled}\n{signature_line(filled, signer)}", signer.verifier.vkey)


@pytest.mark.parametrize(
    "note",
    [
        pytest.param("", id="empty"),
        pytest.param("text\n", id="no signatures"),
        pytest.param("text\n\n", id="no line"),
        pytest.param("text\n\n— a AAAAAAAA", id="no final newline"),
        pytest.param("text\n\n- a AAAAAAAA\n", id="hyphen for dash"),
        pytest.param("text\n\n— a+b AAAAAAAA\n", id="plus in the name"),
        pytest.param("text\n\n— a AAA\n", id="not base64"),
        pytest.param("text\n\n— a AAAA\n", id="no signature behind the key id"),
        pytest.param("te\x07xt\n\n— a AAAAAAAA\n", id="control character"),
        pytest.param("text\n\n" + "— a AAAAAAAA\n" * 100, id="too many lines"),
        pytest.param("x" * 300_000 + "\n\n— a AAAAAAAA\n", id="too long"),
    ],
)
def test_what_is_not_a_signed_note_is_refused(note: str) -> None:
    with pytest.raises(VerificationError) as caught:
        parse_note(note)
    assert caught.value.rule == "note.form"


@pytest.mark.parametrize(
    "vkey",
    ["", "a", "a+b", "a+00000000+AQ==", LOG.verifier.vkey[:-4], LOG.verifier.vkey.replace("+", "+0", 1), "a b+0+AA=="],
)
def test_a_malformed_verifier_key_is_refused(vkey: str) -> None:
    with pytest.raises(VerificationError):
        parse_vkey(vkey)


@pytest.mark.parametrize("skey", ["", "PRIVATE+KEY+a+00000000+AAAA", GO_SKEY.replace("c74f20a3", "c74f20a4")])
def test_a_malformed_signing_key_is_refused(skey: str) -> None:
    with pytest.raises(ValueError, match="signing key"):
        parse_skey(skey)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "x" * 256, "a\u2003b"])
def test_a_key_name_with_spaces_or_plus_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="signer needs"):
        new_signer(name, seed=bytes(32))


def test_a_signing_key_does_not_show_its_seed() -> None:
    assert bytes(range(32)).hex() not in repr(LOG)
    assert "seed" not in repr(LOG)


def test_no_key_verifies_nothing() -> None:
    with pytest.raises(VerificationError):
        verify(NOTE, "  ")
