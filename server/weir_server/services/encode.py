# SPDX-License-Identifier: Apache-2.0
"""Wire form of dataset cards: public declarations, and no data."""

from __future__ import annotations

from datetime import datetime
from decimal import Context, Decimal
from itertools import pairwise

from weir.query import Literal
from weir.v1 import answer_pb2, catalogue_service_pb2
from weir.wire import function_to_proto, literal_to_proto
from weir_server.catalog.card import Cell, DatasetCard, Dimension, Grade, Measure, Mode, modes_under
from weir_server.catalog.snapshot import Snapshot
from weir_server.policy.encode import rates_to_proto

_MODES = {mode: f"MODE_{mode.name}" for mode in Mode}
_GRADES = {grade: f"GRADE_{grade.name}" for grade in Grade}
_EXACT = Context(prec=80)
"""Bounds have up to 19 digits; the default context would do, but must not be relied on."""


def dataset_to_proto(
    snapshots: tuple[Snapshot, ...], *, grade: Grade, certified_until: datetime | None = None
) -> catalogue_service_pb2.Dataset:
    """A dataset by the card of its newest snapshot. `snapshots`: newest first, at least one. `grade`: what holds.
    `certified_until`: how long a certificate makes it hold."""
    card, basis = snapshots[0].card, snapshots[0].basis
    message = catalogue_service_pb2.Dataset(
        name=card.name,
        title=card.title,
        description=card.description,
        grade=_GRADES[card.grade],
        grading_scheme=card.grading_scheme,
        personal_information=card.personal_information,
        legal_basis=card.legal_basis,
        responsible=card.responsible,
        provenance=card.provenance,
        unit=card.unit_name,
        dimensions=[_dimension(dimension) for dimension in card.dimensions],
        measures=[_measure(measure) for measure in card.measures],
        modes=[_MODES[mode] for mode in modes_under(card, grade)],
        snapshots=[_snapshot(snapshot) for snapshot in snapshots],
        lineage=card.lineage,
        keywords=card.keywords,
        privacy_account=_privacy_account(card),
        unit_namespace=card.unit_namespace,
        derived_from=card.derived_from,
        effective_grade=_GRADES[grade],
        processing_basis="" if basis is None else basis.kind,
        basis_digest="" if basis is None else basis.digest,
        quality=card.quality,
        update_frequency=card.update_frequency,
        list_rates=None if card.list_rates is None else rates_to_proto(card.list_rates),
    )
    if certified_until is not None:
        message.certified_until.FromDatetime(certified_until)
    return message


def _privacy_account(card: DatasetCard) -> catalogue_service_pb2.PrivacyAccount | None:
    if card.budget_lifetime == 0:
        return None
    return catalogue_service_pb2.PrivacyAccount(
        accounting=card.accounting,
        lifetime=card.budget_lifetime,
        delta_digits=card.delta_digits if card.concentrated else 0,
    )


def grid_text(steps: int, *, scale: int) -> str:
    """Decimal text of a number of grid steps of 10**-scale."""
    return format(Decimal(steps).scaleb(-scale, _EXACT), "f")


def _dimension(dimension: Dimension) -> catalogue_service_pb2.Dimension:
    return catalogue_service_pb2.Dimension(
        name=dimension.name,
        title=dimension.title,
        type=dimension.type,
        cells=[_cell(cell) for cell in dimension.cells],
        row_level=dimension.row_level,
        coarsens=dimension.coarsens or "",
        grade=_GRADES[dimension.grade],
        grading_scheme=dimension.grading_scheme,
    )


def _cell(cell: Cell) -> catalogue_service_pb2.DimensionCell:
    value = None if cell.value is None else literal_to_proto(Literal(cell.value))
    return catalogue_service_pb2.DimensionCell(value=value, label=cell.label)


def _measure(measure: Measure) -> catalogue_service_pb2.Measure:
    edges = [grid_text(edge, scale=measure.scale) for edge in measure.buckets]
    return catalogue_service_pb2.Measure(
        name=measure.name,
        title=measure.title,
        unit=measure.unit,
        lower=grid_text(measure.lower, scale=measure.scale),
        upper=grid_text(measure.upper, scale=measure.scale),
        scale=measure.scale,
        mode=_MODES[measure.mode],
        buckets=[answer_pb2.Bucket(lower=low, upper=high) for low, high in pairwise(edges)],
        grade=_GRADES[measure.grade],
        grading_scheme=measure.grading_scheme,
        aggregates=sorted(function_to_proto(function) for function in measure.statistics),
    )


def _snapshot(snapshot: Snapshot) -> catalogue_service_pb2.Snapshot:
    message = catalogue_service_pb2.Snapshot(version=snapshot.version, manifest_digest=snapshot.manifest_digest)
    message.published.FromDatetime(snapshot.published)
    return message
