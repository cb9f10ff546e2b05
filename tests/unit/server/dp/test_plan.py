# SPDX-License-Identifier: Apache-2.0
"""Compiled plans: exact splits, sensitivities from the card, the choice of store, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import dp as support
from weir.amounts import NANO
from weir.errors import InternalError, InvalidQuery
from weir.query import Aggregate, Comparison, Function, Literal, Operator
from weir_server.catalog.card import Measure, Mode
from weir_server.catalog.snapshot import Snapshot
from weir_server.dp.plan import check_parts, compile_plan, split, uses_cube
from weir_server.dp.sql import sums_statement, units_statement
from weir_server.dp.store import BoundedStores
from weir_server.dp.tally import Kind, Tally, cells_of_unit
from weir_server.engine.relational import statement
from weir_server.plan.values import Loss


def offline(tmp_path: Path, **options: object) -> Snapshot:
    return support.snapshot(support.card(**options), tmp_path, ())  # type: ignore[arg-type]


@given(st.integers(0, 10**12), st.lists(st.integers(1, 1000), min_size=1, max_size=32))
def test_a_split_is_exact_and_proportional_to_less_than_one(total: int, weights: list[int]) -> None:
    shares = split(total, weights)
    assert sum(shares) == total
    assert all(abs(share - total * w / sum(weights)) < 1.01 for share, w in zip(shares, weights, strict=True))


@pytest.mark.parametrize(
    ("aggregate", "change"),
    [
        pytest.param(support.count(), 3, id="rows"),
        pytest.param(support.of(Function.SUM), 3 * 2000, id="sum by the larger bound"),
        pytest.param(support.of(Function.HISTOGRAM), 3, id="histogram over all buckets"),
        pytest.param(support.of(Function.QUANTILE, quantile_ppm=900_000), 3 * 9, id="score of a rank of 9/10"),
        pytest.param(support.count_units(), 1, id="units"),
    ],
)
def test_sensitivity_follows_from_the_card(tmp_path: Path, aggregate: Aggregate, change: int) -> None:
    plan = compile_plan(support.bind(offline(tmp_path), aggregate), NANO)
    assert plan.outputs[0].parts[0].sensitivity.l1 == change


def test_sums_for_averages_are_centred_which_shrinks_their_sensitivity(tmp_path: Path) -> None:
    parts = compile_plan(support.bind(offline(tmp_path), support.of(Function.AVG)), NANO).outputs[0].parts
    assert [part.sensitivity.l1 for part in parts] == [3, 3 * 1250]


@pytest.mark.parametrize(
    ("rows", "groups_per_unit", "groups", "cells"),
    [
        pytest.param(9, {}, ["region", "side"], 1, id="unit-level groups"),
        pytest.param(9, {}, ["year"], 5, id="every declared cell"),
        pytest.param(2, {}, ["year"], 2, id="no more cells than rows"),
        pytest.param(9, {"year": 2}, ["year"], 2, id="declared bound"),
        pytest.param(9, {"year": 4}, ["half"], 3, id="coarse cells are fewer"),
        pytest.param(9, {"year": 4}, ["half", "year"], 4, id="one base counts once"),
    ],
)
def test_a_unit_is_counted_in_a_bounded_number_of_cells(
    tmp_path: Path, rows: int, groups_per_unit: dict[str, int], groups: list[str], cells: int
) -> None:
    bound = support.bind(
        offline(tmp_path, rows_per_unit=rows, groups_per_unit=groups_per_unit), support.count(), groups=groups
    )
    assert cells_of_unit(bound.card, bound.groups) == cells


def test_dimensions_alone_use_the_cube_and_values_or_row_level_units_do_not(tmp_path: Path) -> None:
    snapshot = offline(tmp_path)
    rows, units = Tally(Kind.ROWS), Tally(Kind.UNITS)
    by_year = support.bind(snapshot, support.count(), groups=["year"])
    by_region = support.bind(snapshot, support.count(), groups=["region"])
    dear = support.bind(snapshot, support.count(), where=Comparison("spend", Operator.GREATER, Literal(1)))
    assert (uses_cube(by_year, rows), uses_cube(by_year, units)) == (True, False)
    assert (uses_cube(by_region, rows), uses_cube(by_region, units)) == (True, True)
    assert (uses_cube(dear, rows), uses_cube(dear, units)) == (False, False)


def test_parts_beyond_the_reserved_loss_are_refused_before_data_is_touched(tmp_path: Path) -> None:
    plan = compile_plan(support.bind(offline(tmp_path), support.count(), support.of(Function.SUM)), NANO)
    enough = Loss(epsilon_nano=NANO, rho_micro=10**6)
    check_parts(plan, most=enough)
    for less in (replace(enough, epsilon_nano=NANO - 1), replace(enough, rho_micro=0)):
        with pytest.raises(InternalError):
            check_parts(plan, most=less)


def test_a_part_with_too_small_a_scale_is_refused_before_data_is_touched(tmp_path: Path) -> None:
    plan = compile_plan(support.bind(offline(tmp_path), support.count()), NANO)
    part = plan.outputs[0].parts[0]
    weak = replace(plan, outputs=(replace(plan.outputs[0], parts=(replace(part, scale=part.scale * 4 / 5),)),))
    with pytest.raises(InternalError):
        check_parts(weak, most=Loss(epsilon_nano=NANO, rho_micro=10**6))


def test_statements_carry_the_bounds_and_no_text_of_the_query(tmp_path: Path) -> None:
    snapshot = offline(tmp_path, groups_per_unit={"year": 2})
    where = Comparison("region", Operator.EQUAL, Literal("north"))
    bound = support.bind(snapshot, support.count(), groups=["year"], where=where)
    for made in (sums_statement(bound, [Tally(Kind.ROWS)]), units_statement(bound)):
        assert "r < 3" in made.source
        assert "north" not in made.source
    assert "g_year < 2" in units_statement(bound).source


def test_an_exact_measure_is_no_dp_measure_also_as_a_filter(tmp_path: Path) -> None:
    exact = Measure("visits", "", "", "visits", Mode.EXACT, 0, 0, 9)
    snapshot = offline(tmp_path, measures=(support.spend_measure(), exact))
    with pytest.raises(InvalidQuery) as summed:
        compile_plan(support.bind(snapshot, support.of(Function.SUM, "visits")), NANO)
    where = Comparison("visits", Operator.GREATER, Literal(1))
    with pytest.raises(InvalidQuery) as filtered:
        compile_plan(support.bind(snapshot, support.count(), where=where), NANO)
    assert (summed.value.rule, filtered.value.rule) == ("mode.one", "dp.filter")


def test_a_store_let_go_by_newer_ones_still_answers_whoever_holds_it(tmp_path: Path) -> None:
    snapshots = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        snapshots.append(support.publish(support.card(), [("a", "north", "1", "1", "1")], tmp_path / name))
    stores = BoundedStores(most=1)
    first = stores.open(snapshots[0])
    stores.open(snapshots[1])
    assert first.select(statement("SELECT COUNT(*) FROM rows"), seconds=10) == [(1,)]
    del first
    assert stores.open(snapshots[0]).cube("cube").length == 1
    stores.close()
