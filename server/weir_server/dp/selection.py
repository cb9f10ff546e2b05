# SPDX-License-Identifier: Apache-2.0
"""Quantiles by noisy maximum over a public histogram.

Candidates are the declared bucket edges. With rank p/q, an edge with `below` values under it and `above` values at or
over it scores -|(q - p) * below - p * above|: zero for a perfect quantile. One row changes a score by at most
max(p, q - p), so R rows by R times that. Where a unit's rows are spread over cells, the losses of the cells add up to
no more than that of R rows in one, since the loss is linear in the change.

Source: McSherry, Talwar, "Mechanism Design via Differential Privacy" (2007); noisy max as in OpenDP.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import opendp.prelude as dp

from weir.amounts import NANO
from weir.errors import InvalidQuery
from weir_server.dp.layout import AMOUNT_LIMIT
from weir_server.dp.noise import TRUE_LIMIT, as_float, hold_loss, round_up

_PPM = 1_000_000


def score_sensitivity(rows_per_unit: int, quantile_ppm: int) -> int:
    """Most that one unit changes a score.

    Raises:
        InvalidQuery: the bound on rows is too wide for 64-bit integers.
    """
    rank = Fraction(quantile_ppm, _PPM)
    sensitivity = rows_per_unit * max(rank.numerator, rank.denominator - rank.numerator)
    if sensitivity >= AMOUNT_LIMIT:
        raise InvalidQuery("too many rows per unit for a quantile", field="query", rule="dp.sensitivity_range")
    return sensitivity


def selection_scale(sensitivity: int, epsilon_nano: int) -> Fraction:
    """Least scale of noisy max that loses at most epsilon: scores move both ways, so the change counts twice.

    Raises:
        InvalidQuery: epsilon is so small that the noise would leave 64 bits.
    """
    return round_up(2 * as_float(Fraction(sensitivity)) * NANO / epsilon_nano)


def check_selection(sensitivity: int, scale: Fraction, epsilon_nano: int) -> None:
    """Holds the compiled measurement against the plan, before any data is touched.

    Raises:
        InternalError: it would lose more than planned.
    """
    hold_loss(_selection_loss(sensitivity, scale), 2 * sensitivity / scale, scale, epsilon_nano)


def select_edge(counts: Sequence[int], edges: Sequence[int], quantile_ppm: int, scale: Fraction) -> int:
    """One of `edges`, drawn once, now, with a preference for the quantile of the bucket `counts`."""
    return edges[int(_noisy_max(float(scale))(edge_scores(counts, quantile_ppm)))]


def edge_scores(counts: Sequence[int], quantile_ppm: int) -> list[int]:
    """Score of each edge, one more than there are buckets; 0 is best."""
    rank = Fraction(quantile_ppm, _PPM)
    over, under = rank.numerator, rank.denominator - rank.numerator
    below, total, scores = 0, sum(counts), []
    for count in (*counts, 0):
        scores.append(-min(TRUE_LIMIT, abs(under * below - over * (total - below))))
        below += count
    return scores


@lru_cache(maxsize=4096)
def _selection_loss(sensitivity: int, scale: Fraction) -> Fraction:
    return Fraction(float(_noisy_max(float(scale)).map(sensitivity)))


@lru_cache(maxsize=1024)
def _noisy_max(scale: float) -> Any:
    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    return dp.m.make_noisy_max(domain, dp.linf_distance(T="i64"), dp.max_divergence(), scale)
