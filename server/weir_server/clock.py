# SPDX-License-Identifier: Apache-2.0
"""Instants: aware datetimes in the program, integer microseconds since 1970 (UTC) in the store.

Ledger time only moves forward, so whoever moves the system's clock far ahead would open every window anew, end
contracts and holds, and nothing would bring that time back. Time is set from outside, often by a network protocol
without authentication; how much of it has passed is not. So a server's clock is held against the latter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
DRIFT = 0.0006
"""What an honest clock may gain on a crystal: 52 seconds a day. Time services slew by 500 millionths, and a bad crystal
is off by 100 more."""
BUILT = datetime(2026, 1, 1, tzinfo=UTC)
"""No honest clock shows an earlier time than this program was written."""


def now() -> datetime:
    """The present, in UTC. Passed as an argument everywhere else."""
    return datetime.now(UTC)


def to_micros(instant: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (instant - _EPOCH) // _MICROSECOND


def from_micros(count: int) -> datetime:
    """The instant of a count of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=count)


def steady_seconds() -> float:
    """Seconds since the machine started, those asleep included, by a clock that nobody sets and nothing slews.

    CLOCK_MONOTONIC and CLOCK_BOOTTIME follow the rate that a time service asks for, which may be a tenth more than the
    truth; their difference is the time asleep, whatever the rate.
    """
    if not hasattr(time, "CLOCK_BOOTTIME"):  # Elsewhere than on Linux, for trying things out.
        return time.monotonic()
    asleep = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.clock_gettime(time.CLOCK_MONOTONIC_RAW) + asleep


class Timekeeper:
    """The present of one process: the system's clock for as long as it keeps pace with the time that passes.

    Calling it never gives a time further than `bound` from what has passed since it was made, so that no window,
    contract or hold ends early even in the moment in which the system's clock is set. Used from any thread.
    """

    def __init__(
        self,
        *,
        bound: timedelta = timedelta(seconds=30),
        wall: Callable[[], datetime] = now,
        steady: Callable[[], float] = steady_seconds,
    ) -> None:
        """`bound`: how far the system's clock may be off. `steady`: seconds of a clock that nobody can set."""
        self.bound = bound
        self._most = bound.total_seconds()
        self._wall, self._steady = wall, steady
        self._first, self._started = wall(), steady()
        self._lock = threading.Lock()
        self._seen, self._drifted = 0.0, 0.0

    def __call__(self) -> datetime:
        """The present."""
        shown, off = self._look()
        return shown if abs(off) <= self._most else shown - timedelta(seconds=off)

    def ahead(self) -> timedelta:
        """How far the system's clock is ahead of the time that has passed; negative where it is behind."""
        return timedelta(seconds=self._look()[1])

    def keeps_pace(self) -> bool:
        """Whether the system's clock is where the time that has passed puts it."""
        return abs(self._look()[1]) <= self._most

    def steady(self) -> float:
        """Seconds by the clock that nobody can set."""
        return self._steady()

    def _look(self) -> tuple[datetime, float]:
        """What the system's clock shows, and by how many seconds that is more than it should show.

        What it should show follows what it shows, as fast as an honest one may drift: so a clock that runs a little
        fast for months is believed, and what may be set at once never grows beyond the bound.
        """
        with self._lock:
            shown, passed = self._wall(), self._steady() - self._started
            off = (shown - self._first).total_seconds() - passed - self._drifted
            most = max(0.0, passed - self._seen) * DRIFT
            followed = min(most, max(-most, off))
            self._drifted += followed
            self._seen = passed
            return shown, off - followed
