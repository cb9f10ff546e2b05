# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""Consent applied: of the source's units, only those with a consent in force now enter a snapshot.

The register is read by the publisher like the data. Of a unit's rows the latest decides; two that are equally late and
differ are refused, and so is what cannot be read as declared: nobody's consent is guessed. Rows of others are removed
before any fact is checked or counted, so a snapshot is a function of consenting units alone. Who withdraws leaves dp
rows at once, and atoms by the rule of `carry`: with at least k others or not yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from weir.errors import Violation
from weir_server.catalog.basis import Consent
from weir_server.catalog.card import DatasetCard, declared_columns
from weir_server.clock import to_micros
from weir_server.engine.port import RowEngine
from weir_server.engine.relational import identifier, quote, statement
from weir_server.publish.fingerprint import fingerprint, row_hash
from weir_server.publish.grid import order_key, order_number, text_of, unit_key
from weir_server.publish.members import RENEWED, hashed_unit, keep, write_reference
from weir_server.publish.place import Place
from weir_server.publish.source import RAW, READ, read_columns

REGISTER = "consent_register"
IN_FORCE = "consent_in_force"
_ROWS = "consent_rows"
_LATEST = "consent_latest"
_KEYED = "consent_keyed"
_DECIDED = "consent_decided"
_CONSENTS = "weir_in_force"
"""Column: whether a row is a consent in force."""
_ORDER = "weir_order"
_EVIDENCE = "consent_evidence"
_FILE = "consent.parquet"
_REFERENCE = "consent.json"


@dataclass(frozen=True, slots=True)
class Applied:
    """What the register did."""

    digest: str
    """Salted fingerprint of the register for this version: says whether it is that register, and nothing of it."""
    left_out: int
    """Units of the source without a consent in force."""


def apply_consent(
    card: DatasetCard, consent: Consent, *, place: Place, path: Path | None, work: Path, now: datetime, version: int
) -> tuple[list[Violation], Applied]:
    """Make `source_raw` of the rows of `source_read` whose units have a consent in force at `now`, and keep the
    evidence of each: a keyed hash of the unit, and one of its row of the register (text version, channel and time
    included).

    Raises:
        PublicationError: the register is unreadable, or lacks a column.
    """
    rows = place.rows
    read_columns(consent.source, consent.columns, target=REGISTER, place=place, path=path, work=work)
    _latest(consent, rows)
    violations = _violations(consent, rows)
    if violations:
        return violations, Applied("", 0)
    evidence = row_hash(consent.columns, key=place.content_key)
    decided = ", ".join([*map(identifier, consent.columns), f"{_in_force(consent, now)} AS {_CONSENTS}"])
    rows.keep(_DECIDED, statement(f"SELECT {decided} FROM {_LATEST}"))
    kept = f"{text_of(consent.unit)} AS weir_unit, {evidence} AS weir_evidence"
    rows.keep(IN_FORCE, statement(f"SELECT {kept} FROM {_DECIDED} WHERE {_CONSENTS}"))
    violations = _without_evidence(consent, rows)
    left_out = _filter(card, rows)
    _keep_evidence(place, work)
    context = f"consent|{card.name}|{version}"
    digest = fingerprint(rows, relation=REGISTER, columns=consent.columns, salt=place.content_key, context=context)
    return violations, Applied(digest, left_out)


def _keep_evidence(place: Place, work: Path) -> None:
    hashed = hashed_unit("weir_unit", key=place.units_key)
    evidence = statement(f"SELECT {hashed} AS unit, weir_evidence AS evidence FROM {IN_FORCE}")
    if place.remote is None:
        place.local.keep(_EVIDENCE, evidence)
        place.local.run(f"COPY {_EVIDENCE} TO {quote(str(work / _FILE))} (FORMAT parquet)")
        return
    location, columns = place.remote.lasting("consent"), ("unit", "evidence")
    place.remote.engine.save(_EVIDENCE, evidence, path=location)
    named = fingerprint(
        place.rows, relation=_EVIDENCE, columns=columns, salt=place.content_key, context=f"evidence|{place.dataset}"
    )
    write_reference(work / _REFERENCE, location=location, fingerprint=named)


def keep_evidence(work: Path, directory: Path, *, version: int, digest: str) -> None:
    """Move the evidence of a publication to the dataset's private `directory`, durably; nothing where there is none."""
    for file, suffix in ((_FILE, "parquet"), (_REFERENCE, "json")):
        if (work / file).exists():
            keep(work / file, directory / "consent" / f"{version}-{digest[:32]}.{suffix}")


def withdrawn_held(rows: RowEngine) -> int:
    """Units behind records in force that have no consent now: those of atoms that were carried forward."""
    joined = f"{RENEWED} AS m LEFT JOIN {_EVIDENCE} AS e ON m.unit = e.unit"
    held = f"SELECT COUNT(DISTINCT m.unit) FROM {joined} WHERE m.present AND e.unit IS NULL"
    return int(rows.select(statement(held))[0][0])


def _latest(consent: Consent, rows: RowEngine) -> None:
    """Create `consent_latest`: each unit's latest rows of the purposes that count; equal rows are one."""
    wanted = "TRUE"
    if consent.purpose:
        listed = ", ".join(quote(purpose) for purpose in consent.purposes)
        wanted = f"COALESCE({text_of(consent.purpose)} IN ({listed}), FALSE)"
    columns = ", ".join(map(identifier, consent.columns))
    # Kept before it is sorted or made distinct: Sail can do neither, nor filter, by what is read in parts.
    kept = f"{columns}, {order_key(consent.order)} AS {_ORDER}"
    rows.keep(_KEYED, statement(f"SELECT {kept} FROM {REGISTER} WHERE {wanted}"))
    rows.keep(_ROWS, statement(f"SELECT DISTINCT {columns}, {_ORDER} FROM {_KEYED}"))
    rows.drop(_KEYED)
    order = f"{_ORDER} DESC NULLS FIRST"
    place = f"RANK() OVER (PARTITION BY {text_of(consent.unit)} ORDER BY {order}) AS weir_place"
    ranked = f"(SELECT {columns}, {place} FROM {_ROWS}) AS ranked"
    rows.keep(_LATEST, statement(f"SELECT {columns} FROM {ranked} WHERE weir_place = 1"))


def _checks(consent: Consent) -> list[tuple[str, str, str, str]]:
    """Rule, column, condition and sentence of everything that can be wrong with a row of the register."""
    unit = identifier(consent.unit)
    checks = [
        ("consent.unit", consent.unit, f"{unit} IS NULL", "every row of the register names its unit"),
        (
            "consent.order",
            consent.order,
            f"{order_key(consent.order)} IS NULL",
            "what orders the rows of a unit is a number, date or time in every row",
        ),
    ]
    checks += [
        (
            "consent.time",
            column,
            f"{identifier(column)} IS NOT NULL AND {_instant(column)} IS NULL",
            "a date or time, or nothing",
        )
        for column in consent.times
    ]
    return checks


def _violations(consent: Consent, rows: RowEngine) -> list[Violation]:
    checks, unit = _checks(consent), identifier(consent.unit)
    counted = [f"COUNT(*) FILTER (WHERE {condition})" for _, _, condition, _ in checks]
    numbered = f"COUNT({order_number(consent.order)})"
    *counts, numbers, total = rows.select(
        statement(f"SELECT {', '.join([*counted, numbered])}, COUNT(*) FROM {_ROWS}")
    )[0]
    found = [
        Violation(rule=rule, subject=subject, count=int(count), sentence=sentence)
        for (rule, subject, _, sentence), count in zip(checks, counts, strict=True)
        if count
    ]
    if not found and 0 < numbers < total:  # a number such as 20260101 would come before every date
        sentence = "either numbers order the rows, or dates and times do"
        found.append(Violation("consent.order", consent.order, min(int(numbers), int(total - numbers)), sentence))
    tied = f"(SELECT {unit} FROM {_LATEST} GROUP BY {unit} HAVING COUNT(*) > 1) AS tied"
    ties = int(rows.select(statement(f"SELECT COUNT(*) FROM {tied}"))[0][0])
    if ties:
        sentence = "units whose latest rows contradict each other: mend the register, nobody's consent is guessed"
        found.append(Violation(rule="consent.ties", subject=consent.order, count=ties, sentence=sentence))
    return found


def _without_evidence(consent: Consent, rows: RowEngine) -> list[Violation]:
    missing = " OR ".join(f"{identifier(column)} IS NULL" for column in (consent.text_version, consent.channel))
    found = f"SELECT COUNT(*) FROM {_DECIDED} WHERE {_CONSENTS} AND ({missing})"
    count = int(rows.select(statement(found))[0][0])
    sentence = "a consent in force says which text was agreed to, and by which channel"
    return [Violation("consent.evidence", consent.text_version, count, sentence)] if count else []


def _instant(column: str) -> str:
    """Microseconds since 1970; a time without a zone is UTC. NULL where it is none."""
    return f"EPOCH_MICROS({text_of(column)})"


def _in_force(consent: Consent, now: datetime) -> str:
    """Condition over a unit's latest row. What is unknown is no consent."""
    moment = to_micros(now)
    conditions = ["TRUE"]
    if consent.status:
        words = ", ".join(quote(word) for word in consent.in_force)
        conditions.append(f"{text_of(consent.status)} IN ({words})")
    if consent.valid_from:
        conditions.append(f"{_instant(consent.valid_from)} <= {moment}")
    for column in (consent.valid_until, consent.withdrawn):
        if column:
            conditions.append(f"COALESCE({_instant(column)} > {moment}, {identifier(column)} IS NULL)")
    return "COALESCE(" + " AND ".join(f"({condition})" for condition in conditions) + ", FALSE)"


def _filter(card: DatasetCard, rows: RowEngine) -> int:
    """Keep the rows of units with consent; how many units the others were. Rows that name no unit stay, to be
    refused."""
    unit = unit_key(card)
    joined = f"{READ} AS r LEFT JOIN {IN_FORCE} AS f ON CAST(r.{unit} AS TEXT) = f.weir_unit"
    outside = f"SELECT COUNT(DISTINCT r.{unit}) FROM {joined} WHERE f.weir_unit IS NULL"
    left_out = int(rows.select(statement(outside))[0][0])
    columns = ", ".join(f"r.{identifier(column)} AS {identifier(column)}" for column in declared_columns(card))
    rows.keep(RAW, statement(f"SELECT {columns} FROM {joined} WHERE f.weir_unit IS NOT NULL OR r.{unit} IS NULL"))
    rows.drop(READ)
    return left_out
