# SPDX-License-Identifier: Apache-2.0
"""What a snapshot's bounded store holds, derived from its card alone: shared by who writes it and who asks it.

    bounded.duckdb   rows            one row per retained source row: d_*, v_*, k_*, u, r, g_*
                     cube            one row per non-empty base cell: d_*, n, c_*, s_*, q_*
                     cube_<measure>  one row per non-empty base cell and bucket: d_*, k_<measure>, n
                     units           one row per non-empty unit-level cell: d_*, n

Columns: `d_x` cell of base dimension x; `v_m` clipped grid value of measure m, or NULL; `k_m` bucket of that value;
`u` number of the unit; `r` rank of the row within its unit; `g_x` rank of the row's cell of row-level dimension x
within its unit. In the cube: `n` rows, `c_m` rows where m is not null, `s_m` and `q_m` sums of the value and of its
square, both after subtracting the measure's centre.

Names of cards are `[a-z][a-z0-9_]*`, so a prefix is all it takes to make a column name.
"""

from __future__ import annotations

from math import prod

from weir.query import Function
from weir_server.catalog.card import DatasetCard, Dimension, Measure, Mode

FILE = "bounded.duckdb"
REPORT = "bounds.json"
"""What the bounds drop, with noise; beside the store, where the card spends a loss on it."""
ROWS = "rows"
CUBE = "cube"
UNITS = "units"
CUBE_CELLS = 1_000_000
"""A grid of more declared base cells than this has no cube. By declared cells and not by those that occur: which
store answers must follow from public facts."""
AMOUNT_LIMIT = 2**62
"""Sensitivities stay below this, so that every integer handed to the noise fits 64 bits."""
_SQUARED = frozenset({Function.VARIANCE, Function.STDDEV})
_BUCKETED = frozenset({Function.HISTOGRAM, Function.QUANTILE})


def base_dimensions(card: DatasetCard) -> tuple[Dimension, ...]:
    """Dimensions that coarsen no other, in the card's order."""
    return tuple(item for item in card.dimensions if item.coarsens is None)


def unit_dimensions(card: DatasetCard) -> tuple[Dimension, ...]:
    """Base dimensions with one value per unit."""
    return tuple(item for item in base_dimensions(card) if not item.row_level)


def ranked_groups(card: DatasetCard) -> tuple[Dimension, ...]:
    """Row-level base dimensions of which a unit may appear in fewer cells than there are: their cells are ranked."""
    bounds = card.bounds.groups_per_unit
    return tuple(
        item
        for item in base_dimensions(card)
        if item.row_level and bounds.get(item.name, len(item.cells)) < len(item.cells)
    )


def dp_measures(card: DatasetCard) -> tuple[Measure, ...]:
    """Measures released with dp, in the card's order."""
    return tuple(item for item in card.measures if item.mode is Mode.DP)


def has_cube(card: DatasetCard) -> bool:
    """Whether publication writes the bounded cube."""
    return grid_cells(base_dimensions(card)) <= CUBE_CELLS


def has_units(card: DatasetCard) -> bool:
    """Whether publication writes the table of unit counts."""
    return grid_cells(unit_dimensions(card)) <= CUBE_CELLS


def grid_cells(dimensions: tuple[Dimension, ...]) -> int:
    """Declared cells of the product of dimensions; 1 for none."""
    return prod(len(item.cells) for item in dimensions)


def is_squared(measure: Measure) -> bool:
    """Whether sums of squares are kept: where they are declared, and a square fits 62 bits."""
    return bool(_SQUARED & measure.statistics) and reach(measure) < 2**31


def is_bucketed(measure: Measure) -> bool:
    """Whether buckets are kept."""
    return bool(_BUCKETED & measure.statistics) and len(measure.buckets) >= 2


def centre(measure: Measure) -> int:
    """Public middle of the bounds, in grid steps: sums for averages are taken around it, which halves what one row
    can move them."""
    return (measure.lower + measure.upper) // 2


def reach(measure: Measure) -> int:
    """Most that a clipped value differs from the centre, in grid steps."""
    return max(measure.upper - centre(measure), centre(measure) - measure.lower)


def cell_column(dimension: str) -> str:
    """Column with the cell of a base dimension."""
    return f"d_{dimension}"


def value_column(measure: str) -> str:
    """Column with the clipped value of a measure."""
    return f"v_{measure}"


def bucket_column(measure: str) -> str:
    """Column with the bucket of a measure's value."""
    return f"k_{measure}"


def group_rank_column(dimension: str) -> str:
    """Column with the rank of the row's cell among the cells of its unit."""
    return f"g_{dimension}"


def bucket_table(measure: str) -> str:
    """Cube of bucket counts of a measure."""
    return f"{CUBE}_{measure}"
