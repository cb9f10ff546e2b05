# SPDX-License-Identifier: Apache-2.0
"""Standing of requesters: a level from facts of the log, and what follows from it.

Three counts make the level: refusals of the last 30 days that the policy, a red line or a limit of the requester's own
caused; cases accepted against it and not closed; duties past due. Honest mistakes (a malformed query, a query that
waits for a person) count nothing, and neither do limits that others use up as well: nobody can lower another's
standing by asking. Refusals are counted from the leaves, each once, by UTC day; each change of level is a leaf with
its counts, so that whoever reads the log can count again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from weir.standing import HONEST, LIMITS
from weir_server.cases import book as cases
from weir_server.ledger import record
from weir_server.ledger.windows import ledger_time
from weir_server.policy import lifecycle
from weir_server.policy.documents import Policy
from weir_server.policy.gates import LEVELS, NO_GATES, Level
from weir_server.store import Transaction, blob, integer, text

DAYS = 30
"""Days over which refusals count, today included."""
CHANGED = "weir.standing.changed"
_DENIED = "POLICY_DENIED"
_PAGE = 2_000
"""Refusals read at once."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What makes the level."""

    refusals: int = 0
    disputes: int = 0
    overdue_duties: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """Refusals of one page of the log, not booked yet."""

    start: int
    """Index from which the page was read: the tally is void where the cursor stands elsewhere."""
    end: int
    """Index after the last leaf looked at."""
    days: Mapping[tuple[str, str], int]
    """Refusals that count, by requester and UTC day."""
    full: bool
    """Whether there may be more behind."""


def levels(tx: Transaction) -> dict[str, Level]:
    """Level of every requester that does not stand well, as it was last changed."""
    rows = tx.execute("SELECT requester, level FROM standings WHERE level <> 'good'")
    return {text(requester): LEVELS[LEVELS.index(level)] for requester, level in rows}


def tally(tx: Transaction) -> Tally:
    """Refusals behind the cursor. Reading, so that a flood of refusals never holds the writer."""
    start = _cursor(tx)
    rows = tx.execute(
        "SELECT idx, requester, leaf FROM log_leaves WHERE type = 'weir.query.refused' AND idx >= ? "
        "ORDER BY idx LIMIT ?",
        (start, _PAGE),
    )
    days: Counter[tuple[str, str]] = Counter()
    for _, requester, leaf in rows:
        event = json.loads(blob(leaf))
        if requester and _counts(tx, event["data"]["record"]):
            days[text(requester), str(event["time"])[:10]] += 1
    end = integer(rows[-1][0]) + 1 if rows else start
    return Tally(start, end, days, full=len(rows) == _PAGE)


def book(tx: Transaction, found: Tally) -> None:
    """Adds a tally; one that was read from another place of the log is dropped, since it would count twice."""
    moved = tx.execute(
        "UPDATE standing_cursor SET next = ? WHERE id = 1 AND next = ? RETURNING id", (found.end, found.start)
    )
    if moved:
        tx.execute_many(
            """INSERT INTO standing_refusals (requester, day, refusals) VALUES (?, ?, ?)
               ON CONFLICT (requester, day) DO UPDATE SET refusals = standing_refusals.refusals + excluded.refusals""",
            [(requester, day, count) for (requester, day), count in sorted(found.days.items())],
        )


def refresh(tx: Transaction, policy: Policy, *, now: datetime, entropy: Callable[[int], bytes]) -> bool:
    """Brings every level up to date; one leaf for each that changes. Gives whether any did."""
    counts, before = counts_now(tx, policy, now=now), levels(tx)
    changed = False
    for requester in sorted(counts.keys() | before.keys()):
        count, old = counts.get(requester, Counts()), before.get(requester, "good")
        level = level_of(policy, count)
        if level != old:
            _change(tx, policy, requester, count, old=old, new=level, now=now, entropy=entropy)
            changed = True
    return changed


def outdated(tx: Transaction, policy: Policy, *, now: datetime) -> bool:
    """Whether `refresh` would change anything: asked before writing, so that a quiet minute writes nothing."""
    counts, before = counts_now(tx, policy, now=now), levels(tx)
    return any(
        level_of(policy, counts.get(name, Counts())) != before.get(name, "good")
        for name in counts.keys() | before.keys()
    )


def level_of(policy: Policy, counts: Counts) -> Level:
    """Level that these counts make, by the thresholds of the policy's gates or, without gates, the default ones."""
    return (policy.gates or NO_GATES).level(
        refusals=counts.refusals, disputes=counts.disputes, overdue_duties=counts.overdue_duties
    )


def counts_now(tx: Transaction, policy: Policy, *, now: datetime) -> dict[str, Counts]:
    """Counts of every requester that has any, by ledger time, which never runs back."""
    moment = ledger_time(tx, now)
    refusals = {
        text(requester): integer(count)
        for requester, count in tx.execute(
            "SELECT requester, CAST(SUM(refusals) AS BIGINT) FROM standing_refusals WHERE day >= ? GROUP BY requester",
            (first_day(moment),),
        )
    }
    disputes = cases.open_against(tx)
    overdue = lifecycle.overdue_duties(tx, policy, moment)
    names: Iterable[str] = {*refusals, *disputes, *overdue}
    return {n: Counts(refusals.get(n, 0), disputes.get(n, 0), overdue.get(n, 0)) for n in names}


def first_day(now: datetime) -> str:
    """First UTC day whose refusals still count."""
    return (now.astimezone(UTC).date() - timedelta(days=DAYS - 1)).isoformat()


def _change(
    tx: Transaction,
    policy: Policy,
    requester: str,
    counts: Counts,
    *,
    old: Level,
    new: Level,
    now: datetime,
    entropy: Callable[[int], bytes],
) -> None:
    tx.execute(
        """INSERT INTO standings (requester, level) VALUES (?, ?)
           ON CONFLICT (requester) DO UPDATE SET level = excluded.level""",
        (requester, new),
    )
    gates = policy.gates or NO_GATES
    data = {
        "from": old,
        "to": new,
        "refusals": counts.refusals,
        "disputes": counts.disputes,
        "overdue_duties": counts.overdue_duties,
        "since": first_day(ledger_time(tx, now)),
        "counted_to": str(_cursor(tx)),
        "thresholds": {"watched": list(gates.watched.counts()), "restricted": list(gates.restricted.counts())},
    }
    record(tx, CHANGED, data, subject=f"requester/{requester}", now=now, entropy=entropy)


def _cursor(tx: Transaction) -> int:
    return integer(tx.execute("SELECT next FROM standing_cursor WHERE id = 1")[0][0])


def _counts(tx: Transaction, refusal: Mapping[str, object]) -> bool:
    """Whether a refusal's record says that it was the requester's own doing."""
    reason = refusal.get("reason")
    if reason == _DENIED:
        codes = refusal.get("reasons")
        return not (isinstance(codes, list) and codes and HONEST.issuperset(codes))
    limits = refusal.get("limits")
    if reason not in LIMITS or not isinstance(limits, list):
        return False
    return any(_is_own(tx, str(limit)) for limit in limits)


def _is_own(tx: Transaction, quota: str) -> bool:
    """Whether a limit is of one requester or contract, and so used up by nobody else."""
    return bool(tx.execute("SELECT id FROM quotas WHERE id = ? AND (requester <> '' OR contract <> '')", (quota,)))
