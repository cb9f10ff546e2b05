# SPDX-License-Identifier: Apache-2.0
"""SQL expressions that read source columns exactly: decimals to grid steps, values to cells. No float anywhere.

They run over the relation `source_rows`, which holds the source's declared columns under their own names. A number
is read from its decimal text (for a binary float: its shortest text) into a decimal of 18 fractional digits, and from
there to the declared grid in integers. A finite number of 10**19 or more counts as 2**63 steps: outside every bound, so
it is clipped.
"""

from __future__ import annotations

from collections.abc import Sequence

from weir_server.catalog.card import DatasetCard, Dimension, Measure, Reduction
from weir_server.engine.duckdb import Engine
from weir_server.engine.relational import identifier, quote

_MACROS = (
    # A decimal below 10**19, so that rounding it cannot overflow; NULL for no number and for any other (see
    # weir_saturated).
    "CREATE TEMP MACRO weir_decimal(t) AS CAST(TRY_CAST(t AS DECIMAL(37, 18)) AS DECIMAL(38, 18))",
    # NaN and infinities by name, and numbers too large for a decimal.
    "CREATE TEMP MACRO weir_double(t) AS TRY_CAST(t AS DOUBLE)",
    "CREATE TEMP MACRO weir_saturated(t) AS CASE WHEN isfinite(weir_double(t)) "
    "THEN CAST(sign(weir_double(t)) AS HUGEINT) * 9223372036854775808 END",
    # What orders the rows of a unit: a number, or a date or time. A zone counts (a plain TIMESTAMP would drop it); a
    # time without one is UTC.
    "CREATE TEMP MACRO weir_order(t) AS coalesce(TRY_CAST(t AS DECIMAL(38, 6)), "
    "TRY_CAST(epoch_us(TRY_CAST(t AS TIMESTAMPTZ)) AS DECIMAL(38, 6)))",
)


def install_macros(engine: Engine) -> None:
    """Make the expressions below usable on this connection."""
    for statement in _MACROS:
        engine.run(statement)


def text_of(column: str) -> str:
    """The column as text; NULL where it has no value."""
    return f"CAST({identifier(column)} AS VARCHAR)"


def unit_key(card: DatasetCard) -> str:
    """The privacy unit of a row, as it is kept: an integer or text."""
    return identifier(card.unit_column)


def order_key(column: str) -> str:
    """What orders the rows of a unit by `column`; NULL where it is neither number nor time."""
    return f"weir_order({text_of(column)})"


def number_of(column: str) -> str:
    """The column as DECIMAL(38, 18); NULL where it has no value, no number, none that is finite or none that fits."""
    return f"weir_decimal({identifier(column)})"


def grid_steps(measure: Measure) -> str:
    """The row's value in grid steps (HUGEINT), rounded half to even, not clipped. NULL where it is missing, no number
    or not finite."""
    exact, rounded = number_of(measure.column), _nearest(measure)
    steps = _steps(rounded, measure.scale)
    if measure.rounding == "refuse":  # nothing lies between two steps, or publication is refused
        return f"coalesce({steps}, weir_saturated({text_of(measure.column)}))"
    # The cast rounds halves away from zero, so only an exact half that went to an odd step goes back by one. Divisions
    # of 128-bit integers are slow, and this way only halves meet one.
    half = f"abs({rounded}) - abs({exact}) = {_half(measure.scale)}"
    even = f"CASE WHEN {half} AND {steps} % 2 <> 0 THEN {steps} - CAST(sign({exact}) AS HUGEINT) ELSE {steps} END"
    return f"coalesce({even}, weir_saturated({text_of(measure.column)}))"


def _nearest(measure: Measure) -> str:
    return f"TRY_CAST({identifier(measure.column)} AS DECIMAL({19 + measure.scale}, {measure.scale}))"


def _steps(rounded: str, scale: int) -> str:
    if scale == 0:
        return f"CAST({rounded} AS HUGEINT)"
    if scale <= 9:  # any number below 10**19 times 10**9 still fits 38 digits with 9 after the point
        return f"CAST({rounded} * CAST({10**scale} AS DECIMAL({scale + 1}, 0)) AS HUGEINT)"
    return f"CAST(replace(CAST({rounded} AS VARCHAR), '.', '') AS HUGEINT)"


def _half(scale: int) -> str:
    """Half a grid step, as a decimal; no value has a half where the grid is as fine as what is read."""
    return f"CAST(0.{'0' * scale}5 AS DECIMAL(38, 18))" if scale < 18 else "1"


def clipped_steps(measure: Measure) -> str:
    """The row's value in grid steps (BIGINT), rounded and clipped to the bounds; NULL where missing."""
    value = grid_steps(measure)
    clipped = f"least(greatest({value}, {measure.lower}), {measure.upper})"
    return f"CAST(CASE WHEN {value} IS NOT NULL THEN {clipped} END AS BIGINT)"


def off_grid(measure: Measure) -> str:
    """Condition: the row's value lies between two grid steps."""
    return f"({number_of(measure.column)} <> {_nearest(measure)})"


def no_number(column: str) -> str:
    """Condition: there is a text, and it is no number."""
    rest = f"{identifier(column)} IS NOT NULL AND weir_double({text_of(column)}) IS NULL"
    return f"(CASE WHEN {number_of(column)} IS NULL THEN {rest} ELSE FALSE END)"


def not_finite(column: str) -> str:
    """Condition: NaN or an infinity."""
    rest = f"NOT isfinite(weir_double({text_of(column)}))"
    return f"(CASE WHEN {number_of(column)} IS NULL THEN {rest} ELSE FALSE END)"


def at_level(measure: Measure) -> str:
    """Condition: the row counts for a measure per level; TRUE for all rows otherwise."""
    if measure.level is None:
        return "TRUE"
    column, value = measure.level
    if isinstance(value, bool):
        return f"coalesce({_boolean(column)} = {value}, FALSE)"
    if isinstance(value, str):
        return f"coalesce({text_of(column)} = {quote(value)}, FALSE)"
    return f"coalesce({number_of(column)} = {value}, FALSE)"


def counts_rows(measure: Measure) -> bool:
    """Whether the measure only counts rows with a value, so that the column need not be numeric."""
    return measure.per_unit.reduction is Reduction.COUNT


def cell_index(dimension: Dimension) -> str:
    """Index of the row's cell in the base dimension's declared cells (INTEGER); NULL outside the domain."""
    values = [cell.value for cell in dimension.cells if cell.value is not None]
    inside = _bin(dimension) if dimension.edges else _listed(dimension, values)
    if len(values) == len(dimension.cells):
        return f"CAST({inside} AS INTEGER)"
    return f"CAST(CASE WHEN {identifier(dimension.column)} IS NULL THEN {len(values)} ELSE {inside} END AS INTEGER)"


def _listed(dimension: Dimension, values: Sequence[object]) -> str:
    if dimension.type == "text":
        listed = ", ".join(quote(str(value)) for value in values)
        return f"(list_position([{listed}], {text_of(dimension.column)}) - 1)"
    if dimension.type == "boolean":
        listed = ", ".join(str(value) for value in values)
        return f"(list_position([{listed}], {_boolean(dimension.column)}) - 1)"
    listed = ", ".join(f"CAST({value} AS DECIMAL(38, 18))" for value in values)
    return f"(list_position([{listed}], {number_of(dimension.column)}) - 1)"


def _boolean(column: str) -> str:
    text = f"lower({text_of(column)})"
    return f"CASE WHEN {text} IN ('true', 't', '1') THEN TRUE WHEN {text} IN ('false', 'f', '0') THEN FALSE END"


def _bin(dimension: Dimension) -> str:
    fine = _number(dimension.column)
    branches = " ".join(f"WHEN {fine} < {edge} THEN {index}" for index, edge in enumerate(dimension.edges[1:-1]))
    last = len(dimension.edges) - 2
    return f"(CASE WHEN {fine} IS NULL THEN NULL {branches} ELSE {last} END)"


def _number(column: str) -> str:
    """The column as DECIMAL(38, 18), a finite number too large for that as the largest; NULL otherwise."""
    text = text_of(column)
    return (
        f"coalesce(weir_decimal({text}), CAST(sign(weir_saturated({text})) * 99999999999999999999 AS DECIMAL(38, 18)))"
    )


def out_of_bins(dimension: Dimension) -> str:
    """Condition: a finite value outside the edges, which therefore falls in the first or last bin."""
    low, high = dimension.edges[0], dimension.edges[-1]
    text = text_of(dimension.column)
    value = number_of(dimension.column)
    return f"({value} < {low} OR {value} >= {high} OR ({value} IS NULL AND isfinite(weir_double({text}))))"
