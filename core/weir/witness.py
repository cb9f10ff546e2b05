# SPDX-License-Identifier: Apache-2.0
"""A witness's judgement, without its socket and file: cosign a checkpoint that extends the last one it cosigned.

A witness protects against a log that shows different histories to different parties: it cosigns one history only. The
caller keeps `latest` per origin, and MUST make deciding and storing one atomic, durable step before it replies;
otherwise two requests at once could make the witness sign a rollback.

Source: c2sp.org/tlog-witness.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from weir.checkpoint import Checkpoint, Signer, parse, parse_vkey, signature_line, verify_signature
from weir.errors import VerificationError
from weir.merkle import EMPTY_ROOT, HASH_BYTES, verify_consistency

MAX_PROOF_LINES = 63
SIZE_TYPE = "text/x.tlog.size"
"""Content type of the reply that tells the size the witness knows."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A parsed add-checkpoint request."""

    old_size: int
    """Size the sender thinks the witness knows."""
    proof: tuple[bytes, ...]
    """Consistency path from that size."""
    note: str
    """The signed checkpoint."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the witness answers over HTTP."""

    status: int
    """200, or 400, 403, 404, 409, 422 as the protocol says."""
    body: str = ""
    """Cosignature lines, or the size the witness knows."""
    content_type: str = "text/plain; charset=utf-8"
    latest: Checkpoint | None = None
    """To be stored before a 200 is sent; None where nothing changes."""


def format_submission(submission: Submission) -> str:
    """The body of an add-checkpoint request."""
    lines = [f"old {submission.old_size}", *(base64.b64encode(item).decode() for item in submission.proof)]
    return "\n".join(lines) + "\n\n" + submission.note


def parse_submission(body: str) -> Submission:
    """The request that a body states.

    Raises:
        VerificationError: malformed.
    """
    head, separator, note = body.partition("\n\n")
    first, *hashes = head.split("\n")
    word, _, number = first.partition(" ")
    digits = number.isascii() and number.isdigit() and str(int(number[:20])) == number
    if not separator or word != "old" or not digits or len(hashes) > MAX_PROOF_LINES:
        raise VerificationError("not an add-checkpoint request", rule="witness.form")
    return Submission(int(number), tuple(_hash(line) for line in hashes), note)


def judge(
    body: str, *, logs: Mapping[str, Sequence[str]], latest: Mapping[str, Checkpoint], signer: Signer, time: int
) -> Reply:
    """What to answer to an add-checkpoint request.

    `logs`: verifier keys per origin that the witness watches; one of them must have signed. `latest`: the last
    checkpoint cosigned per origin. `signer`: the witness's cosignature key. `time`: seconds since 1970.
    """
    # 1. Form, then whether the log is known and signed this.
    try:
        submission = parse_submission(body)
        checkpoint, note = parse(submission.note)
    except VerificationError:
        return Reply(400)
    if checkpoint.origin not in logs:
        return Reply(404)
    if not any(_signed(submission.note, vkey) for vkey in logs[checkpoint.origin]):
        return Reply(403)
    # 2. The sender's idea of what the witness knows.
    if submission.old_size > checkpoint.size:
        return Reply(400)
    known = latest.get(checkpoint.origin, Checkpoint(checkpoint.origin, 0, EMPTY_ROOT))
    if submission.old_size != known.size:
        return Reply(409, f"{known.size}\n", SIZE_TYPE)
    if checkpoint.size == known.size and checkpoint.root != known.root:
        return Reply(409, f"{known.size}\n", SIZE_TYPE)
    # 3. One history only.
    try:
        verify_consistency(
            old_size=known.size,
            new_size=checkpoint.size,
            old_root=known.root,
            new_root=checkpoint.root,
            path=submission.proof,
        )
    except VerificationError:
        return Reply(422)
    return Reply(200, signature_line(note.text, signer, time=time), latest=checkpoint)


def _signed(note: str, vkey: str) -> bool:
    try:
        verify_signature(parse(note)[1], parse_vkey(vkey))
    except VerificationError:
        return False
    return True


def _hash(line: str) -> bytes:
    try:
        raw = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError) as error:
        raise VerificationError("a proof line is not base64", rule="witness.form") from error
    if len(raw) != HASH_BYTES:
        raise VerificationError("a proof line is not a hash", rule="witness.form")
    return raw
