# SPDX-License-Identifier: Apache-2.0
"""What a publication does to the privacy account of its lineage: the lifetime budget, and the loss of its report.

Both belong to the transaction that makes the snapshot answerable. The account is one for all requesters and datasets of
the lineage; what each of them spends there, nobody can spend again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Literal

from weir.errors import PublicationError
from weir_server.catalog.card import DatasetCard, Mode
from weir_server.catalog.snapshot import Snapshot
from weir_server.dp.accounting import micro_rho, rho_of_pure_epsilon
from weir_server.dp.layout import REPORT
from weir_server.identity.holder import OPERATOR
from weir_server.ledger import Quota, ReservationRequest, Subject, charge_and_post, find_quota, set_quota
from weir_server.policy.unproven import is_unproven
from weir_server.store import Transaction

PURPOSE = "report of a publication"


def lineage_quota_id(lineage: str, metric: Literal["epsilon_nano", "rho_micro"] = "epsilon_nano") -> str:
    """Id of the lifetime privacy budget of a lineage."""
    return f"lineage-{lineage.replace('_', '-')}-{metric.partition('_')[0]}"


def set_budget(
    tx: Transaction, card: DatasetCard, *, actor: str, now: datetime, entropy: Callable[[int], bytes]
) -> None:
    """The lineage's lifetime budget in the account that binds, by its first card that has one.

    Set once: a later card cannot raise it, only an operator by name. In books that were restored without proof it
    starts with 0: what they do not know may have spent its budget.

    Raises:
        PublicationError: another lineage's budget has this name; or it starts with 0, and the card's report costs.
    """
    quota_id = lineage_quota_id(card.lineage, card.budget_metric)
    known = find_quota(tx, quota_id)
    if known is not None and known.lineage != card.lineage:
        raise PublicationError("the name of the lineage is too like another's", rule="lineage.name")
    if not card.budget_lifetime or known is not None:
        return
    budget, reason = Quota(quota_id, card.budget_metric, card.budget_lifetime, lineage=card.lineage), "publication"
    if is_unproven(tx):
        if reports(card):
            raise PublicationError(
                "the books were restored without proof, so a new lineage starts with a budget of 0 and cannot pay for "
                f"the report of its bounds: set its limit first, with weir quota set {quota_id} --metric "
                f"{card.budget_metric} --lineage {card.lineage}",
                field="lineage",
                rule="restore.budget",
            )
        budget, reason = replace(budget, limit=0), "publication after a restore without proof"
    set_quota(tx, budget, reason=reason, actor=actor, now=now, entropy=entropy)


def read_report(snapshot: Snapshot) -> bytes:
    """The released effects of bounds that the snapshot's publisher drew; empty where its card spends nothing on them.

    Raises:
        PublicationError: the card spends on it, and it is not there.
    """
    if not reports(snapshot.card):
        return b""
    if REPORT not in snapshot.files:
        raise PublicationError("the snapshot lacks the report of its bounds", rule="snapshot.report")
    return (snapshot.directory / REPORT).read_bytes()


def reports(card: DatasetCard) -> bool:
    """Whether a publication of the card says how much its bounds drop."""
    return card.report_epsilon > 0 and any(measure.mode is Mode.DP for measure in card.measures)


def book_report(
    tx: Transaction,
    snapshot: Snapshot,
    report: bytes,
    *,
    actor: str,
    policy_digest: str,
    now: datetime,
    entropy: Callable[[int], bytes],
) -> None:
    """Charges the lineage for the report, as for any release: reserved, posted, answer kept. Nobody sees the report
    before this is durable. Does nothing where there is none.

    It belongs to no contract and to no requester: the name is one that none can have, `operator/NAME`. Under the plain
    name an operator would spend the limits of the requester of that name, whose receipts would open the entry's salt.

    Raises:
        BudgetExhausted: the lineage cannot take it; then nothing is published.
    """
    card = snapshot.card
    if not reports(card):
        return
    rho = micro_rho(rho_of_pure_epsilon(card.report_epsilon))
    event = {
        "decision": "allowed",
        "purpose": PURPOSE,
        "snapshot": snapshot.version,
        "manifest_digest": snapshot.manifest_digest,
        "mode": Mode.DP.value,
        "release_mode": Mode.DP.value,
        "sticky": False,
    }
    request = ReservationRequest(
        subject=Subject(requester=f"{OPERATOR}/{actor}", contract="", dataset=card.name, lineage=card.lineage),
        idempotency_key=f"publication/{card.name}/{snapshot.version}",
        request_digest=snapshot.manifest_digest,
        charge={"epsilon_nano": card.report_epsilon, "rho_micro": rho},
        plan_digest=snapshot.manifest_digest,
        policy_digest=policy_digest,
        event=event,
        budget=card.budget_metric,
    )
    charge_and_post(tx, request, answer=report, event=event, now=now, entropy=entropy)
