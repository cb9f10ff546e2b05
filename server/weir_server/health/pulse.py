# SPDX-License-Identifier: Apache-2.0
"""The pulse of the books: a row that a running server writes each second, with the time and how much of it has passed.

It proves that the books take durable writes, and it is what the clock of the next start is held against:

    same machine, not restarted since     the clock may show what has passed since the pulse, no more and no less
    anything else                         it may show up to `clock.max_pause_hours` more

Beyond, nothing starts on these books until a person has looked at the time and said so (`weir clock accept`, an entry
of the log). Otherwise whoever sets the clock would only have to wait for the next restart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from weir_server.clock import BUILT, DRIFT, from_micros, to_micros
from weir_server.ledger import record
from weir_server.log import rfc3339
from weir_server.store import Transaction, integer, text
from weir_server.store.group import Closed
from weir_server.store.pending import Table

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PULSE = Table(
    "pulse",
    ("id", "at", "boot", "steady"),
    "ON CONFLICT (id) DO UPDATE SET at = excluded.at, boot = excluded.boot, steady = excluded.steady",
)
_ACCEPT = "look at the time, and if it is right: weir clock accept --data DATA --reason WHY"


@dataclass(frozen=True, slots=True)
class Pulse:
    """When the books were last alive."""

    at: datetime
    boot: str
    """Which start of which machine; empty where that is not known."""
    steady: float
    """Seconds since that start."""


def boot() -> str:
    """Name of this start of this machine; empty where the system does not tell."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def beat(tx: Transaction, pulse: Pulse) -> None:
    """Writes the pulse."""
    tx.put(_PULSE, 1, (1, to_micros(pulse.at), pulse.boot, int(pulse.steady * 1_000_000)))


def last_pulse(tx: Transaction) -> Pulse | None:
    """The newest pulse; None in books that never had one."""
    rows = tx.look_up("SELECT at, boot, steady FROM pulse WHERE id = 1")
    if not rows:
        return None
    at, name, steady = rows[0]
    return Pulse(from_micros(integer(at)), text(name), integer(steady) / 1_000_000)


def judge(last: Pulse | None, current: Pulse, *, bound: timedelta, pause: timedelta) -> Closed | None:
    """Whether the time at a start can be true; None where it can."""
    if current.at < BUILT:
        return Closed("clock.unset", f"the clock shows {_shown(current.at)}, before this program was written: set it")
    if last is None:
        return None
    gone = current.at - last.at
    same = last.boot != "" and last.boot == current.boot
    passed = timedelta(seconds=current.steady - last.steady) if same else None
    seen = f"the clock shows {_shown(current.at)}, these books were last alive at {_shown(last.at)}"
    known = "" if passed is None else f", and {_seconds(passed)} seconds have passed"
    if gone < -2 * bound:  # Two machines may each be as far from the database's clock.
        return Closed("clock.behind", f"{seen}{known}: {_ACCEPT}")
    if passed is None:
        long = f"{seen}, longer ago than clock.max_pause_hours: {_ACCEPT}"
        return Closed("clock.pause", long) if gone > pause else None
    most = bound + abs(passed) * DRIFT
    if gone - passed > most:
        return Closed("clock.jump", f"{seen}{known}: {_ACCEPT}")
    if passed - gone > most:  # Who starts on it would close the books as soon as it is put right.
        return Closed("clock.behind", f"{seen}{known}: {_ACCEPT}")
    return None


def accept(tx: Transaction, current: Pulse, *, reason: str, actor: str, entropy: Callable[[int], bytes]) -> int:
    """Takes the present as the time, by a person's word; one `weir.clock.accepted` entry, whose index is given."""
    last = last_pulse(tx)
    told = {
        "actor": actor,
        "reason": reason,
        "shown": rfc3339(current.at),
        "last": "" if last is None else rfc3339(last.at),
    }
    beat(tx, current)
    return record(tx, "weir.clock.accepted", told, subject="clock", now=current.at, entropy=entropy).leaf_index


def _shown(instant: datetime) -> str:
    return instant.isoformat(timespec="seconds")


def _seconds(span: timedelta) -> int:
    return round(span.total_seconds())
