# SPDX-License-Identifier: Apache-2.0
import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.support.assessment import Row, patients, patients_card, ratio, report_bytes, report_of
from tests.support.cards import clinic, parse
from tests.support.exact import SALT, write_csv
from weir.canonical import canonical_json, digest
from weir.certificates import read_claim
from weir.errors import InvalidRequest, PublicationError
from weir_server.assess.assessment import Questions, assess, level_of
from weir_server.assess.report import parse_report, report_violations
from weir_server.catalog.basis import Anonymisation


def grouped(*groups: tuple[str, int, str]) -> list[Row]:
    """Units of classes, each given as town, age band, and diseases with spaces; salaries in order of writing."""
    rows: list[Row] = []
    for town, band, diseases in groups:
        rows += [(town, band, disease, 3 + len(rows) + i) for i, disease in enumerate(diseases.split())]
    return rows


def spread_of(report: dict[str, Any], name: str) -> dict[str, Any]:
    """What a report says of a sensitive attribute."""
    found: dict[str, Any] = next(item for item in report["sensitive"] if item["name"] == name)
    return found


# ── published worked examples ─────────────────────────────────────────────────────────────────────────────────────


def test_inpatients_of_machanavajjhala_and_others(tmp_path: Path) -> None:
    # l-Diversity (2007), figures 2 and 3: the same twelve patients, 4-anonymous and 3-diverse.
    anonymous = grouped(
        ("a", 0, "heart heart viral viral"), ("b", 0, "cancer heart viral viral"), ("a", 1, "cancer " * 4)
    )
    diverse = grouped(
        ("a", 0, "heart viral cancer cancer"),
        ("b", 0, "cancer heart viral viral"),
        ("a", 1, "heart viral cancer cancer"),
    )
    first, second = report_of(patients(anonymous), tmp_path), report_of(patients(diverse), tmp_path)
    assert (first["classes"]["k"], second["classes"]["k"]) == (4, 4)
    assert spread_of(first, "disease")["diversity"] == {"distinct": 1, "entropy": "1.000000"}
    assert spread_of(second, "disease")["diversity"] == {"distinct": 3, "entropy": "2.828427"}


def test_salaries_of_li_and_others(tmp_path: Path) -> None:
    # t-Closeness (2007), tables 3 and 5: salaries 3k to 11k; 0.375 for {3, 4, 5} alone, and 0.167-closeness.
    def rows(*classes: tuple[int, ...]) -> list[Row]:
        return [("a", band, "flu", salary) for band, salaries in enumerate(classes) for salary in salaries]

    diverse = report_of(patients(rows((3, 4, 5), (6, 11, 8), (7, 9, 10))), tmp_path)
    close = report_of(patients(rows((3, 5, 9), (6, 11, 8), (4, 7, 10))), tmp_path)
    assert ratio(spread_of(diverse, "salary")["closeness"]["t"]) == Fraction(375, 1000)
    assert ratio(spread_of(close, "salary")["closeness"]["t"]) == Fraction(1, 6)
    assert spread_of(close, "salary")["closeness"]["t"]["decimal"] == "0.166667"


def test_patients_of_sweeney(tmp_path: Path) -> None:
    # k-Anonymity (2002), figure 2: eleven patients, k = 2; two classes share one problem.
    rows = grouped(
        ("a", 0, "viral heart"), ("a", 1, "pressure pressure"), ("a", 2, "obesity heart"),
        ("b", 0, "heart obesity viral"), ("b", 1, "heart heart"),
    )  # fmt: skip
    report = report_of(patients(rows), tmp_path)
    assert (report["classes"]["k"], report["classes"]["sizes"]) == (2, [[2, 4], [3, 1]])
    assert spread_of(report, "disease")["diversity"]["distinct"] == 1
    assert ratio(report["risk"]["prosecutor"]["most"]) == Fraction(1, 2)
    assert ratio(report["risk"]["marketer"]) == Fraction(5, 11)


# ── what a report says ────────────────────────────────────────────────────────────────────────────────────────────

TWENTY = grouped(("a", 0, "flu heart " * 10), ("b", 0, "flu heart " * 15))
"""Classes of 20 and 30."""


def test_risk_at_most_one_in_twenty_is_level_three(tmp_path: Path) -> None:
    assert report_of(patients(TWENTY), tmp_path)["level"] == 3
    smaller = report_of(patients(TWENTY[1:]), tmp_path)
    assert (smaller["level"], smaller["classes"]["k"]) == (2, 19)
    assert ratio(smaller["risk"]["prosecutor"]["above_threshold"]) == Fraction(19, 49)


@pytest.mark.parametrize(
    ("direct", "risk", "group", "level"),
    [
        pytest.param(("name",), Fraction(1, 100), None, 1, id="direct identifier"),
        pytest.param(("name",), Fraction(1, 100), 50, 1, id="aggregates that name somebody"),
        pytest.param((), Fraction(1, 19), None, 2, id="above the threshold"),
        pytest.param((), Fraction(1, 20), None, 3, id="at the threshold"),
        pytest.param((), Fraction(1), 10, 4, id="aggregates of ten"),
        pytest.param((), Fraction(1, 100), 9, 2, id="aggregates of nine"),
    ],
)
def test_levels(direct: tuple[str, ...], risk: Fraction, group: int | None, level: int) -> None:
    assert level_of(direct=direct, risk=risk, least_group=group) == level


def test_a_population_scales_the_journalists_risk_and_not_the_level(tmp_path: Path) -> None:
    alone = report_of(patients(TWENTY[1:]), tmp_path)
    report = report_of(patients(TWENTY[1:]), tmp_path, population=490)
    assert "journalist" not in alone["risk"]
    assert ratio(report["risk"]["journalist"]["most"]) == Fraction(1, 190)
    assert ratio(report["risk"]["marketer"]) == Fraction(2, 490)
    assert (report["level"], alone["level"]) == (2, 2)
    with pytest.raises(InvalidRequest, match="population"):
        report_of(patients(TWENTY), tmp_path, population=49)


@pytest.mark.parametrize(
    "value", ["alice@example.org", "13812345678", "+8613812345678", "11010119900307123X", "110101199003071233"]
)
def test_identifiers_that_are_known_by_their_form_make_level_one(value: str, tmp_path: Path) -> None:
    rows = patients(TWENTY)
    marked = [row | {"disease": value if i % 2 else row["disease"]} for i, row in enumerate(rows)]
    report = report_of(marked, tmp_path, quasi=("town",), sensitive=())
    assert (report["level"], report["direct_identifiers"]) == (1, ["disease"])
    fewer = [row | {"disease": value if i % 2 and i > 1 else row["disease"]} for i, row in enumerate(rows)]
    assert report_of(fewer, tmp_path, quasi=("town",), sensitive=())["level"] == 3


def test_a_named_direct_identifier_makes_level_one(tmp_path: Path) -> None:
    report = report_of(patients(TWENTY), tmp_path, direct=("who",))
    assert (report["level"], report["direct_identifiers"]) == (1, ["who"])


def test_units_that_are_aggregates_of_ten_make_level_four(tmp_path: Path) -> None:
    rows = [row | {"salary": 10 + i} for i, row in enumerate(patients(TWENTY[:5]))]
    report = report_of(rows, tmp_path, sensitive=(), group_size="salary")
    assert (report["level"], report["aggregated_over"]) == (4, 10)
    assert ratio(report["risk"]["prosecutor"]["most"]) == 0
    rows[3]["salary"] = None
    assert report_of(rows, tmp_path, sensitive=(), group_size="salary")["level"] == 2


def test_a_column_is_finer_than_the_dimension_that_bins_it(tmp_path: Path) -> None:
    rows = patients(TWENTY)
    assert report_of(rows, tmp_path, quasi=("age",), sensitive=())["classes"]["k"] == 50
    banded = [
        {"name": "town", "type": "text", "column": "town", "cells": ["a", "b", "c"]},
        {"name": "band", "column": "age", "bins": {"edges": [0, 10, 20]}},
    ]
    card = patients_card(dimensions=banded, exact={"k": 10})
    assert report_of(rows, tmp_path, card=card, quasi=("band",), sensitive=())["classes"]["k"] == 50
    assert report_of(rows, tmp_path, card=card, quasi=("age",), sensitive=())["classes"]["k"] == 5


def test_where_rows_of_a_unit_differ_all_of_them_make_its_class(tmp_path: Path) -> None:
    content = clinic() | {"personal_information": False}
    rows = [
        {"who": who, "region": "north", "member": 1, "age": 20, "day": day, "spend": 1, "pain": 1, "ward": ward}
        for who, wards in (("x", (1, 2)), ("y", (2, 1)), ("z", (1, 1)))
        for day, ward in enumerate(wards)
    ]
    write_csv(tmp_path / "clinic.csv", rows)
    told = json.loads(
        assess(
            parse(content), Questions(quasi=("ward",)), card_directory=tmp_path, data_dir=tmp_path / "data", salt=SALT
        )
    )
    assert (told["units"], told["classes"]["sizes"]) == (3, [[1, 1], [2, 1]]), "x and y have wards 1 and 2, z only 1"


def test_units_that_lack_a_quasi_identifier_are_a_class_and_are_counted(tmp_path: Path) -> None:
    content = clinic() | {"personal_information": False}
    rows = [
        {"who": i, "region": "north", "member": None if i < 4 else 1, "age": 20, "day": 1, "spend": 1, "pain": 1}
        for i in range(10)
    ]
    write_csv(tmp_path / "clinic.csv", [row | {"ward": 1} for row in rows])
    told = json.loads(
        assess(
            parse(content), Questions(quasi=("member",), sensitive=("spend",)), card_directory=tmp_path,
            data_dir=tmp_path / "data", salt=SALT,
        )
    )  # fmt: skip
    assert told["classes"]["sizes"] == [[4, 1], [6, 1]]
    assert (told["coverage"]["complete_units"], told["coverage"]["share"]["decimal"]) == (6, "0.600000")
    assert told["not_assessed"] == ["age", "first_pain", "region", "rows_ward_1", "rows_ward_2", "worst"]


@pytest.mark.parametrize(
    ("questions", "rule"),
    [
        pytest.param({"quasi": ()}, "assess.quasi", id="none"),
        pytest.param({"quasi": ("nothing",)}, "assess.name", id="unknown"),
        pytest.param({"quasi": ("who",)}, "assess.name", id="the unit itself"),
        pytest.param({"quasi": ("town", "town")}, "assess.twice", id="twice"),
        pytest.param({"quasi": ("town",), "sensitive": ("town",)}, "assess.both", id="both"),
        pytest.param({"direct": ("phone",)}, "assess.column", id="a column that is not read"),
        pytest.param({"group_size": "people"}, "assess.column", id="a group that is not read"),
    ],
)
def test_questions_that_make_no_sense_are_refused(questions: dict[str, Any], rule: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as refused:
        report_of(patients(TWENTY), tmp_path, **questions)
    assert refused.value.rule == rule


def test_a_row_without_a_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PublicationError) as refused:
        report_of([*patients(TWENTY), {"who": None, "town": "a"}], tmp_path)
    assert [(item.rule, item.count) for item in refused.value.violations] == [("unit.missing", 1)]


def test_a_source_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("who,town,age,disease,salary\n", encoding="utf-8")
    with pytest.raises(PublicationError) as refused:
        assess(
            patients_card(), Questions(quasi=("town",)), card_directory=tmp_path, data_dir=tmp_path / "data", salt=SALT
        )
    assert refused.value.rule == "assess.empty"


def test_a_report_is_canonical_and_the_same_for_the_same_rows_in_any_order(tmp_path: Path) -> None:
    rows = patients(TWENTY)
    first, second = report_bytes(rows, tmp_path), report_bytes(rows[::-1], tmp_path)
    assert first == second == canonical_json(json.loads(first))
    assert not list((tmp_path / "data" / "publishing").iterdir())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda rows: rows[1:], id="a row less"),
        pytest.param(lambda rows: [*rows, rows[0]], id="a row twice"),
        pytest.param(lambda rows: [rows[0] | {"salary": 99}, *rows[1:]], id="a value"),
        pytest.param(lambda rows: [rows[0] | {"salary": None}, *rows[1:]], id="a value missing"),
        pytest.param(lambda rows: [rows[0] | {"town": "b", "disease": "flu"}, *rows[1:]], id="two values"),
    ],
)
def test_any_change_of_the_source_changes_its_fingerprint(change: Any, tmp_path: Path) -> None:
    rows = patients(TWENTY)
    named = [report_of(found, tmp_path)["source"]["fingerprint"] for found in (rows, change(rows))]
    assert named[0] != named[1]


def test_a_fingerprint_is_salted_so_that_nobody_can_guess_a_row(tmp_path: Path) -> None:
    write_csv(tmp_path / "patients.csv", patients(TWENTY))
    named = {
        json.loads(
            assess(
                patients_card(), Questions(quasi=("town",)), card_directory=tmp_path, data_dir=tmp_path / "data",
                salt=salt,
            )
        )["source"]["fingerprint"]
        for salt in (SALT, bytes(32))
    }  # fmt: skip
    assert len(named) == 2


def test_columns_that_the_card_does_not_declare_are_not_read(tmp_path: Path) -> None:
    rows = patients(TWENTY)
    plain = report_bytes(rows, tmp_path)
    more = report_bytes([row | {"phone": "13812345678"} for row in rows], tmp_path)
    assert plain == more


# ── what a report is worth ────────────────────────────────────────────────────────────────────────────────────────


def rules(content: bytes, **changes: Any) -> set[str]:
    """Rules that a report breaks for the card it was made for."""
    report = parse_report(content)
    declared = Anonymisation(**({"report": digest(content), "file": "r.json"} | changes))
    found = report_violations(patients_card(), declared, report, fingerprint=report.fingerprint)
    return {item.rule for item in found}


def test_a_report_of_level_three_over_all_dimensions_carries_a_publication(tmp_path: Path) -> None:
    assert rules(report_bytes(patients(TWENTY), tmp_path)) == set()


def test_limits_of_the_card_are_held(tmp_path: Path) -> None:
    content = report_bytes(patients(TWENTY), tmp_path)
    assert rules(content, least_l=2, most_risk_ppm=50_000) == set()
    assert rules(content, least_l=3) == {"anonymisation.least_l"}
    assert rules(content, most_risk_ppm=49_999) == {"anonymisation.most_risk"}
    assert rules(content, most_t_ppm=100_000) == {"anonymisation.most_t"}
    assert rules(content, report="0" * 64) == {"anonymisation.report"}


def test_a_dimension_that_was_not_assessed_is_named(tmp_path: Path) -> None:
    assert rules(report_bytes(patients(TWENTY), tmp_path, sensitive=("salary",))) == {"anonymisation.coverage"}


def test_a_report_speaks_of_its_own_dataset_and_source(tmp_path: Path) -> None:
    content = report_bytes(patients(TWENTY), tmp_path)
    report, declared = parse_report(content), Anonymisation(digest(content), "r.json")
    found = report_violations(patients_card(name="others"), declared, report, fingerprint="0" * 64)
    assert {item.rule for item in found} == {"anonymisation.dataset", "anonymisation.source"}


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b'{"format":"weir.assessment/1"}', b'{ "format": "weir.assessment/1" }', b"\xff"]
)
def test_what_is_no_report_is_refused_everywhere(content: bytes) -> None:
    with pytest.raises(PublicationError):
        parse_report(content)
    with pytest.raises(InvalidRequest):
        read_claim(content)


def test_a_report_that_was_edited_is_another_report(tmp_path: Path) -> None:
    content = report_bytes(patients(TWENTY[1:]), tmp_path)
    edited = json.loads(content)
    edited["level"] = 3
    forged = canonical_json(edited)
    assert read_claim(forged).level == 3, "only its digest tells, which the card, the manifest and the signature name"
    assert rules(content) >= {"anonymisation.level"}
    declared = Anonymisation(digest(content), "r.json")
    report = parse_report(forged)
    found = report_violations(patients_card(), declared, report, fingerprint=report.fingerprint)
    assert "anonymisation.report" in {item.rule for item in found}


def test_numbers_of_a_report_are_texts_with_exact_ratios(tmp_path: Path) -> None:
    report = report_of(patients(TWENTY[1:]), tmp_path)
    assert report["risk"]["prosecutor"]["most"] == {"numerator": "1", "denominator": "19", "decimal": "0.052632"}
    assert Decimal(spread_of(report, "disease")["diversity"]["entropy"]) > 1
