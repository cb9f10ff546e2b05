# SPDX-License-Identifier: Apache-2.0
"""From a bound query and a loss to noisy parts: what is added up, with which noise, and where from. Pure.

The loss is split over the aggregates by their weights and evenly over the parts of each, in whole nano-epsilon (or
nano-rho) whose sum is the loss to the last one. Parts are independent releases of one database, so their losses add up.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from weir.errors import InternalError, InvalidQuery
from weir.query import Aggregate, Function
from weir_server.catalog.card import DatasetCard, Measure, Mode
from weir_server.dp.accounting import (
    PURE,
    Accounting,
    micro_rho,
    pure_epsilon_of_rho,
    rho_of_epsilon,
    rho_of_pure_epsilon,
)
from weir_server.dp.layout import has_cube, has_units, is_bucketed, is_squared
from weir_server.dp.noise import (
    check_gaussian,
    check_laplace,
    gaussian_interval95,
    gaussian_scale,
    laplace_interval95,
    laplace_scale,
)
from weir_server.dp.selection import check_selection, score_sensitivity, selection_scale
from weir_server.dp.tally import Kind, Sensitivity, Tally, is_row_level, sensitivity
from weir_server.plan.values import BoundQuery, CellTest, Condition, Every, Loss, NullTest, Some, ValueTest

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


class Mechanism(enum.Enum):
    """Which noise; the values are the words of the answer."""

    LAPLACE = "discrete laplace"
    GAUSSIAN = "discrete gaussian"
    SELECTION = "noisy max (exponential)"


@dataclass(frozen=True, slots=True)
class Part:
    """One noisy vector: a tally and the noise it gets."""

    tally: Tally
    mechanism: Mechanism
    epsilon_nano: int
    """Pure loss planned for it, over all of its integers together; 0 for Gaussian noise, which has none."""
    rho_nano: int
    """Concentrated loss planned for it, or implied by the pure one."""
    sensitivity: Sensitivity
    """Of the tally; for a selection, of one score."""
    scale: Fraction
    """Scale of the noise: b for Laplace and for noisy max, sigma for Gaussian."""
    quantile_ppm: int | None = None
    """Rank, exactly for a selection."""


@dataclass(frozen=True, slots=True)
class Output:
    """One aggregate with the parts it is computed from."""

    aggregate: Aggregate
    measure: Measure | None
    parts: tuple[Part, ...]

    @property
    def epsilon_nano(self) -> int:
        """Pure loss of the aggregate; of a Gaussian part it says nothing."""
        return sum(part.epsilon_nano for part in self.parts)

    @property
    def rho_nano(self) -> int:
        """Concentrated loss of the aggregate."""
        return sum(part.rho_nano for part in self.parts)


@dataclass(frozen=True, slots=True)
class DpPlan:
    """A compiled dp query."""

    outputs: tuple[Output, ...]
    accounting: Accounting
    epsilon_nano: int
    """What was asked: pure epsilon, or the epsilon of (epsilon, delta) for this release alone."""

    @property
    def rho_nano(self) -> int:
        """Concentrated loss of all parts."""
        return sum(output.rho_nano for output in self.outputs)


def compile_plan(bound: BoundQuery, epsilon_nano: int, *, accounting: Accounting = PURE) -> DpPlan:
    """Parts for the bound query at this loss.

    Raises:
        InvalidQuery: an aggregate or filter that dp cannot answer, or too small a loss for it.
    """
    _check_filters(bound.condition, bound.card)
    total = rho_of_epsilon(epsilon_nano, accounting.delta_digits) if accounting.concentrated else epsilon_nano
    outputs = []
    weights = [aggregate.weight for aggregate, _ in bound.aggregates]
    for (aggregate, measure), share in zip(bound.aggregates, split(total, weights), strict=True):
        kinds = _PARTS[aggregate.function]
        _check_statistic(aggregate, measure)
        losses = split(share, [1] * len(kinds))
        make = _concentrated_part if accounting.concentrated else _pure_part
        parts = tuple(make(kind, aggregate, measure, loss, bound) for kind, loss in zip(kinds, losses, strict=True))
        outputs.append(Output(aggregate, measure, parts))
    return DpPlan(tuple(outputs), accounting, epsilon_nano)


def split(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in whole shares proportional to `weights`: their sum is `total`, and each is off by less than one."""
    shares, whole, cumulated = [], sum(weights), 0
    for weight in weights:
        before, cumulated = total * cumulated // whole, cumulated + weight
        shares.append(total * cumulated // whole - before)
    return shares


def _pure_part(kind: Kind, aggregate: Aggregate, measure: Measure | None, loss: int, bound: BoundQuery) -> Part:
    _check_share(loss)
    if aggregate.quantile_ppm is not None:
        return _selection(kind, aggregate.quantile_ppm, measure, loss, rho_of_pure_epsilon(loss), bound)
    tally = Tally(kind, None if kind in _WITHOUT_MEASURE else measure)
    change = sensitivity(tally, bound.card, bound.groups)
    scale = laplace_scale(change.l1, loss)
    return Part(tally, Mechanism.LAPLACE, loss, rho_of_pure_epsilon(loss), change, scale)


def _concentrated_part(kind: Kind, aggregate: Aggregate, measure: Measure | None, loss: int, bound: BoundQuery) -> Part:
    _check_share(loss)
    if aggregate.quantile_ppm is not None:
        return _selection(kind, aggregate.quantile_ppm, measure, pure_epsilon_of_rho(loss), loss, bound)
    tally = Tally(kind, None if kind in _WITHOUT_MEASURE else measure)
    change = sensitivity(tally, bound.card, bound.groups)
    return Part(tally, Mechanism.GAUSSIAN, 0, loss, change, gaussian_scale(change.l2_squared, loss))


def _selection(
    kind: Kind, quantile_ppm: int, measure: Measure | None, epsilon_nano: int, rho_nano: int, bound: BoundQuery
) -> Part:
    change = score_sensitivity(bound.card.bounds.rows_per_unit, quantile_ppm)
    scale, bounds = selection_scale(change, epsilon_nano), Sensitivity(change, change * change)
    return Part(Tally(kind, measure), Mechanism.SELECTION, epsilon_nano, rho_nano, bounds, scale, quantile_ppm)


def _check_share(loss: int) -> None:
    if loss <= 0:
        raise InvalidQuery(
            "epsilon is too small to be split over the aggregates", field="epsilon_nano", rule="dp.epsilon_too_small"
        )


def check_parts(plan: DpPlan, *, most: Loss) -> None:
    """Holds every compiled measurement against its part, and the parts against `most`.

    Raises:
        InternalError: one loses more than planned; nothing may be touched then.
    """
    parts = [part for output in plan.outputs for part in output.parts]
    for part in parts:
        if part.mechanism is Mechanism.GAUSSIAN:
            check_gaussian(part.sensitivity.l2_squared, part.scale, part.rho_nano)
        elif part.mechanism is Mechanism.LAPLACE:
            check_laplace(part.sensitivity.l1, part.scale, part.epsilon_nano)
        else:
            check_selection(part.sensitivity.l1, part.scale, part.epsilon_nano)
    pure = 0 if plan.accounting.concentrated else sum(part.epsilon_nano for part in parts)
    if pure > most.epsilon_nano or plan.epsilon_nano > most.epsilon_nano or micro_rho(plan.rho_nano) > most.rho_micro:
        raise InternalError("the parts of a query exceed its loss", rule="dp.loss_check")


def interval95(part: Part) -> int | None:
    """Half-width that noise stays within with at least 95 %; None for a selection, which adds none."""
    if part.mechanism is Mechanism.SELECTION:
        return None
    return (gaussian_interval95 if part.mechanism is Mechanism.GAUSSIAN else laplace_interval95)(part.scale)


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
