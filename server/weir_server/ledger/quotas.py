# SPDX-License-Identifier: Apache-2.0
"""Limits and how they stand. A quota binds every charge whose subject fits all of its set scope fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from weir.errors import BudgetExhausted, InternalError, InvalidRequest, LimitHit, QuotaExceeded, UnknownName
from weir.limits import hit_text
from weir_server.clock import to_micros
from weir_server.ledger.values import (
    MAX_LIMIT,
    METRICS,
    PRIVACY_METRICS,
    WINDOWS,
    Balance,
    Charge,
    Metric,
    Quota,
    Subject,
    checked_charge,
)
from weir_server.ledger.windows import (
    Names,
    advance,
    ledger_time,
    require_zone,
    window_opened,
    window_resets,
    window_start,
)
from weir_server.log import append, rfc3339
from weir_server.store import Row, Transaction, integer, text
from weir_server.store.pending import Table

USE = "quota.use"
"""Rule of a limit whose use is not what its reservations make it."""
_ID = re.compile(r"[a-z][a-z0-9-]{0,126}")
_COLUMNS = "id, metric, requester, contract, dataset, lineage, period, zone, maximum, namespace"
_USE = Table(
    "quota_use",
    ("quota", "period_start", "spent", "held"),
    "ON CONFLICT (quota, period_start) DO UPDATE SET spent = excluded.spent, held = excluded.held",
)


def set_quota(
    tx: Transaction,
    quota: Quota,
    *,
    reason: str,
    actor: str,
    now: datetime,
    entropy: Callable[[int], bytes],
) -> Balance:
    """Sets a limit and gives its balance. Use is kept: a new quota counts everything that it would have bound.

    Setting what is already set changes nothing and leaves no leaf; otherwise one `weir.quota.set` leaf.

    Raises:
        InvalidRequest: malformed, or metric, scope or window differ from the quota that has this id.
    """
    _check(quota)
    moment = advance(tx, now)
    old = find_quota(tx, quota.id)
    if old == quota:
        return _balance(tx, quota, moment)
    if old is not None and _shape(old) != _shape(quota):
        raise InvalidRequest(
            "metric, scope and window of a quota cannot change: choose another id", field="quota", rule="quota.shape"
        )
    tx.execute(
        f"INSERT INTO quotas ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
        "ON CONFLICT (id) DO UPDATE SET maximum = excluded.maximum",
        _to_row(quota),
    )
    tx.forget()  # Which quotas bind whom has changed for the group's other operations.
    if old is None:
        _count_history(tx, quota, moment)
    data = {**describe(quota), "reason": reason, "actor": actor}
    append(tx, "weir.quota.set", data, now=moment, entropy=entropy, subject=f"quota/{quota.id}")
    return _balance(tx, quota, moment)


def remove_quota(
    tx: Transaction,
    quota_id: str,
    *,
    reason: str,
    actor: str,
    now: datetime,
    entropy: Callable[[int], bytes],
) -> None:
    """Removes a limit; one `weir.quota.removed` leaf. What was used stays known, and counts if it is set again.

    Raises:
        UnknownName: no such quota.
    """
    moment = advance(tx, now)
    if find_quota(tx, quota_id) is None:
        raise UnknownName("no such quota", field="quota", rule="quota.unknown")
    tx.execute("DELETE FROM quotas WHERE id = ?", (quota_id,))
    tx.execute("DELETE FROM quota_use WHERE quota = ?", (quota_id,))
    tx.forget()
    data = {"id": quota_id, "reason": reason, "actor": actor}
    append(tx, "weir.quota.removed", data, now=moment, entropy=entropy, subject=f"quota/{quota_id}")


def find_quota(tx: Transaction, quota_id: str) -> Quota | None:
    """The quota of this id."""
    rows = tx.execute(f"SELECT {_COLUMNS} FROM quotas WHERE id = ?", (quota_id,))  # noqa: S608
    return _from_row(rows[0]) if rows else None


def list_quotas(tx: Transaction, *, now: datetime, after: str = "", limit: int | None = None) -> list[Balance]:
    """Quotas with their balances, ordered by id: those behind the id `after`, at most `limit` of them."""
    moment = ledger_time(tx, now)
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM quotas WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608
        (after, MAX_LIMIT if limit is None else limit),
    )
    return [_balance(tx, _from_row(row), moment) for row in rows]


def find_balance(tx: Transaction, quota_id: str, *, now: datetime) -> Balance | None:
    """How the quota of this id stands."""
    quota = find_quota(tx, quota_id)
    return None if quota is None else _balance(tx, quota, ledger_time(tx, now))


def nearly_used(tx: Transaction, *, now: datetime, part: int, limit: int) -> list[Balance]:
    """Quotas of which at most one part in `part` is left in the current window, the fullest first, at most `limit`.
    Limits of 0 are no budgets that run out, and not among them."""
    moment, found = ledger_time(tx, now), list[tuple[float, str]]()
    for period, zone in tx.execute("SELECT DISTINCT period, zone FROM quotas"):
        start = window_start(WINDOWS[WINDOWS.index(period)], text(zone), moment)
        # From the limits to their use, each by its key: windows that are over stay in the table of uses for good.
        rows = tx.execute(
            "SELECT id, maximum, used FROM (SELECT id, maximum, (SELECT spent + held FROM quota_use "
            "WHERE quota = quotas.id AND period_start = ?) AS used FROM quotas WHERE period = ? AND zone = ?) AS known "
            "WHERE maximum > 0 AND used >= maximum - maximum / ?",
            (start, period, zone, part),
        )
        found += [(-integer(used) / integer(maximum), text(quota)) for quota, maximum, used in rows]
    return [item for _, quota in sorted(found)[:limit] if (item := find_balance(tx, quota, now=now)) is not None]


def balances(tx: Transaction, subjects: Iterable[Subject], *, now: datetime) -> list[Balance]:
    """Balances of every quota that binds at least one of `subjects`, ordered by id."""
    moment = ledger_time(tx, now)
    bound = {quota.id: quota for subject in subjects for quota in binding(tx, subject)}
    return [_balance(tx, bound[quota_id], moment) for quota_id in sorted(bound)]


def binding(tx: Transaction, subject: Subject) -> tuple[Quota, ...]:
    """Every quota that binds a charge of `subject`, ordered by id."""
    known: tuple[Quota, ...] | None = tx.recall(("binding", subject))
    if known is None:
        # Each scope column is either empty or the subject's: sixteen point look-ups on the index, whatever the number.
        rows = tx.look_up(
            f"SELECT {_COLUMNS} FROM quotas WHERE requester IN (?, '') AND contract IN (?, '') "  # noqa: S608
            "AND dataset IN (?, '') AND lineage IN (?, '') AND (namespace = '' OR namespace IN "
            "(SELECT namespace FROM namespaces WHERE lineage = ?)) ORDER BY id",
            (subject.requester, subject.contract, subject.dataset, subject.lineage, subject.lineage),
        )
        known = tuple(_from_row(row) for row in rows)
        tx.remember(("binding", subject), known)
    return known


def join_namespace(
    tx: Transaction, lineage: str, namespace: str, *, now: datetime, entropy: Callable[[int], bytes]
) -> None:
    """Puts a lineage into a namespace of units, for good; one `weir.quota.joined` leaf. From here on every quota of the
    namespace binds it, and counts all that it used before. Again the same: nothing.

    Raises:
        InvalidRequest: it is in another one.
    """
    moment, known = advance(tx, now), namespace_of(tx, lineage)
    if known == namespace:
        return
    if known is not None:
        raise InvalidRequest("a lineage keeps its namespace of units", field="namespace", rule="lineage.namespace")
    for row in tx.execute(f"SELECT {_COLUMNS} FROM quotas WHERE namespace = ?", (namespace,)):  # noqa: S608
        quota = _from_row(row)
        past = replace(quota, namespace=None, lineage=lineage)
        _add(tx, quota.id, "", *_past(tx, past, moment))
    tx.execute("INSERT INTO namespaces (lineage, namespace) VALUES (?, ?)", (lineage, namespace))
    tx.forget()
    data = {"lineage": lineage, "namespace": namespace}
    append(tx, "weir.quota.joined", data, now=moment, entropy=entropy, subject=f"namespace/{namespace}")


def namespace_of(tx: Transaction, lineage: str) -> str | None:
    """The namespace of units that a lineage is in."""
    rows = tx.execute("SELECT namespace FROM namespaces WHERE lineage = ?", (lineage,))
    return text(rows[0][0]) if rows else None


def check_limits(tx: Transaction, quotas: Iterable[Quota], amounts: Mapping[Metric, int], moment: datetime) -> None:
    """Refuses a charge that any quota cannot take, naming all of those.

    Raises:
        BudgetExhausted: a privacy budget is among them.
        QuotaExceeded: only other limits are.
    """
    hits = [hit for quota in quotas if (hit := _hit(tx, quota, amounts[quota.metric], moment)) is not None]
    if not hits:
        return
    lacking = "; ".join(hit_text(hit) for hit in hits)
    if any(hit.metric in PRIVACY_METRICS for hit in hits):
        raise BudgetExhausted(f"privacy budget exhausted: {lacking}", limits=hits, rule="quota.privacy")
    raise QuotaExceeded(f"limit reached: {lacking}", limits=hits, rule="quota.limit")


def check_budget(quotas: Iterable[Quota], metric: Metric) -> None:
    """Refuses where no lifetime budget in `metric` binds the lineage as a whole: deny by default (DESIGN §3.7).

    `quotas`: all that bind the charge. A budget of one requester, contract or dataset alone does not do: two of them
    together would spend more than the lineage has.

    Raises:
        BudgetExhausted: there is none.
    """
    for quota in quotas:
        alone = quota.lineage is None or (quota.requester, quota.contract, quota.dataset) != (None, None, None)
        if quota.metric == metric and quota.window == "lifetime" and not alone:
            return
    raise BudgetExhausted(
        f"the lineage has no lifetime budget in {metric}: nothing may be spent", limits=(), rule="quota.no_budget"
    )


def check_charge(
    tx: Transaction, subject: Subject, charge: Charge, *, budget: Metric | None = None, now: datetime
) -> None:
    """Refuses what `reserve` would refuse at this moment, and holds nothing: only a reservation decides.

    `budget`: as in `ReservationRequest`.

    Raises:
        BudgetExhausted, QuotaExceeded: as `reserve`.
    """
    quotas = binding(tx, subject)
    if budget is not None:
        check_budget(quotas, budget)
    check_limits(tx, quotas, checked_charge(charge), ledger_time(tx, now))


def take(tx: Transaction, quotas: Iterable[Quota], amounts: Mapping[Metric, int], moment: datetime) -> Names:
    """Counts a reservation: privacy as spent, the rest as held. Gives the calendar windows that anything is held in."""
    names: dict[tuple[str, str], str] = {}
    for quota in quotas:
        amount = amounts[quota.metric]
        if amount:
            spent, held = (amount, 0) if quota.metric in PRIVACY_METRICS else (0, amount)
            start = window_start(quota.window, quota.zone, moment)
            _add(tx, quota.id, start, spent, held)
            if held and start:
                names[quota.window, quota.zone] = start
    return names


def settle(
    tx: Transaction,
    quotas: Iterable[Quota],
    amounts: Mapping[Metric, int],
    *,
    reserved_at: datetime,
    names: Names,
    keep: bool,
) -> None:
    """Resolves a reservation's holds, in the windows they were taken in: spends them (`keep`) or gives them back.

    `names`: those windows, as `take` gave them. What they do not name is worked out from `reserved_at`: limits that
    were set since, and reservations from before names were kept.

    Raises:
        InternalError: a limit does not hold what is to be resolved, rule `quota.use`; then nothing has changed.
    """
    settled: list[tuple[str, str, int, int]] = []
    for quota in quotas:
        amount = amounts[quota.metric]
        if amount and quota.metric not in PRIVACY_METRICS:
            start = names.get((quota.window, quota.zone)) or window_start(quota.window, quota.zone, reserved_at)
            # A quota set after that window had passed has no use of it, and nothing to resolve.
            if (used := _use(tx, quota.id, start)) is not None:
                spent, held = used[0] + (amount if keep else 0), used[1] - amount
                _check_use(spent, held)
                settled.append((quota.id, start, spent, held))
    for use in settled:
        _set_use(tx, *use)


def describe(quota: Quota) -> dict[str, object]:
    """The quota as a log entry names it."""
    scope = {
        name: value
        for name, value in (
            ("requester", quota.requester),
            ("contract", quota.contract),
            ("dataset", quota.dataset),
            ("lineage", quota.lineage),
            ("namespace", quota.namespace),
        )
        if value is not None
    }
    return {
        "id": quota.id,
        "metric": quota.metric,
        "scope": scope,
        "window": quota.window,
        "zone": quota.zone,
        "limit": str(quota.limit),
    }


def _hit(tx: Transaction, quota: Quota, amount: int, moment: datetime) -> LimitHit | None:
    if not amount:
        return None
    spent, held = _use(tx, quota.id, window_start(quota.window, quota.zone, moment)) or (0, 0)
    if spent + held + amount <= quota.limit:
        return None
    standing = _balance(tx, quota, moment)
    resets = None if standing.resets is None else rfc3339(standing.resets)
    return LimitHit(quota.id, quota.metric, quota.limit, standing.used, amount, resets)


def _balance(tx: Transaction, quota: Quota, moment: datetime) -> Balance:
    spent, held = _use(tx, quota.id, window_start(quota.window, quota.zone, moment)) or (0, 0)
    return Balance(quota, spent, held, window_resets(quota.window, quota.zone, moment))


def _use(tx: Transaction, quota_id: str, start: str) -> tuple[int, int] | None:
    """What is spent and held in a window, or None where nothing ever was."""
    key = ("quota use", quota_id, start)
    known: tuple[int, int] | None = tx.recall(key)
    if known is None:
        sql = "SELECT spent, held FROM quota_use WHERE quota = ? AND period_start = ?"
        for row in tx.look_up(sql, key[1:]):
            known = integer(row[0]), integer(row[1])
            tx.remember(key, known)
    return known


def _set_use(tx: Transaction, quota_id: str, start: str, spent: int, held: int) -> None:
    _check_use(spent, held)
    tx.put(_USE, (quota_id, start), (quota_id, start, spent, held))
    tx.remember(("quota use", quota_id, start), (spent, held))


def _check_use(spent: int, held: int) -> None:
    if not (0 <= spent < 2**63 and 0 <= held < 2**63):  # The table would refuse it too, but for the whole group.
        raise InternalError("the use of a quota is out of range: run fsck", rule=USE)


def _add(tx: Transaction, quota_id: str, start: str, spent: int, held: int) -> None:
    used = _use(tx, quota_id, start) or (0, 0)
    _set_use(tx, quota_id, start, used[0] + spent, used[1] + held)


def _count_history(tx: Transaction, quota: Quota, moment: datetime) -> None:
    """Counts what was used before the quota existed, in its current window: budgets bind for life (DESIGN §3.10)."""
    _add(tx, quota.id, window_start(quota.window, quota.zone, moment), *_past(tx, quota, moment))


def _past(tx: Transaction, quota: Quota, moment: datetime) -> tuple[int, int]:
    """What was spent and is held of all that a quota binds, in its current window, by the reservations."""
    if quota.metric in PRIVACY_METRICS:
        return _sum(tx, quota, moment, ("held", "posted", "voided", "expired")), 0
    return _sum(tx, quota, moment, ("posted",)), _sum(tx, quota, moment, ("held",))


def _sum(tx: Transaction, quota: Quota, moment: datetime, states: tuple[str, ...]) -> int:
    opened = to_micros(window_opened(quota.window, quota.zone, moment))
    where = ["reserved_at >= ?", f"state IN ({', '.join('?' * len(states))})"]
    parameters: list[str | int] = [opened, *states]
    for column in ("requester", "contract", "dataset", "lineage"):
        value = getattr(quota, column)
        if value is not None:
            where.append(f"{column} = ?")
            parameters.append(value)
    if quota.namespace is not None:
        where.append("lineage IN (SELECT lineage FROM namespaces WHERE namespace = ?)")
        parameters.append(quota.namespace)
    rows = tx.execute(
        f"SELECT CAST(COALESCE(SUM({quota.metric}), 0) AS BIGINT) FROM reservations WHERE {' AND '.join(where)}",  # noqa: S608
        parameters,
    )
    return integer(rows[0][0])


def _check(quota: Quota) -> None:
    if not _ID.fullmatch(quota.id):
        raise InvalidRequest("a quota id is [a-z][a-z0-9-]{0,126}", field="quota.id", rule="quota.id")
    if quota.metric not in METRICS:
        raise InvalidRequest("unknown metric", field="quota.metric", rule="quota.metric")
    if quota.window not in WINDOWS:
        raise InvalidRequest("a window is lifetime, day or month", field="quota.window", rule="quota.window")
    if not 0 <= quota.limit <= MAX_LIMIT:
        raise InvalidRequest("a limit is 0 to 2**62", field="quota.limit", rule="quota.limit")
    scope = (quota.requester, quota.contract, quota.dataset, quota.lineage)
    if "" in (*scope, quota.namespace):
        raise InvalidRequest("a scope field is a name or absent", field="quota", rule="quota.scope")
    if quota.namespace is not None and (scope != (None,) * 4 or quota.window != "lifetime"):
        # Lineages join a namespace at any time, with all that they used: only a lifetime has room for that.
        raise InvalidRequest(
            "a quota of a namespace is for life and for everybody", field="quota", rule="quota.namespace"
        )
    require_zone(quota.zone)


def _shape(quota: Quota) -> tuple[object, ...]:
    scope = (quota.requester, quota.contract, quota.dataset, quota.lineage, quota.namespace)
    return (quota.metric, *scope, quota.window, quota.zone)


def _to_row(quota: Quota) -> tuple[str | int, ...]:
    scope = (quota.requester or "", quota.contract or "", quota.dataset or "", quota.lineage or "")
    return (quota.id, quota.metric, *scope, quota.window, quota.zone, quota.limit, quota.namespace or "")


def _from_row(row: Row) -> Quota:
    quota_id, metric, requester, contract, dataset, lineage, period, zone, maximum, namespace = row
    return Quota(
        id=text(quota_id),
        metric=METRICS[METRICS.index(metric)],
        limit=integer(maximum),
        requester=text(requester) or None,
        contract=text(contract) or None,
        dataset=text(dataset) or None,
        lineage=text(lineage) or None,
        window=WINDOWS[WINDOWS.index(period)],
        zone=text(zone),
        namespace=text(namespace) or None,
    )
