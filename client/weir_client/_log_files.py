# SPDX-License-Identifier: Apache-2.0
"""A log in files (C2SP tlog-tiles), verified without any service: signature, every leaf, every tile, and the books.

The files may come from the operator's data directory, a mirror or a disk: nothing in them is trusted but what hashes
to a checkpoint signed by a key that came another way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from weir.checkpoint import Checkpoint, verify
from weir.errors import InvalidReceipt, LogInconsistent, VerificationError
from weir.merkle import leaf_hash, root_of
from weir.receipts import VerifiedReceipt
from weir.replay import Books, follow_all
from weir.tiles import LARGEST_BUNDLE, TILE_WIDTH, entries_of, tile_name
from weir_client._receipts import Receipt


@dataclass(frozen=True, slots=True)
class VerifiedLog:
    """A log that was read whole and verified."""

    note: str
    """The signed checkpoint."""
    head: Checkpoint
    """What it says."""
    leaves: tuple[bytes, ...]
    """Every entry, in order."""
    books: Books
    """What follows from the entries: totals, limits, holds."""


def read_log(directory: Path, *, log_key: str) -> VerifiedLog:
    """The log in a directory.

    `log_key`: the log's verifier keys, not taken from the directory.

    Raises:
        VerificationError: the text names the first entry or file that is wrong.
    """
    note = _read(directory, "checkpoint").decode("utf-8", errors="replace")
    head = verify(note, log_key)
    leaves = tuple(_entries(directory, head.size))
    books = check_leaves(head, leaves)
    _check_tiles(directory, [leaf_hash(leaf) for leaf in leaves])
    return VerifiedLog(note, head, leaves, books)


def check_leaves(head: Checkpoint, leaves: Sequence[bytes]) -> Books:
    """Checks that entries follow from each other and hash to a verified head; gives the books they make.

    Raises:
        VerificationError: the first entry that does not follow, or that the whole is another log.
    """
    books = follow_all(enumerate(leaves))
    if len(leaves) != head.size or root_of(map(leaf_hash, leaves)) != head.root:
        raise VerificationError("the entries do not hash to the signed checkpoint", rule="log.root")
    if leaves and books.origin != head.origin:
        raise VerificationError("the entries are of another log", rule="log.origin")
    return books


def check_receipt(log: VerifiedLog, receipt: Receipt, *, log_key: str) -> VerifiedReceipt:
    """Checks a receipt by itself, then that this log holds its entry and extends its checkpoint.

    Raises:
        InvalidReceipt: it does not verify, or these files end before its checkpoint.
        LogInconsistent: it is signed, and this log is another: a fork, with both signed checkpoints as evidence.
    """
    verified = receipt.check(log_key)
    if verified.checkpoint.size > log.head.size:
        raise InvalidReceipt("the files end before the receipt's checkpoint", rule="receipt.size")
    prefix = log.leaves[: verified.checkpoint.size]
    if root_of(map(leaf_hash, prefix)) != verified.checkpoint.root:
        raise LogInconsistent("the log in files is not the receipt's", older=receipt.checkpoint, newer=log.note)
    return verified


def _entries(directory: Path, size: int) -> Iterator[bytes]:
    for start in range(0, size, TILE_WIDTH):
        width = min(TILE_WIDTH, size - start)
        content = _tile(directory, f"tile/entries/{tile_name(start // TILE_WIDTH)}", width)
        yield from entries_of(content, first=start, width=width)


def _check_tiles(directory: Path, hashes: Sequence[bytes]) -> None:
    """The tree's tiles hold no more than the entries say; they are checked, since others rely on them."""
    level, nodes = 0, list(hashes)
    while nodes:
        for start in range(0, len(nodes), TILE_WIDTH):
            chunk, path = nodes[start : start + TILE_WIDTH], f"tile/{level}/{tile_name(start // TILE_WIDTH)}"
            if _tile(directory, path, len(chunk))[: 32 * len(chunk)] != b"".join(chunk):
                first = start * TILE_WIDTH**level
                raise VerificationError(f"entry {first}: {path} differs from the entries", rule="log.tile")
        full = len(nodes) // TILE_WIDTH
        level, nodes = level + 1, [root_of(nodes[i * TILE_WIDTH : (i + 1) * TILE_WIDTH]) for i in range(full)]


def _tile(directory: Path, path: str, width: int) -> bytes:
    """A tile: the partial one of this width, or the full one that replaced it."""
    if width < TILE_WIDTH and (directory / f"{path}.p" / str(width)).is_file():
        return _read(directory, f"{path}.p/{width}")
    return _read(directory, path)


def _read(directory: Path, path: str) -> bytes:
    try:
        with (directory / path).open("rb") as file:
            return file.read(LARGEST_BUNDLE + 1)
    except OSError:
        raise VerificationError(f"the log's file {path} is missing", rule="log.file") from None
