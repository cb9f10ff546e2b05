# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.cards import clinic, parse, spending
from weir.errors import CardError
from weir_server.catalog.card import Bounds, DatasetCard
from weir_server.catalog.card_file import load_card
from weir_server.catalog.lineage_rules import card_conflicts, lineage_conflicts

EXAMPLES = Path(__file__).parents[4] / "examples" / "rand_hie"
Content = dict[str, Any]


def of(column: str, name: str = "other", **changes: Any) -> Content:
    """An exact measure over a column, 0 to 10."""
    return {"name": name, "column": column, "mode": "exact", "lower": 0, "upper": 10, **changes}


def levels(*values: Any, column: str = "ward") -> Content:
    """The section that makes a measure of each level."""
    return {"per_level": {"column": column, "values": list(values)}}


def band(column: str, **changes: Any) -> Content:
    """A dimension in two bins."""
    return {"name": "band", "column": column, "bins": {"edges": [0, 5, 10]}, **changes}


DP = {"name": "cost", "column": "cost", "mode": "dp", "lower": 0, "upper": 90}
WARD = {"name": "ward", "type": "integer", "column": "ward", "cells": [1, 2], "row_level": True}


def content(*measures: Content, dimensions: tuple[Content, ...] = (), rows: int = 3) -> Content:
    """A GENERAL card of these measures, with terms for both modes."""
    return clinic() | {
        "measures": list(measures),
        "dimensions": [*clinic()["dimensions"], *dimensions],
        "dp": {"rows_per_unit": rows, "epsilon_lifetime": "4.5"},
    }


def rules(made: Content) -> set[tuple[str, str]]:
    """Rules that the card breaks, with their subjects; empty where it is read."""
    try:
        parse(made)
    except CardError as refused:
        return {(item.rule, item.subject) for item in refused.violations}
    return set()


BOTH_WAYS = [
    pytest.param(content(DP, of("cost")), "cost", id="the same measure"),
    pytest.param(content(DP, of("pain"), dimensions=(band("cost"),)), "cost", id="a dimension on the dp measure"),
    pytest.param(content(DP, of("pain", **levels(1, column="cost"))), "cost", id="levels of the dp measure"),
    pytest.param(
        content(DP, of("pain", per_unit={"first": "cost"})), "cost", id="an order that depends on the dp measure"
    ),
    pytest.param(
        content(DP, of("pain"), dimensions=(band("day", per_unit={"first": "cost"}),)),
        "cost",
        id="order of a dimension",
    ),
    pytest.param(content(DP, of("ward"), dimensions=(WARD,)), "ward", id="sum of a row-level dimension"),
    pytest.param(
        content(DP, of("pain", **levels(1)), dimensions=(WARD,)), "ward", id="levels of a row-level dimension"
    ),
]


@pytest.mark.parametrize(("made", "column"), BOTH_WAYS)
def test_a_card_with_exact_measures_releases_no_column_both_ways(made: Content, column: str) -> None:
    assert rules(made) == {("lineage.both_ways", column)}


@pytest.mark.parametrize(("made", "column"), BOTH_WAYS)
def test_splitting_the_card_in_two_datasets_or_versions_changes_nothing(made: Content, column: str) -> None:
    exact, dp = split(made)
    for one, other in ((exact, dp), (dp, exact), (replace(dp, name=exact.name), exact)):
        assert [(item.rule, item.subject) for item in lineage_conflicts(one, [other])] == [("lineage.mode", column)]
    assert lineage_conflicts(replace(exact, lineage="elsewhere"), [dp]) == []


def split(made: Content) -> tuple[DatasetCard, DatasetCard]:
    """The exact part and the dp part as datasets of one lineage; each breaks no rule of its own."""
    measures, dimensions = made["measures"], made["dimensions"]
    exact = {
        "measures": [item for item in measures if item["mode"] == "exact"],
        "dimensions": [item for item in dimensions if not item.get("row_level")],
    }
    dp = {
        "name": "costs",
        "measures": [item for item in measures if item["mode"] == "dp"],
        "dimensions": [item for item in dimensions if item["name"] != "band"],
    }
    return parse(made | exact), parse(made | dp)


def test_a_dimension_beside_dp_measures_alone_may_bin_them() -> None:
    assert rules(content(DP, dimensions=(band("cost"),))) == set()


def test_what_varies_within_a_unit_stays_with_dp_beside_exact_measures_of_other_columns() -> None:
    assert rules(content(DP, of("pain"), dimensions=(WARD,))) == set()
    by_ward = of("pain", per_unit={"first": "ward"})
    assert rules(content(DP, by_ward, dimensions=(WARD,))) == set(), "an order tells of the first row alone"


def test_unit_level_dimensions_are_public_in_both_datasets_of_a_lineage() -> None:
    exact, dp = parse(content(of("pain"))), parse(content(DP) | {"name": "costs"})
    assert {item.column for item in exact.dimensions} == {item.column for item in dp.dimensions}
    assert lineage_conflicts(dp, [exact]) == []


def test_rows_that_dp_hides_are_not_counted_exactly_in_whatever_column() -> None:
    counted = of("pain", per_unit="count")
    assert rules(content(DP, counted)) == {("lineage.rows", "clinic")}
    exact, dp = split(content(DP, counted))
    assert [item.rule for item in lineage_conflicts(exact, [dp])] == ["lineage.rows"]
    assert [item.rule for item in lineage_conflicts(dp, [exact])] == ["lineage.rows"]
    assert lineage_conflicts(exact, [exact]) == []


def test_rows_may_be_counted_where_dp_keeps_one_a_unit() -> None:
    counted = of("pain", per_unit="count")
    assert rules(content(DP, counted, rows=1)) == set()
    exact, dp = split(content(DP, counted))
    assert lineage_conflicts(exact, [replace(dp, bounds=Bounds(rows_per_unit=1))]) == []


WIDE = of("pain", "wide", width=4)
NARROWED = [
    pytest.param([WIDE, of("pain", upper=5)], (), id="tighter bounds"),
    pytest.param([WIDE, of("pain", per_unit="max")], (), id="the greatest row"),
    pytest.param([WIDE, of("pain", per_unit="count")], (), id="the number of rows"),
    pytest.param([WIDE, of("pain", per_unit={"first": "day"})], (), id="the first row"),
    pytest.param([WIDE, of("pain", **levels(1))], (), id="the whole and one level"),
    pytest.param([WIDE, of("ward", **levels(3, column="pain"))], (), id="levels of the value itself"),
    pytest.param([WIDE, of("ward", per_unit={"first": "pain"})], (), id="an order by the value"),
    pytest.param([WIDE], (band("pain"),), id="a dimension on the column"),
    pytest.param([WIDE], (band("ward", per_unit={"first": "pain"}),), id="a dimension ordered by the column"),
]


@pytest.mark.parametrize(("measures", "dimensions"), NARROWED)
def test_a_width_tolerates_no_other_use_of_its_column(measures: list[Content], dimensions: tuple[Content, ...]) -> None:
    assert rules(content(*measures, dimensions=dimensions)) == {("measure.width_shared", "wide")}
    flat = [{key: value for key, value in item.items() if key != "width"} for item in measures]
    assert rules(content(*flat, dimensions=dimensions)) == set(), "without a width, nothing is promised"


@pytest.mark.parametrize(("measures", "dimensions"), NARROWED)
def test_a_width_tolerates_none_in_another_version_either(
    measures: list[Content], dimensions: tuple[Content, ...]
) -> None:
    alone = parse(content(WIDE))
    rest = parse(content(*(measures[1:] or [of("ward")]), dimensions=dimensions))
    for one, other in ((alone, rest), (rest, alone)):
        assert [(item.rule, item.subject) for item in lineage_conflicts(one, [other])] == [("lineage.width", "wide")]


def test_a_dp_dataset_of_the_lineage_bins_no_column_that_has_a_width() -> None:
    exact, dp = parse(content(WIDE)), parse(content(DP, dimensions=(band("pain"),)) | {"name": "costs"})
    assert [item.rule for item in lineage_conflicts(dp, [exact])] == ["lineage.width"]


@pytest.mark.parametrize(
    ("measures", "narrowed"),
    [
        pytest.param([of("pain", "wide", width=4, **levels(1, 2))], set(), id="levels share no row"),
        pytest.param(
            [of("pain", "wide", width=4, **levels(1)), of("pain", **levels(2), per_unit="max")],
            set(),
            id="nor do two reductions of two levels",
        ),
        pytest.param(
            [of("pain", "wide", width=4, **levels(1)), of("pain", **levels(1), per_unit="max")],
            {"wide_ward_1"},
            id="two reductions of one level",
        ),
        pytest.param(
            [of("pain", "wide", width=4, **levels(1)), of("pain", **levels("1"), per_unit="max")],
            {"wide_ward_1"},
            id="one level written as number and as text",
        ),
        pytest.param(
            [of("pain", "wide", width=4, **levels(1)), of("pain", **levels(2, column="region"))],
            {"wide_ward_1"},
            id="levels of two columns cross",
        ),
        pytest.param(
            [of("pain", "wide", width=4, **levels(3, column="pain"))], {"wide_pain_3"}, id="levels of its own column"
        ),
    ],
)
def test_levels_keep_their_widths_where_no_row_counts_for_two(measures: list[Content], narrowed: set[str]) -> None:
    assert rules(content(*measures)) == {("measure.width_shared", name) for name in narrowed}


def test_a_new_version_may_keep_its_width_and_better_its_titles() -> None:
    card = parse(content(WIDE, of("ward")))
    titled = replace(card, measures=tuple(replace(item, title="Said better", unit="points") for item in card.measures))
    assert lineage_conflicts(titled, [card]) == []


def test_older_versions_count_in_the_lineage() -> None:
    exact, dp = parse(clinic()), parse(spending())
    found = [(item.rule, item.subject) for item in lineage_conflicts(dp, [exact])]
    assert found == [("lineage.mode", "spend"), ("lineage.mode", "ward"), ("lineage.rows", "clinic")]
    later = replace(dp, name="clinic")
    assert [item.subject for item in lineage_conflicts(later, [exact])] == ["spend", "ward", "clinic"]
    assert lineage_conflicts(replace(dp, lineage="other"), [exact]) == []


def test_one_dataset_of_a_lineage_is_answered_exactly() -> None:
    card = parse(clinic())
    assert [item.rule for item in lineage_conflicts(replace(card, name="second"), [card])] == ["lineage.exact_twice"]
    assert lineage_conflicts(card, [card]) == []
    assert lineage_conflicts(replace(card, name="second", lineage="elsewhere"), [card]) == []


@pytest.mark.parametrize("pick", [lambda cards: cards, lambda cards: cards[::-1]], ids=["visits first", "dp first"])
def test_the_demo_cards_void_nothing_of_each_other(
    pick: Callable[[list[DatasetCard]], list[DatasetCard]],
) -> None:
    first, second = pick([load_card(EXAMPLES / f"{name}.yaml") for name in ("visits", "spending")])
    assert first.lineage == second.lineage
    assert card_conflicts(first) == []
    assert lineage_conflicts(second, [first]) == []
