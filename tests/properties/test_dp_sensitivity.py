# SPDX-License-Identifier: Apache-2.0
"""Adding a unit changes the true integers by no more than the plan's sensitivity, from publication to tally.

The whole deterministic path runs twice, with and without one unit: publication with ranks, clips and cubes, then every
tally of a query. Cube and rows must agree, and the L1 distance must stay within each part's sensitivity. Brute force
over the same rows is the oracle of what is counted at all.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import dp as support
from weir.query import AllOf, AnyOf, Comparison, IsNull, Literal, Membership, Operator, Predicate
from weir_server.catalog.snapshot import Snapshot
from weir_server.dp.aggregate import Totals, totals
from weir_server.dp.plan import Part, compile_plan
from weir_server.dp.selection import edge_scores
from weir_server.dp.store import BoundedStores
from weir_server.dp.tally import Kind
from weir_server.plan.values import BoundQuery

pytestmark = pytest.mark.slow

EVERYTHING = (
    support.count(),
    support.count_units(),
    *(support.of(function, name) for name in ("spend", "visits") for function in sorted(support.ALL, key=str)),
)
years = st.sampled_from([*support.YEARS, None])
spends = st.sampled_from([None, "-9999999999999999999", "-5", "-0.01", "0", "12.34", "19.995", "20", "1e18", "NaN"])
visits = st.sampled_from([None, "-1", "0", "4", "9", "10", "9223372036854775808"])
own_rows = st.lists(st.tuples(years, spends, visits), min_size=1, max_size=8)
units = st.lists(st.tuples(st.sampled_from(support.REGIONS), own_rows), min_size=0, max_size=5)
groups = st.lists(st.sampled_from(["region", "side", "year", "half"]), unique=True, max_size=4)
bounds = st.fixed_dictionaries({}, optional={"year": st.integers(1, 5)})
leaves = st.sampled_from(
    [
        Comparison("region", Operator.EQUAL, Literal("north")),
        Membership("year", (Literal(1), Literal(3))),
        IsNull("year"),
        Comparison("half", Operator.NOT_EQUAL, Literal("late")),
        Comparison("spend", Operator.GREATER, Literal(0)),
        Comparison("visits", Operator.LESS_OR_EQUAL, Literal(4)),
        IsNull("spend", negated=True),
    ]
)
predicates: st.SearchStrategy[Predicate | None] = st.none() | st.recursive(
    leaves,
    lambda inner: (
        st.builds(AllOf, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(AnyOf, st.lists(inner, min_size=1, max_size=3).map(tuple))
    ),
    max_leaves=5,
)


def flatten(people: list[tuple[str, list[tuple[int | None, str | None, str | None]]]]) -> list[support.Row]:
    return [
        (f"unit{number}", region, None if year is None else str(year), spend, visit)
        for number, (region, rows) in enumerate(people)
        for year, spend, visit in rows
    ]


def both_ways(bound: BoundQuery, snapshot: Snapshot) -> Totals:
    """The tallies, after asserting that cube and rows agree on them."""
    bound = replace(bound, snapshot=snapshot)
    plan, stores = compile_plan(bound, 10**9), BoundedStores()
    try:
        store = stores.open(snapshot)
        chosen = totals(bound, plan, store, seconds=60)
        assert chosen == totals(bound, plan, store, rows_only=True, seconds=60)
        return chosen
    finally:
        stores.close()


def parts_of(bound: BoundQuery) -> list[Part]:
    return [part for output in compile_plan(bound, 10**9).outputs for part in output.parts]


def changed(part: Part, with_unit: list[int], without_unit: list[int]) -> int:
    """What one unit changed: over all cells, or for a selection the worst score of each cell added up."""
    if part.quantile_ppm is None:
        return sum(abs(a - b) for a, b in zip(with_unit, without_unit, strict=True))
    width, total = part.tally.width(), 0
    for start in range(0, len(with_unit), width):
        scores = [edge_scores(side[start : start + width], part.quantile_ppm) for side in (with_unit, without_unit)]
        total += max(abs(a - b) for a, b in zip(*scores, strict=True))
    return total


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(units, st.tuples(st.sampled_from(support.REGIONS), own_rows), st.integers(1, 4), bounds, groups, predicates)
def test_one_unit_changes_each_tally_by_at_most_its_sensitivity(
    others: list[tuple[str, list[tuple[int | None, str | None, str | None]]]],
    extra: tuple[str, list[tuple[int | None, str | None, str | None]]],
    rows_per_unit: int,
    groups_per_unit: dict[str, int],
    keys: list[str],
    where: Predicate | None,
) -> None:
    dataset = support.card(rows_per_unit=rows_per_unit, groups_per_unit=groups_per_unit)
    with (
        support.published(flatten(others), dataset) as without,
        # The new unit comes first in the source: whatever numbered rows over the whole table would shift now.
        support.published(flatten([*others, extra])[-len(extra[1]) :] + flatten(others), dataset) as with_it,
    ):
        bound = support.bind(without, *EVERYTHING, groups=keys, where=where)
        before, after = both_ways(bound, without), both_ways(bound, with_it)
        for part in parts_of(bound):
            assert changed(part, after[part.tally], before[part.tally]) <= part.sensitivity.l1
            if part.quantile_ppm is None:
                squared = sum((a - b) ** 2 for a, b in zip(after[part.tally], before[part.tally], strict=True))
                assert squared <= part.sensitivity.l2_squared


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(units, groups)
def test_without_a_binding_bound_tallies_are_what_the_rows_say(
    people: list[tuple[str, list[tuple[int | None, str | None, str | None]]]], keys: list[str]
) -> None:
    dataset = support.card(rows_per_unit=8)
    with support.published(flatten(people), dataset) as snapshot:
        bound = support.bind(snapshot, *EVERYTHING, groups=keys)
        found = both_ways(bound, snapshot)
    sides = {"north": "pole", "south": "pole", "west": "rest"}
    halves = {None: "unknown", 1: "early", 2: "early", 3: "late", 4: "late"}
    expected: dict[tuple[object, ...], list[tuple[int, int | None]]] = {}
    for number, (region, rows) in enumerate(people):
        for year, _, visit in rows:
            named = {"region": region, "side": sides[region], "year": year, "half": halves[year]}
            value = None if visit is None else min(9, max(0, int(visit)))
            expected.setdefault(tuple(named[key] for key in sorted(keys)), []).append((number, value))
    for part in parts_of(bound):
        name = None if part.tally.measure is None else part.tally.measure.name
        if part.tally.kind in (Kind.ROWS, Kind.UNITS) or (name == "visits" and part.tally.kind is Kind.SUM):
            for index, cell in enumerate(answer_cells(bound)):
                rows_there = expected.get(cell, [])
                oracle = {
                    Kind.ROWS: len(rows_there),
                    Kind.UNITS: len({unit for unit, _ in rows_there}),
                    Kind.SUM: sum(value for _, value in rows_there if value is not None),
                }
                assert found[part.tally][index] == oracle[part.tally.kind]


def answer_cells(bound: BoundQuery) -> list[tuple[object, ...]]:
    listed: list[tuple[object, ...]] = [()]
    for dimension in bound.groups:
        listed = [(*cell, option.value) for cell in listed for option in dimension.cells]
        values = [option.value for option in dimension.cells]
        assert all(a != b for a, b in pairwise(values))
    return listed
