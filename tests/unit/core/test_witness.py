# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from weir.checkpoint import (
    COSIGNATURE_ED25519,
    MLDSA44,
    Checkpoint,
    Signer,
    new_signer,
    parse_note,
    sign,
    verify,
    verify_signature,
)
from weir.errors import VerificationError
from weir.merkle import leaf_hash, node_hash
from weir.witness import SIZE_TYPE, Reply, Submission, format_submission, judge, parse_submission

ORIGIN = "log.weir.test/ledger"
LOG = new_signer(ORIGIN, seed=bytes(range(32)))
STRANGER = new_signer(ORIGIN, seed=bytes(32))
WITNESS = new_signer("witness.test/w", seed=bytes(range(1, 33)), kind=COSIGNATURE_ED25519)
WITNESS_PQ = new_signer("witness.test/w", seed=bytes(range(1, 33)), kind=MLDSA44)
A, B, C = leaf_hash(b"a"), leaf_hash(b"b"), leaf_hash(b"c")
ONE, TWO = Checkpoint(ORIGIN, 1, A), Checkpoint(ORIGIN, 2, node_hash(A, B))
FORK = Checkpoint(ORIGIN, 2, node_hash(A, C))
FOREIGN = Checkpoint(ORIGIN, 2, node_hash(C, B))


def asked(
    head: Checkpoint, old: int, *proof: bytes, by: Signer = LOG, latest: Checkpoint | None = ONE, key: Signer = WITNESS
) -> Reply:
    body = format_submission(Submission(old, proof, sign(head, by)))
    known = {} if latest is None else {ORIGIN: latest}
    return judge(body, logs={ORIGIN: [LOG.verifier.vkey]}, latest=known, signer=key, time=1_700_000_000)


@pytest.mark.parametrize("key", [WITNESS, WITNESS_PQ], ids=["Ed25519", "ML-DSA-44"])
def test_a_log_that_grew_is_cosigned_with_the_time(key: Signer) -> None:
    reply = asked(TWO, 1, B, key=key)
    assert (reply.status, reply.latest) == (200, TWO)
    cosigned = sign(TWO, LOG) + reply.body
    assert verify(cosigned, LOG.verifier.vkey) == TWO
    assert verify_signature(parse_note(cosigned), key.verifier) == 1_700_000_000


def test_the_first_checkpoint_of_a_log_is_cosigned_without_proof() -> None:
    assert asked(TWO, 0, latest=None).status == 200


def test_the_same_checkpoint_is_cosigned_again() -> None:
    assert asked(TWO, 2, latest=TWO).status == 200


@pytest.mark.parametrize(
    ("reply", "status", "body"),
    [
        pytest.param(asked(FORK, 2, latest=TWO), 409, "2\n", id="fork of one length"),
        pytest.param(asked(FOREIGN, 1, B), 422, "", id="rewritten prefix"),
        pytest.param(asked(ONE, 1, latest=TWO), 409, "2\n", id="rollback"),
        pytest.param(asked(ONE, 2, latest=TWO), 400, "", id="older than the sender's own idea"),
        pytest.param(asked(TWO, 0), 409, "1\n", id="sender does not know the size"),
        pytest.param(asked(TWO, 1), 422, "", id="no proof"),
        pytest.param(asked(TWO, 1, B, B), 422, "", id="too long a proof"),
        pytest.param(asked(TWO, 0, B, latest=None), 422, "", id="proof from nothing"),
        pytest.param(asked(TWO, 1, B, by=STRANGER), 403, "", id="signed by a stranger"),
    ],
)
def test_nothing_else_is_cosigned(reply: Reply, status: int, body: str) -> None:
    assert (reply.status, reply.body, reply.latest) == (status, body, None)
    assert (reply.content_type == SIZE_TYPE) == (status == 409)


def test_an_unknown_log_is_not_found() -> None:
    body = format_submission(Submission(0, (), sign(ONE, LOG)))
    assert judge(body, logs={}, latest={}, signer=WITNESS, time=1).status == 404


@pytest.mark.parametrize(
    "body",
    [
        "",
        "old 1",
        "old 01\n\nnote",
        "old -1\n\nnote",
        "new 1\n\nnote",
        "old 1\nnot base64\n\nnote",
        "old 1\nAAAA\n\nnote",
        "old 1\n" + "A" * 43 + "=\n" * 70 + "\n\nnote",
        "old " + "9" * 50 + "\n\nnote",
    ],
)
def test_a_malformed_request_is_refused(body: str) -> None:
    with pytest.raises(VerificationError):
        parse_submission(body)
    assert judge(body, logs={}, latest={}, signer=WITNESS, time=1).status == 400


def test_a_request_reads_back_as_it_was_written() -> None:
    submission = Submission(7, (A, B), sign(TWO, LOG))
    assert parse_submission(format_submission(submission)) == submission
