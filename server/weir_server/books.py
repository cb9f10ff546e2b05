# SPDX-License-Identifier: Apache-2.0
"""Opening the books of a data directory: ledger and log in one store, owned by one process at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from weir_server import clock, ledger, log
from weir_server.pki import Domain
from weir_server.store import Transaction
from weir_server.store.sqlite import SqliteStore

DIRECTORY = "ledger"
"""Of the data directory; 0700."""


def open_books(
    data_dir: Path, domain: Domain, *, on_failure: Callable[[BaseException], None] = lambda error: None
) -> SqliteStore:
    """The store, with its log named and what a former process left half-way given back.

    `on_failure` runs once, in another thread, when the store stops by itself: the process MUST end then.

    Raises:
        LedgerLocked: another process has the directory.
        Unavailable: the books were written by a newer Weir.
    """
    directory = data_dir / DIRECTORY
    directory.mkdir(mode=0o700, exist_ok=True)
    store = SqliteStore(directory, seal=log.sealer(domain.log_signers, now=clock.now), on_failure=on_failure)
    try:
        ledger.start(store, origin=domain.log_signers[0].name, now=clock.now, entropy=os.urandom)
    except BaseException:
        store.close()
        raise
    return store


def give_back_holds(tx: Transaction) -> int:
    """Expires this process's holds: for shutdown, once nothing runs that could still post. Gives how many."""
    return ledger.give_up(tx, now=clock.now(), entropy=os.urandom)


def recover_holds(tx: Transaction) -> int:
    """Expires holds of processes that are gone; gives how many."""
    return ledger.recover(tx, now=clock.now(), entropy=os.urandom)


def expire_holds(tx: Transaction) -> int:
    """Expires holds whose time is up; gives how many."""
    return ledger.expire_holds(tx, now=clock.now(), entropy=os.urandom)
