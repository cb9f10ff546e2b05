# SPDX-License-Identifier: Apache-2.0
"""What closes the books to writing, asked before each group of writes.

clock.jump    the system's clock was set while the process ran      for as long as it is so
clock.skew    it and the clock of the books' database differ        for as long as they do
log.foreign   the log is not the one that this process has signed   for as long as the process lives
"""

from __future__ import annotations

from datetime import datetime, timedelta

from weir_server.clock import Timekeeper, from_micros
from weir_server.store.group import Closed


class Latch:
    """Open, or closed for a reason. Asked in the writer's thread, shut from any."""

    def __init__(self, keeper: Timekeeper) -> None:
        self.keeper = keeper
        self._shut: Closed | None = None

    def __call__(self, engine: int | None) -> Closed | None:
        """Why nothing may be written now; None where it may. `engine`: time of the database, where it has its own."""
        if self._shut is not None:
            return self._shut
        if not self.keeper.keeps_pace():
            sentence = "the service's clock was set while it ran: nothing is written until it is right"
            return Closed("clock.jump", sentence)
        return skewed(self.keeper(), engine, bound=self.keeper.bound)

    def shut(self, reason: Closed) -> None:
        """Closes for as long as the process lives."""
        self._shut = reason


def skewed(time: datetime, engine: int | None, *, bound: timedelta) -> Closed | None:
    """Whether a time and that of the books' database (microseconds since 1970) are too far apart."""
    if engine is None or abs(time - from_micros(engine)) <= bound:
        return None
    return Closed("clock.skew", "the service's clock and that of its books differ: nothing is written until they agree")
