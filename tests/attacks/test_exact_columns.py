# SPDX-License-Identifier: Apache-2.0
"""A second use of a column voids what was promised of the first. Each attack is run against Weir, which refuses the
card, and against Weir without the rules of columns, where the same questions recover the secret.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.cards import parse
from tests.support.exact import Bench, query, table
from weir.errors import PublicationError
from weir.query import Function
from weir_server.catalog import card_rules, lineage_rules
from weir_server.catalog.card import Bounds, Cell, DatasetCard, Dimension, Measure, Mode, PerUnit, Reduction
from weir_server.publish.width import interval_width

RULE = lineage_rules.card_conflicts
PEOPLE = 40
EVERYBODY = 5
"""Visits of everybody in the south."""


def card(*, width: int = 0) -> DatasetCard:
    """Visits by region, exactly."""
    return parse(
        {
            "name": "wide",
            "title": "Visits",
            "description": "",
            "grade": "GENERAL",
            "personal_information": False,
            "responsible": "office",
            "provenance": "made for a test",
            "lineage": "wide",
            "unit": {"name": "person", "column": "who"},
            "source": {"kind": "csv", "location": "wide.csv"},
            "dimensions": [{"name": "region", "type": "text", "column": "region", "cells": ["north", "south"]}],
            "measures": [
                {"name": "visits", "column": "visits", "mode": "exact", "lower": 0, "upper": 20, "width": width}
            ],
            "exact": {"k": 10},
        }
    )


def rows() -> list[dict[str, Any]]:
    """The north has all kinds of visits, the south five each; amounts are spread from 0 to 399."""
    return [
        {
            "who": f"{region}{i}",
            "region": region,
            "visits": EVERYBODY if region == "south" else i % 11,
            "amount": (i * 31) % 400,
            "year": year,
        }
        for region in ("north", "south")
        for i in range(PEOPLE)
        for year in (1, 2)[: 1 if i % 4 else 2]
    ]


def bins(column: str, *edges: int) -> Dimension:
    """A dimension `band` over a column."""
    cells = tuple(Cell(edge, str(edge)) for edge in edges[:-1])
    return Dimension("band", "Band", "integer", cells, column=column, edges=edges)


def with_dp(made: DatasetCard, *, rows_per_unit: int = 1) -> DatasetCard:
    """The card with `amount` under dp."""
    amount = Measure("amount", "Amount", "USD", "amount", Mode.DP, 0, 0, 500)
    bounds = Bounds(rows_per_unit=rows_per_unit)
    return replace(made, measures=(*made.measures, amount), bounds=bounds, epsilon_lifetime=10**9)


def with_low(made: DatasetCard) -> DatasetCard:
    """The card with a second measure over `visits`, clipped at five."""
    low = replace(made.measures[0], name="low", upper=EVERYBODY, width=0)
    return replace(made, measures=(*made.measures, low))


@pytest.fixture(params=["weir", "without rules of columns"])
def defended(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the rules are there."""
    if request.param != "weir":
        monkeypatch.setattr(card_rules, "RULES", [rule for rule in card_rules.RULES if rule is not RULE])
    return bool(request.param == "weir")


def refused(made: DatasetCard, directory: Path) -> set[str]:
    """Rules named when the card is published."""
    with pytest.raises(PublicationError) as caught:
        Bench(directory).publish(made, rows())
    assert not (directory / "data" / "snapshots" / made.name / "1").exists()
    return {item.rule for item in caught.value.violations}


def once() -> list[dict[str, Any]]:
    """One row a person."""
    return [row for row in rows() if row["year"] == 1]


def test_a_dimension_is_no_exact_histogram_of_a_dp_measure(defended: bool, tmp_path: Path) -> None:
    made = with_dp(card())
    made = replace(made, dimensions=(bins("amount", 0, 100, 200, 300, 400),))
    if defended:
        assert refused(made, tmp_path) == {"lineage.both_ways"}
        return
    bench = Bench(tmp_path)
    bench.publish(made, once())
    counts = table(bench.ask(query(made, Function.COUNT, group_by=["band"])))["count"]
    truth = [sum(low <= row["amount"] < low + 100 for row in once()) for low in (0, 100, 200, 300)]
    assert [int(count) for count, _ in counts] == truth, "the histogram of amounts, for epsilon 0"


def test_rows_that_dp_hides_are_not_summed_exactly(defended: bool, tmp_path: Path) -> None:
    made = with_dp(card(), rows_per_unit=2)
    counted = Measure("years", "Years", "", "year", Mode.EXACT, 0, 0, 2, per_unit=PerUnit(Reduction.COUNT))
    made = replace(made, measures=(*made.measures, counted))
    if defended:
        assert refused(made, tmp_path) == {"lineage.rows"}
        return
    bench = Bench(tmp_path)
    bench.publish(made, rows())
    total = table(bench.ask(query(made, (Function.SUM, "years"))))["sum(years)"][0][0]
    assert int(total) == len(rows()), "what COUNT(*) answers with noise"


def test_a_second_sum_over_a_column_does_not_void_its_width(defended: bool, tmp_path: Path) -> None:
    made = with_low(card(width=4))
    if defended:
        assert refused(made, tmp_path) == {"measure.width_shared"}
        return
    bench = Bench(tmp_path)
    published = bench.publish(made, once())
    found = table(
        bench.ask(query(made, Function.COUNT, (Function.SUM, "visits"), (Function.SUM, "low"), group_by=["region"]))
    )
    n, visits, low = (int(found[name][1][0]) for name in ("count", "sum(visits)", "sum(low)"))
    assert published.report.too_narrow == 0, "each sum alone keeps the width"
    assert interval_width(lower=0, upper=20, members=n, residual=visits) >= 4
    assert low == EVERYBODY * n, "so nobody has less than five"
    assert interval_width(lower=EVERYBODY, upper=20, members=n, residual=visits) == 0, "so everybody has five"


def test_a_dimension_on_a_measures_column_does_not_void_its_width(defended: bool, tmp_path: Path) -> None:
    made = card(width=4)
    made = replace(made, dimensions=(*made.dimensions, bins("visits", 0, EVERYBODY, 20)))
    if defended:
        assert refused(made, tmp_path) == {"measure.width_shared"}
        return
    bench = Bench(tmp_path)
    bench.publish(made, once())
    found = table(bench.ask(query(made, Function.COUNT, (Function.SUM, "visits"), group_by=["region", "band"])))
    n, total = (int(found[name][3][0]) for name in ("count", "sum(visits)"))
    assert (n, total) == (PEOPLE, EVERYBODY * PEOPLE), "the south's people, of five visits or more"
    assert interval_width(lower=EVERYBODY, upper=20, members=n, residual=total) == 0


Rule = Callable[..., Any]


def exact_only(made: DatasetCard) -> list[Measure]:
    """Mutant: exact measures are all that is exact."""
    return [measure for measure in made.measures if measure.mode is Mode.EXACT]


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        pytest.param("_exact_uses", exact_only, id="measures are compared with measures only"),
        pytest.param("_disjoint", lambda one, other: True, id="two measures never share a row"),
        pytest.param("_tells", lambda other, measure: False, id="measures tell nothing of each other"),
        pytest.param("_counts_rows", lambda made: False, id="nothing counts rows"),
    ],
)
def test_a_rule_that_forgets_a_case_lets_an_attack_through(
    name: str, mutant: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    banded = replace(with_dp(card()), dimensions=(bins("amount", 0, 100, 400),))
    counted = replace(card().measures[0], per_unit=PerUnit(Reduction.COUNT))
    rowed = with_dp(replace(card(), measures=(counted,)), rows_per_unit=2)
    cards = (banded, with_low(card(width=4)), rowed)
    assert all(lineage_rules.card_conflicts(made) for made in cards)
    monkeypatch.setattr(lineage_rules, name, mutant)
    assert not all(lineage_rules.card_conflicts(made) for made in cards)
