# SPDX-License-Identifier: Apache-2.0
"""The exported log never follows books that were put back, and outlasts a power cut."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ledger import VKEY, Books, open_books
from weir.checkpoint import verify
from weir.errors import VerificationError
from weir_server import observe
from weir_server.fsck import fsck
from weir_server.log import append
from weir_server.log.background import keep_exported
from weir_server.log.tiles import export_tiles, exported_size
from weir_server.store import Transaction


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    opened = opened_at(tmp_path / "domain", entries=280)
    yield opened
    opened.store.close()


def opened_at(directory: Path, *, entries: int) -> Books:
    directory.mkdir()
    opened = open_books(directory)
    grow(opened, entries)
    return opened


def grow(books: Books, entries: int) -> None:
    def many(tx: Transaction) -> None:
        for _ in range(entries):
            append(tx, "weir.test.note", {"salt": os.urandom(8).hex()}, now=books.clock(), entropy=os.urandom)

    books.store.write_sync(many)


def content(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("entries", "rule"), [(3, "log.behind"), (0, "log.behind"), (290, "log.foreign")])
def test_an_export_leaves_the_log_of_newer_books_as_it_is_and_ends(
    books: Books, tmp_path: Path, entries: int, rule: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Attack: an older ledger is put into the live file. Mutant: its checkpoint is written over the newer one, which
    was all that showed it, and the next start serves the older books."""
    log = tmp_path / "log"
    export_tiles(books.store, log)
    newest = content(log)
    older = opened_at(tmp_path / "older", entries=entries)
    for vkey in ("", VKEY):
        with pytest.raises(VerificationError) as caught:
            export_tiles(older.store, log, vkey=vkey)
        assert caught.value.rule == rule
    with caplog.at_level(logging.INFO, logger=observe.LOGGER):
        asyncio.run(asyncio.wait_for(keep_exported(older.store, log, vkey=VKEY), timeout=10))
    assert [record.msg for record in caplog.records] == ["export_stopped"]
    assert caplog.records[0].__dict__["weir"]["rule"] == rule
    older.store.close()
    assert content(log) == newest


def test_a_damaged_checkpoint_of_any_size_is_written_again(books: Books, tmp_path: Path) -> None:
    """Mutant: a flipped digit passes for newer books, and nothing is exported any more."""
    export_tiles(books.store, tmp_path / "log")
    file = tmp_path / "log" / "checkpoint"
    origin, size, *rest = file.read_text().split("\n")
    file.write_text("\n".join((origin, f"9{size}", *rest)))
    assert export_tiles(books.store, tmp_path / "log", vkey=VKEY) == int(size)
    assert verify(file.read_text(), VKEY).size == int(size)


def test_a_newer_cosigned_checkpoint_is_not_replaced_by_an_older_one(books: Books, tmp_path: Path) -> None:
    """Restored books have the cosignatures of the copy, and those behind it are evidence too."""
    former = books.store.read(lambda tx: tx.execute("SELECT size, note FROM log_checkpoints ORDER BY size LIMIT 1"))
    grow(books, 1)
    export_tiles(books.store, tmp_path / "log")
    line = str(former[0][1]).rstrip("\n").split("\n")[-1] + "\n"
    newest = (tmp_path / "log" / "checkpoint").read_text()
    (tmp_path / "log" / "cosigned").write_text(newest)
    books.store.write_sync(
        lambda tx: tx.execute(
            "INSERT INTO log_cosignatures (size, name, line) VALUES (?, ?, ?)", (former[0][0], "w", line)
        )
    )
    export_tiles(books.store, tmp_path / "log", vkey=VKEY)
    assert (tmp_path / "log" / "cosigned").read_text() == newest


@pytest.mark.parametrize("cut", [0, 100], ids=["emptied", "cut"])
@pytest.mark.parametrize("file", ["tile/0/000", "tile/entries/000", "tile/entries/001.p", "tile/1/000.p"])
def test_what_a_power_cut_spoilt_is_written_again_at_the_start(
    books: Books, tmp_path: Path, file: str, cut: int
) -> None:
    """Mutant: the checkpoint stands, so nobody ever looks below it again, and the log cannot be read from its files."""
    log = books.directory / "log"
    export_tiles(books.store, log)
    whole, damaged = content(log), log / file
    if damaged.suffix == ".p":
        (damaged,) = damaged.iterdir()
    damaged.write_bytes(damaged.read_bytes()[:cut] if damaged.stat().st_size > cut else b"")
    assert not fsck(books.directory).ok

    async def started() -> None:
        task = asyncio.create_task(keep_exported(books.store, log, vkey=VKEY))
        for _ in range(200):
            await asyncio.sleep(0.05)
            if content(log) == whole:
                break
        task.cancel()

    asyncio.run(started())
    assert fsck(books.directory).ok


def test_a_tile_of_other_bytes_is_written_again_at_the_start(books: Books, tmp_path: Path) -> None:
    """Some file systems leave zeros of the right length."""
    export_tiles(books.store, tmp_path / "log")
    tile = tmp_path / "log" / "tile" / "0" / "000"
    whole = tile.read_bytes()
    tile.write_bytes(bytes(len(whole)))
    export_tiles(books.store, tmp_path / "log", mend=True)
    assert tile.read_bytes() == whole


def test_tiles_are_on_disk_before_the_checkpoint_that_covers_them(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: without syncs, a power cut leaves a checkpoint whose tiles are empty."""
    log, told, synced = tmp_path / "log", os.fsync, dict[int, int]()

    def noted(descriptor: int) -> None:
        synced[os.fstat(descriptor).st_ino] = exported_size(log)
        told(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    before = 0
    for _ in range(2):
        written = set(log.rglob("*"))
        synced.clear()
        grow(books, 1)
        size = export_tiles(books.store, log)
        made = set(log.rglob("*")) - written - {log / "checkpoint"}
        assert len(made) >= 2
        named = {path.parent for path in made} - {log}
        assert {path for path in made | named if synced.get(path.stat().st_ino) != before} == set()
        assert (log / "checkpoint").stat().st_ino in synced
        assert synced[log.stat().st_ino] == size
        before = size
