# SPDX-License-Identifier: Apache-2.0
"""The meter: totals per contract, requester and dataset, kept in the same transaction as the leaf they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from weir.errors import InternalError
from weir_server.ledger.values import MAX_LIMIT, METRICS, PRIVACY_METRICS, MeterTotal, Metric, Subject
from weir_server.store import Transaction, integer, text
from weir_server.store.pending import Table

_METER = Table(
    "meter",
    ("contract", "requester", "dataset", "metric", "used"),
    "ON CONFLICT (contract, requester, dataset, metric) DO UPDATE SET used = excluded.used",
)

_AT_RESERVATION = tuple(metric for metric in METRICS if metric in PRIVACY_METRICS)
_AT_ANSWER = tuple(metric for metric in METRICS if metric not in PRIVACY_METRICS)


def count_privacy(tx: Transaction, subject: Subject, amounts: Mapping[Metric, int]) -> None:
    """Adds what is spent at reservation."""
    _count(tx, subject, amounts, _AT_RESERVATION)


def count_answer(tx: Transaction, subject: Subject, amounts: Mapping[Metric, int]) -> None:
    """Adds what is spent when an answer is posted."""
    _count(tx, subject, amounts, _AT_ANSWER)


def meter_totals(tx: Transaction, *, contract: str = "") -> list[MeterTotal]:
    """Totals over the lifetime, ordered; of one contract or of all."""
    where, parameters = (" WHERE contract = ?", (contract,)) if contract else ("", ())
    rows = tx.execute(
        f"SELECT contract, requester, dataset, metric, used FROM meter{where} "  # noqa: S608
        "ORDER BY contract, requester, dataset, metric",
        parameters,
    )
    return [MeterTotal(text(r[0]), text(r[1]), text(r[2]), text(r[3]), integer(r[4])) for r in rows]


def _count(tx: Transaction, subject: Subject, amounts: Mapping[Metric, int], metrics: Sequence[Metric]) -> None:
    counted = [(metric, amounts[metric]) for metric in metrics if amounts[metric]]
    if not counted:
        return
    totals = dict(_used(tx, subject))
    whose = (subject.contract, subject.requester, subject.dataset)
    for metric, amount in counted:
        totals[metric] = total = totals.get(metric, 0) + amount
        if total > MAX_LIMIT:  # As the table would, but for this operation alone.
            raise InternalError("a meter's total is out of range", rule="meter.range")
        tx.put(_METER, (*whose, metric), (*whose, metric, total))
    tx.remember(("meter", *whose), totals)


def _used(tx: Transaction, subject: Subject) -> dict[str, int]:
    """Totals of contract, requester and dataset, by metric. Never changed in place: a failed operation is undone."""
    whose = (subject.contract, subject.requester, subject.dataset)
    known: dict[str, int] | None = tx.recall(("meter", *whose))
    if known is None:
        rows = tx.look_up("SELECT metric, used FROM meter WHERE contract = ? AND requester = ? AND dataset = ?", whose)
        known = {text(metric): integer(used) for metric, used in rows}
        tx.remember(("meter", *whose), known)
    return known
