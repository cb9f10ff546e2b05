# SPDX-License-Identifier: Apache-2.0
"""How much at once: calls in progress, overall and per caller, and a token bucket per caller.

In memory and never billed: what it turns away leaves no leaf, so a flood cannot fill the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from weir.errors import Overloaded
from weir_server.config import Limits
from weir_server.identity.holder import APPROVER, AUDITOR, OPERATOR

_OVERSIGHT = (OPERATOR, APPROVER, AUDITOR)
_MANY = 1024


@dataclass(slots=True)
class _Caller:
    tokens: float
    refilled: float
    in_flight: int = 0


class Admission:
    """Seats of one server. Used from its event loop only.

    `clock`: monotonic seconds. Whoever has not called for long is forgotten where callers are many: names come with the
    tokens of a gateway, too.
    """

    def __init__(self, limits: Limits, *, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._callers: dict[str, _Caller] = {}
        self._look_at = _MANY
        self.in_flight = 0

    @contextmanager
    def seat(self, caller: str) -> Iterator[None]:
        """Holds a seat while a call of `caller`, a role and a name (`operator/olga`), runs.

        Raises:
            Overloaded: no token or no seat is free; nothing was charged.
        """
        entry = self._refilled(caller)
        if entry.tokens < 1:
            raise Overloaded("too many requests a second; slow down", rule="limits.requests_per_second")
        entry.tokens -= 1
        if entry.in_flight >= self._limits.max_in_flight_per_requester:
            raise Overloaded("too many of your calls are in progress", rule="limits.max_in_flight_per_requester")
        # Whoever operates, approves or audits gets in while requesters hold every seat: a stop must.
        if self.in_flight >= self._limits.max_in_flight and caller.partition("/")[0] not in _OVERSIGHT:
            raise Overloaded("too many calls are in progress; try again", rule="limits.max_in_flight")
        entry.in_flight += 1
        self.in_flight += 1
        try:
            yield
        finally:
            entry.in_flight -= 1
            self.in_flight -= 1

    def _refilled(self, caller: str) -> _Caller:
        now = self._clock()
        entry = self._callers.get(caller)
        if entry is None:
            self._make_room(now)
            entry = self._callers[caller] = _Caller(tokens=self._limits.burst, refilled=now)
        entry.tokens, entry.refilled = self._tokens(entry, now), now
        return entry

    def _tokens(self, entry: _Caller, now: float) -> float:
        gained = (now - entry.refilled) * self._limits.requests_per_second
        return min(float(self._limits.burst), entry.tokens + gained)

    def _make_room(self, now: float) -> None:
        """Forgets those who are where a new one would be; looks once for each time that their number has doubled."""
        if len(self._callers) < self._look_at:
            return
        full = float(self._limits.burst)
        kept = {name: it for name, it in self._callers.items() if it.in_flight or self._tokens(it, now) < full}
        self._callers, self._look_at = kept, max(_MANY, 2 * len(kept))
