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
from weir_server.catalog.card import DatasetCard
from weir_server.clock import to_micros
from weir_server.engine.duckdb import Engine
from weir_server.engine.relational import expression, identifier, quote
from weir_server.publish.fingerprint import fingerprint, row_hash
from weir_server.publish.grid import order_key, text_of, unit_key
from weir_server.publish.members import MEMBERS
from weir_server.publish.source import RAW, read_columns

REGISTER = "consent_register"
IN_FORCE = "consent_in_force"
_LATEST = "consent_latest"
_EVIDENCE = "consent.parquet"


@dataclass(frozen=True, slots=True)
class Applied:
    """What the register did."""

    digest: str
    """Salted fingerprint of the register for this version: says whether it is that register, and nothing of it."""
    left_out: int
    """Units of the source without a consent in force."""


def evidence_path(directory: Path) -> Path:
    """Where the evidence of a publication is written, in its work directory."""
    return directory / _EVIDENCE


def apply_consent(
    card: DatasetCard, consent: Consent, *, engine: Engine, path: Path | None, work: Path, now: datetime, salt: bytes,
    version: int,
) -> tuple[list[Violation], Applied]:  # fmt: skip
    """Keep in `source_raw` the rows of units with a consent in force at `now`, and write the evidence of each: a salted
    hash of the unit, and one of its row of the register (text version, channel and time included).

    Raises:
        PublicationError: the register is unreadable, or lacks a column.
    """
    read_columns(consent.source, consent.columns, target=REGISTER, engine=engine, path=path, work=work)
    _latest(consent, engine)
    violations = _violations(consent, engine)
    if violations:
        return violations, Applied("", 0)
    unit = identifier(consent.unit)
    engine.run(
        f"CREATE TABLE {IN_FORCE} AS SELECT CAST({unit} AS VARCHAR) AS unit, {row_hash(consent.columns)} AS evidence "
        f"FROM {_LATEST} WHERE {_in_force(consent, now)}",
        [salt.hex()],
    )
    violations = _without_evidence(consent, engine, now)
    left_out = _filter(card, engine)
    engine.run(
        f"CREATE TABLE consent_evidence AS SELECT sha256(concat($1, '|', unit)) AS unit, evidence FROM {IN_FORCE}",
        [salt.hex()],
    )
    engine.run(f"COPY consent_evidence TO {quote(str(evidence_path(work)))} (FORMAT parquet)")
    context = f"consent|{card.name}|{version}"
    digest = fingerprint(engine, relation=REGISTER, columns=consent.columns, salt=salt, context=context)
    return violations, Applied(digest, left_out)


def withdrawn_held(engine: Engine) -> int:
    """Units behind records in force that have no consent now: those of atoms that were carried forward."""
    statement = (
        f"SELECT count(DISTINCT unit) FROM {MEMBERS} WHERE present "
        "AND unit NOT IN (SELECT unit FROM consent_evidence WHERE unit IS NOT NULL)"
    )
    return int(engine.one(statement))


def _latest(consent: Consent, engine: Engine) -> None:
    """Create `consent_latest`: each unit's latest rows of the purposes that count; equal rows are one."""
    wanted = "TRUE"
    if consent.purpose:
        listed = ", ".join(quote(purpose) for purpose in consent.purposes)
        wanted = f"coalesce(CAST({identifier(consent.purpose)} AS VARCHAR) IN ({listed}), FALSE)"
    engine.run(f"CREATE TABLE consent_rows AS SELECT DISTINCT * FROM {REGISTER} WHERE {wanted}")
    unit, key = f"CAST({identifier(consent.unit)} AS VARCHAR)", expression(order_key(consent.order))
    engine.run(
        f"CREATE TABLE {_LATEST} AS SELECT * FROM consent_rows "
        f"QUALIFY rank() OVER (PARTITION BY {unit} ORDER BY {key} DESC NULLS FIRST) = 1"
    )


def _checks(consent: Consent) -> list[tuple[str, str, str, str]]:
    """Rule, column, condition and sentence of everything that can be wrong with a row of the register."""
    unit = identifier(consent.unit)
    checks = [
        ("consent.unit", consent.unit, f"{unit} IS NULL", "every row of the register names its unit"),
        (
            "consent.order",
            consent.order,
            f"{expression(order_key(consent.order))} IS NULL",
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


def _violations(consent: Consent, engine: Engine) -> list[Violation]:
    checks, unit = _checks(consent), identifier(consent.unit)
    counted = ", ".join(f"count(*) FILTER (WHERE {condition})" for _, _, condition, _ in checks)
    counts = engine.query(f"SELECT {counted} FROM consent_rows")[0]
    found = [
        Violation(rule=rule, subject=subject, count=int(count), sentence=sentence)
        for (rule, subject, _, sentence), count in zip(checks, counts, strict=True)
        if count
    ]
    number = f"TRY_CAST({text_of(consent.order)} AS DECIMAL(38, 6)) IS NOT NULL"
    numbers, all_rows = engine.query(f"SELECT count(*) FILTER (WHERE {number}), count(*) FROM consent_rows")[0]
    if not found and 0 < numbers < all_rows:  # a number such as 20260101 would come before every date
        sentence = "either numbers order the rows, or dates and times do"
        found.append(Violation("consent.order", consent.order, min(int(numbers), int(all_rows - numbers)), sentence))
    ties = engine.one(f"SELECT count(*) FROM (SELECT {unit} FROM {_LATEST} GROUP BY 1 HAVING count(*) > 1)")
    if ties:
        sentence = "units whose latest rows contradict each other: mend the register, nobody's consent is guessed"
        found.append(Violation(rule="consent.ties", subject=consent.order, count=int(ties), sentence=sentence))
    return found


def _without_evidence(consent: Consent, engine: Engine, now: datetime) -> list[Violation]:
    missing = " OR ".join(f"{identifier(column)} IS NULL" for column in (consent.text_version, consent.channel))
    count = int(engine.one(f"SELECT count(*) FROM {_LATEST} WHERE {_in_force(consent, now)} AND ({missing})"))
    sentence = "a consent in force says which text was agreed to, and by which channel"
    return [Violation("consent.evidence", consent.text_version, count, sentence)] if count else []


def _instant(column: str) -> str:
    """Microseconds since 1970; a time without a zone is UTC. NULL where it is none."""
    return f"epoch_us(TRY_CAST(CAST({identifier(column)} AS VARCHAR) AS TIMESTAMPTZ))"


def _in_force(consent: Consent, now: datetime) -> str:
    """Condition over a unit's latest row. What is unknown is no consent."""
    moment = to_micros(now)
    conditions = ["TRUE"]
    if consent.status:
        words = ", ".join(quote(word) for word in consent.in_force)
        conditions.append(f"CAST({identifier(consent.status)} AS VARCHAR) IN ({words})")
    if consent.valid_from:
        conditions.append(f"{_instant(consent.valid_from)} <= {moment}")
    for column in (consent.valid_until, consent.withdrawn):
        if column:
            conditions.append(f"coalesce({_instant(column)} > {moment}, {identifier(column)} IS NULL)")
    return "coalesce(" + " AND ".join(f"({condition})" for condition in conditions) + ", FALSE)"


def _filter(card: DatasetCard, engine: Engine) -> int:
    """Remove rows of units without consent; how many units those were. Rows that name no unit stay, to be refused."""
    unit = f"CAST({unit_key(card)} AS VARCHAR)"
    outside = f"{unit} NOT IN (SELECT unit FROM {IN_FORCE})"
    left_out = int(engine.one(f"SELECT count(DISTINCT {unit}) FROM {RAW} WHERE {outside}"))
    engine.run(f"CREATE TABLE consented AS SELECT * FROM {RAW} WHERE NOT coalesce({outside}, FALSE)")
    engine.run(f"DROP TABLE {RAW}")
    engine.run(f"ALTER TABLE consented RENAME TO {RAW}")
    return left_out
