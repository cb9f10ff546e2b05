# SPDX-License-Identifier: Apache-2.0
"""What a publication rests on, established over the source that was read: consents applied, or a report checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from weir.errors import Violation
from weir_server.assess.report import read_report, report_violations
from weir_server.catalog.card import DatasetCard, declared_columns
from weir_server.catalog.snapshot import Basis
from weir_server.engine.port import RowEngine
from weir_server.publish.consent import apply_consent
from weir_server.publish.fingerprint import fingerprint
from weir_server.publish.place import Place
from weir_server.publish.source import RAW


@dataclass(frozen=True, slots=True)
class Grounds:
    """What was established."""

    basis: Basis | None = None
    """Part of the manifest; None where nothing is processed on consent or as anonymised."""
    left_out: int = 0
    """Units of the source without a consent in force."""


def source_fingerprint(card: DatasetCard, rows: RowEngine, *, salt: bytes) -> str:
    """Names the content of `source_raw`: what an assessment report speaks of. Equal in every version."""
    columns = sorted(declared_columns(card))
    return fingerprint(rows, relation=RAW, columns=columns, salt=salt, context=f"source|{card.name}")


def establish(
    card: DatasetCard, *, place: Place, card_directory: Path, register: Path | None, work: Path, now: datetime,
    version: int,
) -> tuple[list[Violation], Grounds]:  # fmt: skip
    """Make `source_raw` by the card's consent register, or check its report against it.

    Raises:
        PublicationError: register or report is unreadable.
    """
    if card.consent is not None:
        violations, applied = apply_consent(
            card, card.consent, place=place, path=register, work=work, now=now, version=version
        )
        return violations, Grounds(Basis("consent", applied.digest), applied.left_out)
    if card.anonymisation is not None:
        report = read_report(card_directory / card.anonymisation.file)
        named = source_fingerprint(card, place.rows, salt=place.content_key)
        found = list(report_violations(card, card.anonymisation, report, fingerprint=named))
        return found, Grounds(Basis("anonymisation", report.digest, report.level))
    return [], Grounds()
