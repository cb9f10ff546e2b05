# SPDX-License-Identifier: Apache-2.0
"""Opening stores before they are asked: the newest snapshot of each dataset, at start and after each activation.

Opening 100,000 atoms takes seconds, which the first question would wait for. Whoever asks before a store stands opens
it himself, as without this; nothing else waits, and a snapshot that cannot be opened is refused when it is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from weir.errors import WeirError
from weir_server.catalog.catalogue import Catalogue
from weir_server.catalog.snapshot import Snapshot
from weir_server.exact.records import ATOMS
from weir_server.exact.store import MAX_OPEN, Stores
from weir_server.observe import event, exception_fields

MAX_WARMED = MAX_OPEN // 2
"""Most stores opened ahead; the rest of the places is for what is asked."""
_LOOK_SECONDS = 1.0


async def keep_warm(stores: Stores, catalogue: Callable[[], Catalogue]) -> None:
    """Opens stores, one at a time and in another thread, until the task is cancelled.

    `catalogue`: the one of now; each change makes a new one.
    """
    tried: set[str] = set()
    seen: Catalogue | None = None
    while True:
        now = catalogue()
        if now is not seen:
            seen = now
            current = list(newest(now))[:MAX_WARMED]
            for snapshot in current:
                if snapshot.manifest_digest not in tried:
                    await _open(stores, snapshot)
            tried = {snapshot.manifest_digest for snapshot in current}
        await asyncio.sleep(_LOOK_SECONDS)


def newest(catalogue: Catalogue) -> Iterator[Snapshot]:
    """The newest snapshot of each dataset that has atoms."""
    for snapshots in catalogue.datasets.values():
        if ATOMS in snapshots[0].files:
            yield snapshots[0]


async def _open(stores: Stores, snapshot: Snapshot) -> None:
    try:
        await asyncio.to_thread(stores.get, snapshot)
    except (WeirError, OSError) as error:
        event("store_not_opened", level=logging.ERROR, **exception_fields(error))
