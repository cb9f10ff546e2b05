# SPDX-License-Identifier: Apache-2.0
"""Taking a copy of a data directory while a server runs on it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from weir.errors import InvalidRequest
from weir_server.books import DIRECTORY as BOOKS
from weir_server.config import FILE_NAME as SETTINGS
from weir_server.identity import identities, revocation
from weir_server.identity.pki import DOMAIN_FILE, SECRETS
from weir_server.log import latest_checkpoint
from weir_server.publish.files import CLUSTER_NOTE, PRIVATE
from weir_server.store.sqlite import FILE_NAME, open_reader, read_only

SNAPSHOTS = "snapshots"
IDENTITIES = (identities.FILE_NAME, revocation.FILE_NAME)
"""What was issued and revoked; a domain may have neither."""
CHECKPOINT = "checkpoint"
"""Beside the copy: the newest checkpoint that it holds."""


def back_up(data_dir: Path, target: Path, *, secrets: bool = False) -> int:
    """Copies books, snapshots, settings and the domain's public file into the new directory `target`; gives the log's
    size.

    The books are one consistent snapshot of what is durable; a server may go on writing. With `secrets` the copy can
    issue identities and sign the log: keep it as you keep the domain itself.

    Raises:
        InvalidRequest: the target exists.
        Unavailable: there are no books.
        OSError: something cannot be read or written; no target is left then.
    """
    if target.exists():
        raise InvalidRequest("the target of a backup must not exist", field="target", rule="backup.target")
    draft = target.with_name(target.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700, parents=True)
    try:
        # Snapshots first: the books, copied later, name no more than those that were there, or newer ones that are
        # looked for again below.
        copy_tree(data_dir / SNAPSHOTS, draft / SNAPSHOTS)
        size = _copy_books(data_dir / BOOKS, draft)
        copy_tree(data_dir / SNAPSHOTS, draft / SNAPSHOTS)
        # Without it the next version of a dataset would not know who was in the last one.
        copy_tree(data_dir / PRIVATE, draft / PRIVATE)
        shutil.copy2(data_dir / DOMAIN_FILE, draft / DOMAIN_FILE)
        for name in (*IDENTITIES, SETTINGS):
            if (data_dir / name).exists():
                shutil.copy2(data_dir / name, draft / name)
        if secrets:
            copy_tree(data_dir / SECRETS, draft / SECRETS)
        put_in_place(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return size


def _copy_books(source: Path, draft: Path) -> int:
    books = draft / BOOKS
    books.mkdir(mode=0o700)
    with read_only(source):  # Says so where there are none.
        pass
    with closing(open_reader(source / FILE_NAME)) as reader, closing(sqlite3.connect(books / FILE_NAME)) as copy:
        reader.backup(copy)
    with read_only(books) as tx:
        newest = latest_checkpoint(tx)
    size, note = newest or (0, "")
    (draft / CHECKPOINT).write_text(note, encoding="utf-8")
    return size


def copy_tree(source: Path, target: Path) -> None:
    """Copies what is not there yet; files of snapshots never change. Notes of what to empty on a cluster stay behind:
    the copy must not empty what the first still has."""
    for folder, _, names in os.walk(source):
        place = target / Path(folder).relative_to(source)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in names:
            if name != CLUSTER_NOTE and not (place / name).exists():
                shutil.copy2(Path(folder) / name, place / name)


def put_in_place(draft: Path, target: Path) -> None:
    """Gives the draft its name, whole: whatever fails, and whenever the power does, there is all of it or nothing."""
    for folder, _, names in os.walk(draft):
        for name in names:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())
        _sync_directory(Path(folder))
    draft.rename(target)
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
