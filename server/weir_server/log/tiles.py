# SPDX-License-Identifier: Apache-2.0
"""The log as files any tlog-tiles reader understands, derived from the database after commit.

Layout: `checkpoint`, `tile/<level>/<index>[.p/<width>]`, `tile/entries/<index>[.p/<width>]`. The database stays the
truth: files may lag behind or be deleted, and are caught up from where the written checkpoint stands.

Source: c2sp.org/tlog-tiles.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weir.checkpoint import parse
from weir.errors import InternalError, VerificationError
from weir_server.log import latest_checkpoint
from weir_server.log.cosign import newest_cosigned
from weir_server.store import Store, Transaction, blob

_WAIT_SECONDS = 5.0
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
_TOP_LEVEL = 7
"""Tiles of level 7 cover 2**64 leaves."""


def export_tiles(store: Store, directory: Path) -> int:
    """Brings the files of `directory` to the newest checkpoint and gives its size; again: nothing happens.

    The checkpoint is written last, so a reader never sees one whose tiles are missing. Partial tiles go once the full
    one stands, so that files stay in proportion to the log. `cosigned` is the newest checkpoint that a witness signed
    too, which may be older than `checkpoint`. Callers wait for each other: whoever led the export before may not have
    ended yet.

    Raises:
        OSError: a file cannot be written, or another export does not end; call again later.
        Unavailable, InternalError: the books cannot be read.
    """
    with _alone(directory):
        return _export(store, directory)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock = directory.with_name(f".{directory.name}.lock")  # Beside it: whoever copies the log gets the log alone.
    held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Not for ever: whoever holds it may be a process that was stopped, and a waiting thread could not end.
        end = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        yield
    finally:
        os.close(held)


def _export(store: Store, directory: Path) -> int:
    exported = exported_size(directory)

    def collect(tx: Transaction) -> tuple[int, str, str]:
        newest = latest_checkpoint(tx)
        if newest is None:
            return 0, "", ""
        size, note = newest
        if size > exported:
            for path, content in _files(tx, exported, size):
                _write(directory / path, content)
        return size, note, (newest_cosigned(tx) or (0, ""))[1]

    size, note, cosigned = store.read(collect)
    for name, content in (("checkpoint", note), ("cosigned", cosigned)):
        if content and (size > exported or not _holds(directory / name, content)):
            _write(directory / name, content.encode())
    if size > exported:
        _remove_partials(directory, exported, size)
    return size


def exported_size(directory: Path) -> int:
    """Size of the checkpoint that the files stand at; 0 where there is none."""
    try:
        checkpoint, _ = parse((directory / "checkpoint").read_text("utf-8"))
    except (FileNotFoundError, VerificationError, UnicodeDecodeError):
        return 0  # Derived data: whatever is missing or damaged is written again from the start.
    return checkpoint.size


def tile_path(index: int, width: int) -> str:
    """`x001/x234/067`, with `.p/<width>` behind a partial tile."""
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.append(f"x{index % 1000:03d}")
    return "/".join(reversed(groups)) + (f".p/{width}" if width < TILE_WIDTH else "")


def _files(tx: Transaction, old: int, new: int) -> Iterator[tuple[str, bytes]]:
    """Every file that differs between the trees of `old` and `new` leaves."""
    for level in range(_TOP_LEVEL + 1):
        shift = TILE_HEIGHT * level
        for index, width in _changed(old >> shift, new >> shift):
            hashes = _hashes(tx, shift, index * TILE_WIDTH, width)
            yield f"tile/{level}/{tile_path(index, width)}", b"".join(hashes)
    for index, width in _changed(old, new):
        yield f"tile/entries/{tile_path(index, width)}", _bundle(tx, index * TILE_WIDTH, width)


def _changed(old: int, new: int) -> Iterator[tuple[int, int]]:
    """Index and width of each tile that grew from `old` to `new` hashes of one level."""
    if new == old:
        return
    for index in range(old // TILE_WIDTH, (new - 1) // TILE_WIDTH + 1):
        yield index, min(TILE_WIDTH, new - index * TILE_WIDTH)


def _hashes(tx: Transaction, level: int, start: int, width: int) -> list[bytes]:
    rows = tx.execute(
        "SELECT hash FROM log_nodes WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx",
        (level, start, start + width),
    )
    if len(rows) != width:
        raise InternalError("the log's tree has a hole: run fsck", rule="log.node")
    return [blob(row[0]) for row in rows]


def _bundle(tx: Transaction, start: int, width: int) -> bytes:
    rows = tx.execute("SELECT leaf FROM log_leaves WHERE idx >= ? AND idx < ? ORDER BY idx", (start, start + width))
    if len(rows) != width:
        raise InternalError("the log's leaves have a gap: run fsck", rule="log.gap")
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in (blob(row[0]) for row in rows))


def _remove_partials(directory: Path, old: int, new: int) -> None:
    """Removes partial tiles whose full tile was written between `old` and `new` leaves."""
    for level in range(_TOP_LEVEL + 1):
        shift = TILE_HEIGHT * level
        for index in range(old >> shift >> TILE_HEIGHT, new >> shift >> TILE_HEIGHT):
            for kind in (str(level), "entries") if level == 0 else (str(level),):
                shutil.rmtree(directory / "tile" / kind / f"{tile_path(index, TILE_WIDTH)}.p", ignore_errors=True)


def _holds(path: Path, content: str) -> bool:
    try:
        return path.read_text("utf-8") == content
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def _write(path: Path, content: bytes) -> None:
    """Replaces a file in one step; readers see the old or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content)
    os.replace(temporary, path)
