# SPDX-License-Identifier: Apache-2.0
"""The log as files any tlog-tiles reader understands, derived from the database after commit.

Layout: `checkpoint`, `tile/<level>/<index>[.p/<width>]`, `tile/entries/<index>[.p/<width>]`. The database stays the
truth: files may lag behind or be deleted, and are caught up from where the written checkpoint stands. They never lead:
a checkpoint here that the database does not reach shows that books were put back, and is kept as the evidence.

Source: c2sp.org/tlog-tiles.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from weir.checkpoint import parse, verify
from weir.errors import InternalError, VerificationError
from weir.merkle import HASH_BYTES, leaf_hash
from weir.tiles import entries_of
from weir_server.log import latest_checkpoint
from weir_server.log.continuity import continues
from weir_server.log.cosign import newest_cosigned
from weir_server.store import Store, Transaction, blob

_WAIT_SECONDS = 5.0
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
_TOP_LEVEL = 7
"""Tiles of level 7 cover 2**64 leaves."""


def export_tiles(store: Store, directory: Path, *, vkey: str = "", mend: bool = False) -> int:
    """Brings the files of `directory` to the newest checkpoint and gives its size; again: nothing happens.

    The checkpoint is written last, when all that it covers is on disk, so that neither a reader nor a power cut finds
    one whose tiles are missing. Partial tiles go once the full one stands, so that files stay in proportion to the log.
    `cosigned` is the newest checkpoint that a witness signed too, which may be older than `checkpoint`. Callers wait
    for each other: whoever led the export before may not have ended yet.

    `vkey`: the log's verifier keys; a checkpoint that they did not sign is a damaged file, without them every one
    counts. `mend`: read the entries and look at the size of every tile first, and write all again where one is wrong.

    Raises:
        VerificationError: the files are of a longer log (`log.behind`) or of another one (`log.foreign`). Nothing is
            written: they are what shows that the books are not the newest. Calling again cannot help.
        OSError: a file cannot be written, or another export does not end; call again later.
        Unavailable, InternalError: the books cannot be read.
    """
    with _alone(directory):
        return _export(store, directory, vkey, mend)


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


def _export(store: Store, directory: Path, vkey: str, mend: bool) -> int:
    stands = _read(directory / "checkpoint")
    whole = not mend or _is_whole(directory, _size(stands))
    changed: set[Path] = set()

    def collect(tx: Transaction) -> tuple[int, int, str, tuple[int, str]]:
        size, note = latest_checkpoint(tx) or (0, "")
        exported = _continued(tx, stands, newest=note, vkey=vkey)
        for path, content in _files(tx, exported if whole else 0, size):
            _write(directory / path, content, changed)
        return exported, size, note, newest_cosigned(tx) or (0, "")

    exported, size, note, (cosigned_size, cosigned) = store.read(collect)
    _sync(changed)
    if note and note != stands:
        _replace(directory / "checkpoint", note.encode())
    # Restored books lack the cosignatures that came after the copy: what is here stays until there is a newer one.
    former = _read(directory / "cosigned")
    older = cosigned_size < _size(former) and (not vkey or _is_signed(former, vkey))
    if cosigned and cosigned != former and not older:
        _replace(directory / "cosigned", cosigned.encode())
    if size > exported:
        _remove_partials(directory, exported, size)
    return size


def _continued(tx: Transaction, stands: str, *, newest: str, vkey: str) -> int:
    """Size of the checkpoint that `stands` in the files, where the log continues it; 0 where it is damaged.

    A log that does not continue it is refused: writing its checkpoint over this one would destroy what shows that the
    books were put back, and the next start would serve them.
    """
    shown, size = _size(stands), _size(newest)
    if shown == 0 or stands == newest:
        return shown
    if shown <= size and continues(tx, older=parse(stands)[0]):
        return shown
    if vkey and not _is_signed(stands, vkey):
        return 0
    if shown > size:
        raise VerificationError(
            f"the exported log has {shown} entries and the books {size}: these are not the newest books",
            rule="log.behind",
        )
    raise VerificationError("the exported log is of another history than the books", rule="log.foreign")


def _read(path: Path) -> str:
    """A note; empty where there is none, or none that could be read."""
    try:
        return path.read_text("utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _size(note: str) -> int:
    """Size that a note states; 0 of one that is damaged."""
    try:
        return parse(note)[0].size
    except VerificationError:
        return 0  # Derived data: whatever is missing or damaged is written again from the start.


def _is_signed(note: str, vkey: str) -> bool:
    """Whether any of the log's keys signed the note: it may be older than the newest of them."""
    for key in vkey.split():
        with suppress(VerificationError):
            verify(note, key)
            return True
    return False


def _is_whole(directory: Path, size: int) -> bool:
    """Whether the files that a checkpoint of this size covers are there: each tile as long as it must be, each bundle
    whole, with the last entry that its tile has. A power cut may have emptied or cut what was never synced."""
    try:
        return all(_tile_stands(directory / "tile", *tile) for tile in _tiles(0, size))
    except (OSError, VerificationError):
        return False


def _tile_stands(root: Path, level: int, index: int, width: int) -> bool:
    name = tile_path(index, width)
    tile = root / str(level) / name
    if level > 0 or tile.stat().st_size != width * HASH_BYTES:
        return tile.stat().st_size == width * HASH_BYTES
    last = entries_of((root / "entries" / name).read_bytes(), first=index * TILE_WIDTH, width=width)[-1]
    return tile.read_bytes().endswith(leaf_hash(last))


def exported_size(directory: Path) -> int:
    """Size of the checkpoint that the files stand at; 0 where there is none."""
    return _size(_read(directory / "checkpoint"))


def tile_path(index: int, width: int) -> str:
    """`x001/x234/067`, with `.p/<width>` behind a partial tile."""
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.append(f"x{index % 1000:03d}")
    return "/".join(reversed(groups)) + (f".p/{width}" if width < TILE_WIDTH else "")


def _files(tx: Transaction, old: int, new: int) -> Iterator[tuple[str, bytes]]:
    """Every file that differs between the trees of `old` and `new` leaves."""
    for level, index, width in _tiles(old, new):
        hashes = _hashes(tx, TILE_HEIGHT * level, index * TILE_WIDTH, width)
        yield f"tile/{level}/{tile_path(index, width)}", b"".join(hashes)
    for index, width in _changed(old, new):
        yield f"tile/entries/{tile_path(index, width)}", _bundle(tx, index * TILE_WIDTH, width)


def _tiles(old: int, new: int) -> Iterator[tuple[int, int, int]]:
    """Level, index and width of each tile of hashes that differs between the trees of `old` and `new` leaves."""
    for level in range(_TOP_LEVEL + 1):
        shift = TILE_HEIGHT * level
        for index, width in _changed(old >> shift, new >> shift):
            yield level, index, width


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


def _write(path: Path, content: bytes, changed: set[Path]) -> None:
    """Replaces a file in one step; readers see the old or the new. Notes in `changed` what must be synced for it to
    outlast a power cut."""
    _make(path.parent, changed)
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content)
    os.replace(temporary, path)
    changed |= {path, path.parent}


def _make(directory: Path, changed: set[Path]) -> None:
    if not directory.is_dir():
        _make(directory.parent, changed)
        directory.mkdir(exist_ok=True)
        changed.add(directory.parent)


def _replace(path: Path, content: bytes) -> None:
    """Replaces a file in one step, durably: a power cut leaves the old or the new."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content)
    _sync({temporary})
    os.replace(temporary, path)
    _sync({path.parent})


def _sync(paths: set[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
