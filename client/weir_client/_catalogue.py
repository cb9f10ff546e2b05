# SPDX-License-Identifier: Apache-2.0
"""What the service says about datasets, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from weir.v1 import (
    catalogue_service_pb2,
)

if TYPE_CHECKING:
    pass
from weir_client._values import (
    CellValue,
    RateCard,
    function_name,
    grade_name,
    literal_value,
    mode_name,
    rates_of,
    texts_of,
    time_of,
)


@dataclass(frozen=True, slots=True)
class Dimension:
    """A public attribute to filter and group by."""

    name: str
    title: str
    type: str
    """`integer`, `text` or `boolean`: type of its constants."""
    cells: tuple[CellValue, ...]
    """Declared values in order; for bins their lower ends."""
    labels: tuple[str, ...]
    """Labels of the cells for people; empty text where there is none."""
    row_level: bool
    """Whether one unit may have several values (dp only)."""
    coarsens: str
    """Finer dimension that this one coarsens; empty for a base dimension."""
    grade: str
    grading_scheme: str = ""
    """Scheme of the grade, where it is another than the dataset's."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A number with declared bounds."""

    name: str
    title: str
    unit: str
    lower: Decimal
    upper: Decimal
    scale: int
    """Decimal digits of its grid."""
    mode: str
    """Mode in which it is released."""
    buckets: tuple[tuple[Decimal, Decimal], ...]
    grade: str
    aggregates: tuple[str, ...]
    """What it can be asked for: `sum`, `avg`, …"""
    grading_scheme: str = ""
    """Scheme of the grade, where it is another than the dataset's."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One immutable version of a dataset."""

    version: int
    published: datetime | None
    manifest_digest: str


@dataclass(frozen=True, slots=True)
class PrivacyAccount:
    """How a dataset accounts its privacy losses."""

    accounting: str
    """`pure`: epsilon binds. `concentrated`: rho (zCDP) binds."""
    lifetime: int
    """Lifetime budget that the card gives its lineage: nano-epsilon, or micro-rho where the accounting is
    concentrated."""
    delta_digits: int
    """Concentrated: an epsilon stated in a query holds at delta = 10**-delta_digits; 0 for pure accounting."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Card of a dataset; it holds no data."""

    name: str
    title: str
    description: str
    grade: str
    """`general`, `important` or `core`."""
    grading_scheme: str
    personal_information: bool
    legal_basis: str
    responsible: str
    provenance: str
    unit: str
    """What the privacy unit is called."""
    dimensions: tuple[Dimension, ...]
    measures: tuple[Measure, ...]
    modes: tuple[str, ...]
    snapshots: tuple[Snapshot, ...]
    """Newest first."""
    lineage: str
    keywords: tuple[str, ...]
    privacy_account: PrivacyAccount | None
    """None where nothing is released with dp."""
    unit_namespace: str = ""
    """What the units' identifiers are names in: datasets that share it speak of the same units. Empty: of its own."""
    derived_from: tuple[str, ...] = ()
    """Datasets it was made from."""
    effective_grade: str = ""
    """Grade that holds now: its own, or that of a source where no valid certificate regrades it."""
    certified_until: datetime | None = None
    """Until when a regrading certificate holds; None without one."""
    processing_basis: str = ""
    """What personal information rests on: `consent`, `anonymisation`, or empty where there is none."""
    basis_digest: str = ""
    """SHA-256 of the consent register or the anonymisation report, hex."""
    quality: dict[str, str] = field(default_factory=dict)
    """Statements on quality: name and sentence."""
    update_frequency: str = ""
    """How often it is renewed: `daily`, `monthly`, …, or empty."""
    list_rates: RateCard | None = None
    """List prices; what a contract states is what is charged. None where none are declared."""


def dataset_of(message: catalogue_service_pb2.Dataset) -> Dataset:
    """A card."""
    return Dataset(
        **texts_of(
            message,
            "name title description grading_scheme legal_basis responsible provenance unit lineage",
        ),
        grade=grade_name(message.grade),
        personal_information=message.personal_information,
        dimensions=tuple(_dimension(item) for item in message.dimensions),
        measures=tuple(_measure(item) for item in message.measures),
        modes=tuple(mode_name(mode) for mode in message.modes),
        snapshots=tuple(
            Snapshot(item.version, time_of(item, "published"), item.manifest_digest) for item in message.snapshots
        ),
        keywords=tuple(message.keywords),
        privacy_account=_privacy_account(message),
        **texts_of(message, "unit_namespace processing_basis basis_digest update_frequency"),
        derived_from=tuple(message.derived_from),
        effective_grade=grade_name(message.effective_grade or message.grade),
        certified_until=time_of(message, "certified_until"),
        quality=dict(message.quality),
        list_rates=rates_of(message.list_rates) if message.HasField("list_rates") else None,
    )


def _privacy_account(message: catalogue_service_pb2.Dataset) -> PrivacyAccount | None:
    if not message.HasField("privacy_account"):
        return None
    return PrivacyAccount(**texts_of(message.privacy_account, "accounting lifetime delta_digits"))


def _dimension(message: catalogue_service_pb2.Dimension) -> Dimension:
    return Dimension(
        **texts_of(message, "name title type row_level coarsens grading_scheme"),
        cells=tuple(literal_value(cell.value) for cell in message.cells),
        labels=tuple(cell.label for cell in message.cells),
        grade=grade_name(message.grade),
    )


def _measure(message: catalogue_service_pb2.Measure) -> Measure:
    return Measure(
        **texts_of(message, "name title unit scale grading_scheme"),
        lower=Decimal(message.lower or "0"),
        upper=Decimal(message.upper or "0"),
        mode=mode_name(message.mode),
        buckets=tuple((Decimal(item.lower), Decimal(item.upper)) for item in message.buckets),
        grade=grade_name(message.grade),
        aggregates=tuple(function_name(number) for number in message.aggregates),
    )
