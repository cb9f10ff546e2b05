# SPDX-License-Identifier: Apache-2.0
"""A fingerprint names the content of a relation, equally on every engine and as Python works it out."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import pytest

from weir_server.engine.port import RowEngine
from weir_server.publish.fingerprint import fingerprint

KEY = bytes(range(32))
ROWS = [("a", 1), ("a", 1), ("原始 'data'", None), (None, -5), ("", 0), ("1:a|", 12)]
Row = tuple[str | None, int | None]


def expected(rows: Sequence[Row], context: str = "test") -> str:
    """As the module's text says, in plain Python."""
    sums = [0] * 8
    for row in rows:
        parts = ["-" if value is None else f"{len(str(value))}:{value}" for value in row]
        digest = hashlib.sha256("|".join(["row", KEY.hex(), *parts]).encode()).digest()
        sums = [total + int.from_bytes(digest[4 * i : 4 * i + 4], "big") for i, total in enumerate(sums)]
    named = hmac.new(KEY, digestmod=hashlib.sha256)
    for text in ("weir.fingerprint/2", context, "name", "n", str(len(rows)), *map(str, sums)):
        named.update(len(text.encode()).to_bytes(4, "big") + text.encode())
    return named.hexdigest()


def of(rows: RowEngine, content: Sequence[Row], context: str = "test") -> str:
    rows.load("named", {"name": "TEXT", "n": "BIGINT"}, content)
    found = fingerprint(rows, relation="named", columns=("name", "n"), salt=KEY, context=context)
    rows.drop("named")
    return found


def test_a_fingerprint_is_the_same_everywhere_and_in_any_order(rows: RowEngine) -> None:
    assert of(rows, ROWS) == expected(ROWS)
    assert of(rows, ROWS[::-1]) == expected(ROWS)
    assert of(rows, []) == expected([])


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(ROWS[1:], id="a doubled row once"),
        pytest.param([*ROWS, ROWS[0]], id="a doubled row thrice"),
        pytest.param([*ROWS[:3], ("", -5), *ROWS[4:]], id="empty instead of null"),
        pytest.param([*ROWS[:4], ("", None), ROWS[5]], id="null instead of zero"),
        pytest.param([*ROWS[:5], ("1:a|1", 2)], id="a character moved to the next column"),
    ],
)
def test_another_content_has_another_fingerprint(rows: RowEngine, other: Sequence[Row]) -> None:
    assert of(rows, other) != of(rows, ROWS)
    assert of(rows, ROWS, context="another thing") != of(rows, ROWS)
