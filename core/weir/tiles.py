# SPDX-License-Identifier: Apache-2.0
"""C2SP tlog-tiles as bytes: names of tiles, bundles of entries. Pure; who reads and writes files stands elsewhere.

Source: c2sp.org/tlog-tiles.
"""

from __future__ import annotations

from weir.errors import VerificationError

TILE_WIDTH = 256
"""Hashes or entries in a full tile."""
LARGEST_BUNDLE = TILE_WIDTH * (2 + 65_535)
"""Bytes of a bundle at most: each entry has its length in two bytes in front."""


def tile_name(index: int) -> str:
    """`x001/x234/067`: path of a tile within its level."""
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.append(f"x{index % 1000:03d}")
    return "/".join(reversed(groups))


def bundle(entries: list[bytes]) -> bytes:
    """An entry bundle; each entry at most 65,535 bytes."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def entries_of(content: bytes, *, first: int, width: int) -> list[bytes]:
    """The first `width` entries of a bundle whose first one has index `first`.

    Raises:
        VerificationError: it ends before; names the entry.
    """
    found, at = [], 0
    for offset in range(width):
        length = int.from_bytes(content[at : at + 2], "big")
        entry = content[at + 2 : at + 2 + length]
        if at + 2 > len(content) or len(entry) != length:
            raise VerificationError(f"entry {first + offset}: its bundle ends before it", rule="log.short")
        found.append(entry)
        at += 2 + length
    return found
