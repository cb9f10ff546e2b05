# SPDX-License-Identifier: Apache-2.0
"""How often somebody who is not signed in may try to: by address, in memory, and never logged to the domain's log."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from weir.errors import Overloaded

TRIES = 20
"""In a row; codes have 160 bits, so this only keeps noise down."""
SECONDS_PER_TRY = 3.0
_MAX_ADDRESSES = 4_096


class Tries:
    """Token buckets by address; the one that was quiet longest is forgotten first. `clock`: monotonic seconds."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> None:
        """Counts one try.

        Raises:
            Overloaded: too many from this address; nothing was looked at.
        """
        now = self._clock()
        tokens, refilled = self._buckets.pop(address, (float(TRIES), now))
        tokens = min(float(TRIES), tokens + (now - refilled) / SECONDS_PER_TRY)
        allowed = tokens >= 1
        self._buckets[address] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > _MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        if not allowed:
            raise Overloaded("too many tries; wait a minute", rule="console.tries")
