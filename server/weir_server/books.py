# SPDX-License-Identifier: Apache-2.0
"""The books of a domain: ledger and log in one store, embedded in the data directory or in a PostgreSQL schema."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from weir.checkpoint import verify
from weir.errors import Unavailable, VerificationError
from weir_server import clock, ledger, log
from weir_server.config import LedgerSettings
from weir_server.fsck import Report, check, fsck, postgres_rows
from weir_server.log.background import DIRECTORY as LOG_DIRECTORY
from weir_server.pki import Domain, log_key
from weir_server.store import Store, Transaction
from weir_server.store.sqlite import SqliteStore
from weir_server.store.sqlite import read_only as read_embedded

DIRECTORY = "ledger"
"""Of the data directory; 0700. Empty where a PostgreSQL keeps the books."""
_EMBEDDED = LedgerSettings()


def open_books(
    data_dir: Path,
    domain: Domain,
    *,
    settings: LedgerSettings = _EMBEDDED,
    on_failure: Callable[[BaseException], None] = lambda error: None,
) -> Store:
    """The store, with its log named and what former processes left half-way given back.

    `on_failure` runs once, in another thread, when the store stops by itself: the process MUST end then.

    Raises:
        LedgerLocked: another process has the directory.
        Unavailable: the books were written by a newer Weir, their database cannot be reached or trusted, or they are
            older than the exported log.
    """
    store = _store(data_dir, domain, settings, on_failure)
    try:
        _require_newest(store, data_dir)
        ledger.start(store, origin=domain.log_signers[0].name, now=clock.now, entropy=os.urandom)
    except BaseException:
        store.close()
        raise
    return store


def _require_newest(store: Store, data_dir: Path) -> None:
    """Refuses books that were put back, or others than those that were served: they would give budget back and fork the
    log. Entries are exported after they are durable, so the export is never ahead by itself.

    Raises:
        Unavailable: the exported log has more entries.
    """
    try:
        note = (data_dir / LOG_DIRECTORY / "checkpoint").read_text(encoding="utf-8")
        exported = verify(note, log_key(data_dir)).size
    except (OSError, ValueError, VerificationError):
        return  # Derived files: what is missing or damaged is written again, and proves nothing.
    head = store.read(log.read_head)
    size = 0 if head is None else head.size
    if exported > size:
        raise Unavailable(
            f"the exported log has {exported} entries and the books {size}: these are not the newest books, and would "
            "give budget back; weir restore brings a copy forward",
            rule="ledger.behind",
        )


def _store(
    data_dir: Path, domain: Domain, settings: LedgerSettings, on_failure: Callable[[BaseException], None]
) -> Store:
    seal = log.sealer(domain.log_signers, now=clock.now)
    if settings.postgres:
        from weir_server.store.postgres import PostgresStore

        return PostgresStore(settings.postgres, schema=settings.schema, seal=seal, on_failure=on_failure)
    directory = data_dir / DIRECTORY
    directory.mkdir(mode=0o700, exist_ok=True)
    return SqliteStore(directory, seal=seal, on_failure=on_failure)


@contextmanager
def read_books(data_dir: Path, *, settings: LedgerSettings = _EMBEDDED) -> Iterator[Transaction]:
    """One consistent snapshot of the books, beside the servers that use them.

    Raises:
        Unavailable: there are none, or their database cannot be reached.
    """
    if settings.postgres:
        from weir_server.store.postgres import read_only

        with read_only(settings.postgres, settings.schema) as tx:
            yield tx
    else:
        with read_embedded(data_dir / DIRECTORY) as tx:
            yield tx


def check_books(data_dir: Path, *, settings: LedgerSettings = _EMBEDDED) -> Report:
    """fsck of the books and of the exported log.

    Raises:
        Unavailable: their database cannot be reached.
    """
    vkey, files = log_key(data_dir), data_dir / LOG_DIRECTORY
    if not settings.postgres:
        return fsck(data_dir / DIRECTORY, vkey=vkey, files=files)
    with postgres_rows(settings.postgres, settings.schema) as rows:
        return check(rows, vkey=vkey, files=files)


def give_back_holds(tx: Transaction) -> int:
    """Expires this process's holds: for shutdown, once nothing runs that could still post. Gives how many."""
    return ledger.give_up(tx, now=clock.now(), entropy=os.urandom)


def recover_holds(tx: Transaction) -> int:
    """Expires holds of processes that are gone; gives how many."""
    return ledger.recover(tx, now=clock.now(), entropy=os.urandom)


def expire_holds(tx: Transaction) -> int:
    """Expires holds whose time is up; gives how many."""
    return ledger.expire_holds(tx, now=clock.now(), entropy=os.urandom)
