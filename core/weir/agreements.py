# SPDX-License-Identifier: Apache-2.0
"""Signatures on contracts: Ed25519 over `weir-contract-v1`, a zero byte, and the canonical form of the terms. Pure.

Both sides and every outsider share this module: the party that signs, the service that takes the signature, and whoever
checks it later from the log's leaf and the text of the terms alone.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from weir.canonical import digest
from weir.errors import InvalidKey, InvalidReceipt

SIGNED = "weir.contract.signed"
"""Type of the log entry of a signature."""
REQUESTER, PROVIDER = "requester", "provider"
ROLES = (PROVIDER, REQUESTER)
"""Who signs a contract."""
_PREFIX = b"weir-contract-v1\0"
"""A signature under it can be shown as nothing else that the key may sign."""
_ALGORITHM = "ed25519"
_KEY_BYTES, _SIGNATURE_BYTES = 32, 64
_P = 2**255 - 19
_ORDER_8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_SMALL_ORDER = frozenset({0, 1, _P - 1, _ORDER_8, _P - _ORDER_8})
"""The y coordinates of all points of order 1, 2, 4 and 8: under such a key one signature fits many texts."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SignedTerms:
    """A signature as its log entry states it, verified."""

    digest: str
    """Hex digest of the terms."""
    role: str
    """`requester` or `provider`."""
    party: str
    """Who signed."""
    public_key: bytes
    """Ed25519, 32 bytes."""
    signature: bytes
    """64 bytes."""


def sign_terms(canonical: bytes, *, seed: bytes) -> bytes:
    """Signature of the terms whose canonical form is `canonical`, 64 bytes. `seed`: the private key, 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(_PREFIX + canonical)


def public_key_of(seed: bytes) -> bytes:
    """The public key of a private one; both 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


@lru_cache(maxsize=4096)
def is_signed(canonical: bytes, *, public_key: bytes, signature: bytes) -> bool:
    """Whether the signature is that key's on these very terms. A malformed key or signature is none."""
    try:
        check_signing_key(public_key)
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, _PREFIX + canonical)
    except (InvalidKey, InvalidSignature):
        return False
    return True


def verify_signed_event(event: Mapping[str, Any], canonical: bytes) -> SignedTerms:
    """What the log entry of a signature proves about the terms `canonical`. Needs no service: the entry holds party,
    key and signature. Whose key it is, the party documents of the policy say.

    `event`: the entry, already proved to be in the log.

    Raises:
        InvalidReceipt: another kind of entry, other terms, or a signature that does not verify.
    """
    data = event.get("data")
    if event.get("type") != SIGNED or not isinstance(data, Mapping):
        raise InvalidReceipt("the entry is no signature of a contract", rule="contract.entry")
    signed = _signed_terms(data)
    if signed.digest != digest(canonical):
        raise InvalidReceipt("the entry is a signature of other terms", rule="contract.terms")
    if not is_signed(canonical, public_key=signed.public_key, signature=signed.signature):
        raise InvalidReceipt("the signature does not verify on these terms", rule="contract.signature")
    return signed


def signed_data(signed: SignedTerms) -> dict[str, object]:
    """What the log entry of a signature says: all that an outsider needs beside the terms."""
    return {
        "contract_digest": signed.digest,
        "party_role": signed.role,
        "party": signed.party,
        "public_key": format_signing_key(signed.public_key),
        "signature": b64encode(signed.signature).decode(),
    }


def _signed_terms(data: Mapping[str, Any]) -> SignedTerms:
    try:
        role, party, terms = data["party_role"], data["party"], data["contract_digest"]
        signature = b64decode(data["signature"], validate=True)
        key = parse_signing_key(data["public_key"])
    except (KeyError, TypeError, ValueError, AttributeError, InvalidKey) as error:
        raise InvalidReceipt("the entry lacks what a signature must say", rule="contract.entry") from error
    if role not in ROLES or not isinstance(party, str) or not isinstance(terms, str) or not _DIGEST.fullmatch(terms):
        raise InvalidReceipt("the entry lacks what a signature must say", rule="contract.entry")
    return SignedTerms(terms, role, party, key, signature)


def format_signing_key(public_key: bytes) -> str:
    """The key as party documents state it: `ed25519:` and base64."""
    return f"{_ALGORITHM}:{b64encode(public_key).decode()}"


def parse_signing_key(text: str) -> bytes:
    """The public key of a party document, 32 bytes.

    Raises:
        InvalidKey: malformed, or a key under which a signature proves nothing.
    """
    algorithm, _, encoded = text.partition(":")
    try:
        key = b64decode(encoded, validate=True)
    except (Error, ValueError):
        key = b""
    if algorithm != _ALGORITHM or len(key) != _KEY_BYTES:
        raise InvalidKey("must each be ed25519: and 32 bytes in base64", field="signing_keys", rule="key.form")
    check_signing_key(key)
    return key


def check_signing_key(key: bytes) -> None:
    """Refuse a public key that is malformed, written in two ways, or of small order: its owner could disown what it
    signed, since the same signature would fit other terms.

    Raises:
        InvalidKey: it is one.
    """
    y = int.from_bytes(key, "little") & ((1 << 255) - 1)
    if len(key) != _KEY_BYTES or y >= _P or y in _SMALL_ORDER:
        raise InvalidKey("must be Ed25519 keys that prove something", field="signing_keys", rule="key.order")
