# SPDX-License-Identifier: Apache-2.0
"""The meter: totals per contract, requester and dataset, kept in the same transaction as the leaf they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from weir_server.ledger.values import PRIVACY_METRICS, MeterTotal, Metric, Subject
from weir_server.store import Transaction, integer, text


def count_privacy(tx: Transaction, subject: Subject, amounts: Mapping[Metric, int]) -> None:
    """Adds what is spent at reservation."""
    _count(tx, subject, ((m, a) for m, a in amounts.items() if m in PRIVACY_METRICS))


def count_answer(tx: Transaction, subject: Subject, amounts: Mapping[Metric, int]) -> None:
    """Adds what is spent when an answer is posted."""
    _count(tx, subject, ((m, a) for m, a in amounts.items() if m not in PRIVACY_METRICS))


def meter_totals(tx: Transaction, *, contract: str = "") -> list[MeterTotal]:
    """Totals over the lifetime, ordered; of one contract or of all."""
    where, parameters = (" WHERE contract = ?", (contract,)) if contract else ("", ())
    rows = tx.execute(
        f"SELECT contract, requester, dataset, metric, used FROM meter{where} "  # noqa: S608
        "ORDER BY contract, requester, dataset, metric",
        parameters,
    )
    return [MeterTotal(text(r[0]), text(r[1]), text(r[2]), text(r[3]), integer(r[4])) for r in rows]


def _count(tx: Transaction, subject: Subject, amounts: Iterable[tuple[Metric, int]]) -> None:
    # The table refuses a total beyond 2**62, so that a sum can never wrap.
    tx.execute_many(
        """INSERT INTO meter (contract, requester, dataset, metric, used) VALUES (?, ?, ?, ?, ?)
           ON CONFLICT (contract, requester, dataset, metric) DO UPDATE SET used = meter.used + excluded.used""",
        [(subject.contract, subject.requester, subject.dataset, m, a) for m, a in amounts if a],
    )
