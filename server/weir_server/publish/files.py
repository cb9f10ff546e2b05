# SPDX-License-Identifier: Apache-2.0
"""Writing a snapshot so that it is whole or absent: temporary sibling, fsync of every file, manifest last, one rename.

A crash before the rename leaves a directory whose name starts with a dot, which nothing opens and the next
publication of the dataset removes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import rfc8785

from weir.errors import PublicationError
from weir_server.catalog.card import DatasetCard
from weir_server.catalog.codec import card_to_json
from weir_server.catalog.snapshot import MANIFEST, Basis

FORMAT = "weir.snapshot/1"

_LOCK = ".lock"
CLUSTER_NOTE = "cluster.json"
"""In a dataset's private directory: what to empty on a cluster. It is of this directory alone, and copied nowhere."""
PRIVATE = "private"
"""Of the data directory: who is in which atom, consent evidence; what the next version of a dataset is held against."""


def snapshot_directory(data_dir: Path, dataset: str, version: int) -> Path:
    """Where a snapshot lives."""
    return data_dir / "snapshots" / dataset / str(version)


def private_directory(data_dir: Path, dataset: str) -> Path:
    """Where the publisher keeps what only the next publication may read; no query path opens it."""
    return data_dir / PRIVATE / dataset


@contextmanager
def temporary_directory(parent: Path, name: str) -> Iterator[Path]:
    """A fresh directory `.name.tmp` below `parent`, readable by this user only; removed at the end, renamed or not."""
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = draft_directory(parent, name)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def publishing_alone(directory: Path) -> Iterator[Callable[[], None]]:
    """Nobody else publishes into `directory`, of one dataset, meanwhile: a second would take the first one's work for
    leftovers. Gives what to call before the server is asked to activate: from then on it may, beside the caller.

    The lock goes with the process, so that a crash keeps nobody out; that of an activation which runs on stays.

    Raises:
        PublicationError: somebody does, or activates what was published.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(held, fcntl.LOCK_EX)
        yield lambda: _lock(held, fcntl.LOCK_SH)
    finally:
        os.close(held)


@contextmanager
def activating(directory: Path) -> Iterator[None]:
    """Nobody removes or replaces a snapshot of the dataset meanwhile. Where snapshots were brought from elsewhere,
    nobody publishes.

    Raises:
        PublicationError: a publication of the dataset is running.
    """
    try:
        held = os.open(directory / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        _lock(held, fcntl.LOCK_SH)
        yield
    finally:
        os.close(held)


def _lock(held: int, kind: int) -> None:
    try:
        fcntl.flock(held, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PublicationError(
            "another publication of this dataset is running: wait for its end", rule="publication.running"
        ) from None


def draft_directory(parent: Path, name: str) -> Path:
    """Where `temporary_directory` works; what lies there is removed."""
    return parent / f".{name}.tmp"


def seal(
    directory: Path,
    target: Path,
    *,
    card: DatasetCard,
    version: int,
    published: datetime,
    basis: Basis | None = None,
    before: Callable[[str], None] = lambda digest: None,
) -> str:
    """Make the files in `directory` durable, write their manifest, rename to `target`; gives the manifest's digest.

    `before`: called with the digest just before the rename, for what must be durable when the snapshot exists.

    Raises:
        PublicationError: the version exists already.
    """
    if target.exists():
        raise PublicationError(f"version {version} of this dataset exists already", rule="snapshot.exists")
    files = {}
    for path in sorted(directory.iterdir()):
        with path.open("rb") as file:
            files[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        path.chmod(0o400)
    manifest = rfc8785.dumps(
        {
            "format": FORMAT,
            "card": card_to_json(card),
            "version": version,
            "published": published.isoformat(),
            "files": files,
            **({} if basis is None else {"basis": asdict(basis)}),
        }
    )
    with (directory / MANIFEST).open("wb") as file:
        file.write(manifest)
        file.flush()
        os.fsync(file.fileno())
    (directory / MANIFEST).chmod(0o400)
    sync_directory(directory)
    digest = hashlib.sha256(manifest).hexdigest()
    before(digest)
    directory.rename(target)
    sync_directory(target.parent)
    return digest


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
