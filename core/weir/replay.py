# SPDX-License-Identifier: Apache-2.0
"""What the books must be, worked out from log entries alone: totals, holds, limits. Pure, and used by no writer.

An auditor feeds every leaf in order to `follow`; whatever the ledger could have done wrong shows as the first entry
that does not follow from those before it: a gap, time that runs back, an answer without a reservation, a second
resolution, a charge that differs from what was reserved, a limit that was overdrawn, a level of standing without facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from weir.errors import InvalidReceipt, ReplayError
from weir.receipts import parse_event
from weir.standing import Standings, follow_standing

PRIVACY = frozenset({"epsilon_nano", "rho_micro"})
"""Metrics that are spent when a query is reserved; all others when it is answered."""
_QUARTER = 15 * 60
"""Seconds. Every offset of a time zone in use is a multiple, so windows are sums of such spans."""

_BEGINNING = datetime.min.replace(tzinfo=UTC)

Subject = tuple[str, str, str, str]
"""Requester, contract, dataset, lineage."""
Scope = tuple[str, str, str, str, str]
"""The same, and the namespace of units that the lineage is in."""
TotalKey = tuple[str, str, str, str]
"""Contract, requester, dataset, metric."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A quota as the log set it."""

    id: str
    metric: str
    scope: Scope
    """Empty text where any will do."""
    window: str
    zone: str
    limit: int


@dataclass(slots=True)
class Use:
    """How much of a limit is used in one window."""

    spent: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """A reservation as the log states it."""

    subject: Subject
    charge: dict[str, int]
    reserved: datetime


@dataclass(slots=True)
class Books:
    """Everything that follows from the entries so far."""

    size: int = 0
    """Entries followed."""
    origin: str = ""
    """Name of the log, from its first entry."""
    time: datetime = _BEGINNING
    """Time of the last entry."""
    holds: dict[int, Held] = field(default_factory=dict)
    """Reservations that have not resolved, by index of their entry."""
    states: dict[int, str] = field(default_factory=dict)
    """How every reservation stands: held, posted, voided or expired."""
    answers: dict[int, int] = field(default_factory=dict)
    """Reservation by index of its `released` entry."""
    totals: dict[TotalKey, int] = field(default_factory=dict)
    """The meter."""
    limits: dict[str, Limit] = field(default_factory=dict)
    """Quotas in force."""
    namespaces: dict[str, str] = field(default_factory=dict)
    """Namespace of units by lineage, of those that are in one."""
    standings: Standings = field(default_factory=Standings)
    """What requesters' levels rest on."""
    use: dict[tuple[str, str], Use] = field(default_factory=dict)
    """Per quota and window."""
    history: dict[tuple[Subject, int], dict[str, Use]] = field(default_factory=dict)
    """Everything charged, per subject and quarter of an hour: what a new quota counts."""


def follow(books: Books, index: int, leaf: bytes) -> dict[str, object]:
    """Adds one entry to the books and gives its event.

    Raises:
        ReplayError: the entry does not follow from those before it.
    """
    try:
        event = parse_event(leaf)
    except InvalidReceipt as error:
        raise ReplayError(error.message, index=index, rule="replay.event") from error
    _check_place(books, index, event)
    try:
        _apply(books, index, event)
    except (KeyError, TypeError, ValueError) as error:
        raise ReplayError("the event lacks what its type must say", index=index, rule="replay.event") from error
    books.size = index + 1
    return event


def follow_all(entries: Iterable[tuple[int, bytes]]) -> Books:
    """The books after all of `entries`.

    Raises:
        ReplayError: the first entry that does not follow.
    """
    books = Books()
    for index, leaf in entries:
        follow(books, index, leaf)
    return books


def window_of(window: str, zone: str, moment: datetime) -> str:
    """Name of the window that holds `moment`: local date, local month, or empty for lifetime."""
    if window == "lifetime":
        return ""
    local = moment.astimezone(ZoneInfo(zone))
    return local.date().isoformat() if window == "day" else local.date().isoformat()[:7]


def _check_place(books: Books, index: int, event: dict[str, object]) -> None:
    if index != books.size or event.get("id") != str(index):
        raise ReplayError("not the next index", index=index, rule="replay.index")
    origin = event.get("source")
    if not isinstance(origin, str) or (books.origin and origin != books.origin):
        raise ReplayError("the entry names another log", index=index, rule="replay.origin")
    books.origin = origin
    moment = _time(event.get("time"), index)
    if moment < books.time:
        raise ReplayError("time runs back", index=index, rule="replay.time")
    books.time = moment


def _apply(books: Books, index: int, event: dict[str, object]) -> None:
    kind, data = str(event["type"]), _mapping(event["data"])
    if kind == "weir.query.reserved":
        _reserve(books, index, data)
    elif kind == "weir.query.released":
        _release(books, index, data)
    elif kind in ("weir.query.voided", "weir.query.expired"):
        held = _resolve(books, index, data, kind.rpartition(".")[2])
        if _subject(data) != held.subject:
            raise ReplayError("resolves for another subject", index=index, rule="replay.subject")
        _settle(books, held, keep=False)
    elif kind == "weir.query.refused":
        if any(_charge(data).values()):
            raise ReplayError("a refusal was charged", index=index, rule="replay.charge")
    elif kind == "weir.quota.set":
        _set_limit(books, index, data)
    elif kind == "weir.quota.removed":
        _remove_limit(books, index, data)
    elif kind == "weir.quota.joined":
        _join(books, index, str(data["lineage"]), str(data["namespace"]))
    if (wrong := follow_standing(books.standings, index, event)) is not None:
        raise ReplayError(wrong, index=index, rule="replay.standing")


def _reserve(books: Books, index: int, data: dict[str, object]) -> None:
    held = Held(_subject(data), _charge(data), books.time)
    # Every limit is checked before any is charged, as the ledger does.
    binding = list(_binding(books, held.subject))
    for limit in binding:
        amount = held.charge.get(limit.metric, 0)
        use = books.use.get((limit.id, window_of(limit.window, limit.zone, held.reserved)), Use())
        if amount and use.spent + use.held + amount > limit.limit:
            raise ReplayError(f"overdraws quota {limit.id}", index=index, rule="replay.overdrawn")
    past = books.history.setdefault((held.subject, _quarter(held.reserved)), {})
    for metric, amount in held.charge.items():
        _take(past.setdefault(metric, Use()), metric, amount)
    for limit in binding:
        window = window_of(limit.window, limit.zone, held.reserved)
        amount = held.charge.get(limit.metric, 0)
        if amount:
            _take(books.use.setdefault((limit.id, window), Use()), limit.metric, amount)
    _count(books, held, privacy=True)
    books.holds[index] = held
    books.states[index] = "held"


def _release(books: Books, index: int, data: dict[str, object]) -> None:
    held = _resolve(books, index, data, "posted")
    if (_subject(data), _charge(data)) != (held.subject, held.charge):
        raise ReplayError("the charge is not what was reserved", index=index, rule="replay.charge")
    _settle(books, held, keep=True)
    _count(books, held, privacy=False)
    books.answers[index] = int(str(data["reservation"]))


def _resolve(books: Books, index: int, data: dict[str, object], state: str) -> Held:
    reservation = int(str(data["reservation"]))
    held = books.holds.pop(reservation, None)
    if held is None:
        raise ReplayError("resolves what is not held", index=index, rule="replay.reservation")
    books.states[reservation] = state
    return held


def _settle(books: Books, held: Held, *, keep: bool) -> None:
    past = books.history[held.subject, _quarter(held.reserved)]
    for metric, amount in held.charge.items():
        _give(past[metric], metric, amount, keep)
    for limit in _binding(books, held.subject):
        use = books.use.get((limit.id, window_of(limit.window, limit.zone, held.reserved)))
        amount = held.charge.get(limit.metric, 0)
        if use is not None and amount:
            _give(use, limit.metric, amount, keep)


def _take(use: Use, metric: str, amount: int) -> None:
    if metric in PRIVACY:
        use.spent += amount
    else:
        use.held += amount


def _give(use: Use, metric: str, amount: int, keep: bool) -> None:
    if metric not in PRIVACY:
        use.held -= amount
        use.spent += amount if keep else 0


def _count(books: Books, held: Held, *, privacy: bool) -> None:
    requester, contract, dataset, _ = held.subject
    for metric, amount in held.charge.items():
        if amount and (metric in PRIVACY) == privacy:
            key = (contract, requester, dataset, metric)
            books.totals[key] = books.totals.get(key, 0) + amount


def _set_limit(books: Books, index: int, data: dict[str, object]) -> None:
    scope = _mapping(data["scope"])
    names = ("requester", "contract", "dataset", "lineage", "namespace")
    requester, contract, dataset, lineage, namespace = (str(scope.get(name, "")) for name in names)
    limit = Limit(
        id=str(data["id"]),
        metric=str(data["metric"]),
        scope=(requester, contract, dataset, lineage, namespace),
        window=str(data["window"]),
        zone=_zone(str(data["zone"]), index),
        limit=int(str(data["limit"])),
    )
    old = books.limits.get(limit.id)
    if old is not None and (old.metric, old.scope, old.window, old.zone) != (
        limit.metric,
        limit.scope,
        limit.window,
        limit.zone,
    ):
        raise ReplayError("a quota changed its scope", index=index, rule="replay.quota")
    books.limits[limit.id] = limit
    if old is None:
        start = window_of(limit.window, limit.zone, books.time)
        books.use[limit.id, start] = _past_use(books, limit, start)


def _remove_limit(books: Books, index: int, data: dict[str, object]) -> None:
    removed = str(data["id"])
    if books.limits.pop(removed, None) is None:
        raise ReplayError("removes a quota that is not there", index=index, rule="replay.quota")
    for key in [key for key in books.use if key[0] == removed]:
        del books.use[key]


def _join(books: Books, index: int, lineage: str, namespace: str) -> None:
    """A lineage joins a namespace for good: the limits of the namespace count it, with all that it used before."""
    if lineage in books.namespaces or not namespace:
        raise ReplayError("a lineage joins a namespace twice", index=index, rule="replay.namespace")
    for limit in books.limits.values():
        if limit.scope[4] == namespace:
            use = books.use.setdefault((limit.id, ""), Use())
            for (subject, _), metrics in books.history.items():
                if subject[3] == lineage and limit.metric in metrics:
                    use.spent += metrics[limit.metric].spent
                    use.held += metrics[limit.metric].held
    books.namespaces[lineage] = namespace


def _past_use(books: Books, limit: Limit, start: str) -> Use:
    total = Use()
    for (subject, quarter), metrics in books.history.items():
        if _fits(limit.scope, _placed(books, subject)) and limit.metric in metrics:
            moment = datetime.fromtimestamp(quarter * _QUARTER, UTC)
            if window_of(limit.window, limit.zone, moment) == start:
                total.spent += metrics[limit.metric].spent
                total.held += metrics[limit.metric].held
    return total


def _binding(books: Books, subject: Subject) -> Iterator[Limit]:
    """Limits whose scope fits, by look-up of the scopes that can."""
    scopes = set(product(*((name, "") for name in _placed(books, subject))))
    return (limit for limit in books.limits.values() if limit.scope in scopes)


def _placed(books: Books, subject: Subject) -> Scope:
    """The subject with the namespace of its lineage; empty where it is in none."""
    return (*subject, books.namespaces.get(subject[3], ""))


def _fits(scope: Scope, subject: Scope) -> bool:
    return all(wanted in ("", name) for wanted, name in zip(scope, subject, strict=True))


def _subject(data: dict[str, object]) -> Subject:
    subject = _mapping(data["subject"])
    return (
        str(subject["requester"]),
        str(subject["contract"]),
        str(subject["dataset"]),
        str(subject["lineage"]),
    )


def _charge(data: dict[str, object]) -> dict[str, int]:
    amounts = {str(metric): int(str(amount)) for metric, amount in _mapping(data["charge"]).items()}
    if any(amount < 0 for amount in amounts.values()):
        raise ValueError("negative amount")
    return amounts


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def _quarter(moment: datetime) -> int:
    return int(moment.timestamp()) // _QUARTER


def _time(value: object, index: int) -> datetime:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ReplayError("the event has no time", index=index, rule="replay.time") from error
    if moment.tzinfo is None:
        raise ReplayError("the event's time has no zone", index=index, rule="replay.time")
    return moment


def _zone(name: str, index: int) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ReplayError("unknown time zone", index=index, rule="replay.quota") from error
    return name
