# SPDX-License-Identifier: Apache-2.0
"""A disk whose power can be cut: an SQLite VFS that remembers what was synced, and what a cut would leave behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import apsw

_SECTOR = 512


@dataclass
class Disk:
    """Files by path: what is durable, and the writes that are not yet."""

    durable: dict[str, bytearray] = field(default_factory=dict)
    pending: dict[str, list[tuple[str, int, bytes]]] = field(default_factory=dict)

    def adopt(self, path: str) -> None:
        """Takes a file as it stands for durable."""
        file = Path(path)
        if path not in self.durable:
            self.durable[path] = bytearray(file.read_bytes() if file.exists() else b"")
            self.pending[path] = []

    def write(self, path: str, offset: int, data: bytes) -> None:
        self.pending[path].append(("write", offset, data))

    def truncate(self, path: str, size: int) -> None:
        self.pending[path].append(("truncate", size, b""))

    def sync(self, path: str) -> None:
        for action in self.pending[path]:
            _apply(self.durable[path], *action)
        self.pending[path].clear()

    def after_cut(self, directory: Path, *, random: Random | None = None) -> None:
        """Writes the files as a power cut would leave them: without `random` no unsynced write has reached the disk,
        with it any subset of their sectors has, in any order."""
        for path, content in self.durable.items():
            image = bytearray(content)
            if random is not None:
                sectors = [part for action in self.pending[path] for part in _sectors(*action)]
                for part in random.sample(sectors, random.randint(0, len(sectors))):
                    _apply(image, *part)
            (directory / Path(path).name).write_bytes(image)


def _sectors(kind: str, offset: int, data: bytes) -> list[tuple[str, int, bytes]]:
    if kind == "truncate":
        return [(kind, offset, data)]
    return [("write", offset + at, data[at : at + _SECTOR]) for at in range(0, len(data), _SECTOR)]


def _apply(image: bytearray, kind: str, offset: int, data: bytes) -> None:
    if kind == "truncate":
        del image[offset:]
        return
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data


class PowerFile(apsw.VFSFile):
    """A file that tells the disk what is written and synced."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._path = name.filename() if hasattr(name, "filename") else str(name)
        disk.adopt(self._path)

    def xWrite(self, data: Any, offset: int) -> None:
        self._disk.write(self._path, offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        self._disk.truncate(self._path, size)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._disk.sync(self._path)


class PowerVFS(apsw.VFS):
    """The default file system on such a disk. Register once per disk, under a name of its own."""

    def __init__(self, name: str, disk: Disk) -> None:
        self._disk = disk
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> PowerFile:
        return PowerFile(self._disk, name, flags)


def open_on(vfs: PowerVFS, name: str, path: Path, *, synchronous: str) -> Any:
    """The writer's connection as the store makes it, but on this disk.

    The wal-index is kept in memory (exclusive locking), since this VFS has no shared memory; what is synced, and when,
    is the same.
    """
    connection = apsw.Connection(str(path), vfs=name)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute(f"PRAGMA synchronous = {synchronous}").fetchall()
    assert vfs is not None
    return connection
