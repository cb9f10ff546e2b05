# SPDX-License-Identifier: Apache-2.0
"""zCDP accounting: conversions round to the safe side, Gaussian parts never lose more than their share."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import log, sqrt
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support import dp as support
from weir.amounts import NANO
from weir.errors import InternalError
from weir.query import Function
from weir_server.dp.accounting import (
    micro_rho,
    pure_epsilon_of_rho,
    rho_of_epsilon,
    rho_of_pure_epsilon,
)
from weir_server.dp.noise import check_gaussian, gaussian_scale
from weir_server.dp.plan import DpPlan
from weir_server.dp.technique import DpTechnique

GAUSSIAN = replace(support.card(), accounting="concentrated", epsilon_lifetime=0, rho_lifetime=10**9, delta_digits=6)


@given(st.integers(10**6, 50 * NANO), st.integers(1, 30))
def test_rho_is_the_largest_that_implies_epsilon_at_delta(epsilon_nano: int, digits: int) -> None:
    rho, wall = rho_of_epsilon(epsilon_nano, digits), digits * log(10)

    def implied(nano: int) -> float:
        return nano / NANO + 2 * sqrt(nano / NANO * wall)

    assert implied(rho) <= epsilon_nano / NANO * (1 + 1e-12)
    assert implied(rho + 1) > epsilon_nano / NANO * (1 - 1e-12)


@given(st.integers(1, 10**4 * NANO))
def test_pure_and_concentrated_losses_convert_to_the_safe_side(epsilon_nano: int) -> None:
    rho = rho_of_pure_epsilon(epsilon_nano)
    assert Fraction(rho, NANO) >= Fraction(epsilon_nano, NANO) ** 2 / 2
    assert Fraction(pure_epsilon_of_rho(rho), NANO) ** 2 / 2 <= Fraction(rho, NANO)
    assert micro_rho(rho) * 1000 >= rho


@given(st.integers(1, 10**12), st.integers(10**4, 10 * NANO))
@example(401, 10_000)
@example(2, 3)
def test_a_gaussian_scale_loses_at_most_its_rho_by_exact_and_compiled_count(l2_squared: int, rho_nano: int) -> None:
    scale = gaussian_scale(l2_squared, rho_nano)
    check_gaussian(l2_squared, scale, rho_nano)
    assert l2_squared / (2 * scale * scale) >= Fraction(rho_nano, NANO) * (1 - Fraction(1, 2**17))
    with pytest.raises(InternalError):
        check_gaussian(l2_squared, scale * Fraction(15, 16), rho_nano)


def test_a_query_under_zcdp_states_gaussian_noise_and_rho(tmp_path: Path) -> None:
    technique = DpTechnique()
    snapshot = support.publish(GAUSSIAN, [("a", "north", "1", "5", "1")], tmp_path)
    aggregates = [support.count(), support.of(Function.AVG), support.of(Function.QUANTILE, "visits")]
    bound = support.bind(snapshot, *aggregates, groups=["region"], epsilon="1")
    analysis = technique.analyse(bound)
    answer = support.answer(bound, technique)
    technique.close()
    assert [column.noise.distribution for column in answer.values] == [
        "composite",
        "discrete gaussian",
        "noisy max (exponential)",
    ]
    assert all(column.noise.rho_micro > 0 for column in answer.values)
    assert (answer.rho_micro, answer.delta_digits) == (analysis.loss.rho_micro, 6)
    assert int(answer.values[1].noise.interval95) > 0
    assert (analysis.loss.epsilon_nano, analysis.mechanism["delta"]) == (NANO, "1e-6")
    assert isinstance(analysis.body, DpPlan)
    assert analysis.body.rho_nano <= rho_of_epsilon(NANO, 6)
    assert analysis.loss.rho_micro == micro_rho(analysis.body.rho_nano)


def test_many_releases_cost_less_concentrated_than_pure() -> None:
    # 1,000 releases of epsilon 0.1 cost 100 by pure composition; their rho together is that of epsilon 22 at 1e-6.
    together = 1000 * rho_of_pure_epsilon(NANO // 10)
    assert rho_of_epsilon(21 * NANO, 6) < together < rho_of_epsilon(22 * NANO, 6)


def test_a_wished_accuracy_holds_under_zcdp(tmp_path: Path) -> None:
    technique = DpTechnique()
    snapshot = support.publish(GAUSSIAN, [], tmp_path)
    analysis = technique.analyse(support.bind(snapshot, support.count(), epsilon=None, within="20"))
    technique.close()
    assert 19 <= int(analysis.columns[0].noise.interval95) <= 20
