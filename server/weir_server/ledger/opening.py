# SPDX-License-Identifier: Apache-2.0
"""Opening the books of a data directory: store, log origin, and the recovery of what a crash left behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from weir.checkpoint import Signer
from weir_server.ledger.operations import recover
from weir_server.log import initialise, sealer
from weir_server.store import Store, Transaction
from weir_server.store.sqlite import SqliteStore


def open_ledger(
    directory: Path,
    *,
    signers: Sequence[Signer],
    now: Callable[[], datetime],
    entropy: Callable[[int], bytes],
    on_failure: Callable[[BaseException], None] = lambda error: None,
) -> SqliteStore:
    """Opens or makes the ledger of `directory`, which must exist, and expires what no process holds any more.

    `signers`: the log's keys, all named by its origin; the first is Ed25519. `on_failure` runs once when the ledger
    stops by itself; the process MUST end then.

    Raises:
        LedgerLocked: another process owns the directory.
        InternalError: the directory holds the log of another origin.
        Unavailable: the data was written by a newer Weir.
    """
    store = SqliteStore(directory, seal=sealer(signers, now=now), on_failure=on_failure)
    try:
        start(store, origin=signers[0].name, now=now, entropy=entropy)
    except BaseException:
        store.close()
        raise
    return store


def start(store: Store, *, origin: str, now: Callable[[], datetime], entropy: Callable[[int], bytes]) -> int:
    """Names the log and recovers; gives how many holds were expired."""

    def first(tx: Transaction) -> int:
        initialise(tx, origin=origin)
        return recover(tx, now=now(), entropy=entropy)

    return store.write_sync(first)
