# SPDX-License-Identifier: Apache-2.0
"""What a publication rests on, established over the source that was read: consents applied, or a report checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from weir.errors import Violation
from weir_server.assess.report import read_report, report_violations
from weir_server.catalog.card import DatasetCard
from weir_server.catalog.snapshot import Basis
from weir_server.engine.duckdb import Engine
from weir_server.publish.consent import apply_consent
from weir_server.publish.fingerprint import fingerprint
from weir_server.publish.source import RAW, declared_columns


@dataclass(frozen=True, slots=True)
class Grounds:
    """What was established."""

    basis: Basis | None = None
    """Part of the manifest; None where nothing is processed on consent or as anonymised."""
    left_out: int = 0
    """Units of the source without a consent in force."""


def source_fingerprint(card: DatasetCard, engine: Engine, *, salt: bytes) -> str:
    """Names the content of `source_raw`: what an assessment report speaks of. Equal in every version."""
    columns = sorted(declared_columns(card))
    return fingerprint(engine, relation=RAW, columns=columns, salt=salt, context=f"source|{card.name}")


def establish(
    card: DatasetCard, *, engine: Engine, card_directory: Path, register: Path | None, work: Path, now: datetime,
    salt: bytes, version: int,
) -> tuple[list[Violation], Grounds]:  # fmt: skip
    """Apply the card's consent register to `source_raw`, or check its report against it.

    Raises:
        PublicationError: register or report is unreadable.
    """
    if card.consent is not None:
        violations, applied = apply_consent(
            card, card.consent, engine=engine, path=register, work=work, now=now, salt=salt, version=version
        )
        return violations, Grounds(Basis("consent", applied.digest), applied.left_out)
    if card.anonymisation is not None:
        report = read_report(card_directory / card.anonymisation.file)
        named = source_fingerprint(card, engine, salt=salt)
        found = list(report_violations(card, card.anonymisation, report, fingerprint=named))
        return found, Grounds(Basis("anonymisation", report.digest, report.level))
    return [], Grounds()
