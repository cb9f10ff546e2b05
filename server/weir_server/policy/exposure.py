# SPDX-License-Identifier: Apache-2.0
"""Accounts that datasets share: lineages join the namespace of their units, and how far the accounts are used."""

from __future__ import annotations

from datetime import datetime

from weir.errors import PublicationError
from weir.v1 import query_service_pb2
from weir_server.catalog.card import DatasetCard
from weir_server.ledger import PRIVACY_METRICS, Charge, Quota, Subject, balances, join_namespace, namespace_of
from weir_server.policy.acting import Acting
from weir_server.store import Transaction


def join(acting: Acting, card: DatasetCard) -> None:
    """Puts the lineage of a card that is published into the namespace of its units. A card that names none changes
    nothing: what has joined stays.

    Raises:
        PublicationError: the lineage is in another namespace.
    """
    if not card.unit_namespace:
        return
    known = namespace_of(acting.tx, card.lineage)
    if known not in (None, card.unit_namespace):
        raise PublicationError(
            f"the lineage is in the namespace {known}, and keeps it", field="unit.namespace", rule="lineage.namespace"
        )
    join_namespace(acting.tx, card.lineage, card.unit_namespace, now=acting.now, entropy=acting.entropy)


def exposures(tx: Transaction, subject: Subject, charge: Charge, *, now: datetime) -> list[query_service_pb2.Exposure]:
    """How far the accounts that a charge draws on are used by everybody: the lineage's, and its namespace's.

    MUST NOT be shown to whom the policy denies: it tells what others have asked.
    """
    found = []
    for balance in balances(tx, [subject], now=now):
        quota = balance.quota
        if _is_account(quota):
            exposure = query_service_pb2.Exposure(
                scope="namespace" if quota.namespace else "lineage",
                name=quota.namespace or quota.lineage or "",
                metric=quota.metric,
                limit=quota.limit,
                used=balance.used,
                adds=charge.get(quota.metric, 0),
            )
            found.append(exposure)
    return found


def _is_account(quota: Quota) -> bool:
    """Whether a limit is the privacy account of a lineage or namespace as a whole, and no share of somebody's."""
    shared = (quota.requester, quota.contract, quota.dataset) == (None, None, None)
    whole = quota.namespace is not None or quota.lineage is not None
    return shared and whole and quota.window == "lifetime" and quota.metric in PRIVACY_METRICS
