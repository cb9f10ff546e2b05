# SPDX-License-Identifier: Apache-2.0
"""Making a published snapshot answerable: it succeeds the one before, fits its lineage, and pays for its report."""

from __future__ import annotations

from weir.certificates import LEAST_LEVEL
from weir.errors import PublicationError
from weir_server.catalog.card import DatasetCard, Grade
from weir_server.catalog.card_rules import check_card
from weir_server.catalog.lineage_rules import lineage_conflicts
from weir_server.catalog.snapshot import Snapshot
from weir_server.policy import book, exposure, lineage, unproven
from weir_server.policy.acting import Acting


def activate(acting: Acting, snapshot: Snapshot, report: bytes) -> int:
    """Make it answerable, for good; gives the index of its leaf.

    Raises:
        BudgetExhausted: the lineage cannot pay.
        PublicationError: not the next version, in conflict with its lineage, or of what a restore without proof lost.
    """
    unproven.require_settled(acting.tx, snapshot.card.name)
    _check_succession(acting, snapshot)
    _check_basis(snapshot)
    _check_sources(acting, snapshot.card)
    card = snapshot.card
    actor, now, entropy = acting.principal.name, acting.now, acting.entropy
    book.add_snapshot(acting.tx, snapshot)
    unproven.stop_first(acting, card)
    exposure.join(acting, card)  # Before anything is charged: the report counts in the shared account as well.
    lineage.set_budget(acting.tx, card, actor=actor, now=now, entropy=entropy)
    digest = acting.world.policy.digest
    lineage.book_report(acting.tx, snapshot, report, actor=actor, policy_digest=digest, now=now, entropy=entropy)
    data = {
        "version": snapshot.version,
        "manifest_digest": snapshot.manifest_digest,
        "grade": card.grade.name,
        "lineage": card.lineage,
        "responsible": card.responsible,
        **_basis(snapshot),
    }
    return acting.record("weir.dataset.published", f"dataset/{card.name}", data)


def _basis(snapshot: Snapshot) -> dict[str, object]:
    basis = snapshot.basis
    if basis is None:
        return {}
    told: dict[str, object] = {"basis": basis.kind, "basis_digest": basis.digest}
    return told if basis.kind == "consent" else {**told, "level": basis.level}


def _check_basis(snapshot: Snapshot) -> None:
    """What the card declares is what was done. A version written before there were bases lacks one, and must be built
    again; one that is active already stays so."""
    card, basis = snapshot.card, snapshot.basis
    declared = "consent" if card.consent is not None else "anonymisation" if card.anonymisation is not None else ""
    done = "" if basis is None else basis.kind
    if declared != done and card.grade is not Grade.CORE:
        raise PublicationError(
            "the version was built without what its card says of consent or anonymisation", rule="snapshot.basis"
        )
    if basis is None or card.anonymisation is None:
        return
    if basis.digest != card.anonymisation.report or basis.level < LEAST_LEVEL:
        raise PublicationError("the version rests on another report than its card names", rule="snapshot.basis")


def _check_sources(acting: Acting, card: DatasetCard) -> None:
    """A dataset is derived from known ones, and never from itself."""
    datasets = acting.world.catalogue.datasets
    for name in card.derived_from:
        if name not in datasets:
            raise PublicationError(
                f"it is derived from {name}, which the catalogue does not know",
                field="derived_from",
                rule="derived.unknown",
            )
    if card.name in acting.world.catalogue.origins(*card.derived_from):
        raise PublicationError("a dataset cannot be derived from itself", field="derived_from", rule="derived.cycle")


def _check_succession(acting: Acting, snapshot: Snapshot) -> None:
    card, datasets = snapshot.card, acting.world.catalogue.datasets
    previous = datasets.get(card.name, ())
    expected = previous[0].version + 1 if previous else 1
    if snapshot.version != expected:
        raise PublicationError(f"the next version is {expected}", field="snapshot", rule="snapshot.version")
    if previous and previous[0].card.lineage != card.lineage:
        raise PublicationError("a dataset cannot change its lineage", rule="snapshot.lineage")
    if violations := check_card(card):
        raise PublicationError(
            "; ".join(f"{v.subject}: {v.sentence}" for v in violations[:20]),
            violations=violations,
            rule="card.rules",
        )
    # Old versions stay answerable, so what they released counts as well.
    published = [old.card for versions in datasets.values() for old in versions]
    if conflicts := lineage_conflicts(card, published, relatives=acting.world.catalogue.relatives(card)):
        raise PublicationError(
            "; ".join(f"{v.subject}: {v.sentence}" for v in conflicts[:20]),
            violations=conflicts,
            rule=conflicts[0].rule,
        )
