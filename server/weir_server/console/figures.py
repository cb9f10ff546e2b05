# SPDX-License-Identifier: Apache-2.0
"""The sums that several pages show, each kept for some seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

from weir.v1 import policy_service_pb2
from weir_server import ledger
from weir_server.console.cached import Cached
from weir_server.console.reads import meter
from weir_server.policy.standings import standings
from weir_server.state import State
from weir_server.store import Store

NEARLY_PART = 5
"""A limit is nearly used up when at most one part in five is left."""
_SHOWN = 12
_SECONDS = 10.0


class Figures:
    """Sums over everything."""

    def __init__(self, state: State, store: Store, *, now: Callable[[], datetime], clock: Callable[[], float]) -> None:
        self.nearly_used: Cached[list[ledger.Balance]] = Cached(
            store,
            lambda tx: ledger.nearly_used(tx, now=now(), part=NEARLY_PART, limit=_SHOWN),
            seconds=_SECONDS,
            clock=clock,
        )
        """The fullest limits."""
        self.sums: Mapping[str, Cached[list[meter.Row]]] = {
            by: Cached(store, partial(meter.sums_by, column=by), seconds=_SECONDS, clock=clock) for by in meter.BY
        }
        """Sums of all bills by requester, dataset, contract and month."""
        self.standings: Cached[list[policy_service_pb2.Standing]] = Cached(
            store, lambda tx: standings(tx, state.world, now=now()), seconds=_SECONDS, clock=clock
        )
        """How every requester stands, by name."""
