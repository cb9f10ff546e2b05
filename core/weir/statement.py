# SPDX-License-Identifier: Apache-2.0
"""Bills, worked out from log entries alone, and written as CSV with FOCUS columns. Pure.

Source: FinOps Open Cost and Usage Specification (FOCUS) 1.x, column names.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from weir.amounts import format_epsilon, format_price
from weir.receipts import parse_event

FOCUS_COLUMNS = (
    "BillingPeriodStart",
    "BillingPeriodEnd",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "ChargeCategory",
    "ChargeDescription",
    "BilledCost",
    "BillingCurrency",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ServiceName",
    "ResourceId",
    "SubAccountId",
    "Tags",
)


@dataclass(slots=True)
class Line:
    """What one requester used of one dataset under one contract in one mode and month."""

    contract: str
    requester: str
    dataset: str
    mode: str
    """`exact`, `dp` or `encrypted`; empty where the record does not say."""
    currency: str
    month: str
    """Calendar month in UTC, `2026-11`."""
    answers: int = 0
    """Queries answered."""
    amounts: dict[str, int] = field(default_factory=dict)
    """Sum per metric; privacy loss of answered queries only."""

    @property
    def price_micro(self) -> int:
        """What is owed, in micro-units of the currency."""
        return self.amounts.get("price_micro", 0)


def statement(entries: Iterable[bytes], *, contract: str = "", month: str = "") -> list[Line]:
    """The bill that these leaves amount to, one line per contract, requester, dataset, mode, currency and month.

    `contract`, `month`: only those; empty for all. Leaves that are not answers are passed over, and so is
    what no contract pays: the loss that a publication itself takes.

    Raises:
        InvalidReceipt: a leaf is not an event.
    """
    lines: dict[tuple[str, ...], Line] = {}
    for leaf in entries:
        event = parse_event(leaf)
        if event["type"] != "weir.query.released":
            continue
        key, charge = _read(event)
        if not key[0] or (contract and key[0] != contract) or (month and key[5] != month):
            continue
        line = lines.setdefault(key, Line(*key))
        line.answers += 1
        for metric, amount in charge.items():
            line.amounts[metric] = line.amounts.get(metric, 0) + amount
    return [lines[key] for key in sorted(lines)]


def focus_csv(lines: Iterable[Line]) -> str:
    """The lines as CSV with FOCUS columns; amounts are exact decimals."""
    out = io.StringIO()
    writer = csv.DictWriter(out, FOCUS_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({name: _inert(value) for name, value in _focus(line).items()})
    return out.getvalue()


def _focus(line: Line) -> dict[str, str]:
    start, end = _month_bounds(line.month)
    epsilon = format_epsilon(line.amounts.get("epsilon_nano", 0))
    return {
        "BillingPeriodStart": start,
        "BillingPeriodEnd": end,
        "ChargePeriodStart": start,
        "ChargePeriodEnd": end,
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{line.mode or 'query'} answers, epsilon {epsilon}",
        "BilledCost": format_price(line.price_micro),
        "BillingCurrency": line.currency,
        "ConsumedQuantity": str(line.answers),
        "ConsumedUnit": "Queries",
        "ServiceName": "Weir",
        "ResourceId": line.dataset,
        "SubAccountId": line.requester,
        "Tags": f"contract={line.contract}",
    }


def _read(event: dict[str, object]) -> tuple[tuple[str, str, str, str, str, str], dict[str, int]]:
    data = event["data"]
    data = data if isinstance(data, dict) else {}
    subject, record, charge = data.get("subject") or {}, data.get("record") or {}, data.get("charge") or {}
    moment = datetime.fromisoformat(str(event["time"])).astimezone(UTC)
    key = (
        str(subject.get("contract", "")),
        str(subject.get("requester", "")),
        str(subject.get("dataset", "")),
        str(record.get("mode", "")),
        str(record.get("currency", "")),
        moment.strftime("%Y-%m"),
    )
    return key, {str(metric): int(str(amount)) for metric, amount in charge.items()}


def _month_bounds(month: str) -> tuple[str, str]:
    first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    year, number = (first.year + 1, 1) if first.month == 12 else (first.year, first.month + 1)
    return first.strftime("%Y-%m-%dT00:00:00Z"), f"{year:04d}-{number:02d}-01T00:00:00Z"


def _inert(value: str) -> str:
    """Text that no spreadsheet takes for a formula: names come from requesters."""
    return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
