# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""SQL that turns a source's columns into cells, grid values and ranks. Pure; every text in it comes from the card.

Two rules hold for every expression here, since privacy rests on them (FACTS: stability traps). It depends on rows of
one unit alone: no row number, position, sample or quantile over the whole table. And it cannot fail on a value:
values are clipped before they are cast, and an overflow cannot tell of one.
"""

from __future__ import annotations

from weir_server.catalog.card import DatasetCard, Dimension, Measure, Reduction
from weir_server.dp.layout import (
    base_dimensions,
    bucket_column,
    cell_column,
    dp_measures,
    group_rank_column,
    is_bucketed,
    ranked_groups,
    unit_dimensions,
    value_column,
)
from weir_server.engine.relational import expression, quote
from weir_server.publish.grid import cell_index, clipped_steps, order_key, unit_key


def unsigned_type(most: int) -> str:
    """Smallest unsigned column type for 0 to `most`."""
    return "UTINYINT" if most < 2**8 else "USMALLINT" if most < 2**16 else "UINTEGER"


def signed_type(lower: int, upper: int) -> str:
    """Smallest signed column type for `lower` to `upper`."""
    most = max(abs(lower), abs(upper))
    return "SMALLINT" if most < 2**15 else "INTEGER" if most < 2**31 else "BIGINT"


def unit_cell(dimension: Dimension) -> str:
    """The cell of a unit-level dimension, over the rows of a unit: one value whatever the rows say."""
    kind = unsigned_type(len(dimension.cells))
    if dimension.per_unit.reduction is Reduction.FIRST and dimension.per_unit.order is not None:
        cell, key = expression(cell_index(dimension)), expression(order_key(dimension.per_unit.order))
        return f"CAST(arg_min_null({cell}, {key}) AS {kind})"
    # Publication refuses units whose rows differ; were it not to, this would still be a function of the unit alone.
    return f"CAST(min({expression(cell_index(dimension))}) AS {kind})"


def row_cell(dimension: Dimension) -> str:
    """The cell of a row-level dimension."""
    return f"CAST({expression(cell_index(dimension))} AS {unsigned_type(len(dimension.cells))})"


def row_value(measure: Measure) -> str:
    """The clipped value of a row on the measure's grid, in the smallest type that holds the bounds."""
    return f"CAST({expression(clipped_steps(measure))} AS {signed_type(measure.lower, measure.upper)})"


def bucket_expression(measure: Measure) -> str:
    """Bucket of a measure's clipped value; NULL for null. The last bucket holds its upper end."""
    value, inner = value_column(measure.name), measure.buckets[1:-1]
    branches = " ".join(f"WHEN {value} < {edge} THEN {index}" for index, edge in enumerate(inner))
    last = len(measure.buckets) - 2
    kind = unsigned_type(last)
    return f"CAST(CASE WHEN {value} IS NULL THEN NULL {branches} ELSE {last} END AS {kind})"


def keyed_hash(*parts: str) -> str:
    """64 bits of SHA-256 over the secret salt (parameter $1) and the parts, as an SQL expression.

    The salt comes first and never leaves the domain, so nobody can choose a row that is sure to be kept.
    """
    joined = ", ".join(f"coalesce(CAST({part} AS VARCHAR), '')" for part in parts)
    return f"CAST('0x' || substr(sha256(concat_ws('|', $1, {joined})), 1, 16) AS UBIGINT)"


def content_columns(card: DatasetCard) -> list[str]:
    """Columns that make up a row's content: row-level cells and grid values."""
    rows = [cell_column(item.name) for item in base_dimensions(card) if item.row_level]
    return rows + [value_column(item.name) for item in dp_measures(card)]


def units_statement(card: DatasetCard, *, rows: str, target: str) -> str:
    """Creates `target`: id, u and unit-level cells, one row per privacy unit. Takes the salt as $1."""
    cells = "".join(f", {unit_cell(d)} AS {cell_column(d.name)}" for d in unit_dimensions(card))
    # u numbers the units in an order that says nothing; it only tells units apart, so its value may depend on others.
    number = f"CAST(row_number() OVER (ORDER BY {keyed_hash(quote('unit'), 'id')}, id) - 1 AS UINTEGER)"
    return (
        f"CREATE TEMP TABLE {target} AS SELECT *, {number} AS u "
        f"FROM (SELECT {unit_key(card)} AS id{cells} FROM {rows} GROUP BY 1)"
    )


def rows_statement(card: DatasetCard, *, rows: str, units: str, target: str) -> str:
    """Creates `target`, the bounded rows. Takes the salt as $1."""
    row_level = [d for d in base_dimensions(card) if d.row_level]
    contents = [f"{row_cell(d)} AS {cell_column(d.name)}" for d in row_level]
    contents += [f"{row_value(m)} AS {value_column(m.name)}" for m in dp_measures(card)]
    unit_cells = [cell_column(d.name) for d in unit_dimensions(card)]
    names = content_columns(card)
    # Equal rows of a unit are told apart by their count so far, so that each has a draw of its own.
    draw = f"CASE WHEN copy = 1 THEN h ELSE {keyed_hash(quote('copy'), 'h', 'copy')} END"
    most = card.bounds.rows_per_unit
    return (
        f"CREATE TABLE {target} AS WITH "
        f"content AS (SELECT {', '.join([f'{unit_key(card)} AS id', *contents])} FROM {rows}), "
        f"hashed AS (SELECT *, {keyed_hash(quote('row'), 'id', *names)} AS h FROM content), "
        f"copies AS (SELECT *, row_number() OVER (PARTITION BY id, h) AS copy FROM hashed), "
        f"drawn AS (SELECT *, {draw} AS draw FROM copies), "
        f"ranked AS (SELECT *, row_number() OVER (PARTITION BY id ORDER BY draw, h, copy) - 1 AS rank FROM drawn), "
        f"kept AS (SELECT {', '.join(['id', 'u', *unit_cells, *names, 'rank'])} "
        f"FROM ranked JOIN {units} USING (id) WHERE rank < {most}) "
        f"SELECT {', '.join(_stored_columns(card))}, u, CAST(rank AS {unsigned_type(most)}) AS r FROM kept "
        f"ORDER BY {', '.join([*(cell_column(d.name) for d in base_dimensions(card)), 'u'])}"
    )


def _stored_columns(card: DatasetCard) -> list[str]:
    cells = [cell_column(d.name) for d in base_dimensions(card)]
    values = [value_column(m.name) for m in dp_measures(card)]
    buckets = [f"{bucket_expression(m)} AS {bucket_column(m.name)}" for m in dp_measures(card) if is_bucketed(m)]
    return [
        *cells,
        *values,
        *buckets,
        *(f"{_group_rank(d)} AS {group_rank_column(d.name)}" for d in ranked_groups(card)),
    ]


def _group_rank(dimension: Dimension) -> str:
    """Rank of the row's cell among those of its unit's kept rows. The cell itself breaks ties of the hash, or two
    cells could share a rank and a unit appear in one too many."""
    cell = cell_column(dimension.name)
    order = f"{keyed_hash(quote(dimension.name), 'id', cell)}, {cell}"
    kind = unsigned_type(len(dimension.cells))
    return f"CAST(dense_rank() OVER (PARTITION BY u ORDER BY {order}) - 1 AS {kind})"
