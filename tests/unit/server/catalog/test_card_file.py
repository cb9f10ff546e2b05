# SPDX-License-Identifier: Apache-2.0
import copy
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cards import clinic, consented, parse, spending
from weir.errors import CardError, PublicationError
from weir.query import Function
from weir_server.catalog.card import Cell, Grade, Mode, PerUnit, Reduction
from weir_server.catalog.card_file import load_card, parse_card
from weir_server.catalog.card_reader import read_yaml
from weir_server.catalog.card_rules import check_card
from weir_server.catalog.codec import card_from_json, card_to_json

EXAMPLES = Path(__file__).parents[4] / "examples" / "rand_hie"
Change = Callable[[dict[str, Any]], Any]


def test_a_card_is_read_onto_its_grid() -> None:
    card = parse(clinic())
    spend = card.measure("spend")
    assert spend is not None
    assert (spend.lower, spend.upper, spend.scale, spend.missing) == (-1000, 9000, 2, 0)
    assert spend.buckets == (-1000, 0, 550, 2000, 9000)
    assert spend.rounding == "half_even"
    assert card.grade is Grade.GENERAL
    assert card.modes == (Mode.EXACT, Mode.ENCRYPTED)


def test_dimensions_keep_order_null_cell_bins_and_groups() -> None:
    card = parse(clinic())
    member, age, zone = card.dimension("member"), card.dimension("age"), card.dimension("zone")
    assert member is not None
    assert age is not None
    assert zone is not None
    assert [cell.value for cell in member.cells] == [True, False, None]
    assert age.cells == (Cell(0, "0–17"), Cell(18, "18–39"), Cell(40, "40–64"))
    assert age.edges == (0, 18, 40, 65)
    assert age.per_unit == PerUnit(Reduction.FIRST, "day")
    assert zone.mapping == (0, 0, 1, 1)


def test_null_is_a_key_with_quotes_and_without() -> None:
    quoted = yaml.safe_dump(clinic())
    plain = quoted.replace("'null': unknown", "null: unknown")
    assert plain != quoted
    assert parse_card(plain) == parse_card(quoted)
    with pytest.raises(CardError, match="a key appears twice"):
        parse_card(quoted.replace("'null': unknown", "'null': unknown\n  null: none"))
    with pytest.raises(CardError, match=r"known here: .*\bnull\b"):
        parse_card(plain.replace("null: unknown", "nul: unknown"))


def test_per_level_makes_one_measure_for_each_value() -> None:
    card = parse(clinic())
    levels = [(measure.name, measure.level) for measure in card.measures if measure.level]
    assert levels == [("rows_ward_1", ("ward", 1)), ("rows_ward_2", ("ward", 2))]


def test_statistics_default_to_what_the_buckets_allow() -> None:
    content = clinic()
    del content["measures"][0]["statistics"]
    measure = parse(content).measures[0]
    assert measure.statistics == {Function.SUM, Function.AVG, Function.HISTOGRAM}


def test_dp_terms_are_read_exactly() -> None:
    card = parse(spending())
    assert (card.accounting, card.budget_metric, card.budget_lifetime) == ("pure", "epsilon_nano", 4_500_000_000)
    assert card.report_epsilon == 100_000_000
    assert (card.bounds.rows_per_unit, dict(card.bounds.groups_per_unit)) == (3, {"ward": 2})
    assert card.modes == (Mode.DP, Mode.ENCRYPTED)


SEMICOLONS = clinic() | {"source": {"kind": "csv", "location": "a.csv", "delimiter": ";"}}


@pytest.mark.parametrize("content", [clinic(), spending(), SEMICOLONS], ids=["exact", "dp", "another delimiter"])
def test_a_card_survives_its_json(content: dict[str, Any]) -> None:
    card = parse(content)
    assert card_from_json(card_to_json(card)) == card


def test_the_largest_bounds_survive_json() -> None:
    card = parse(clinic())
    wide = replace(card.measures[1], lower=-(2**62) + 1, upper=2**62 - 1, width=2**62)
    card = replace(card, measures=(wide, replace(wide, name="d", level=("x", Decimal("1.5")))))
    assert card_from_json(card_to_json(card)) == card


@pytest.mark.parametrize("spoil", ["name", "grade", "measures", "source", "bounds", "coarsening"])
def test_json_that_is_no_card_is_refused(spoil: str) -> None:
    content = card_to_json(parse(clinic()))
    content[spoil] = 7 if spoil != "name" else content.pop("title")
    with pytest.raises(PublicationError):
        card_from_json(content)


def set_at(*path: Any) -> Change:
    """A change that sets the last of the path where the others lead."""
    *way, key, value = path

    def change(content: dict[str, Any]) -> None:
        place: Any = content
        for step in way:
            place = place[step]
        place[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        pytest.param(set_at("colour", "red"), "card.unknown_key", id="unknown key"),
        pytest.param(set_at("measures", 0, "colour", "red"), "card.unknown_key", id="unknown key of a measure"),
        pytest.param(set_at("exact", "steps", []), "card.unknown_key", id="unknown key of a section"),
        pytest.param(lambda c: c.pop("title"), "card.missing", id="missing key"),
        pytest.param(set_at("title", ""), "card.empty", id="empty text"),
        pytest.param(set_at("grade", "SECRET"), "card.choice", id="unknown grade"),
        pytest.param(set_at("personal_information", "yes"), "card.flag", id="no truth value"),
        pytest.param(
            lambda c: c.update(personal_information=True, legal_basis=""), "grade.legal_basis", id="no legal basis"
        ),
        pytest.param(set_at("name", "Clinic"), "name.form", id="bad name"),
        pytest.param(set_at("unit", "column", "weir_who"), "column.reserved", id="unit by a name of ours"),
        pytest.param(set_at("dimensions", 0, "column", "WEIR_region"), "column.reserved", id="our name in capitals"),
        pytest.param(set_at("dimensions", 0, "column", "we\u0131r_x"), "column.reserved", id="our name, dotless"),
        pytest.param(set_at("dimensions", 3, "per_unit", "first", "Weir_day"), "column.reserved", id="order, our name"),
        pytest.param(set_at("measures", 0, "column", "weir_spend"), "column.reserved", id="measure by a name of ours"),
        pytest.param(set_at("measures", 3, "per_level", "column", "weir_w"), "column.reserved", id="level, our name"),
        pytest.param(set_at("measures", 0, "column", "Region"), "column.case", id="columns differ in capitals only"),
        pytest.param(set_at("measures", 1, "name", "region"), "name.twice", id="name of a dimension and a measure"),
        pytest.param(set_at("source", "kind", "excel"), "card.choice", id="unknown source"),
        pytest.param(set_at("source", "kind", "duckdb"), "source.table", id="database without table"),
        pytest.param(set_at("source", "delimiter", "::"), "source.delimiter", id="unknown delimiter"),
        pytest.param(
            set_at("source", {"kind": "parquet", "location": "a", "delimiter": ";"}), "source.delimiter", id="not CSV"
        ),
        pytest.param(set_at("dimensions", 2, "cells", [True, True]), "dimension.cells_twice", id="cell twice"),
        pytest.param(set_at("dimensions", 0, "cells", [True]), "card.cell", id="cell of another type"),
        pytest.param(set_at("dimensions", 1, "groups", {"up": ["north"]}), "dimension.groups", id="group left out"),
        pytest.param(set_at("dimensions", 1, "coarsens", "age_group"), "dimension.coarsens", id="coarsens nothing"),
        pytest.param(set_at("dimensions", 3, "bins", "edges", [0, 40, 18, 65]), "dimension.edges", id="edges descend"),
        pytest.param(set_at("dimensions", 0, "per_unit", "max"), "dimension.per_unit", id="a dimension is no maximum"),
        pytest.param(set_at("dimensions", 0, "row_level", True), "dimension.row_level", id="row level without dp"),
        pytest.param(set_at("dimensions", 0, "grade", "IMPORTANT"), "grade.column", id="column stricter than dataset"),
        pytest.param(set_at("grade", "IMPORTANT"), "grade.exact", id="IMPORTANT is not exact"),
        pytest.param(set_at("measures", 0, "upper", "90.001"), "card.grid", id="bound off the grid"),
        pytest.param(set_at("measures", 0, "upper", "much"), "card.decimal", id="bound no number"),
        pytest.param(set_at("measures", 1, "lower", 10), "measure.bounds", id="empty bounds"),
        pytest.param(set_at("measures", 1, "upper", 2**62), "measure.bounds", id="bounds too wide"),
        pytest.param(set_at("measures", 1, "scale", 19), "measure.scale", id="scale too fine"),
        pytest.param(set_at("measures", 0, "round", "up"), "measure.round", id="unknown rounding"),
        pytest.param(set_at("measures", 0, "buckets", [0, 90]), "measure.buckets", id="buckets do not span the bounds"),
        pytest.param(set_at("measures", 1, "statistics", ["histogram"]), "measure.buckets", id="histogram, no buckets"),
        pytest.param(set_at("measures", 1, "statistics", ["quantile"]), "measure.statistics", id="exact quantile"),
        pytest.param(set_at("measures", 1, "statistics", ["mode"]), "measure.statistics", id="unknown statistic"),
        pytest.param(set_at("measures", 1, "width", 11), "measure.width", id="width beyond the bounds"),
        pytest.param(set_at("measures", 1, "missing", 11), "measure.missing", id="missing outside the bounds"),
        pytest.param(set_at("measures", 1, "per_unit", "constant"), "measure.per_unit", id="constant measure"),
        pytest.param(set_at("measures", 1, "per_unit", "first"), "measure.order", id="first without an order"),
        pytest.param(set_at("measures", []), "card.measures", id="no measure"),
        pytest.param(set_at("exact", "k", 9), "exact.k", id="k under ten"),
        pytest.param(set_at("exact", "coalition", 9), "exact.coalition", id="coalition of all but one"),
        pytest.param(set_at("exact", "residual", "keep"), "exact.residual", id="unknown residual"),
        pytest.param(set_at("exact", "coarsening", [{"drop": "zone"}]), "exact.coarsening", id="drops a coarser one"),
        pytest.param(
            set_at("exact", "coarsening", [{"drop": "age"}, {"coarsen": "age", "to": "adult"}]),
            "exact.coarsening",
            id="a step after the drop",
        ),
        pytest.param(
            set_at("exact", "coarsening", [{"coarsen": "region", "to": "adult"}]), "exact.coarsening", id="foreign step"
        ),
    ],
)
def test_a_broken_rule_is_named(change: Change, rule: str) -> None:
    content = clinic()
    change(content)
    with pytest.raises(CardError) as refused:
        parse(content)
    assert rule in {violation.rule for violation in refused.value.violations}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        pytest.param(set_at("dp", "epsilon_lifetime", None), "dp.epsilon_lifetime", id="no lifetime budget"),
        pytest.param(set_at("dp", "accounting", "concentrated"), "dp.rho_lifetime", id="no lifetime budget in rho"),
        pytest.param(set_at("dp", "rho_lifetime", "1"), "dp.rho_lifetime", id="a budget in the account that is not"),
        pytest.param(set_at("dp", "accounting", "float"), "card.choice", id="unknown accounting"),
        pytest.param(set_at("dp", "delta", "3e-9"), "dp.delta", id="delta no power of ten"),
        pytest.param(set_at("dp", "delta", "1"), "dp.delta", id="delta of one"),
        pytest.param(set_at("dp", "delta", "1e-31"), "dp.delta", id="delta too small"),
        pytest.param(set_at("dp", "report_epsilon", "5"), "dp.report_epsilon", id="report above the budget"),
        pytest.param(set_at("dp", "report_epsilon", "-1"), "dp.report_epsilon", id="negative loss of the report"),
        pytest.param(set_at("dp", "epsilon_lifetime", "-1"), "dp.epsilon_lifetime", id="negative budget"),
        pytest.param(set_at("dp", "epsilon_lifetime", "0.0000000001"), "dp.epsilon_lifetime", id="finer than nano"),
        pytest.param(set_at("dp", "rows_per_unit", 0), "dp.rows_per_unit", id="no row counts"),
        pytest.param(set_at("dp", "groups_per_unit", {"region": 1}), "dp.groups_per_unit", id="bound on a unit level"),
        pytest.param(set_at("dp", "groups_per_unit", {"ward": 3}), "dp.groups_per_unit", id="more groups than cells"),
    ],
)
def test_a_broken_dp_rule_is_named(change: Change, rule: str) -> None:
    content = spending()
    change(content)
    with pytest.raises(CardError) as refused:
        parse(content)
    assert rule in {violation.rule for violation in refused.value.violations}


@pytest.mark.parametrize(
    ("column", "rule"), [("Weir_since", "column.reserved"), ("STATE", "column.case")], ids=["our name", "capitals only"]
)
def test_a_registers_columns_keep_the_same_rules(column: str, rule: str) -> None:
    content = consented()
    set_at("consent", "valid_from", column)(content)
    with pytest.raises(CardError) as refused:
        parse(content)
    assert rule in {violation.rule for violation in refused.value.violations}


def test_one_column_is_never_released_both_ways() -> None:
    content = spending() | {"grade": "GENERAL", "exact": clinic()["exact"]}
    content["measures"] = [*content["measures"], clinic()["measures"][0]]
    with pytest.raises(CardError) as refused:
        parse(content)
    assert "lineage.both_ways" in {violation.rule for violation in refused.value.violations}


def test_a_core_dataset_is_catalogued_without_measures() -> None:
    content = clinic() | {"grade": "CORE", "measures": []}
    assert parse(content).modes == ()


def test_every_violation_is_listed_at_once() -> None:
    content = clinic()
    content["measures"][0]["colour"] = "red"
    content["measures"][1]["lower"] = "x"
    content["grade"] = "SECRET"
    with pytest.raises(CardError) as refused:
        parse(content)
    assert len(refused.value.violations) == 3
    content = clinic()
    content["exact"]["k"] = 9
    content["personal_information"], content["legal_basis"] = True, ""
    with pytest.raises(CardError) as refused:
        parse(content)
    rules = {"exact.k", "grade.legal_basis", "basis.missing"}
    assert {violation.rule for violation in refused.value.violations} == rules


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: [", id="cut off"),
        pytest.param("name: x\nname: y", id="a key twice"),
        pytest.param("- 1", id="a list"),
        pytest.param("!!python/object:os.system x", id="an object"),
        pytest.param("? [a]\n: 1", id="a list as key"),
        pytest.param("[" * 1500, id="too deep"),
        pytest.param("", id="empty"),
    ],
)
def test_what_is_no_card_is_a_card_error(text: str) -> None:
    with pytest.raises(CardError):
        parse_card(text)


def test_decimals_and_words_stay_what_people_wrote() -> None:
    content = copy.deepcopy(clinic())
    text = "upper: 90.10\nflag: yes\ndate: 2020-01-01"
    assert read_yaml(text) == {"upper": "90.10", "flag": "yes", "date": "2020-01-01"}
    content["measures"][0]["buckets"] = ["-10", "0.10", "90"]
    assert parse(content).measures[0].buckets == (-1000, 10, 9000)


def test_a_file_that_is_missing_or_no_text_is_a_card_error(tmp_path: Path) -> None:
    with pytest.raises(CardError):
        load_card(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CardError):
        load_card(tmp_path / "binary.yaml")


@pytest.mark.parametrize("name", ["visits", "spending"])
def test_the_demo_cards_break_no_rule(name: str) -> None:
    card = load_card(EXAMPLES / f"{name}.yaml")
    assert check_card(card) == []
