# SPDX-License-Identifier: Apache-2.0
"""Log entries by page, newest first, filtered by type, requester and contract: a bounded number of rows each time.

One filter walks an index; the others are tried on what it yields. Where a page of rows holds few hits, the page is
short, and the next one goes on from where it stopped.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from weir.errors import InvalidReceipt
from weir.merkle import leaf_hash
from weir.receipts import parse_event
from weir_server import log
from weir_server.store import Row, SqlValue, Transaction, blob, integer, text

PAGE = 50
_AMOUNT = re.compile(r"[1-9][0-9]{0,18}")
_LOOKED_AT = 2_000
"""Rows that one page looks at."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What is looked for; empty text for anything."""

    type: str = ""
    requester: str = ""
    contract: str = ""

    @property
    def any(self) -> bool:
        """Whether anything is asked."""
        return bool(self.type or self.requester or self.contract)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as stored."""

    index: int
    type: str
    requester: str
    leaf: bytes
    altered: bool
    """Whether its bytes do not hash to what is in the tree, are gone, or say another type or requester than the
    columns that lists are filtered by."""
    event: Mapping[str, Any] = field(default_factory=dict)
    """Decoded; empty where it is no event."""

    @property
    def time(self) -> datetime | None:
        """When, as the entry says."""
        try:
            return datetime.fromisoformat(str(self.event.get("time")))
        except ValueError:
            return None

    @property
    def data(self) -> Mapping[str, Any]:
        """The event's data."""
        data = self.event.get("data")
        return data if isinstance(data, dict) else {}

    def told(self, *path: str) -> str:
        """A text inside the data, or empty."""
        found: Any = self.data
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return "" if found is None or isinstance(found, dict | list) else str(found)

    @property
    def charges(self) -> list[tuple[str, int]]:
        """Metric and amount of what was charged; what is no amount is left out, and stands in the event."""
        charge = self.data.get("charge")
        items = charge.items() if isinstance(charge, dict) else ()
        return [(name, int(text)) for name, text in items if isinstance(text, str) and _AMOUNT.fullmatch(text)]

    @property
    def reasons(self) -> list[str]:
        """Reasons of a decision, as stated."""
        record = self.data.get("record")
        reasons = record.get("reasons") if isinstance(record, dict) else None
        return [str(reason) for reason in reasons] if isinstance(reasons, list) else []

    @property
    def subject(self) -> str:
        """What it is about."""
        return str(self.event.get("subject", ""))


@dataclass(frozen=True, slots=True)
class EntryPage:
    """A page of the log."""

    entries: Sequence[Entry]
    next: int | None
    """Entries below this index come next; None at the beginning of the log."""
    size: int
    """Entries in the log."""


def page(tx: Transaction, wanted: Filter, *, before: int | None = None, limit: int = PAGE) -> EntryPage:
    """Entries that fit, newest first, with an index below `before`."""
    head = log.read_head(tx)
    size = 0 if head is None else head.size
    bound = size if before is None else min(before, size)
    rows = _candidates(tx, wanted, bound)
    fitting = [row for row in rows if _fits(row, wanted)]
    shown = fitting[:limit]
    full = len(rows) == _LOOKED_AT or len(fitting) > limit
    last = shown[-1] if len(fitting) > limit else (rows[-1] if rows else None)
    following = integer(last[0]) if full and last is not None and integer(last[0]) > 0 else None
    indexes = [integer(row[0]) for row in shown]
    if not wanted.any:
        # The log has no gaps: what is missing between two entries was taken out.
        lowest = indexes[-1] if full else 0
        indexes = list(range(bound - 1, max(lowest, bound - limit) - 1, -1))
        following = indexes[-1] if indexes and indexes[-1] > 0 else None
    leaves = _leaves(tx, indexes)
    return EntryPage(leaves, following, size)


def find(tx: Transaction, index: int) -> Entry | None:
    """One sealed entry."""
    head = log.read_head(tx)
    if head is None or not 0 <= index < head.size:
        return None
    return _leaves(tx, [index])[0]


def first_since(tx: Transaction, moment: datetime) -> int:
    """Index of the first entry at or after a time; the size of the log where there is none. Time never runs back in the
    log, so a few dozen entries tell.
    """
    head = log.read_head(tx)
    low, high = 0, 0 if head is None else head.size
    while low < high:
        middle = (low + high) // 2
        rows = tx.execute("SELECT idx, type, requester, leaf, hash FROM log_leaves WHERE idx = ?", (middle,))
        told = _entry(rows[0], None).time if rows else None
        if told is not None and told < moment:
            low = middle + 1
        else:
            high = middle
    return low


def types(tx: Transaction) -> list[str]:
    """Every type of entry there is, by jumping through the index from one to the next."""
    found: list[str] = []
    while True:
        rows = tx.execute(
            "SELECT type FROM log_leaves WHERE type > ? ORDER BY type LIMIT 1", (found[-1] if found else "",)
        )
        if not rows:
            return found
        found.append(text(rows[0][0]))


def _candidates(tx: Transaction, wanted: Filter, bound: int) -> list[Row]:
    """Index, type and requester of what one index yields, newest first."""
    columns, parameters = "log_leaves.idx, type, requester", list[SqlValue]()
    if wanted.contract:
        source, where = "usage_contracts JOIN log_leaves ON log_leaves.idx = usage_contracts.idx", "contract = ? AND "
        order, parameters = "usage_contracts.idx", [wanted.contract]
    elif wanted.requester:
        source, where, order, parameters = "log_leaves", "requester = ? AND ", "log_leaves.idx", [wanted.requester]
    elif wanted.type:
        source, where, order, parameters = "log_leaves", "type = ? AND ", "log_leaves.idx", [wanted.type]
    else:
        source, where, order = "log_leaves", "", "log_leaves.idx"
    return tx.execute(
        f"SELECT {columns} FROM {source} WHERE {where}{order} < ? ORDER BY {order} DESC LIMIT {_LOOKED_AT if wanted.any else PAGE + 1}",  # noqa: E501, S608
        [*parameters, bound],
    )


def _fits(row: Row, wanted: Filter) -> bool:
    _, kind, requester = row
    return (not wanted.type or kind == wanted.type) and (not wanted.requester or requester == wanted.requester)


def _leaves(tx: Transaction, indexes: Sequence[int]) -> list[Entry]:
    """Entries of these indexes, in their order, each held against the hash that is in the tree; one whose row is gone
    is empty, and altered."""
    if not indexes:
        return []
    marks = ", ".join("?" * len(indexes))
    nodes = {
        integer(row[0]): blob(row[1])
        for row in tx.execute(f"SELECT idx, hash FROM log_nodes WHERE level = 0 AND idx IN ({marks})", indexes)  # noqa: S608
    }
    rows = tx.execute(f"SELECT idx, type, requester, leaf, hash FROM log_leaves WHERE idx IN ({marks})", indexes)  # noqa: S608
    found = {integer(row[0]): _entry(row, nodes.get(integer(row[0]))) for row in rows}
    return [found.get(index) or Entry(index, "", "", b"", altered=True) for index in indexes]


def _entry(row: Row, node: bytes | None) -> Entry:
    index, kind, requester, leaf, stored = row
    fresh = leaf_hash(blob(leaf))
    altered = not hmac.compare_digest(fresh, blob(stored)) or (node is not None and node != fresh)
    try:
        event = parse_event(blob(leaf))
    except InvalidReceipt:
        return Entry(integer(index), text(kind), text(requester), blob(leaf), altered=True)
    entry = Entry(integer(index), str(event["type"]), text(requester), blob(leaf), altered, event)
    whose = entry.told("subject", "requester") if entry.type.startswith("weir.query.") else ""
    return entry if (entry.type, whose) == (kind, requester) else replace(entry, altered=True)
