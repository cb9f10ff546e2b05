# SPDX-License-Identifier: Apache-2.0
"""COSE Receipts of inclusion: the same proof as `weir.v1.Receipt`, in the form that COSE and SCITT tools read. Pure.

A receipt is a COSE_Sign1 whose detached payload is the Merkle root: whoever verifies works the root out from leaf and
path, and checks the log's Ed25519 signature over it. The key is the log's own. Its two uses cannot be confused: what
COSE signs begins with byte 0x84, which no text does.

Source: RFC 9942 (labels 395 vds, 396 vdp; RFC9162_SHA256 = 1; inclusion = -1), RFC 9052 section 4.4, RFC 8949.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from weir.checkpoint import ED25519, Signer, parse_vkey, private_key
from weir.errors import InvalidReceipt, VerificationError
from weir.merkle import HASH_BYTES, fold_inclusion, leaf_hash

_ALGORITHM, _KEY_ID, _VDS, _VDP = 1, 4, 395, 396
_EDDSA, _RFC9162_SHA256, _INCLUSION = -8, 1, -1
_SIGN1_TAG = 18
MAX_RECEIPT_BYTES = 8192
_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class CoseInclusion:
    """What a COSE Receipt proves once it has been checked."""

    index: int
    """Index of the leaf."""
    size: int
    """Leaves of the tree."""
    root: bytes
    """Root that the log signed."""


def cose_receipt(*, index: int, size: int, path: Sequence[bytes], root: bytes, signer: Signer) -> bytes:
    """The COSE Receipt of a leaf. Ed25519 is deterministic, so the same proof always gives the same bytes.

    `signer`: the log's Ed25519 key. `path` leads from leaf `index` to `root` in the tree of `size` leaves.
    """
    if signer.kind != ED25519:
        raise ValueError("COSE Receipts are signed with the log's Ed25519 key")
    before, after = _around_proof(signer, root)
    proof = b"".join([_head(4, 3), _head(0, size), _head(0, index), _head(4, len(path)), *map(_bytes, path)])
    return before + _bytes(proof) + after


def verify_cose_receipt(receipt: bytes, *, leaf: bytes, vkey: str) -> CoseInclusion:
    """Checks that the log of `vkey` (one Ed25519 verifier key) holds `leaf`, and says where.

    Raises:
        InvalidReceipt: `rule` says which check failed.
    """
    try:
        verifier = parse_vkey(vkey)
        protected, proof, signature = _take_apart(receipt)
        size, index, path = proof
        root = fold_inclusion(index=index, size=size, leaf=leaf_hash(leaf), path=path)
        if verifier.kind != ED25519 or protected.get(_KEY_ID) not in (None, verifier.key_id):
            raise InvalidReceipt("the receipt is signed by another key", rule="cose.key")
        key = Ed25519PublicKey.from_public_bytes(verifier.public)
        key.verify(signature, _to_be_signed(encode(protected), root))
    except InvalidReceipt:
        raise
    except VerificationError as error:
        raise InvalidReceipt(error.message, rule=error.rule) from error
    except InvalidSignature as error:
        raise InvalidReceipt("the log's signature does not fit leaf and path", rule="cose.signature") from error
    return CoseInclusion(index, size, root)


@lru_cache(maxsize=64)
def _around_proof(signer: Signer, root: bytes) -> tuple[bytes, bytes]:
    """What stands before and behind the proof, signature and all: one for all leaves of a tree, and so for all answers
    of a group."""
    protected = encode({_ALGORITHM: _EDDSA, _KEY_ID: signer.verifier.key_id, _VDS: _RFC9162_SHA256})
    signature = private_key(signer).sign(_to_be_signed(protected, root))
    after = encode(None) + encode(signature)
    whole = encode(Tag(_SIGN1_TAG, [protected, {_VDP: {_INCLUSION: [b""]}}, None, signature]))
    return whole.removesuffix(encode(b"") + after), after


def _to_be_signed(protected: bytes, root: bytes) -> bytes:
    return encode(["Signature1", protected, b"", root])


def _take_apart(receipt: bytes) -> tuple[dict[int, Any], tuple[int, int, list[bytes]], bytes]:
    """Protected header, proof and signature. Only the one form that Weir writes is accepted."""
    if len(receipt) > MAX_RECEIPT_BYTES:
        raise _malformed()
    try:
        match decode(receipt):
            case Tag(18, [bytes(header), {396: {-1: [bytes(proof)]}}, None, bytes(signature)]):
                protected, inclusion = decode(header), decode(proof)
            case _:
                raise _malformed()
    except ValueError as error:
        raise _malformed() from error
    if not isinstance(protected, dict) or protected.get(_ALGORITHM) != _EDDSA or protected.get(_VDS) != 1:
        raise InvalidReceipt("the receipt is of another algorithm", rule="cose.algorithm")
    match inclusion:
        case [int(size), int(index), list(path)] if all(
            isinstance(item, bytes) and len(item) == HASH_BYTES for item in path
        ):
            return protected, (size, index, path), signature
    raise _malformed()


def _malformed() -> InvalidReceipt:
    return InvalidReceipt("not a COSE Receipt of inclusion", rule="cose.form")


@dataclass(frozen=True, slots=True)
class Tag:
    """A tagged CBOR item."""

    number: int
    item: Any


def encode(value: Any) -> bytes:
    """Deterministic CBOR (RFC 8949, 4.2.1) of null, integers, bytes, text, lists, integer-keyed maps and tags."""
    kind = type(value)
    if kind is bytes:
        return _bytes(value)
    if kind is int:
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if kind is list:
        return _head(4, len(value)) + b"".join([encode(item) for item in value])
    if kind is dict:
        pairs = sorted((encode(key), encode(item)) for key, item in value.items())
        return _head(5, len(pairs)) + b"".join([key + item for key, item in pairs])
    if kind is str:
        raw: bytes = value.encode()
        return _head(3, len(raw)) + raw
    if kind is Tag:
        return _head(6, value.number) + encode(value.item)
    if value is None:
        return b"\xf6"
    raise TypeError("no CBOR form")


def _bytes(value: bytes) -> bytes:
    return b"%s%s" % (_head(2, len(value)), value)


def decode(data: bytes) -> Any:
    """The value whose deterministic CBOR is exactly `data`.

    Raises:
        ValueError: anything else, so that two byte strings never mean the same receipt.
    """
    value, end = _decode(data, 0, 0)
    if end != len(data) or encode(value) != data:
        raise ValueError("not deterministic CBOR")
    return value


def _decode(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth > _MAX_DEPTH or at >= len(data):
        raise ValueError("not CBOR")
    if data[at] == 0xF6:
        return None, at + 1
    major, number, at = _read_head(data, at)
    if major in (0, 1):
        return (number if major == 0 else -1 - number), at
    if major in (2, 3):
        raw = data[at : at + number]
        if len(raw) != number:
            raise ValueError("not CBOR")
        return (raw if major == 2 else raw.decode()), at + number
    if major == 6:
        item, at = _decode(data, at, depth + 1)
        return Tag(number, item), at
    if major not in (4, 5) or number > len(data):
        raise ValueError("not CBOR")
    items = []
    for _ in range(number * (major - 3)):
        item, at = _decode(data, at, depth + 1)
        items.append(item)
    if major == 4:
        return items, at
    keys = items[::2]
    if not all(type(key) is int for key in keys):
        raise ValueError("not CBOR of a receipt")
    return dict(zip(keys, items[1::2], strict=True)), at


@lru_cache(maxsize=1024)
def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes((major << 5 | number,))
    for code, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << (8 * width):
            return bytes((major << 5 | code,)) + number.to_bytes(width, "big")
    raise TypeError("no CBOR form")


def _read_head(data: bytes, at: int) -> tuple[int, int, int]:
    major, low = data[at] >> 5, data[at] & 31
    at += 1
    if low < 24:
        return major, low, at
    width = {24: 1, 25: 2, 26: 4, 27: 8}.get(low)
    if width is None or at + width > len(data):
        raise ValueError("not CBOR")
    return major, int.from_bytes(data[at : at + width], "big"), at + width
