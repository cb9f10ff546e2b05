# SPDX-License-Identifier: Apache-2.0
import pytest

from weir.errors import LimitHit
from weir.limits import hit_text, metric_name, metric_text


def test_a_limit_that_resets_says_what_is_used_and_until_when():
    hit = LimitHit("stays-q", "queries", 40, 40, 1, "2026-11-23T00:00:00Z")
    told = "stays-q has queries 0 left, this asks 1 (40 of 40 used; resets 2026-11-23T00:00:00Z)"
    assert hit_text(hit) == told


def test_a_lifetime_budget_is_told_in_decimals_and_never_below_nothing():
    hit = LimitHit("q-1", "epsilon_nano", 3_000_000_000, 3_500_000_000, 250_000_000, None)
    assert hit_text(hit) == "q-1 has epsilon 0 left, this asks 0.25 (3.5 of 3 used)"


@pytest.mark.parametrize(
    ("metric", "name", "text"),
    [("price_micro", "price", "0.0015"), ("rho_micro", "rho", "0.0015"), ("cells", "cells", "1500")],
)
def test_amounts_are_those_that_people_write(metric, name, text):
    assert (metric_name(metric), metric_text(metric, 1500)) == (name, text)
