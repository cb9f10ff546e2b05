# SPDX-License-Identifier: Apache-2.0
"""The width theorem: how far apart the values are that remain possible for one unit of an atom.

*Sums.* A coalition of c members knows its own values, the bounds [L, U] and the published sum S. Of the m = n - c other
members it knows the residual sum S'. Each of their values can be anything in an interval of length exactly
min(U - L, S' - m·L, m·U - S') (DESIGN §5; tests/properties/test_exact_width.py checks it by linear programme). A small
S' - m·L is dominance (all others near the floor, so one value is nearly the sum); a small m·U - S' is homogeneity at
the ceiling.

*Squares and buckets* narrow that further: members whose values are equal have variance 0 and lie in one bucket.
Whatever symmetric statistics are published, each unknown member may hold the value of any other, so what remains
possible spans at least the values of the unknown members themselves. Where more than the sum is published, that span
must reach the width too.

Publication asks both of the coalition for which they are least.
"""

from __future__ import annotations

from dataclasses import dataclass

from weir.query import Function
from weir_server.catalog.card import Measure

_NARROWING = frozenset({Function.VARIANCE, Function.STDDEV, Function.HISTOGRAM})


@dataclass(frozen=True, slots=True)
class Spread:
    """What the check needs of one measure in one candidate atom, in grid steps. c is the size of a coalition."""

    n: int
    sum: int
    largest: tuple[int, ...]
    """The c + 1 largest values, descending."""
    smallest: tuple[int, ...]
    """The c + 1 smallest values, ascending."""

    @property
    def coalition(self) -> int:
        """Size of a coalition."""
        return len(self.largest) - 1


def interval_width(*, lower: int, upper: int, members: int, residual: int) -> int:
    """Length of the interval of possible values of one of `members` >= 2 units whose sum is `residual`."""
    return min(upper - lower, residual - members * lower, members * upper - residual)


def least_width(spread: Spread, *, lower: int, upper: int) -> int:
    """The least interval any coalition of c can reach for one of the others, from the sum; 0 where fewer than two
    others remain.

    Removing the c largest values makes the residual's distance from its floor least, removing the c smallest its
    distance from its ceiling; every other coalition leaves at least as much of both.
    """
    others = spread.n - spread.coalition
    if others < 2:
        return 0
    low = interval_width(lower=lower, upper=upper, members=others, residual=spread.sum - sum(spread.largest[:-1]))
    high = interval_width(lower=lower, upper=upper, members=others, residual=spread.sum - sum(spread.smallest[:-1]))
    return min(low, high)


def least_span(spread: Spread) -> int:
    """The least distance between the greatest and the smallest value that any coalition of c leaves unknown; 0 where
    fewer than two others remain.

    The worst coalition holds the i largest and the c - i smallest values, for some i.
    """
    c = spread.coalition
    if spread.n - c < 2:
        return 0
    return min(spread.largest[i] - spread.smallest[c - i] for i in range(c + 1))


def wide_enough(spread: Spread, measure: Measure) -> bool:
    """Whether the measure's declared width holds."""
    if least_width(spread, lower=measure.lower, upper=measure.upper) < measure.width:
        return False
    return not measure.statistics & _NARROWING or least_span(spread) >= measure.width
