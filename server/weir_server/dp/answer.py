# SPDX-License-Identifier: Apache-2.0
"""From noisy parts to the columns of an answer: post-processing, which costs nothing and sees no data. Pure.

Averages, variances and deviations are ratios of noisy integers, given as integers. They are held to what the public
bounds allow; a cell whose noisy count is too small to divide by has no value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from weir.query import Function
from weir.v1 import answer_pb2
from weir_server.catalog.card import Measure
from weir_server.dp.accounting import Accounting, micro_rho
from weir_server.dp.layout import centre
from weir_server.dp.noise import RELEASE_LIMIT, exact_decimal
from weir_server.dp.plan import Output, interval95

_MAX_SCALE = 18
_RATIOS = frozenset({Function.AVG, Function.VARIANCE, Function.STDDEV})
Ratio = tuple[int, int] | None
"""Numerator and positive denominator, or no value."""


def columns(output: Output, accounting: Accounting) -> list[answer_pb2.ValueColumn]:
    """Columns of one aggregate, without values: name, unit, scale, noise; one per bucket for HISTOGRAM."""
    aggregate, measure = output.aggregate, output.measure
    column = answer_pb2.ValueColumn(name=aggregate.name, noise=noise(output, accounting))
    if measure is not None:
        column.unit = _unit(output, measure)
        column.scale = value_scale(output)
    if aggregate.function is Function.STDDEV:
        column.square_root = True
    if aggregate.function is not Function.HISTOGRAM or measure is None:
        return [column]
    column.unit, column.scale = "", 0  # rows are counted
    return [_bucket_column(column, index, measure) for index in range(len(measure.buckets) - 1)]


def _unit(output: Output, measure: Measure) -> str:
    return f"{measure.unit}^2" if measure.unit and output.aggregate.function is Function.VARIANCE else measure.unit


def value_scale(output: Output) -> int:
    """Decimal digits of the column; squares have twice the measure's, as far as the wire allows."""
    if output.measure is None:
        return 0
    squared = output.aggregate.function in (Function.VARIANCE, Function.STDDEV)
    return min(_MAX_SCALE, output.measure.scale * (2 if squared else 1))


def _bucket_column(column: answer_pb2.ValueColumn, index: int, measure: Measure) -> answer_pb2.ValueColumn:
    copy = answer_pb2.ValueColumn()
    copy.CopyFrom(column)
    copy.name = f"{column.name}[{index}]"
    copy.bucket.lower = decimal_text(measure.buckets[index], measure.scale)
    copy.bucket.upper = decimal_text(measure.buckets[index + 1], measure.scale)
    return copy


def decimal_text(steps: int, scale: int) -> str:
    """Grid steps as decimal text in the measure's unit."""
    whole, rest = divmod(abs(steps), int(10**scale))
    digits = str(rest).zfill(scale).rstrip("0") if scale else ""
    return f"{'-' if steps < 0 else ''}{whole}{'.' + digits if digits else ''}"


def noise(output: Output, accounting: Accounting) -> answer_pb2.Noise:
    """Public description of a column's noise. The buckets of a histogram share one loss."""
    rho = micro_rho(output.rho_nano) if accounting.concentrated else 0
    if len(output.parts) > 1:
        return answer_pb2.Noise(distribution="composite", epsilon_nano=output.epsilon_nano, rho_micro=rho)
    part = output.parts[0]
    width = interval95(part)
    return answer_pb2.Noise(
        distribution=part.mechanism.value,
        scale=exact_decimal(part.scale),
        epsilon_nano=part.epsilon_nano,
        sensitivity=str(part.sensitivity.l1),
        interval95="" if width is None else str(width),
        rho_micro=rho,
    )


def magnitudes(output: Output) -> list[int]:
    """Bound on |numerator| per column, for encrypted headroom; 0 where a column is no plain integer."""
    measure = output.measure
    if output.aggregate.function in _RATIOS:
        return [0]
    if output.aggregate.function is Function.QUANTILE and measure is not None:
        return [max(abs(measure.lower), abs(measure.upper))]
    return [RELEASE_LIMIT] * (output.parts[0].tally.width() if output.aggregate.function is Function.HISTOGRAM else 1)


def fill(output: Output, accounting: Accounting, noisy: Sequence[Sequence[int]]) -> list[answer_pb2.ValueColumn]:
    """Columns with values. `noisy`: for each part its integers after noise (edges for a selection)."""
    made = columns(output, accounting)
    if output.aggregate.function is Function.HISTOGRAM:
        for index, column in enumerate(made):
            column.numerators.extend(map(str, noisy[0][index :: len(made)]))
        return made
    make = _RATIO_OF.get(output.aggregate.function)
    if make is None or output.measure is None:
        made[0].numerators.extend(map(str, noisy[0]))
        return made
    _fill_ratios(made[0], [make(output.measure, *cell) for cell in zip(*noisy, strict=True)])
    return made


def _fill_ratios(column: answer_pb2.ValueColumn, ratios: Sequence[Ratio]) -> None:
    column.numerators.extend("" if ratio is None else str(ratio[0]) for ratio in ratios)
    column.denominators.extend("1" if ratio is None else str(ratio[1]) for ratio in ratios)


def _average(measure: Measure, count: int, centred: int) -> Ratio:
    if count <= 0:
        return None
    numerator = centre(measure) * count + centred
    return max(measure.lower * count, min(measure.upper * count, numerator)), count


def _variance(measure: Measure, count: int, centred: int, squares: int) -> Ratio:
    """Population variance, as in exact mode, held between 0 and the most that values within the bounds can have."""
    if count <= 0:
        return None
    most = (measure.upper - measure.lower) ** 2 * count * count // 4  # Popoviciu: (U - L)**2 / 4
    surplus = 10 ** max(0, 2 * measure.scale - _MAX_SCALE)  # decimal digits that the column's scale cannot hold
    return max(0, min(most, count * squares - centred * centred)), count * count * surplus


_RATIO_OF: dict[Function, Callable[..., Ratio]] = {
    Function.AVG: _average,
    Function.VARIANCE: _variance,
    Function.STDDEV: _variance,
}
