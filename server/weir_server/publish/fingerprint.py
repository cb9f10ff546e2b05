# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""One number that names the content of a table: the same for the same rows in any order, another for any other.

Rows are hashed with the domain's secret salt. A plain hash of a source could be guessed by whoever knows all of it but
one row, and fingerprints travel: in reports, manifests and leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from weir_server.engine.duckdb import Engine
from weir_server.engine.relational import identifier

_FORMAT = "weir.fingerprint/1"


def row_hash(columns: Sequence[str]) -> str:
    """SQL: salted hash of a row; takes the salt's hex as $1. Lengths keep neighbouring values apart."""
    parts = [
        f"CASE WHEN {name} IS NULL THEN '-' ELSE concat(length(CAST({name} AS VARCHAR)), ':', {name}) END"
        for name in map(identifier, columns)
    ]
    return f"sha256(concat_ws('|', 'row', $1, {', '.join(parts)}))"


def fingerprint(engine: Engine, *, relation: str, columns: Sequence[str], salt: bytes, context: str) -> str:
    """SHA-256, hex, over the names of the columns and the sorted hashes of all rows, doubled ones included.

    `context`: what is named, so that a fingerprint of one thing is never one of another.
    """
    named = hashlib.sha256()
    for text in (_FORMAT, context, *columns):
        encoded = text.encode()
        named.update(len(encoded).to_bytes(4, "big") + encoded)
    statement = f"SELECT {row_hash(columns)} AS h FROM {relation} ORDER BY h"
    for batch in engine.batches(statement, [salt.hex()], rows=50_000):
        named.update("".join(row[0] for row in batch).encode())
    return named.hexdigest()
