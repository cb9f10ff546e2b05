# SPDX-License-Identifier: Apache-2.0
"""The report of an assessment: a document of the provider in canonical JSON, named by its SHA-256.

It states counts of the source, so it stays with the provider; its digest and level are all that enters a manifest, the
log or a certificate. The fingerprint inside is salted, so that not even the digest can be guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from weir.canonical import NotCanonical, digest, parse_canonical
from weir.certificates import LEAST_LEVEL, REPORT_FORMAT
from weir.errors import PublicationError, Violation
from weir_server.catalog.basis import Anonymisation
from weir_server.catalog.card import DatasetCard

SCHEME = "GB/T 42460-2023"
MAX_BYTES = 4_000_000
_PPM = 10**6


@dataclass(frozen=True, slots=True)
class Assessed:
    """What publication asks of a report."""

    digest: str
    dataset: str
    fingerprint: str
    level: int
    named: frozenset[str]
    """Everything that was assessed: quasi-identifiers and sensitive attributes, by name."""
    risk: Fraction
    """Greatest prosecutor risk; 0 for aggregated data."""
    l: Mapping[str, int]  # noqa: E741 - the literature's name
    """Sensitive attribute to its least number of distinct values in a class."""
    t: Mapping[str, Fraction]
    """Sensitive attribute to its greatest distance."""


def ratio_json(value: Fraction) -> dict[str, str]:
    """A ratio, exactly, with its decimal to six digits for people (halves go to the even digit)."""
    whole, rest = divmod(round(value * _PPM), _PPM)
    return {
        "numerator": str(value.numerator),
        "denominator": str(value.denominator),
        "decimal": f"{whole}.{rest:06}",
    }


def read_report(path: Path) -> Assessed:
    """The report in a file.

    Raises:
        PublicationError: unreadable, or no canonical report.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PublicationError("the report cannot be read", rule="anonymisation.file") from error
    return parse_report(content)


def parse_report(content: bytes) -> Assessed:
    """The report in its bytes.

    Raises:
        PublicationError: no canonical report.
    """
    try:
        if len(content) > MAX_BYTES:
            raise ValueError("too large")
        report: Any = parse_canonical(content)
        if report["format"] != REPORT_FORMAT:
            raise ValueError("another format")
        return Assessed(
            digest=digest(content),
            dataset=str(report["dataset"]),
            fingerprint=str(report["source"]["fingerprint"]),
            level=int(report["level"]),
            named=frozenset(item["name"] for item in [*report["quasi_identifiers"], *report["sensitive"]]),
            risk=_ratio(report["risk"]["prosecutor"]["most"]),
            l={item["name"]: int(item["diversity"]["distinct"]) for item in report["sensitive"]},
            t={item["name"]: _ratio(item["closeness"]["t"]) for item in report["sensitive"]},
        )
    except (NotCanonical, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise PublicationError("the file is no report of `weir assess`", rule="anonymisation.file") from error


def _ratio(content: Mapping[str, str]) -> Fraction:
    return Fraction(int(content["numerator"]), int(content["denominator"]))


def report_violations(
    card: DatasetCard, declared: Anonymisation, report: Assessed, *, fingerprint: str
) -> Iterator[Violation]:
    """What the report lacks to carry a publication of this card and source."""
    if report.digest != declared.report:
        yield _lack("anonymisation.report", "report", "the file is another report than the card names")
    if report.dataset != card.name:
        yield _lack("anonymisation.dataset", "file", "the report speaks of another dataset")
    if report.fingerprint != fingerprint:
        sentence = "the report speaks of other data than this source, or an older release made it: assess again"
        yield _lack("anonymisation.source", "file", sentence)
    if report.level < LEAST_LEVEL:
        yield _lack("anonymisation.level", "level", f"level {LEAST_LEVEL} or 4 of {SCHEME}")
    if report.risk > Fraction(declared.most_risk_ppm, _PPM):
        yield _lack("anonymisation.most_risk", "most_risk", "the greatest risk of a unit passes the card's limit")
    for name, least in report.l.items():
        if least < declared.least_l:
            yield _lack("anonymisation.least_l", name, "fewer distinct values in a class than the card asks for")
    for name, most in report.t.items():
        if most > Fraction(declared.most_t_ppm, _PPM):
            yield _lack("anonymisation.most_t", name, "a class is further from the whole than the card allows")
    for dimension in card.dimensions:
        if dimension.coarsens is None and not {dimension.name, dimension.column} & report.named:
            sentence = "a dimension can be filtered by: assess it as quasi-identifier or as sensitive"
            yield _lack("anonymisation.coverage", dimension.name, sentence)


def _lack(rule: str, subject: str, sentence: str) -> Violation:
    return Violation(rule=rule, subject=subject, count=0, sentence=sentence)
