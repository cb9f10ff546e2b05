# SPDX-License-Identifier: Apache-2.0
"""Scales, intervals and checks of discrete Laplace noise: exact arithmetic, rounded to the safe side."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.amounts import NANO
from weir.errors import InternalError, InvalidQuery
from weir_server.dp.noise import (
    RELEASE_LIMIT,
    SCALE_LIMIT,
    add_laplace,
    check_laplace,
    exact_decimal,
    laplace_interval95,
    laplace_scale,
)
from weir_server.dp.selection import check_selection, selection_scale

sensitivities = st.integers(1, 10**9)
losses = st.integers(10**4, 100 * NANO)


@given(sensitivities, losses)
def test_a_scale_never_loses_more_than_planned_and_wastes_at_most_a_millionth(sensitivity: int, loss: int) -> None:
    scale = laplace_scale(sensitivity, loss)
    assert Fraction(sensitivity) / scale <= Fraction(loss, NANO)
    assert Fraction(sensitivity) / scale >= Fraction(loss, NANO) * (1 - Fraction(1, 2**18))
    check_laplace(sensitivity, scale, loss)


@pytest.mark.parametrize("sensitivity", [1, 3, 2**30 + 1, 2**45 + 1])
@pytest.mark.parametrize("loss", [10**8, 3 * 10**8, 10**9])
def test_a_loss_that_no_double_holds_is_no_obstacle(sensitivity: int, loss: int) -> None:
    scale = Fraction(sensitivity * NANO, loss)
    if 2 * scale < SCALE_LIMIT:
        check_laplace(sensitivity, laplace_scale(sensitivity, loss), loss)
        check_selection(sensitivity, selection_scale(sensitivity, loss), loss)


@given(sensitivities, losses)
def test_a_scale_is_a_float_without_rounding_and_its_text_is_exact(sensitivity: int, loss: int) -> None:
    scale = laplace_scale(sensitivity, loss)
    assert Fraction(float(scale)) == scale
    assert Fraction(Decimal(exact_decimal(scale))) == scale


@given(st.integers(2, 10**6), losses)
def test_the_check_refuses_a_scale_for_a_smaller_sensitivity(sensitivity: int, loss: int) -> None:
    scale = laplace_scale(sensitivity - 1, loss)
    if sensitivity / scale > Fraction(loss, NANO):
        with pytest.raises(InternalError):
            check_laplace(sensitivity, scale, loss)
    else:  # only rounding of the scale can have made room
        assert Fraction(sensitivity, sensitivity - 1) < 1 + Fraction(1, 2**18)


@pytest.mark.parametrize("epsilon_nano", [10**7, 10**8, 10**9, 2 * 10**9, 10**10, 10**11])
def test_the_interval_is_the_least_that_holds_95_percent(epsilon_nano: int) -> None:
    scale = laplace_scale(1, epsilon_nano)
    q = exp(-1 / float(scale))

    def inside(width: int) -> float:
        return 1 - 2 * q ** (width + 1) / (1 + q)

    width = laplace_interval95(scale)
    assert inside(width) >= 0.95 - 1e-12
    assert width == 0 or inside(width - 1) < 0.95


def test_a_loss_too_small_for_64_bits_is_refused() -> None:
    with pytest.raises(InvalidQuery) as refused:
        laplace_scale(2**61, 1)
    assert refused.value.rule == "dp.epsilon_too_small"


def test_totals_beyond_the_range_are_clamped_and_never_wrap() -> None:
    noisy = add_laplace([10**30, -(10**30)], Fraction(2**49))
    assert 0 < noisy[0] <= RELEASE_LIMIT
    assert -RELEASE_LIMIT <= noisy[1] < 0


def test_no_cells_need_no_noise() -> None:
    assert add_laplace([], Fraction(1)) == []
