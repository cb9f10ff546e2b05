# SPDX-License-Identifier: Apache-2.0
"""The width theorem: how far apart the values are that remain possible for one unit of an atom.

A coalition of c members knows its own values, the bounds [L, U] and the published sum S. Of the m = n - c other
members it knows the residual sum S'. Each of their values can be anything in an interval of length exactly
min(U - L, S' - m·L, m·U - S') (DESIGN §5; tests/properties/test_exact_width.py checks it by linear programme).
Publication asks that the coalition for which it is least still faces the declared width. A small S' - m·L is dominance
(all others near the floor, so one value is nearly the sum); a small m·U - S' is homogeneity at the ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass

from weir_server.catalog.card import Measure


@dataclass(frozen=True, slots=True)
class Spread:
    """What the check needs of one measure in one candidate atom, in grid steps."""

    n: int
    sum: int
    largest: tuple[int, ...]
    """The c largest values."""
    smallest: tuple[int, ...]
    """The c smallest values."""


def interval_width(*, lower: int, upper: int, members: int, residual: int) -> int:
    """Length of the interval of possible values of one of `members` >= 2 units whose sum is `residual`."""
    return min(upper - lower, residual - members * lower, members * upper - residual)


def least_width(spread: Spread, *, lower: int, upper: int) -> int:
    """The least interval any coalition of c = len(largest) members can reach for one of the others; 0 where fewer than
    two others remain.

    Removing the c largest values makes the residual's distance from its floor least, removing the c smallest its
    distance from its ceiling; every other coalition leaves at least as much of both.
    """
    others = spread.n - len(spread.largest)
    if others < 2:
        return 0
    low = interval_width(lower=lower, upper=upper, members=others, residual=spread.sum - sum(spread.largest))
    high = interval_width(lower=lower, upper=upper, members=others, residual=spread.sum - sum(spread.smallest))
    return min(low, high)


def wide_enough(spread: Spread, measure: Measure) -> bool:
    """Whether the measure's declared width holds."""
    return least_width(spread, lower=measure.lower, upper=measure.upper) >= measure.width
