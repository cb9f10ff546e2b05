# SPDX-License-Identifier: Apache-2.0
"""The dp technique end to end, below the pipeline: every declared cell, exact totals underneath, stated noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import dp as support
from weir.amounts import NANO
from weir.errors import InvalidQuery
from weir.query import Comparison, Function, IsNull, Literal, Operator
from weir_server.catalog.snapshot import Snapshot
from weir_server.dp.technique import DpTechnique

ROWS: list[support.Row] = [
    ("a", "north", 1, "5.00", "1"),
    ("a", "north", 2, "100.00", "9"),  # clipped to 20.00
    ("b", "north", 1, None, "3"),
    ("c", "south", None, "-9.99", "0"),  # clipped to -5.00
    ("c", "south", 4, "1.25", None),
]
PRECISE = "900"
"""At this epsilon noise is 0 but with a probability below 1e-300 per cell for sensitivities up to 3."""


@pytest.fixture
def technique() -> Iterator[DpTechnique]:
    made = DpTechnique()
    yield made
    made.close()


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return support.publish(support.card(), ROWS, tmp_path)


def values(snapshot: Snapshot, technique: DpTechnique, *aggregates: object, **options: object) -> list[list[str]]:
    bound = support.bind(snapshot, *aggregates, epsilon=PRECISE, **options)
    return [list(column.numerators) for column in support.answer(bound, technique).values]


def test_every_declared_cell_is_answered_also_the_empty_ones(snapshot: Snapshot, technique: DpTechnique) -> None:
    assert values(snapshot, technique, support.count(), groups=["region"]) == [["3", "2", "0"]]


def test_rows_are_counted_per_row_level_cell_with_the_null_cell_last(
    snapshot: Snapshot, technique: DpTechnique
) -> None:
    assert values(snapshot, technique, support.count(), groups=["year"]) == [["2", "1", "0", "1", "1"]]


def test_units_are_counted_once_in_each_coarse_cell(snapshot: Snapshot, technique: DpTechnique) -> None:
    assert values(snapshot, technique, support.count_units(), groups=["half"]) == [["2", "1", "1"]]
    assert values(snapshot, technique, support.count_units(), groups=["region", "half"])[0] == [
        *("2", "0", "0"),
        *("0", "1", "0"),
        *("0", "1", "0"),
    ]


def test_units_with_a_matching_row_are_counted_once(snapshot: Snapshot, technique: DpTechnique) -> None:
    spends = Comparison("spend", Operator.GREATER, Literal(1))
    assert values(snapshot, technique, support.count_units(), where=spends) == [["2"]]


def test_a_null_value_satisfies_no_comparison_but_is_null(snapshot: Snapshot, technique: DpTechnique) -> None:
    unequal = Comparison("spend", Operator.NOT_EQUAL, Literal(5))
    assert values(snapshot, technique, support.count(), where=unequal) == [["3"]]
    assert values(snapshot, technique, support.count(), where=IsNull("spend")) == [["1"]]
    assert values(snapshot, technique, support.count(), where=IsNull("spend", negated=True)) == [["4"]]


def test_sums_are_of_clipped_values_in_grid_steps(tmp_path: Path, technique: DpTechnique) -> None:
    measures = (support.spend_measure(lower=0, upper=5), support.visits_measure())
    snapshot = support.publish(support.card(measures=measures, rows_per_unit=2), ROWS, tmp_path)
    assert values(snapshot, technique, support.of(Function.SUM), groups=["region"]) == [["10", "5", "0"]]


def test_an_average_is_a_ratio_of_integers_within_the_bounds(snapshot: Snapshot, technique: DpTechnique) -> None:
    bound = support.bind(snapshot, support.of(Function.AVG, "visits"), groups=["region"], epsilon=PRECISE)
    column = support.answer(bound, technique).values[0]
    assert list(column.numerators)[2] == ""
    for numerator, denominator in zip(column.numerators, column.denominators, strict=True):
        assert numerator == "" or 0 <= int(numerator) <= 9 * int(denominator)
    assert column.noise.distribution == "composite"


def test_the_variance_is_of_the_population_as_in_exact_mode(tmp_path: Path, technique: DpTechnique) -> None:
    rows: list[support.Row] = [(f"p{index}", "north", 1, "0", str(index % 3)) for index in range(3000)]
    snapshot = support.publish(support.card(rows_per_unit=1), rows, tmp_path)
    bound = support.bind(snapshot, support.of(Function.VARIANCE, "visits"), epsilon="1000")
    column = support.answer(bound, technique).values[0]
    assert column.unit == ""
    assert int(column.numerators[0]) / int(column.denominators[0]) == pytest.approx(2 / 3, rel=0.01)


def test_a_histogram_has_a_column_per_bucket(snapshot: Snapshot, technique: DpTechnique) -> None:
    bound = support.bind(snapshot, support.of(Function.HISTOGRAM), epsilon=PRECISE)
    columns = support.answer(bound, technique).values
    assert [(c.bucket.lower, c.bucket.upper) for c in columns] == [
        ("-5", "-4"),
        ("-4", "0"),
        ("0", "7"),
        ("7", "15"),
        ("15", "20"),
    ]
    assert [list(c.numerators) for c in columns] == [["1"], ["0"], ["2"], ["0"], ["1"]]


def test_a_quantile_is_an_edge_that_splits_the_values(tmp_path: Path, technique: DpTechnique) -> None:
    rows: list[support.Row] = [(f"p{index}", "north", 1, "0", str(index % 10)) for index in range(500)]
    snapshot = support.publish(support.card(rows_per_unit=1), rows, tmp_path)
    assert values(snapshot, technique, support.of(Function.QUANTILE, "visits")) == [["5"]]
    assert values(snapshot, technique, support.of(Function.QUANTILE, "visits", quantile_ppm=800_000)) == [["8"]]


def test_the_loss_is_exactly_what_was_asked_however_it_is_split(snapshot: Snapshot, technique: DpTechnique) -> None:
    aggregates = [support.of(Function.VARIANCE, weight=7), support.of(Function.AVG, weight=5), support.count()]
    analysis = technique.analyse(support.bind(snapshot, *aggregates, epsilon="0.100000001"))
    assert analysis.loss.epsilon_nano == 100_000_001
    assert sum(column.noise.epsilon_nano for column in analysis.columns) == 100_000_001


def test_noise_names_distribution_scale_sensitivity_and_interval(snapshot: Snapshot, technique: DpTechnique) -> None:
    analysis = technique.analyse(support.bind(snapshot, support.count(), epsilon="0.5"))
    noise = analysis.columns[0].noise
    assert (noise.distribution, noise.scale, noise.sensitivity) == ("discrete laplace", "6", "3")
    assert (noise.interval95, noise.epsilon_nano) == ("18", NANO // 2)


def test_a_wished_accuracy_becomes_the_least_loss_that_reaches_it(snapshot: Snapshot, technique: DpTechnique) -> None:
    analysis = technique.analyse(support.bind(snapshot, support.count(), epsilon=None, within="18"))
    assert int(analysis.columns[0].noise.interval95) <= 18
    tighter = analysis.loss.epsilon_nano * 999_990 // 1_000_000
    worse = technique.analyse(support.bind(snapshot, support.count(), epsilon=str(tighter / NANO)))
    assert int(worse.columns[0].noise.interval95) > 18


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        pytest.param({"epsilon": None}, "dp.loss", id="neither"),
        pytest.param({"epsilon": "1", "within": "3"}, "dp.loss", id="both"),
        pytest.param({"epsilon": "1001"}, "dp.loss", id="absurd"),
        pytest.param({"epsilon": "0.000000001"}, "dp.epsilon_too_small", id="unsplittable"),
        pytest.param({"epsilon": None, "within": "0"}, "dp.accuracy", id="no width"),
    ],
)
def test_a_loss_that_makes_no_sense_is_refused(
    snapshot: Snapshot, technique: DpTechnique, options: dict[str, str], rule: str
) -> None:
    bound = support.bind(snapshot, support.count(), support.of(Function.SUM), **options)
    with pytest.raises(InvalidQuery) as refused:
        technique.analyse(bound)
    assert refused.value.rule == rule
