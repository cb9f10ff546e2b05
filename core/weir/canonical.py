# SPDX-License-Identifier: Apache-2.0
"""One byte form for every value that is hashed, signed or compared: RFC 8785 JSON, SHA-256, salted commitments.

Amounts of 64 bits are written as decimal text (as in proto3 JSON), so that every reader keeps them exactly; floats are
refused, since no amount is one.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring

import msgspec
import rfc8785

SALT_BYTES = 32
"""Length of the salt beside each commitment: guessing the committed value means guessing the salt."""
MAX_SAFE_INTEGER = 2**53 - 1
"""Largest integer that every JSON reader keeps exactly (RFC 8785, section 3.2.2.3)."""

_ENCODER = msgspec.json.Encoder(order="sorted")
_PLAIN: frozenset[type] = frozenset({str, bool, type(None), msgspec.Raw})
"""Types of which every value has a canonical form, lone surrogates aside, which the encoder refuses."""
_BEYOND_BMP = 0xF0
"""First byte in UTF-8 of the least character beyond U+FFFF; no byte of another character is as great."""


class NotCanonical(ValueError):
    """A value that has no canonical form, or bytes that are not one."""


Encoded = msgspec.Raw
"""A value in its canonical form already, as `canonical_json` gave it: for what many leaves share."""


def canonical_json(value: object) -> bytes:
    """RFC 8785 bytes of null, booleans, integers in ±(2**53 - 1), text, lists, text-keyed mappings, and `Encoded`.

    Raises:
        NotCanonical: a float, a larger integer, text that is not Unicode, or any other type.
    """
    try:
        if type(value) is str:
            return encode_basestring(value).encode()
        _check((value,))
        data = _ENCODER.encode(value)
        # It writes exactly the bytes of RFC 8785, dozens of times faster, but for the order of keys: beyond U+FFFF it
        # goes by code point and RFC 8785 by UTF-16, where such characters sort before U+E000.
        if data.isascii() or max(data) < _BEYOND_BMP:
            return data
        return rfc8785.dumps(msgspec.json.decode(data))
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        raise NotCanonical("value has no canonical form") from error


def parse_canonical(data: bytes) -> object:
    """The value whose canonical form is exactly `data`.

    Raises:
        NotCanonical: not JSON, or JSON written in another way (spaces, order, doubled keys).
    """
    try:
        value: object = msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:
        raise NotCanonical("not JSON") from error
    if canonical_json(value) != data:
        raise NotCanonical("JSON in another than its canonical form")
    return value


def digest(data: bytes) -> str:
    """SHA-256 of `data` in 64 hexadecimal digits."""
    return sha256(data).hexdigest()


def commit(salt: bytes, label: str, data: bytes) -> str:
    """Salted commitment to `data`: SHA-256 over salt ‖ label ‖ 0x00 ‖ data, in hexadecimal.

    `salt` is 32 secret random bytes; `label` is printable ASCII that says what is committed to, so that a commitment
    to a query can never be shown as one to an answer. Erasing the salt and the data erases what can be learnt.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError("a salt has 32 bytes")
    return sha256(b"%s%s%s" % (salt, _label(label)[0], data)).hexdigest()


def commit_all(salt: bytes, values: Mapping[str, bytes]) -> Encoded:
    """The object of the commitments to `values` under one salt, each by its label."""
    if len(salt) != SALT_BYTES:
        raise ValueError("a salt has 32 bytes")
    made = []
    for label in sorted(values):
        bound, name = _label(label)
        made.append(f'{name}:"{sha256(salt + bound + values[label]).hexdigest()}"')
    return Encoded(f"{{{','.join(made)}}}".encode())


@lru_cache(maxsize=256)
def _label(label: str) -> tuple[bytes, str]:
    """A label as it is committed to, and as a member's name."""
    if not (label.isascii() and label.isprintable()):
        raise ValueError("a label is printable ASCII")
    return label.encode("ascii") + b"\x00", encode_basestring(label)


def opens(commitment: str, *, salt: bytes, label: str, data: bytes) -> bool:
    """Whether `commitment` is the one of `label` and `data` under `salt`; compared in constant time."""
    return hmac.compare_digest(commitment.encode(), commit(salt, label, data).encode())


def _check(values: Iterable[object]) -> None:
    """Looks at every value inside. Written for speed: it runs over all that is logged.

    Raises:
        NotCanonical: one that has no canonical form.
    """
    for value in values:
        kind = type(value)
        if kind in _PLAIN:
            continue
        if kind is int:
            if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:  # type: ignore[operator]
                raise NotCanonical("an integer beyond 2**53 is written as text")
        elif kind is dict:
            for key in value:  # type: ignore[attr-defined]
                if type(key) is not str:
                    raise NotCanonical("a key is text")
            _check(value.values())  # type: ignore[attr-defined]
        elif kind is list or kind is tuple:
            _check(value)  # type: ignore[arg-type]
        else:
            raise NotCanonical("only null, booleans, integers, text, lists and mappings have a canonical form")
