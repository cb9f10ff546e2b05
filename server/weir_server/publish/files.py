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
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import rfc8785

from weir.canonical import SALT_BYTES
from weir.errors import PublicationError
from weir_server.catalog.card import DatasetCard
from weir_server.catalog.codec import card_to_json
from weir_server.catalog.snapshot import MANIFEST, Basis

FORMAT = "weir.snapshot/1"

_PUBLISHING, _ACTIVATING = ".publishing", ".activating"
"""Locks, beside the versions of a dataset."""
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
def publishing_alone(directory: Path) -> Iterator[None]:
    """Nobody else publishes into `directory`, of one dataset, meanwhile: a second would take the first one's work for
    leftovers. The lock goes with the process, so that a crash keeps nobody out.

    Raises:
        PublicationError: somebody does.
    """
    make_directory(directory)
    with _locked(directory / _PUBLISHING, fcntl.LOCK_EX):
        yield


@contextmanager
def nobody_activates(directory: Path) -> Iterator[None]:
    """No snapshot of the dataset is being activated meanwhile: what is not active then is a leftover. For publishers.

    Raises:
        PublicationError: one is. Its publisher may be gone; the server goes on.
    """
    with _locked(directory / _ACTIVATING, fcntl.LOCK_EX):
        yield


@contextmanager
def activating(directory: Path) -> Iterator[None]:
    """Nobody clears away snapshots of the dataset meanwhile. Where nobody has ever published, nobody will.

    Raises:
        PublicationError: somebody is about to.
    """
    published_here = (directory / _ACTIVATING).exists()
    with _locked(directory / _ACTIVATING, fcntl.LOCK_SH) if published_here else nullcontext():
        yield


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    access = os.O_RDONLY if kind == fcntl.LOCK_SH else os.O_RDWR | os.O_CREAT
    try:
        held = os.open(path, access | os.O_CLOEXEC, 0o600)
    except OSError:
        raise _lockless() from None
    try:
        try:
            fcntl.flock(held, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PublicationError(
                "another publication of this dataset is running, or being activated: wait for its end",
                rule="publication.running",
            ) from None
        except OSError:
            raise _lockless() from None
        yield
    finally:
        os.close(held)


def _lockless() -> PublicationError:
    return PublicationError(
        "the dataset's directory of snapshots cannot be locked: it must be the server's user's who publishes, and on a "
        "file system with locks",
        rule="publication.lock",
    )


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
    salt: bytes,
    basis: Basis | None = None,
    before: Callable[[str], None] = lambda digest: None,
) -> str:
    """Make the files in `directory` durable, write their manifest, rename to `target`; gives the manifest's digest.

    `salt`: 32 random bytes. The digest is shown to whoever may see the catalogue, and they may know all else that goes
    into it but a few small numbers of an atom's record: without a salt they would try these against the digest, and
    have exact answers with no contract, charge or leaf.
    `before`: called with the digest just before the rename, for what must be durable when the snapshot exists.

    Raises:
        PublicationError: the version exists already.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes")
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
            "salt": salt.hex(),
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


def make_directory(path: Path) -> None:
    """Makes a directory of this user alone, and those above it, durably: a snapshot that the books know of must not
    lose its path."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
