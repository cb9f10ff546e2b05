# SPDX-License-Identifier: Apache-2.0
"""Opening books: the log gets its name, and what a crash left behind is given back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from weir_server.ledger.operations import recover
from weir_server.log import initialise
from weir_server.store import Store, Transaction


def start(store: Store, *, origin: str, now: Callable[[], datetime], entropy: Callable[[int], bytes]) -> int:
    """Names the log and recovers; gives how many holds were expired."""

    def first(tx: Transaction) -> int:
        initialise(tx, origin=origin)
        return recover(tx, now=now(), entropy=entropy)

    return store.write_sync(first)
