# SPDX-License-Identifier: Apache-2.0
"""Expressions of the language that read source columns exactly: decimals to grid steps, values to cells. No float.

They run over a relation that holds the source's declared columns under their own names: integers and decimals as they
are, everything else as text (`source`). What a text must look like to be a number or a time is said in
`weir_server.engine.readings`; a number is rounded to 18 fractional digits, halves away from zero, and from there goes
to the declared grid in integers. A finite number of 10**19 or more counts as 2**63 steps: outside every bound, so it is
clipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weir_server.catalog.card import DatasetCard, Dimension, Measure, Reduction
from weir_server.engine.readings import NOT_FINITE, NUMBER
from weir_server.engine.relational import identifier, quote

_WHOLE = 19
_FINEST = 18
_SATURATED = 2**63


def text_of(column: str) -> str:
    """The column as text; NULL where it has no value."""
    return f"CAST({identifier(column)} AS TEXT)"


def unit_key(card: DatasetCard) -> str:
    """The privacy unit of a row, as it is kept: an integer or text."""
    return identifier(card.unit_column)


def order_key(column: str) -> str:
    """What orders the rows of a unit by `column`: a number, or a date or time, whose zone counts; NULL where it is
    neither."""
    micros = f"CAST(EPOCH_MICROS({text_of(column)}) AS DECIMAL(38, 6))"
    return f"COALESCE({order_number(column)}, {micros})"


def order_number(column: str) -> str:
    """The number that orders rows; NULL where it is none."""
    return f"NUMBER({identifier(column)}, 32, 6)"


def number_of(column: str) -> str:
    """The column as DECIMAL(37, 18); NULL where it has no value, no number, none that is finite or none that fits."""
    return f"NUMBER({identifier(column)}, {_WHOLE}, {_FINEST})"


@dataclass(frozen=True, slots=True)
class Readings:
    """What a row's grid steps are made of: expressions, or columns that hold what these give. Where many follow from
    them, columns: some engines take seconds over an expression that repeats itself."""

    exact: str
    """The number, with all digits that are read."""
    rounded: str
    """The number with the digits of the grid."""
    saturated: str
    """What stands for a number that is too large."""


def readings(measure: Measure) -> Readings:
    """The readings of a measure's column, as expressions."""
    return Readings(number_of(measure.column), _nearest(measure), _saturated(measure.column))


def grid_steps(measure: Measure, given: Readings | None = None) -> str:
    """The row's value in grid steps (HUGEINT), rounded half to even, not clipped. NULL where it is missing, no number
    or not finite. `given`: the readings, by default as expressions."""
    given = readings(measure) if given is None else given
    exact, rounded = given.exact, given.rounded
    steps = f"STEPS({rounded}, {measure.scale})"
    if measure.rounding != "refuse" and measure.scale < _FINEST:  # else nothing lies between two steps
        # What was rounded away from zero, or seen to be half only with 18 digits, goes to the even one of two steps.
        # Divisions of 128-bit integers are slow, and this way only halves meet one.
        half = f"ABS(ABS({rounded}) - ABS({exact})) = {_half(measure.scale)}"
        back = f"CASE WHEN (ABS({rounded}) > ABS({exact})) = ({exact} > {_exact(0)}) THEN -1 ELSE 1 END"
        steps = f"CASE WHEN {half} AND {steps} % 2 <> 0 THEN {steps} + {back} ELSE {steps} END"
    return f"COALESCE({steps}, {given.saturated})"


def _nearest(measure: Measure) -> str:
    return f"NUMBER({identifier(measure.column)}, {_WHOLE}, {measure.scale})"


def _saturated(column: str) -> str:
    """What a number counts as that is too large for a decimal; NULL where it is none."""
    negative = f"CAPTURE({text_of(column)}, '(-)?[0-9.]', 1) = '-'"
    value = f"CASE WHEN {negative} THEN CAST('-{_SATURATED}' AS HUGEINT) ELSE CAST('{_SATURATED}' AS HUGEINT) END"
    return f"CASE WHEN {_finite(column)} THEN {value} END"


def _finite(column: str) -> str:
    """Condition: a finite number of any size; NULL where there is no value."""
    return f"MATCHES({text_of(column)}, {quote(NUMBER)})"


def _exact(value: object) -> str:
    return f"CAST('{value}' AS DECIMAL(38, {_FINEST}))"


def _half(scale: int) -> str:
    """Half a grid step."""
    return _exact(f"0.{'0' * scale}5")


def clipped_steps(measure: Measure) -> str:
    """The row's value in grid steps (BIGINT), rounded and clipped to the bounds; NULL where missing."""
    return clipped(measure, grid_steps(measure))


def clipped(measure: Measure, steps: str) -> str:
    """Grid steps, given as an expression, clipped to the bounds (BIGINT); NULL where they are."""
    return (
        f"CAST(CASE WHEN {steps} IS NOT NULL THEN "
        f"LEAST(GREATEST({steps}, {measure.lower}), {measure.upper}) END AS BIGINT)"
    )


def off_grid(measure: Measure) -> str:
    """Condition: the row's value lies between two grid steps."""
    return f"({number_of(measure.column)} <> {_nearest(measure)})"


def no_number(column: str) -> str:
    """Condition: there is a text, and it is no number, not even NaN or an infinity."""
    text = text_of(column)
    rest = f"{text} IS NOT NULL AND NOT MATCHES({text}, {quote(f'(?:{NUMBER}|{NOT_FINITE})')})"
    return f"(CASE WHEN {number_of(column)} IS NULL THEN {rest} ELSE FALSE END)"


def not_finite(column: str) -> str:
    """Condition: NaN or an infinity."""
    rest = f"MATCHES({text_of(column)}, {quote(NOT_FINITE)})"
    return f"(CASE WHEN {number_of(column)} IS NULL THEN {rest} ELSE FALSE END)"


def at_level(measure: Measure) -> str:
    """Condition: the row counts for a measure per level; TRUE for all rows otherwise."""
    if measure.level is None:
        return "TRUE"
    column, value = measure.level
    if isinstance(value, bool):
        return f"COALESCE({_boolean(column)} = {value}, FALSE)"
    if isinstance(value, str):
        return f"COALESCE({text_of(column)} = {quote(value)}, FALSE)"
    return f"COALESCE({number_of(column)} = {_exact(value)}, FALSE)"


def counts_rows(measure: Measure) -> bool:
    """Whether the measure only counts rows with a value, so that the column need not be numeric."""
    return measure.per_unit.reduction is Reduction.COUNT


def cell_index(dimension: Dimension) -> str:
    """Index of the row's cell in the base dimension's declared cells (INT); NULL outside the domain."""
    values = [cell.value for cell in dimension.cells if cell.value is not None]
    inside = _bin(dimension) if dimension.edges else _listed(dimension, values)
    if len(values) == len(dimension.cells):
        return f"CAST({inside} AS INT)"
    return f"CAST(CASE WHEN {identifier(dimension.column)} IS NULL THEN {len(values)} ELSE {inside} END AS INT)"


def _listed(dimension: Dimension, values: Sequence[object]) -> str:
    if dimension.type == "text":
        value, listed = text_of(dimension.column), [quote(str(value)) for value in values]
    elif dimension.type == "boolean":
        value, listed = _boolean(dimension.column), [str(value) for value in values]
    else:
        kind = f"DECIMAL({_WHOLE + _FINEST}, {_FINEST})"
        value, listed = number_of(dimension.column), [f"CAST({value} AS {kind})" for value in values]
    return f"POSITION_OF({value}, {', '.join(listed)})"


def _boolean(column: str) -> str:
    text = f"LOWER({text_of(column)})"
    return f"(CASE WHEN {text} IN ('true', 't', '1') THEN TRUE WHEN {text} IN ('false', 'f', '0') THEN FALSE END)"


def _bin(dimension: Dimension) -> str:
    value, last = number_of(dimension.column), len(dimension.edges) - 2
    edges = enumerate(dimension.edges[1:-1])
    inside = " ".join(f"WHEN {value} < {_exact(edge)} THEN {index}" for index, edge in edges)
    beyond = f"CASE WHEN {_saturated(dimension.column)} < 0 THEN 0 WHEN {_finite(dimension.column)} THEN {last} END"
    return f"(CASE WHEN {value} IS NULL THEN {beyond} {inside} ELSE {last} END)"


def out_of_bins(dimension: Dimension) -> str:
    """Condition: a finite value outside the edges, which therefore falls in the first or last bin."""
    low, high = _exact(dimension.edges[0]), _exact(dimension.edges[-1])
    value = number_of(dimension.column)
    return (
        f"(CASE WHEN {value} IS NULL THEN COALESCE({_finite(dimension.column)}, FALSE) "
        f"ELSE {value} < {low} OR {value} >= {high} END)"
    )
