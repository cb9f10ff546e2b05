# SPDX-License-Identifier: Apache-2.0
"""A scale chosen for a loss always passes the check of that loss: what is too small is refused by policy, and nothing
a requester may ask ends as an internal error."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from importlib import resources
from pathlib import Path

import pytest

from tests.support import dp as support
from weir.amounts import NANO, parse_epsilon
from weir.errors import InvalidQuery
from weir.query import Function
from weir_server.catalog.card_file import load_card
from weir_server.dp.accounting import PURE, Accounting
from weir_server.dp.noise import check_gaussian, check_laplace, gaussian_scale, laplace_scale
from weir_server.dp.plan import check_parts, compile_plan
from weir_server.dp.selection import check_selection, selection_scale
from weir_server.plan.values import Loss

SENSITIVITIES = (
    1, 2, 3, 5, 7, 10, 99, 225, 450, 999, 1000, 2500, 5000, 5001, 45_000, 112_500, 2**20 + 1, 10**9 + 7, 2**40 + 3,
    2**53 + 1,
)  # fmt: skip
LOSSES = tuple(
    sorted(
        {10**k * digit for k in range(3, 10) for digit in (1, 2, 3, 5, 7)}
        | {NANO // 10 // part for part in (2, 3, 6, 7, 30)}
        | {1, 3, 123_456_789, 333_333_333}
    )
)


@pytest.mark.parametrize(
    ("choose", "check"),
    [(laplace_scale, check_laplace), (gaussian_scale, check_gaussian), (selection_scale, check_selection)],
    ids=["laplace", "gaussian", "selection"],
)
def test_a_chosen_scale_passes_its_own_check_or_is_refused_by_policy(
    choose: Callable[[int, int], Fraction], check: Callable[[int, Fraction, int], None]
) -> None:
    answered = 0
    for sensitivity, loss in itertools.product(SENSITIVITIES, LOSSES):
        try:
            scale = choose(sensitivity, loss)
        except InvalidQuery:
            continue
        check(sensitivity, scale, loss)
        answered += 1
    assert answered > len(SENSITIVITIES) * len(LOSSES) // 2


@pytest.mark.parametrize("accounting", [PURE, Accounting(concentrated=True)], ids=["pure", "concentrated"])
def test_every_question_of_the_demo_s_measures_passes_at_every_usual_epsilon(
    tmp_path: Path, accounting: Accounting
) -> None:
    card = load_card(Path(str(resources.files("weir_server.demo") / "rand_hie" / "spending.yaml")))
    snapshot = support.snapshot(card, tmp_path, ())
    for measure in card.measures:
        functions = [f for f in (Function.SUM, Function.AVG, Function.VARIANCE) if f in measure.statistics]
        for function, groups in itertools.product(functions, ([], ["plan"], ["year", "female"])):
            bound = support.bind(snapshot, support.count(), support.of(function, measure.name), groups=groups)
            for text in ("0.001", "0.01", "0.05", "0.1", "0.2", "0.3", "0.5", "0.7", "1", "3"):
                epsilon = parse_epsilon(text)
                plan = compile_plan(bound, epsilon, accounting=accounting)
                check_parts(plan, most=Loss(epsilon_nano=epsilon, rho_micro=-(-plan.rho_nano // 1000)))


def test_the_sum_that_once_failed_its_check_is_planned(tmp_path: Path) -> None:
    card = load_card(Path(str(resources.files("weir_server.demo") / "rand_hie" / "spending.yaml")))
    bound = support.bind(support.snapshot(card, tmp_path, ()), support.of(Function.SUM, "mental_health"))
    plan = compile_plan(bound, parse_epsilon("0.1"))
    ((part,),) = (output.parts for output in plan.outputs)
    assert (part.sensitivity.l1, part.epsilon_nano) == (5000, 10**8)
    check_parts(plan, most=Loss(epsilon_nano=10**8, rho_micro=-(-plan.rho_nano // 1000)))
