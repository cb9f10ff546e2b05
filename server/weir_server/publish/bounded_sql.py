# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""Statements that turn a source's columns into cells, grid values and ranks. Pure; every text in them comes from the
card, but for the key.

Two rules hold for every expression here, since privacy rests on them (FACTS: stability traps). It depends on rows of
one unit alone: no row number, position, sample or quantile over the whole table. And it cannot fail on a value:
values are clipped before they are cast, and an overflow cannot tell of one.
"""

from __future__ import annotations

from weir_server.catalog.card import DatasetCard, Dimension, Measure, Reduction
from weir_server.dp.layout import (
    CUBE,
    UNITS,
    base_dimensions,
    bucket_column,
    bucket_table,
    cell_column,
    centre,
    dp_measures,
    group_rank_column,
    has_cube,
    has_units,
    is_bucketed,
    is_squared,
    ranked_groups,
    reach,
    unit_dimensions,
    value_column,
)
from weir_server.engine.relational import Statement, quote, statement
from weir_server.publish.grid import Readings, cell_index, clipped, grid_steps, order_key, readings, unit_key


def keyed_hash(key: str, *parts: str) -> str:
    """64 bits of SHA-256 over the secret key and the parts, as 16 hex digits, whose order is that of the numbers.

    The key comes first and never leaves the domain, so nobody can choose a row that is sure to be kept.
    """
    joined = ", ".join(f"COALESCE(CAST({part} AS TEXT), '')" for part in parts)
    return f"SUBSTRING(SHA256_HEX(TEXT_JOIN('|', {quote(key)}, {joined})), 1, 16)"


def content_columns(card: DatasetCard) -> list[str]:
    """Columns that make up a row's content: row-level cells and grid values."""
    rows = [cell_column(item.name) for item in base_dimensions(card) if item.row_level]
    return rows + [value_column(item.name) for item in dp_measures(card)]


def missing_statement(card: DatasetCard, *, rows: str) -> Statement:
    """Number of rows without a privacy unit."""
    return statement(f"SELECT COUNT(*) FROM {rows} WHERE {unit_key(card)} IS NULL")


def units_statement(card: DatasetCard, *, rows: str, key: str) -> Statement:
    """id, unit-level cells and u, one row per privacy unit. `key`: in hex."""
    dimensions = unit_dimensions(card)
    read = [f"{unit_key(card)} AS weir_id", *(f"{cell_index(d)} AS weir_c_{i}" for i, d in enumerate(dimensions))]
    firsts = [(i, d.per_unit.order or "") for i, d in enumerate(dimensions) if _is_first(d)]
    read += [f"{order_key(order)} AS weir_o_{i}" for i, order in firsts]  # Sail orders by columns alone.
    turns = "".join(f", {_turn(i)} AS t_{i}" for i, _ in firsts)
    cells = "".join(f", {_unit_cell(i, d)} AS {cell_column(d.name)}" for i, d in enumerate(dimensions))
    # u numbers the units in an order that says nothing; it only tells units apart, so its value may depend on others.
    number = f"ROW_NUMBER() OVER (ORDER BY {keyed_hash(key, quote('unit'), 'id')}, id) - 1"
    return statement(
        f"SELECT *, STORED({number}, 0, {2**32 - 1}) AS u "
        f"FROM (SELECT weir_id AS id{cells} "
        f"FROM (SELECT *{turns} FROM (SELECT {', '.join(read)} FROM {rows}) AS c) AS t GROUP BY weir_id) AS k"
    )


def _is_first(dimension: Dimension) -> bool:
    return dimension.per_unit.reduction is Reduction.FIRST and dimension.per_unit.order is not None


def _turn(index: int) -> str:
    """Place of a row among those of its unit; equal keys are told apart by the cell, so that only the unit decides."""
    return f"ROW_NUMBER() OVER (PARTITION BY weir_id ORDER BY weir_o_{index} NULLS LAST, weir_c_{index})"


def _unit_cell(index: int, dimension: Dimension) -> str:
    """The cell of a unit-level dimension, over the rows of a unit: one value whatever the rows say."""
    # Publication refuses units whose rows differ; were it not to, the least would still be the unit's alone.
    cell = f"MAX(CASE WHEN t_{index} = 1 THEN weir_c_{index} END)" if _is_first(dimension) else f"MIN(weir_c_{index})"
    return f"STORED({cell}, 0, {len(dimension.cells)})"


def rows_statement(card: DatasetCard, *, rows: str, units: str, key: str) -> Statement:
    """The bounded rows. `key`: in hex."""
    unit_cells = [cell_column(d.name) for d in unit_dimensions(card)]
    names = content_columns(card)
    # Equal rows of a unit are told apart by their count so far, so that each has a draw of its own.
    draw = f"CASE WHEN n = 1 THEN h ELSE {keyed_hash(key, quote('copy'), 'HEX_DIGITS(h)', 'n')} END"
    most = card.bounds.rows_per_unit
    return statement(
        f"WITH {_contents(card, rows)}, "
        f"hashed AS (SELECT *, {keyed_hash(key, quote('row'), 'id', *names)} AS h FROM content), "
        f"copies AS (SELECT *, ROW_NUMBER() OVER (PARTITION BY id, h ORDER BY h) AS n FROM hashed), "
        f"drawn AS (SELECT *, {draw} AS draw FROM copies), "
        f"ranked AS (SELECT *, ROW_NUMBER() OVER (PARTITION BY id ORDER BY draw, h, n) - 1 AS place FROM drawn), "
        f"kept AS (SELECT {', '.join(['units.id', 'u', *unit_cells, *names, 'place'])} "
        f"FROM ranked JOIN {units} AS units ON ranked.id = units.id WHERE place < {most}) "
        f"SELECT {', '.join(_stored_columns(card, key))}, u, STORED(place, 0, {most}) AS r FROM kept "
        f"ORDER BY {', '.join([*(cell_column(d.name) for d in base_dimensions(card)), 'u'])}"
    )


def _contents(card: DatasetCard, rows: str) -> str:
    """Steps of a statement that give `content`, the unit, cells and values of each row: read, brought to the grid,
    clipped, so that no expression holds another one twice."""
    cells = [d for d in base_dimensions(card) if d.row_level]
    names, measures = ["id", *(cell_column(d.name) for d in cells)], list(enumerate(dp_measures(card)))
    read = [f"{unit_key(card)} AS weir_id"]
    read += [f"STORED({cell_index(d)}, 0, {len(d.cells)}) AS weir_c_{i}" for i, d in enumerate(cells)]
    named = ["weir_id AS id", *(f"weir_c_{i} AS {cell_column(d.name)}" for i, d in enumerate(cells))]
    for index, measure in measures:
        found, column = readings(measure), _reading(index)
        read += [f"{found.exact} AS {column.exact}", f"{found.rounded} AS {column.rounded}"]
        read.append(f"{found.saturated} AS {column.saturated}")
    steps = [f"{grid_steps(measure, _reading(index))} AS p_{index}" for index, measure in measures]
    values = [
        f"STORED({clipped(measure, f'p_{index}')}, {measure.lower}, {measure.upper}) AS {value_column(measure.name)}"
        for index, measure in measures
    ]
    return (
        f"readings AS (SELECT {', '.join(read)} FROM {rows}), "
        f"steps AS (SELECT {', '.join([*named, *steps])} FROM readings), "
        f"content AS (SELECT {', '.join([*names, *values])} FROM steps)"
    )


def _reading(index: int) -> Readings:
    return Readings(f"weir_e_{index}", f"weir_n_{index}", f"weir_s_{index}")


def _stored_columns(card: DatasetCard, key: str) -> list[str]:
    cells = [cell_column(d.name) for d in base_dimensions(card)]
    values = [value_column(m.name) for m in dp_measures(card)]
    buckets = [f"{_bucket(m)} AS {bucket_column(m.name)}" for m in dp_measures(card) if is_bucketed(m)]
    ranks = [f"{_group_rank(d, key)} AS {group_rank_column(d.name)}" for d in ranked_groups(card)]
    return [*cells, *values, *buckets, *ranks]


def _bucket(measure: Measure) -> str:
    """Bucket of a measure's clipped value; NULL for null. The last bucket holds its upper end."""
    value, inner = value_column(measure.name), measure.buckets[1:-1]
    branches = " ".join(f"WHEN {value} < {edge} THEN {index}" for index, edge in enumerate(inner))
    last = len(measure.buckets) - 2
    return f"STORED(CASE WHEN {value} IS NULL THEN NULL {branches} ELSE {last} END, 0, {last})"


def _group_rank(dimension: Dimension, key: str) -> str:
    """Rank of the row's cell among those of its unit's kept rows. The cell itself breaks ties of the hash, or two
    cells could share a rank and a unit appear in one too many."""
    cell = cell_column(dimension.name)
    order = f"{keyed_hash(key, quote(dimension.name), 'id', cell)}, {cell}"
    return f"STORED(DENSE_RANK() OVER (PARTITION BY u ORDER BY {order}) - 1, 0, {len(dimension.cells)})"


def outside_statement(card: DatasetCard, *, rows: str) -> Statement:
    """Bounded rows without a cell, for each base dimension."""
    counts = ", ".join(
        f"COUNT(CASE WHEN {cell_column(item.name)} IS NULL THEN 1 END)" for item in base_dimensions(card)
    )
    return statement(f"SELECT {counts} FROM {rows}")


def cube_statements(card: DatasetCard, *, rows: str) -> dict[str, tuple[tuple[str, ...], Statement]]:
    """Tables of the bounded cube: their columns, cells and buckets first, and what fills them."""
    cells = [cell_column(item.name) for item in base_dimensions(card)]
    made = {}
    if has_units(card):  # every unit has exactly one row of rank 0
        keys = [cell_column(item.name) for item in unit_dimensions(card)]
        made[UNITS] = _table(rows, keys, {"n": "COUNT(*)"}, where="r = 0")
    if not has_cube(card):
        return made
    made[CUBE] = _table(rows, cells, _cube_sums(card))
    for measure in filter(is_bucketed, dp_measures(card)):
        bucket = bucket_column(measure.name)
        keys = [*cells, bucket]
        made[bucket_table(measure.name)] = _table(rows, keys, {"n": "COUNT(*)"}, where=f"{bucket} IS NOT NULL")
    return made


def _cube_sums(card: DatasetCard) -> dict[str, str]:
    sums = {"n": "COUNT(*)"}
    for measure in dp_measures(card):
        name, value, most = measure.name, value_column(measure.name), reach(measure)
        away = f"(CAST({value} AS BIGINT) - {centre(measure)})"  # below 2**62, as bounds are
        sums |= {f"c_{name}": f"COUNT({value})", f"s_{name}": f"COALESCE(EXACT_SUM({away}, {most}), 0)"}
        if is_squared(measure):
            sums[f"q_{name}"] = f"COALESCE(EXACT_SUM({away} * {away}, {most**2}), 0)"
    return sums


def _table(
    rows: str, keys: list[str], sums: dict[str, str], *, where: str = "TRUE"
) -> tuple[tuple[str, ...], Statement]:
    # A group of all rows has one result row even of nothing, so HAVING keeps an empty store empty.
    grouped = f"GROUP BY {', '.join(keys)} ORDER BY {', '.join(keys)}" if keys else "HAVING COUNT(*) > 0"
    selected = ", ".join([*keys, *(f"{value} AS {name}" for name, value in sums.items())])
    return (*keys, *sums), statement(f"SELECT {selected} FROM {rows} WHERE {where} {grouped}")
