# SPDX-License-Identifier: Apache-2.0
"""Traffic by hour and refusals by reason, from what `usage` counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from weir_server.clock import from_micros
from weir_server.console.usage import REFUSED, RELEASED, position
from weir_server.store import Transaction, integer, text

HOURS = 24
FAILED = frozenset({"weir.query.voided", "weir.query.expired"})
OUTCOMES = ("answered", "refused", "failed")


@dataclass(frozen=True, slots=True)
class Traffic:
    """The last 24 hours."""

    hours: tuple[datetime, ...]
    """First instant of each, ascending."""
    outcomes: Mapping[str, tuple[int, ...]]
    """Per outcome, one number an hour."""
    reasons: tuple[tuple[str, int], ...]
    """Refusals by reason, most frequent first."""
    counted: int
    """Log entries that are counted so far."""

    def total(self, outcome: str) -> int:
        """Of the whole time."""
        return sum(self.outcomes[outcome])


def traffic(tx: Transaction, *, now: datetime) -> Traffic:
    """The last 24 hours as counted."""
    last = int(now.timestamp()) // 3600
    first = last - HOURS + 1
    rows = tx.execute(
        "SELECT hour, type, reason, entries FROM usage_traffic WHERE hour >= ? AND hour <= ?", (first, last)
    )
    found: Counter[tuple[str, int]] = Counter()
    reasons: Counter[str] = Counter()
    for hour, kind, reason, entries in rows:
        outcome = _outcome(text(kind))
        if outcome:
            found[outcome, integer(hour)] += integer(entries)
        if kind == REFUSED:
            reasons[text(reason)] += integer(entries)
    span = range(first, last + 1)
    return Traffic(
        hours=tuple(from_micros(0) + timedelta(hours=hour) for hour in span),
        outcomes={outcome: tuple(found[outcome, hour] for hour in span) for outcome in OUTCOMES},
        reasons=tuple(reasons.most_common()),
        counted=position(tx),
    )


def _outcome(kind: str) -> str:
    if kind == RELEASED:
        return "answered"
    if kind == REFUSED:
        return "refused"
    return "failed" if kind in FAILED else ""
