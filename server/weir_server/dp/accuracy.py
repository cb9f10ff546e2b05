# SPDX-License-Identifier: Apache-2.0
"""From a wished accuracy to the loss it takes. Pure."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from weir.amounts import NANO
from weir.errors import InvalidQuery
from weir.query import Function, parse_decimal_literal
from weir_server.dp.accounting import PURE, Accounting
from weir_server.dp.plan import compile_plan, interval95
from weir_server.plan.values import BoundQuery

STATES_INTERVAL = frozenset({Function.COUNT, Function.COUNT_UNITS, Function.SUM, Function.HISTOGRAM})
MAX_EPSILON_NANO = 1_000 * NANO
"""A wish that takes more is refused; no budget is near it."""


def loss_within(bound: BoundQuery, within: str, *, accounting: Accounting = PURE) -> int:
    """Least nano-epsilon (to the last few) at which the first aggregate with a stated interval has its cells within
    ± `within` at 95 %; `within` is decimal text in that aggregate's unit.

    Aggregates are in canonical order. AVG, VARIANCE, STDDEV and QUANTILE state no interval and are passed over.

    Raises:
        InvalidQuery: not a positive decimal, no aggregate states an interval, or no loss up to 1,000 is enough.
    """
    position = _noisy_position(bound)
    steps = _steps(within, bound, position)
    low, high = 0, MAX_EPSILON_NANO  # `low` is too little, `high` is enough
    if not _is_within(bound, position, high, steps, accounting):
        raise InvalidQuery(
            "no loss up to epsilon 1,000 reaches this accuracy; ask for a wider interval",
            field="accuracy.within",
            rule="dp.accuracy_unreachable",
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _is_within(bound, position, middle, steps, accounting) else (middle, high)
    return high


def _is_within(bound: BoundQuery, position: int, epsilon_nano: int, steps: int, accounting: Accounting) -> bool:
    try:
        part = compile_plan(bound, epsilon_nano, accounting=accounting).outputs[position].parts[0]
    except InvalidQuery as refusal:
        if refusal.rule == "dp.epsilon_too_small":
            return False
        raise
    width = interval95(part)
    return width is not None and width <= steps


def _noisy_position(bound: BoundQuery) -> int:
    for position, (aggregate, _) in enumerate(bound.aggregates):
        if aggregate.function in STATES_INTERVAL:
            return position
    raise InvalidQuery(
        "`within` needs an aggregate whose noise has a stated interval: COUNT, COUNT(DISTINCT unit), SUM or "
        "HISTOGRAM; state epsilon instead",
        field="accuracy.within",
        rule="dp.accuracy_aggregate",
    )


def _steps(within: str, bound: BoundQuery, position: int) -> int:
    """Whole steps of the aggregate's grid in the wished half-width, rounded down."""
    aggregate, measure = bound.aggregates[position]
    width = Decimal(str(parse_decimal_literal(within).value))
    if width <= 0:
        raise InvalidQuery("`within` must be greater than 0", field="accuracy.within", rule="dp.accuracy")
    scale = measure.scale if measure is not None and aggregate.function is Function.SUM else 0
    steps = Fraction(width) * 10**scale
    whole: int = steps.numerator // steps.denominator
    return whole
