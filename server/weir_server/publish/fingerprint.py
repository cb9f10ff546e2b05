# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""One number that names the content of a table: the same for the same rows in any order, another for any other.

Rows are hashed with a secret key. A plain hash of a source could be guessed by whoever knows all of it but one row, and
fingerprints travel: in reports, manifests and leaves.

The engine gives an aggregate: the number of rows, and the sums of the eight 32-bit words of each row's keyed SHA-256,
eight integers that never wrap. Where two tables differ, some row occurs d times more in one of them, and for their sums
to be equal its hash times d must be one certain vector: without the key, a chance of at most 2^-256 for any two tables.
This process hashes the sums under the key once more, so that fingerprints cannot be subtracted. With the key, sums that
collide are found by generalised birthdays (Wagner 2002): a fingerprint does not bind whoever knows the key, which is
the domain that it is made for, and for a key of one dataset the cluster that holds its rows.

Source: Clarke et al., Incremental Multiset Hash Functions, ASIACRYPT 2003 (MSet-Add-Hash).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from weir_server.engine.port import RowEngine
from weir_server.engine.relational import identifier, quote, statement

_FORMAT = "weir.fingerprint/2"
_WORDS = 8
_DIGITS = 8
"""Hex digits of a word."""


def row_hash(columns: Sequence[str], *, key: bytes) -> str:
    """Expression: keyed hash of a row, in hex. Lengths keep neighbouring values apart."""
    texts = [f"CAST({identifier(column)} AS TEXT)" for column in columns]
    parts = [f"CASE WHEN {t} IS NULL THEN '-' ELSE CAST(LENGTH({t}) AS TEXT) || ':' || {t} END" for t in texts]
    return f"SHA256_HEX(TEXT_JOIN('|', 'row', {quote(key.hex())}, {', '.join(parts)}))"


def fingerprint(rows: RowEngine, *, relation: str, columns: Sequence[str], salt: bytes, context: str) -> str:
    """Keyed hash, hex, of the names of the columns and of all rows, doubled ones included.

    `context`: what is named, so that a fingerprint of one thing is never one of another. `salt`: the key.
    """
    words = ", ".join(
        f"EXACT_SUM(HEX_INT(SUBSTRING(weir_hash, {start}, {_DIGITS})))" for start in range(1, _WORDS * _DIGITS, _DIGITS)
    )
    hashed = f"SELECT {row_hash(columns, key=salt)} AS weir_hash FROM {relation}"
    count, *sums = rows.select(statement(f"SELECT COUNT(*), {words} FROM ({hashed}) AS hashed"))[0]
    named = hmac.new(salt, digestmod=hashlib.sha256)
    for text in (_FORMAT, context, *columns, str(int(count)), *(str(int(word or 0)) for word in sums)):
        encoded = text.encode()
        named.update(len(encoded).to_bytes(4, "big") + encoded)
    return named.hexdigest()
