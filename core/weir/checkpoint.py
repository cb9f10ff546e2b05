# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the log: C2SP tlog-checkpoint bodies in signed notes, by Ed25519 and ML-DSA-44, with cosignatures.

A note is text, an empty line, and signature lines `— name base64(key id ‖ signature)`. Unknown lines are tolerated, so
that witnesses can cosign and keys can be rotated; a line of a known key that does not verify fails the whole note.

Source: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-cosignature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from weir.errors import VerificationError

ED25519 = 0x01
"""Signature type: Ed25519 over the note's text."""
COSIGNATURE_ED25519 = 0x04
"""Signature type: timestamped Ed25519 cosignature of a witness."""
MLDSA44 = 0x06
"""Signature type: timestamped ML-DSA-44 signature of a log or witness over its head."""
_PUBLIC_BYTES = {ED25519: 32, COSIGNATURE_ED25519: 32, MLDSA44: 1312}
_SEED_BYTES = 32
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
"""Characters below U+0020 but the newline, which no note has."""
_DASH = "— "
MAX_NOTE_CHARACTERS = 256 * 1024
MAX_SIGNATURES = 64


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Head of a log."""

    origin: str
    """Unique name of the log."""
    size: int
    """Number of leaves."""
    root: bytes
    """RFC 6962 root over them; 32 bytes."""


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line."""

    name: str
    """Name of the key."""
    key_id: bytes
    """4 bytes; with the name it finds the key."""
    signature: bytes
    """What the key's algorithm made; for timestamped kinds 8 bytes of time come first."""


@dataclass(frozen=True, slots=True)
class Note:
    """A signed note, taken apart; nothing in it is trusted yet."""

    text: str
    """Signed text, with its final newline."""
    signatures: tuple[NoteSignature, ...]
    """In order of appearance."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key that may sign notes: what a vkey says."""

    name: str
    """Name of the key: the log's origin, or the witness's name."""
    kind: int
    """Signature type byte."""
    public: bytes
    """Raw public key."""

    @property
    def key_id(self) -> bytes:
        """First four bytes of SHA-256 over name, newline, type and public key."""
        return _key_id(self.name, self.kind, self.public)

    @property
    def vkey(self) -> str:
        """Text form: name, key id and key, joined by plus."""
        key = base64.b64encode(bytes((self.kind,)) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{key}"


@dataclass(frozen=True, slots=True, repr=False)
class Signer:
    """A private key that signs notes. It has no text form but `skey`, so that it cannot be logged by accident."""

    name: str
    """Name of the key."""
    kind: int
    """Signature type byte."""
    seed: bytes
    """32 secret bytes from which the key is made."""

    @property
    def verifier(self) -> Verifier:
        """Its public side."""
        return _verifier(self)

    @property
    def skey(self) -> str:
        """Secret text form, as `golang.org/x/mod/sumdb/note` writes it."""
        key = base64.b64encode(bytes((self.kind,)) + self.seed).decode()
        return f"PRIVATE+KEY+{self.name}+{self.verifier.key_id.hex()}+{key}"


def new_signer(name: str, *, seed: bytes, kind: int = ED25519) -> Signer:
    """A signer from 32 random bytes. `name`: non-empty, without spaces and plus; for a log its origin."""
    if kind not in _PUBLIC_BYTES or len(seed) != _SEED_BYTES or not _valid_name(name):
        raise ValueError("a signer needs a known kind, a 32-byte seed and a name without spaces or plus")
    return Signer(name, kind, seed)


def parse_skey(text: str) -> Signer:
    """The signer a secret key text names.

    Raises:
        ValueError: malformed, of an unknown kind, or its key id does not fit its key.
    """
    parts = text.strip().split("+", 4)
    if len(parts) != 5 or parts[:2] != ["PRIVATE", "KEY"]:
        raise ValueError("not a signing key")
    key = _decode(parts[4])
    if key is None or len(key) != 1 + _SEED_BYTES:
        raise ValueError("not a signing key")
    signer = new_signer(parts[2], seed=key[1:], kind=key[0])
    if signer.verifier.key_id.hex() != parts[3]:
        raise ValueError("the signing key's id does not fit its key")
    return signer


def parse_vkey(text: str) -> Verifier:
    """The public key a vkey names.

    Raises:
        VerificationError: malformed, of an unknown kind, or its key id does not fit its key.
    """
    parts = text.strip().split("+", 2)
    key = _decode(parts[2]) if len(parts) == 3 else None
    if key is None or not key or len(key) - 1 != _PUBLIC_BYTES.get(key[0]) or not _valid_name(parts[0]):
        raise VerificationError("not a verifier key", rule="note.vkey")
    verifier = Verifier(parts[0], key[0], key[1:])
    if verifier.key_id.hex() != parts[1]:
        raise VerificationError("the verifier key's id does not fit its key", rule="note.vkey")
    return verifier


def body(checkpoint: Checkpoint) -> str:
    """The three lines of a checkpoint: origin, size, root in base64."""
    root = base64.b64encode(checkpoint.root).decode()
    return f"{checkpoint.origin}\n{checkpoint.size}\n{root}\n"


def sign(checkpoint: Checkpoint, signers: Signer | Sequence[Signer], *, time: int = 0) -> str:
    """The signed note of a checkpoint, one line per signer.

    `time`: seconds since 1970 for the timestamped kinds; 0 claims no time.
    """
    text = body(checkpoint)
    keys = (signers,) if isinstance(signers, Signer) else signers
    return text + "\n" + "".join(signature_line(text, signer, time=time) for signer in keys)


def signature_line(text: str, signer: Signer, *, time: int = 0) -> str:
    """One line that signs or cosigns the checkpoint body `text`; append it to a note to cosign that."""
    message = _message(text, signer.name, signer.kind, time)
    signature = private_key(signer).sign(message)
    stamp = b"" if signer.kind == ED25519 else time.to_bytes(8, "big")
    line = base64.b64encode(signer.verifier.key_id + stamp + signature).decode()
    return f"{_DASH}{signer.name} {line}\n"


def parse(note: str) -> tuple[Checkpoint, Note]:
    """The checkpoint a note claims and its signatures, none of them checked.

    Raises:
        VerificationError: it is not a signed note, or its text is not a checkpoint.
    """
    parsed = parse_note(note)
    return parse_body(parsed.text), parsed


def verify(note: str, vkey: str) -> Checkpoint:
    """The checkpoint of a note that the log signed.

    `vkey`: one or more verifier keys of the log, separated by white space; every one of them must have signed, and
    must be named as the checkpoint's origin.

    Raises:
        VerificationError: a signature is missing or wrong, or the note is not a checkpoint of this log.
    """
    checkpoint, parsed = parse(note)
    verifiers = [parse_vkey(text) for text in vkey.split()]
    if not verifiers:
        raise VerificationError("no verifier key was given", rule="note.vkey")
    for verifier in verifiers:
        if verifier.name != checkpoint.origin:
            raise VerificationError("the checkpoint is of another log", rule="checkpoint.origin")
        verify_signature(parsed, verifier)
    return checkpoint


def verify_signature(note: Note, verifier: Verifier) -> int:
    """Checks that `verifier` signed the note; gives the time it claims (0 for kinds without one).

    Raises:
        VerificationError: its line is missing, or does not verify.
    """
    lines = [s for s in note.signatures if s.name == verifier.name and s.key_id == verifier.key_id]
    if not lines:
        raise VerificationError("the key did not sign this checkpoint", rule="note.unsigned")
    return max(_verify_line(note.text, line, verifier) for line in lines)


def parse_note(note: str) -> Note:
    """Text and signature lines of a signed note.

    Raises:
        VerificationError: malformed or larger than any honest note.
    """
    if len(note) > MAX_NOTE_CHARACTERS or _CONTROL.search(note):
        raise VerificationError("not a signed note", rule="note.form")
    text, separator, tail = note.rpartition("\n\n")
    lines = tail.split("\n")
    if not separator or len(lines) < 2 or lines[-1] or len(lines) > MAX_SIGNATURES + 1:
        raise VerificationError("not a signed note", rule="note.form")
    return Note(text + "\n", tuple(_parse_line(line) for line in lines[:-1]))


def parse_body(text: str) -> Checkpoint:
    """The checkpoint that a note's text states. Extension lines are refused: Weir writes none, and none is auditable.

    Raises:
        VerificationError: not the three lines of a checkpoint.
    """
    lines = text.split("\n")
    root = _decode(lines[2]) if len(lines) == 4 and not lines[3] else None
    if root is None or len(root) != hashlib.sha256().digest_size or not lines[0]:
        raise VerificationError("not a checkpoint", rule="checkpoint.form")
    size = lines[1]
    if not (size.isascii() and size.isdigit()) or len(size) > 19 or str(int(size)) != size:
        raise VerificationError("not a checkpoint", rule="checkpoint.form")
    return Checkpoint(lines[0], int(size), root)


@lru_cache(maxsize=16)
def private_key(signer: Signer) -> Ed25519PrivateKey | MLDSA44PrivateKey:
    """The expanded key. Kept, since expanding ML-DSA costs as much as signing."""
    if signer.kind == MLDSA44:
        return MLDSA44PrivateKey.from_seed_bytes(signer.seed)
    return Ed25519PrivateKey.from_private_bytes(signer.seed)


@lru_cache(maxsize=16)
def _verifier(signer: Signer) -> Verifier:
    return Verifier(signer.name, signer.kind, private_key(signer).public_key().public_bytes_raw())


@lru_cache(maxsize=64)
def _public_key(verifier: Verifier) -> Ed25519PublicKey | MLDSA44PublicKey:
    """The expanded key. Whoever checks one receipt after the other has the same few.

    Raises:
        ValueError: no such key.
    """
    if verifier.kind == MLDSA44:
        return MLDSA44PublicKey.from_public_bytes(verifier.public)
    return Ed25519PublicKey.from_public_bytes(verifier.public)


def _verify_line(text: str, line: NoteSignature, verifier: Verifier) -> int:
    stamped = verifier.kind != ED25519
    time = int.from_bytes(line.signature[:8], "big") if stamped else 0
    signature = line.signature[8:] if stamped else line.signature
    if time >= 2**63:
        raise VerificationError("a cosignature's time is out of range", rule="note.time")
    message = _message(text, verifier.name, verifier.kind, time)
    try:
        _public_key(verifier).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise VerificationError("a signature does not verify", rule="note.signature") from error
    return time


def _message(text: str, name: str, kind: int, time: int) -> bytes:
    """What a key of this kind signs: the text, the stamped text, or the head in the binary form of ML-DSA-44."""
    if kind == ED25519:
        return text.encode()
    if kind == COSIGNATURE_ED25519:
        return f"cosignature/v1\ntime {time}\n{text}".encode()
    head = parse_body(text)
    cosigner, origin = name.encode(), head.origin.encode()
    return b"".join((
        b"subtree/v1\n\x00",
        len(cosigner).to_bytes(1, "big"), cosigner,
        time.to_bytes(8, "big"),
        len(origin).to_bytes(1, "big"), origin,
        (0).to_bytes(8, "big"),
        head.size.to_bytes(8, "big"),
        head.root,
    ))  # fmt: skip


def _parse_line(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    raw = _decode(encoded)
    if not line.startswith(_DASH) or not _valid_name(name) or raw is None or len(raw) < 5:
        raise VerificationError("not a signature line", rule="note.form")
    return NoteSignature(name, raw[:4], raw[4:])


def _key_id(name: str, kind: int, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes((kind,)) + public).digest()[:4]


def _valid_name(name: str) -> bool:
    return 0 < len(name.encode()) < 256 and "+" not in name and not any(c.isspace() for c in name)


def _decode(text: str) -> bytes | None:
    """Bytes of strict base64, or None; two texts never stand for the same bytes."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == text else None
