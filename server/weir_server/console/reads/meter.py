# SPDX-License-Identifier: Apache-2.0
"""The meter beside what the log adds up to: two accounts of the same, kept by different code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from weir.errors import InvalidRequest
from weir.merkle import leaf_hash
from weir.statement import Line, statement
from weir_server.console.usage import ANSWERS, RELEASED, position
from weir_server.ledger.values import METRICS, PRIVACY_METRICS
from weir_server.log import read_head
from weir_server.store import Transaction, blob, integer, text

PAGE = 50
MOST_LEAVES = 20_000
"""Entries that one page reads to add a bill up anew."""
_PART = 10**9
BY = ("contract", "requester", "dataset", "month")


@dataclass(frozen=True, slots=True)
class Row:
    """Sums of one name."""

    name: str
    used: Mapping[str, int]
    """Per metric, answers among them."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric of one contract, twice."""

    metric: str
    metered: int
    logged: int

    @property
    def same(self) -> bool:
        """Whether both accounts say the same."""
        return self.metered == self.logged


@dataclass(frozen=True, slots=True)
class Bill:
    """What a contract owes, worked out from its log entries."""

    contract: str
    lines: Sequence[Line]
    compared: Sequence[Compared]
    altered: Sequence[int]
    """Entries of the bill whose bytes are not those in the tree."""
    counted: int
    """Log entries counted when it was worked out."""
    size: int
    """Entries in the log."""

    @property
    def current(self) -> bool:
        """Whether every entry is counted: before, the meter may be ahead."""
        return self.counted >= self.size

    @property
    def same(self) -> bool:
        """Whether meter and log agree, and the log is what was signed."""
        return not self.altered and all(item.same for item in self.compared)


def sums_by(tx: Transaction, column: str) -> list[Row]:
    """Sums over all bills by requester, dataset, contract or month, ordered by name. Reads every sum there is."""
    if column not in BY:
        raise InvalidRequest("the meter is told by contract, requester, dataset or month", field="by", rule="meter.by")
    rows = tx.execute(
        # In two parts: totals of many contracts together need more than 64 bits.
        f"SELECT {column}, metric, CAST(SUM(used / {_PART}) AS BIGINT), CAST(SUM(used % {_PART}) AS BIGINT) "  # noqa: S608
        f"FROM usage_billed WHERE contract <> '' GROUP BY {column}, metric ORDER BY {column}"
    )
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for name, metric, parts, rest in rows:
        found[text(name)][text(metric)] = integer(parts) * _PART + integer(rest)
    return [Row(name, used) for name, used in found.items()]


def contracts(tx: Transaction, *, after: str = "", limit: int = PAGE) -> tuple[list[str], str]:
    """Contracts that anything was metered under, by id; and the key of the next page."""
    rows = tx.execute(
        "SELECT DISTINCT contract FROM meter WHERE contract > ? ORDER BY contract LIMIT ?", (after, limit + 1)
    )
    names = [text(row[0]) for row in rows]
    return names[:limit], names[limit - 1] if len(names) > limit else ""


def compare(tx: Transaction, names: Sequence[str]) -> dict[str, list[Compared]]:
    """Meter and log of these contracts, metric by metric."""
    if not names:
        return {}
    metered = _sums(tx, "meter", names)
    # Privacy is spent when a query is reserved, everything else when it is answered.
    billed, spent = _sums(tx, "usage_billed", names), _sums(tx, "usage_spent", names)
    logged = {key: used for key, used in billed.items() if key[1] not in {*PRIVACY_METRICS, ANSWERS}} | spent
    return {
        name: [
            Compared(metric, metered.get((name, metric), 0), logged.get((name, metric), 0))
            for metric in METRICS
            if (name, metric) in metered or (name, metric) in logged
        ]
        for name in names
    }


def _sums(tx: Transaction, table: str, names: Sequence[str]) -> dict[tuple[str, str], int]:
    """Per contract and metric, the sum in a table."""
    marks = ", ".join("?" * len(names))
    found: dict[tuple[str, str], int] = defaultdict(int)
    for contract, metric, used in tx.execute(
        f"SELECT contract, metric, used FROM {table} WHERE contract IN ({marks})",  # noqa: S608
        names,
    ):
        found[text(contract), text(metric)] += integer(used)
    return dict(found)


def bill(tx: Transaction, contract: str) -> Bill:
    """The bill of a contract, added up anew from its entries, beside the meter.

    Raises:
        InvalidRequest: it has more entries than one page reads.
    """
    head = read_head(tx)
    leaves, altered = released(tx, contract)
    lines = statement(leaves, contract=contract)
    # Privacy is spent when a query is reserved: only of the rest do these entries tell all.
    compared = [
        item
        if item.metric in PRIVACY_METRICS
        else replace(item, logged=sum(line.amounts.get(item.metric, 0) for line in lines))
        for item in compare(tx, [contract])[contract]
    ]
    return Bill(contract, lines, compared, altered, position(tx), 0 if head is None else head.size)


def released(tx: Transaction, contract: str) -> tuple[list[bytes], list[int]]:
    """Entries of answers under a contract, in order; and the indexes of those whose bytes are not those in the tree.

    Raises:
        InvalidRequest: there are more than one page reads.
    """
    rows = tx.execute(
        "SELECT usage_contracts.idx, leaf, log_nodes.hash FROM usage_contracts "
        "LEFT JOIN log_leaves ON log_leaves.idx = usage_contracts.idx "
        "LEFT JOIN log_nodes ON log_nodes.level = 0 AND log_nodes.idx = usage_contracts.idx "
        "WHERE contract = ? AND (type = ? OR leaf IS NULL) ORDER BY usage_contracts.idx LIMIT ?",
        (contract, RELEASED, MOST_LEAVES + 1),
    )
    if len(rows) > MOST_LEAVES:
        raise InvalidRequest(
            f"more than {MOST_LEAVES} answers: use weir audit statement", field="contract", rule="console.bill_size"
        )
    good: list[bytes] = []
    altered: list[int] = []
    for index, leaf, node in rows:
        if leaf is None or node is None or leaf_hash(blob(leaf)) != blob(node):
            altered.append(integer(index))
        else:
            good.append(blob(leaf))
    return good, altered
