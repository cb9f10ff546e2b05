# SPDX-License-Identifier: Apache-2.0
"""One byte form for every value that is hashed, signed or compared: RFC 8785 JSON, SHA-256, salted commitments.

Amounts of 64 bits are written as decimal text (as in proto3 JSON), so that every reader keeps them exactly; floats are
refused, since no amount is one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence

import rfc8785

SALT_BYTES = 32
"""Length of the salt beside each commitment: guessing the committed value means guessing the salt."""
MAX_SAFE_INTEGER = 2**53 - 1
"""Largest integer that every JSON reader keeps exactly (RFC 8785, section 3.2.2.3)."""


class NotCanonical(ValueError):
    """A value that has no canonical form, or bytes that are not one."""


def canonical_json(value: object) -> bytes:
    """RFC 8785 bytes of null, booleans, integers in ±(2**53 - 1), text, lists and text-keyed mappings.

    Raises:
        NotCanonical: a float, a larger integer, text that is not Unicode, or any other type.
    """
    _refuse_floats(value)
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]
    except (rfc8785.CanonicalizationError, UnicodeError) as error:
        raise NotCanonical("value has no canonical form") from error


def parse_canonical(data: bytes) -> object:
    """The value whose canonical form is exactly `data`.

    Raises:
        NotCanonical: not JSON, or JSON written in another way (spaces, order, doubled keys).
    """
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NotCanonical("not JSON") from error
    if canonical_json(value) != data:
        raise NotCanonical("JSON in another than its canonical form")
    return value


def digest(data: bytes) -> str:
    """SHA-256 of `data` in 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def commit(salt: bytes, label: str, data: bytes) -> str:
    """Salted commitment to `data`: SHA-256 over salt ‖ label ‖ 0x00 ‖ data, in hexadecimal.

    `salt` is 32 secret random bytes; `label` is printable ASCII that says what is committed to, so that a commitment
    to a query can never be shown as one to an answer. Erasing the salt and the data erases what can be learnt.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError("a salt has 32 bytes")
    if not (label.isascii() and label.isprintable()):
        raise ValueError("a label is printable ASCII")
    return digest(b"".join((salt, label.encode("ascii"), b"\x00", data)))


def opens(commitment: str, *, salt: bytes, label: str, data: bytes) -> bool:
    """Whether `commitment` is the one of `label` and `data` under `salt`; compared in constant time."""
    return hmac.compare_digest(commitment.encode(), commit(salt, label, data).encode())


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise NotCanonical("floats have no place in what is signed")
    if isinstance(value, Mapping):
        for member in value.values():
            _refuse_floats(member)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        for member in value:
            _refuse_floats(member)
