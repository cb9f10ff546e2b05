# SPDX-License-Identifier: Apache-2.0
"""What the log adds up to, kept beside it: traffic by hour, bills by month, privacy loss by day, entries by contract.

Everything here is worked out from log entries alone, in order, each once; the position moves in the transaction that
adds them. So it may lag behind the log by a moment, can be thrown away and made again, and is a second account of the
meter that the ledger did not write: pages compare the two.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from weir.errors import WeirError
from weir_server import log
from weir_server.ledger.values import MAX_CHARGE, MAX_LIMIT, PRIVACY_METRICS
from weir_server.observe import event, exception_fields
from weir_server.store import Store, Transaction, blob, integer

_BATCH = 1_000
_PAUSE_SECONDS = 1.0
_RETRY_SECONDS = 10.0
RELEASED, REFUSED, RESERVED = "weir.query.released", "weir.query.refused", "weir.query.reserved"
ANSWERS = "answers"
"""Counted beside the metrics of a bill: how many queries were answered."""

BilledKey = tuple[str, str, str, str, str, str, str]
"""Contract, requester, dataset, mode, currency, month, metric."""
SpentKey = tuple[str, str, str, str, str, str]
"""Lineage, requester, contract, dataset, day, metric."""


@dataclass(slots=True)
class Sums:
    """What a run of entries adds."""

    traffic: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    """Hour since 1970, type, reason."""
    billed: Counter[BilledKey] = field(default_factory=Counter)
    spent: Counter[SpentKey] = field(default_factory=Counter)
    contracts: list[tuple[str, int]] = field(default_factory=list)
    """Contract and index of each entry that names one."""


def add_up(entries: Iterable[tuple[int, bytes]]) -> Sums:
    """The sums of these entries. What is no event of this log's kinds counts as traffic only; amounts of one entry
    count all or none."""
    sums = Sums()
    for index, leaf in entries:
        try:
            _add(sums, index, json.loads(leaf))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            # Not an entry as this log writes them: somebody changed it. Its own page shows that, and where it was a
            # bill, meter and log differ; the entries behind it are counted all the same.
            continue
    return sums


def _add(sums: Sums, index: int, told: dict[str, Any]) -> None:
    """Adds one event.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, OverflowError: it has not the form of one.
    """
    kind, moment, data = str(told["type"]), datetime.fromisoformat(told["time"]).astimezone(UTC), told["data"]
    record, subject = data.get("record", {}), data.get("subject", {})
    reason = str(record.get("reason", "")) if kind == REFUSED else ""
    sums.traffic[int(moment.timestamp()) // 3600, kind, reason] += 1
    contract = _contract_of(told, data, subject)
    if contract:
        sums.contracts.append((contract, index))
    if kind == RELEASED:
        _bill(sums, moment, subject, record, data.get("charge", {}))
    elif kind == RESERVED:
        _spend(sums, moment, subject, data.get("charge", {}))


def keep(tx: Transaction, sums: Sums, *, start: int, end: int) -> bool:
    """Adds sums of the entries start ≤ index < end; False, and nothing done, where another has counted them."""
    moved = tx.execute("UPDATE usage_position SET entries = ? WHERE id = 1 AND entries = ? RETURNING id", (end, start))
    if not moved:
        return False
    tx.execute_many(
        "INSERT INTO usage_traffic (hour, type, reason, entries) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (hour, type, reason) DO UPDATE SET entries = usage_traffic.entries + excluded.entries",
        [(*key, number) for key, number in sums.traffic.items()],
    )
    tx.execute_many(
        "INSERT INTO usage_billed (contract, requester, dataset, mode, currency, month, metric, used) "  # noqa: S608
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (contract, requester, dataset, mode, currency, month, metric) "
        f"DO UPDATE SET used = {_added('usage_billed')}",
        _rows(sums.billed),
    )
    tx.execute_many(
        "INSERT INTO usage_spent (lineage, requester, contract, dataset, day, metric, used) "  # noqa: S608
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (lineage, requester, contract, dataset, day, metric) "
        f"DO UPDATE SET used = {_added('usage_spent')}",
        _rows(sums.spent),
    )
    tx.execute_many("INSERT INTO usage_contracts (contract, idx) VALUES (?, ?)", sums.contracts)
    return True


def _added(table: str) -> str:
    """The sum that a row of the table holds from now on. The meter's own totals end at `MAX_LIMIT`; what reaches it is
    no log of this ledger's, and must not stop the count by overflowing the column."""
    room = f"{MAX_LIMIT} - {table}.used"
    return f"{table}.used + CASE WHEN excluded.used < {room} THEN excluded.used ELSE {room} END"


def _rows(sums: Mapping[BilledKey, int] | Mapping[SpentKey, int]) -> list[tuple[str | int, ...]]:
    return [(*key, min(number, MAX_LIMIT)) for key, number in sums.items()]


def position(tx: Transaction) -> int:
    """How many entries are counted."""
    return integer(tx.execute("SELECT entries FROM usage_position WHERE id = 1")[0][0])


async def catch_up(store: Store) -> int:
    """Counts at most one batch of entries; gives how many."""
    start, entries = await asyncio.to_thread(store.read, _next_batch)
    if not entries:
        return 0
    end = entries[-1][0] + 1
    sums = await asyncio.to_thread(add_up, entries)
    await store.write(partial(keep, sums=sums, start=start, end=end))
    return len(entries)


async def keep_counted(store: Store) -> None:
    """Follows the log until the store stops or the task is cancelled."""
    while not store.stopped:
        pause = _PAUSE_SECONDS
        try:
            counted = await catch_up(store)
            pause = 0.02 if counted == _BATCH else _PAUSE_SECONDS
        except WeirError as error:
            event("usage_failed", level=logging.ERROR, **exception_fields(error))
            pause = _RETRY_SECONDS
        await asyncio.sleep(pause)


def _next_batch(tx: Transaction) -> tuple[int, list[tuple[int, bytes]]]:
    start, head = position(tx), log.read_head(tx)
    size = 0 if head is None else head.size
    rows = tx.execute(
        "SELECT idx, leaf FROM log_leaves WHERE idx >= ? AND idx < ? ORDER BY idx", (start, min(size, start + _BATCH))
    )
    return start, [(integer(index), blob(leaf)) for index, leaf in rows]


def _contract_of(told: dict[str, object], data: dict[str, object], subject: object) -> str:
    """The contract an entry is about: of a charge, of an approval, or its own subject."""
    if isinstance(subject, dict) and subject.get("contract"):
        return str(subject["contract"])
    if isinstance(data.get("contract"), str):
        return str(data["contract"])
    kind, _, name = str(told.get("subject", "")).partition("/")
    return name if kind == "contract" else ""


def _bill(
    sums: Sums, moment: datetime, subject: dict[str, str], record: dict[str, str], charge: dict[str, str]
) -> None:
    key = (
        subject.get("contract", ""),
        subject.get("requester", ""),
        subject.get("dataset", ""),
        str(record.get("mode", "")),
        str(record.get("currency", "")),
        moment.strftime("%Y-%m"),
    )
    amounts = _amounts(charge)
    sums.billed[(*key, ANSWERS)] += 1
    for metric, amount in amounts.items():
        sums.billed[(*key, metric)] += amount


def _spend(sums: Sums, moment: datetime, subject: dict[str, str], charge: dict[str, str]) -> None:
    names = (subject["lineage"], subject["requester"], subject["contract"], subject["dataset"])
    for metric, amount in _amounts(charge).items():
        if metric in PRIVACY_METRICS:
            sums.spent[(*names, moment.strftime("%Y-%m-%d"), metric)] += amount


def _amounts(charge: dict[str, str]) -> dict[str, int]:
    """Per metric what an entry charges, zeros left out; all of it is read before any of it is added.

    Raises:
        ValueError, TypeError, AttributeError: not as the ledger writes it.
        OverflowError: more than the ledger takes.
    """
    amounts = {metric: int(amount) for metric, amount in charge.items()}
    if not all(0 <= amount <= MAX_CHARGE for amount in amounts.values()):
        raise OverflowError("more than any entry charges")
    return {metric: amount for metric, amount in amounts.items() if amount}
