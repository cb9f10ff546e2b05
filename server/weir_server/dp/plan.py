# SPDX-License-Identifier: Apache-2.0
"""From a bound query and a loss to noisy parts: what is added up, with which noise, and where from. Pure.

The loss is split over the aggregates by their weights and evenly over the parts of each, in whole nano-epsilon whose
sum is the loss to the last one. Parts are independent releases of one database, so their losses add up (basic
composition).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from weir.errors import InternalError, InvalidQuery
from weir.query import Aggregate, Function
from weir_server.catalog.card import DatasetCard, Measure, Mode
from weir_server.dp.layout import has_cube, has_units, is_bucketed, is_squared
from weir_server.dp.noise import check_laplace, laplace_scale
from weir_server.dp.selection import check_selection, score_sensitivity, selection_scale
from weir_server.dp.tally import Kind, Tally, is_row_level, sensitivity
from weir_server.plan.values import BoundQuery, CellTest, Condition, Every, NullTest, Some, ValueTest

_PARTS: dict[Function, tuple[Kind, ...]] = {
    Function.COUNT: (Kind.ROWS,),
    Function.COUNT_UNITS: (Kind.UNITS,),
    Function.SUM: (Kind.SUM,),
    Function.AVG: (Kind.VALUES, Kind.CENTRED),
    Function.VARIANCE: (Kind.VALUES, Kind.CENTRED, Kind.SQUARES),
    Function.STDDEV: (Kind.VALUES, Kind.CENTRED, Kind.SQUARES),
    Function.QUANTILE: (Kind.BUCKETS,),
    Function.HISTOGRAM: (Kind.BUCKETS,),
}
_WITHOUT_MEASURE = frozenset({Kind.ROWS, Kind.UNITS})


@dataclass(frozen=True, slots=True)
class Part:
    """One noisy vector: a tally and the noise it gets."""

    tally: Tally
    epsilon_nano: int
    """Loss planned for it, over all of its integers together; > 0."""
    sensitivity: int
    """L1 bound of the tally; for a selection, bound of one score."""
    scale: Fraction
    """Scale of discrete Laplace noise, or of noisy max for a selection."""
    quantile_ppm: int | None = None
    """Set for a selection."""


@dataclass(frozen=True, slots=True)
class Output:
    """One aggregate with the parts it is computed from."""

    aggregate: Aggregate
    measure: Measure | None
    parts: tuple[Part, ...]

    @property
    def epsilon_nano(self) -> int:
        """Loss of the aggregate."""
        return sum(part.epsilon_nano for part in self.parts)


@dataclass(frozen=True, slots=True)
class DpPlan:
    """A compiled dp query."""

    outputs: tuple[Output, ...]
    epsilon_nano: int
    """Sum over all parts."""


def compile_plan(bound: BoundQuery, epsilon_nano: int) -> DpPlan:
    """Parts for the bound query at this loss.

    Raises:
        InvalidQuery: an aggregate or filter that dp cannot answer, or too small a loss for it.
    """
    _check_filters(bound.condition, bound.card)
    outputs = []
    weights = [aggregate.weight for aggregate, _ in bound.aggregates]
    for (aggregate, measure), share in zip(bound.aggregates, split(epsilon_nano, weights), strict=True):
        kinds = _PARTS[aggregate.function]
        _check_statistic(aggregate, measure)
        losses = split(share, [1] * len(kinds))
        parts = tuple(_part(kind, aggregate, measure, loss, bound) for kind, loss in zip(kinds, losses, strict=True))
        outputs.append(Output(aggregate, measure, parts))
    return DpPlan(tuple(outputs), sum(output.epsilon_nano for output in outputs))


def split(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in whole shares proportional to `weights`: their sum is `total`, and each is off by less than one."""
    shares, whole, cumulated = [], sum(weights), 0
    for weight in weights:
        before, cumulated = total * cumulated // whole, cumulated + weight
        shares.append(total * cumulated // whole - before)
    return shares


def _part(kind: Kind, aggregate: Aggregate, measure: Measure | None, loss: int, bound: BoundQuery) -> Part:
    if loss <= 0:
        raise InvalidQuery(
            "epsilon is too small to be split over the aggregates", field="epsilon_nano", rule="dp.epsilon_too_small"
        )
    tally = Tally(kind, None if kind in _WITHOUT_MEASURE else measure)
    if aggregate.quantile_ppm is not None:
        change = score_sensitivity(bound.card.bounds.rows_per_unit, aggregate.quantile_ppm)
        return Part(tally, loss, change, selection_scale(change, loss), aggregate.quantile_ppm)
    change = sensitivity(tally, bound.card, bound.groups).l1
    return Part(tally, loss, change, laplace_scale(change, loss))


def check_parts(plan: DpPlan, *, most: int) -> None:
    """Holds every compiled measurement against its part, and the parts against `most` nano-epsilon.

    Raises:
        InternalError: one loses more than planned; nothing may be touched then.
    """
    total = 0
    for output in plan.outputs:
        for part in output.parts:
            check = check_laplace if part.quantile_ppm is None else check_selection
            check(part.sensitivity, part.scale, part.epsilon_nano)
            total += part.epsilon_nano
    if total > most:
        raise InternalError("the parts of a query exceed its loss", rule="dp.loss_check")


def _check_statistic(aggregate: Aggregate, measure: Measure | None) -> None:
    if measure is None:
        return
    if measure.mode is not Mode.DP:
        raise InvalidQuery(
            f"{measure.name} is released exactly, so not with dp", field="query.aggregates", rule="mode.one"
        )
    if aggregate.function in (Function.QUANTILE, Function.HISTOGRAM) and not is_bucketed(measure):
        raise InvalidQuery(
            f"{measure.name} declares no buckets; SUM and AVG need none",
            field="query.aggregates",
            rule="dp.buckets",
        )
    if aggregate.function in (Function.VARIANCE, Function.STDDEV) and not is_squared(measure):
        raise InvalidQuery(
            f"the bounds of {measure.name} are too wide for squares in 62 bits; SUM and AVG are allowed",
            field="query.aggregates",
            rule="dp.sensitivity_range",
        )


def _check_filters(condition: Condition, card: DatasetCard) -> None:
    for test in leaves(condition):
        if isinstance(test, CellTest):
            continue
        measure = card.measure(test.measure)
        if measure is None or measure.mode is not Mode.DP:
            raise InvalidQuery(
                f"{test.measure} cannot filter a dp query; filter on dimensions or dp measures",
                field="query.where",
                rule="dp.filter",
            )


def leaves(condition: Condition) -> list[CellTest | ValueTest | NullTest]:
    """The tests of a condition, left to right."""
    if isinstance(condition, Every | Some):
        return [leaf for operand in condition.operands for leaf in leaves(operand)]
    return [condition]


def uses_cube(bound: BoundQuery, tally: Tally) -> bool:
    """Whether the tally is added up from cells instead of rows: from public facts, and with the same result.

    Units cannot be added over row-level cells, where one unit may appear in several.
    """
    tests = leaves(bound.condition)
    if any(not isinstance(test, CellTest) for test in tests):
        return False
    if tally.kind is not Kind.UNITS:
        return has_cube(bound.card)
    return has_units(bound.card) and counts_units_by_rank(bound)


def counts_units_by_rank(bound: BoundQuery) -> bool:
    """Whether groups and filter have one value per unit, so that a unit's row of rank 0 stands for it."""
    card = bound.card
    tested = [card.dimension(test.dimension) for test in leaves(bound.condition) if isinstance(test, CellTest)]
    plain = all(isinstance(test, CellTest) for test in leaves(bound.condition))
    return plain and not any(item is not None and is_row_level(card, item) for item in (*tested, *bound.groups))
