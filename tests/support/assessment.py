# SPDX-License-Identifier: Apache-2.0
"""Assessments for tests: a small card, its report, and an oracle in plain Python fractions, written from the papers."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.support.cards import parse
from tests.support.exact import SALT, write_csv
from weir_server.assess.assessment import Questions, assess
from weir_server.catalog.card import DatasetCard

Row = tuple[str, int, str, int]
"""Town, age band 0 to 3, disease, salary."""
DISEASES = (
    "flu", "gastritis", "cancer", "ulcer", "bronchitis", "pneumonia", "heart", "viral", "pressure", "obesity",
)  # fmt: skip


def patients_card(**changes: Any) -> DatasetCard:
    """Patients with two quasi-identifiers and two sensitive attributes."""
    content = {
        "name": "patients",
        "title": "Patients",
        "description": "",
        "grade": "GENERAL",
        "personal_information": False,
        "responsible": "office",
        "provenance": "made for a test",
        "lineage": "patients",
        "unit": {"name": "person", "column": "who"},
        "source": {"kind": "csv", "location": "patients.csv"},
        "dimensions": [
            {"name": "town", "type": "text", "column": "town", "cells": ["a", "b", "c"]},
            {"name": "age", "column": "age", "bins": {"edges": [0, 10, 20, 30, 40]}},
            {"name": "disease", "type": "text", "column": "disease", "cells": list(DISEASES)},
        ],
        "measures": [
            {"name": "salary", "column": "salary", "mode": "exact", "lower": 0, "upper": 100, "per_unit": "max"}
        ],
        "exact": {"k": 10, "coarsening": [{"drop": "disease"}, {"drop": "age"}, {"drop": "town"}]},
    }
    return parse(content | changes)


def patients(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One row a unit; ages are ten years apart."""
    return [
        {"who": f"u{i}", "town": town, "age": band * 10 + i % 10, "disease": disease, "salary": salary}
        for i, (town, band, disease, salary) in enumerate(rows)
    ]


def report_of(
    rows: Sequence[dict[str, Any]], directory: Path, *, card: DatasetCard | None = None, **questions: Any
) -> dict[str, Any]:
    """The report on these rows, parsed."""
    return dict(json.loads(report_bytes(rows, directory, card=card, **questions)))


def report_bytes(
    rows: Sequence[dict[str, Any]], directory: Path, *, card: DatasetCard | None = None, **questions: Any
) -> bytes:
    """The report on these rows: by town and age, of disease and salary, unless told otherwise."""
    asked: dict[str, Any] = {"quasi": ("town", "age"), "sensitive": ("disease", "salary")} | questions
    chosen = card or patients_card()
    source = write_csv(directory / "patients.csv", rows)
    return assess(
        chosen,
        Questions(**asked),
        card_directory=directory,
        data_dir=directory / "data",
        salt=SALT,
        source_override=source,
        threads=1,
    )


def ratio(content: dict[str, str]) -> Fraction:
    """A ratio of a report."""
    return Fraction(int(content["numerator"]), int(content["denominator"]))


# ── the oracle ────────────────────────────────────────────────────────────────────────────────────────────────────


def classes(rows: Sequence[Row]) -> list[list[Row]]:
    """Units that share town and age."""
    found: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        found[row[:2]].append(row)
    return list(found.values())


def distinct_l(rows: Sequence[Row], column: int) -> int:
    """Least number of values in a class."""
    return min(len({row[column] for row in group}) for group in classes(rows))


def entropy_l(rows: Sequence[Row], column: int) -> Decimal:
    """Least e^H of a class, to six digits."""
    with localcontext(prec=50):
        found = []
        for group in classes(rows):
            shares = [Decimal(c) / len(group) for c in Counter(row[column] for row in group).values()]
            found.append((-sum((p * p.ln() for p in shares), Decimal(0))).exp())
        return min(found).quantize(Decimal("0.000001"))


def equal_t(rows: Sequence[Row], column: int) -> Fraction:
    """Greatest variational distance of a class from all."""
    whole = Counter(row[column] for row in rows)
    found = []
    for group in classes(rows):
        own = Counter(row[column] for row in group)
        gaps = (abs(Fraction(own[v], len(group)) - Fraction(whole[v], len(rows))) for v in whole)
        found.append(sum(gaps, Fraction(0)) / 2)
    return max(found)


def ordered_t(rows: Sequence[Row], column: int) -> Fraction:
    """Greatest ordered earth mover's distance of a class from all."""
    values = sorted({row[column] for row in rows})
    if len(values) == 1:
        return Fraction(0)
    whole = Counter(row[column] for row in rows)
    found = []
    for group in classes(rows):
        own = Counter(row[column] for row in group)
        moved = total = Fraction(0)
        for value in values:
            moved += Fraction(own[value], len(group)) - Fraction(whole[value], len(rows))
            total += abs(moved)
        found.append(total / (len(values) - 1))
    return max(found)
