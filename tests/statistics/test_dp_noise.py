# SPDX-License-Identifier: Apache-2.0
"""The noise that is drawn is the noise that the answer states.

Each test compares a sample with the stated distribution at a level of 1e-6, so that a sound build fails this file with
probability below 1e-5. Nothing is seeded: there is no seed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom, chisquare, dlaplace, kstest

from weir_server.dp.noise import (
    add_gaussian,
    add_laplace,
    gaussian_interval95,
    gaussian_scale,
    laplace_interval95,
    laplace_scale,
)
from weir_server.dp.selection import edge_scores, select_edge, selection_scale

pytestmark = pytest.mark.statistical

LEVEL = 1e-6
SAMPLES = 20_000


@pytest.mark.parametrize("epsilon_nano", [10**8, 10**9, 3 * 10**9])
def test_laplace_noise_fits_its_stated_scale(epsilon_nano: int) -> None:
    scale = laplace_scale(3, epsilon_nano)
    noise = np.array(add_laplace([0] * SAMPLES, scale))
    # A continuous relaxation makes the Kolmogorov-Smirnov test exact for integers: spread each over its unit step.
    spread = noise + np.random.default_rng().random(SAMPLES)
    assert kstest(spread, _spread_cdf(float(scale))).pvalue > LEVEL


def _spread_cdf(scale: float) -> object:
    law = dlaplace(1 / scale)

    def cdf(x: np.ndarray) -> np.ndarray:
        whole = np.floor(x)
        return law.cdf(whole - 1) + law.pmf(whole) * (x - whole)

    return cdf


def test_a_scale_a_quarter_off_is_seen_by_the_same_test() -> None:
    scale = laplace_scale(3, 10**8)
    spread = np.array(add_laplace([0] * SAMPLES, scale)) + np.random.default_rng().random(SAMPLES)
    assert kstest(spread, _spread_cdf(float(scale) * 1.25)).pvalue < LEVEL


@pytest.mark.parametrize("rho_nano", [10**7, 10**8, 10**9])
def test_gaussian_noise_fits_its_stated_scale_and_interval(rho_nano: int) -> None:
    scale = gaussian_scale(9, rho_nano)
    noise = np.array(add_gaussian([0] * SAMPLES, scale))
    integers = np.arange(-int(12 * scale) - 2, int(12 * scale) + 3)
    weights = np.exp(-((integers / float(scale)) ** 2) / 2)
    cumulated = np.cumsum(weights / weights.sum())
    spread = noise + np.random.default_rng().random(SAMPLES)
    assert kstest(spread, lambda x: np.interp(x, integers + 1, cumulated)).pvalue > LEVEL
    assert kstest(spread, lambda x: np.interp(x / 1.25, integers + 1, cumulated)).pvalue < LEVEL
    assert binom.cdf(int((np.abs(noise) <= gaussian_interval95(scale)).sum()), SAMPLES, 0.95) > LEVEL


@pytest.mark.parametrize("epsilon_nano", [10**8, 10**9, 3 * 10**9])
def test_the_stated_interval_holds_at_least_95_percent_of_noise(epsilon_nano: int) -> None:
    scale = laplace_scale(3, epsilon_nano)
    inside = sum(abs(noise) <= laplace_interval95(scale) for noise in add_laplace([0] * SAMPLES, scale))
    assert binom.cdf(inside, SAMPLES, 0.95) > LEVEL


def test_noisy_max_prefers_edges_as_exponential_noise_does() -> None:
    counts, edges, scale = [3, 1, 2], (0, 1, 2, 3), selection_scale(1, 10**9)
    scores = np.array(edge_scores(counts, 500_000), dtype=float)
    drawn = np.bincount([select_edge(counts, edges, 500_000, scale) for _ in range(4000)], minlength=4)
    assert chisquare(drawn, 4000 * _exponential_max(scores, float(scale))).pvalue > LEVEL


def _exponential_max(scores: np.ndarray, scale: float) -> np.ndarray:
    """Probability of each index being largest after exponential noise, by numeric integration."""
    grid = np.linspace(scores.min(), scores.max() + 60 * scale, 400_001)
    cdfs = [np.where(grid < s, 0.0, 1 - np.exp(-(grid - s) / scale)) for s in scores]
    pdfs = [np.where(grid < s, 0.0, np.exp(-(grid - s) / scale) / scale) for s in scores]
    won = [
        np.trapezoid(pdf * np.prod([cdf for j, cdf in enumerate(cdfs) if j != i], axis=0), grid)
        for i, pdf in enumerate(pdfs)
    ]
    return np.array(won) / np.sum(won)


FORKED = """
import os
from fractions import Fraction
from weir_server.dp.noise import add_laplace
add_laplace([0], Fraction(2**40))  # the generator has been used before the fork
readers = []
for _ in range(2):
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, repr(add_laplace([0] * 8, Fraction(2**40))).encode())
        os._exit(0)
    os.close(writer)
    readers.append(reader)
print([os.read(reader, 4096).decode() for reader in readers])
"""


def test_no_noise_repeats_across_restarts_or_forks() -> None:
    outputs = [
        subprocess.run([sys.executable, "-c", FORKED], capture_output=True, check=True, text=True, env=dict(os.environ))
        for _ in range(2)
    ]
    drawn = [line for output in outputs for line in eval(output.stdout)]
    # 8 values of scale 2**40 each: two equal draws have probability below 2**-300.
    assert len(set(drawn)) == 4


def test_noise_of_different_cells_is_independent() -> None:
    noise = np.array(add_laplace([0] * 2 * SAMPLES, Fraction(1000))).reshape(SAMPLES, 2)
    # |correlation| of independent samples exceeds 5 / sqrt(n) with probability below 1e-6.
    assert abs(np.corrcoef(noise.T)[0, 1]) < 5 / SAMPLES**0.5
