# SPDX-License-Identifier: Apache-2.0
"""The width theorem, against a linear programme and against exhaustion."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from weir_server.publish.width import Spread, interval_width, least_span, least_width


def spread_of(values: list[int], coalition: int) -> Spread:
    """What publication keeps of these values."""
    ordered = sorted(values)
    return Spread(len(values), sum(values), tuple(ordered[::-1][: coalition + 1]), tuple(ordered[: coalition + 1]))


@st.composite
def unknown_values(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    """Bounds and the values of the members that a coalition does not know."""
    lower = draw(st.integers(-50, 50))
    upper = lower + draw(st.integers(1, 60))
    return lower, upper, draw(st.lists(st.integers(lower, upper), min_size=2, max_size=8))


@settings(max_examples=60, deadline=None)
@given(unknown_values())
def test_the_possible_values_of_one_member_fill_an_interval_of_exactly_that_length(
    case: tuple[int, int, list[int]],
) -> None:
    lower, upper, values = case
    members, residual = len(values), sum(values)
    objective = np.eye(1, members)[0]
    bounds = [(lower, upper)] * members
    ones = np.ones((1, members))
    least = linprog(objective, A_eq=ones, b_eq=[residual], bounds=bounds)
    most = linprog(-objective, A_eq=ones, b_eq=[residual], bounds=bounds)
    assert least.status == most.status == 0
    width = -most.fun - least.fun
    assert round(width, 6) == interval_width(lower=lower, upper=upper, members=members, residual=residual)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4), st.lists(st.integers(0, 4), min_size=2, max_size=4))
def test_every_integer_in_the_interval_is_possible(upper_extra: int, values: list[int]) -> None:
    upper, members, residual = 4 + upper_extra, len(values), sum(values)
    possible = {first for first, *rest in product(range(upper + 1), repeat=members) if first + sum(rest) == residual}
    width = interval_width(lower=0, upper=upper, members=members, residual=residual)
    assert possible == set(range(min(possible), min(possible) + width + 1))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(-3, 9), min_size=3, max_size=8), st.integers(1, 3))
def test_the_extreme_coalitions_are_the_worst(values: list[int], coalition: int) -> None:
    spread = spread_of(values, coalition)
    others = len(values) - coalition
    if others < 2:
        assert least_width(spread, lower=-3, upper=9) == 0
        return
    every = (
        interval_width(lower=-3, upper=9, members=others, residual=sum(values) - sum(known))
        for known in combinations(values, coalition)
    )
    assert least_width(spread, lower=-3, upper=9) == min(every)


@pytest.mark.parametrize(
    ("values", "width"),
    [
        pytest.param([0] * 9 + [100], 0, id="dominance: one value is the whole sum"),
        pytest.param([100] * 10, 0, id="homogeneity at the ceiling"),
        pytest.param([0] * 10, 0, id="homogeneity at the floor"),
        pytest.param([50] * 10, 100, id="the middle hides all"),
        pytest.param([0] * 8 + [30, 100], 30, id="the largest knows the rest to 30"),
    ],
)
def test_examples_of_the_least_width(values: list[int], width: int) -> None:
    spread = spread_of(values, 1)
    assert least_width(spread, lower=0, upper=100) == width


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=3, max_size=7), st.integers(1, 3))
def test_the_span_is_the_least_over_all_coalitions(values: list[int], coalition: int) -> None:
    expected = 0
    if len(values) - coalition >= 2:
        kept = combinations(values, len(values) - coalition)
        expected = min(max(unknown) - min(unknown) for unknown in kept)
    assert least_span(spread_of(values, coalition)) == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=3, max_size=5))
def test_with_sum_and_squares_known_the_span_stays_possible(values: list[int]) -> None:
    """Every value of an unknown member is possible for any other: by exhaustion over what fits the published sums."""
    ordered = sorted(values)
    known, unknown = ordered[-1], ordered[:-1]
    fits = {
        first
        for first, *rest in product(range(5), repeat=len(unknown))
        if first + sum(rest) == sum(values) - known
        and first * first + sum(v * v for v in rest) == sum(v * v for v in values) - known * known
    }
    assert set(unknown) <= fits
    assert max(fits) - min(fits) >= least_span(spread_of(values, 1))
