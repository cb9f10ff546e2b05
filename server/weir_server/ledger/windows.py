# SPDX-License-Identifier: Apache-2.0
"""Ledger time and calendar windows. Time comes from the server and only moves forward."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from weir.errors import InvalidRequest
from weir_server.clock import from_micros, to_micros
from weir_server.ledger.values import Window
from weir_server.store import Transaction, integer
from weir_server.store.pending import Table

_CLOCK = Table("ledger_clock", ("id", "mark"), "ON CONFLICT (id) DO UPDATE SET mark = excluded.mark")
_MARK = "ledger.mark"
Names = Mapping[tuple[str, str], str]
"""By window and zone, the name of the calendar window that something was counted in."""


def advance(tx: Transaction, now: datetime) -> datetime:
    """Ledger time: `now`, or the highest time seen where the clock went back, so that no window opens twice."""
    mark, micros = _mark(tx), to_micros(now)
    if micros <= mark:
        return from_micros(mark)
    tx.put(_CLOCK, 1, (1, micros))
    tx.remember(_MARK, micros)
    return now.astimezone(UTC)


def ledger_time(tx: Transaction, now: datetime) -> datetime:
    """As `advance`, without moving the mark: for reading."""
    return max(now.astimezone(UTC), from_micros(_mark(tx)))


def _mark(tx: Transaction) -> int:
    known: int | None = tx.recall(_MARK)
    if known is None:
        known = integer(tx.look_up("SELECT mark FROM ledger_clock WHERE id = 1")[0][0])
        tx.remember(_MARK, known)
    return known


def window_start(window: Window, zone: str, moment: datetime) -> str:
    """Name of the window that holds `moment`: its local date or month; empty for lifetime."""
    if window == "lifetime":
        return ""
    local = moment.astimezone(_zone(zone))
    return local.strftime("%Y-%m-%d" if window == "day" else "%Y-%m")


def window_opened(window: Window, zone: str, moment: datetime) -> datetime:
    """First instant of the window that holds `moment`."""
    if window == "lifetime":
        return from_micros(0)
    local = moment.astimezone(_zone(zone))
    return _midnight(local.year, local.month, local.day if window == "day" else 1, zone)


def window_resets(window: Window, zone: str, moment: datetime) -> datetime | None:
    """First instant after the window that holds `moment`; None for lifetime."""
    if window == "lifetime":
        return None
    local = moment.astimezone(_zone(zone))
    if window == "day":
        following = local.date() + timedelta(days=1)
        return _midnight(following.year, following.month, following.day, zone)
    return _midnight(local.year + local.month // 12, local.month % 12 + 1, 1, zone)


def written(names: Names) -> str:
    """The names as a text, for the row of a reservation."""
    return "\n".join(f"{window} {zone} {name}" for (window, zone), name in names.items())


def read_names(text: str) -> Names:
    """What `written` wrote."""
    parts = (line.split(" ") for line in text.splitlines())
    return {(window, zone): name for window, zone, name in parts}


def require_zone(zone: str) -> None:
    """Refuses what is not an IANA zone.

    Raises:
        InvalidRequest: unknown zone.
    """
    _zone(zone)


def _midnight(year: int, month: int, day: int, zone: str) -> datetime:
    return datetime(year, month, day, tzinfo=_zone(zone)).astimezone(UTC)


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidRequest("unknown time zone", field="quota.zone", rule="quota.zone") from error
