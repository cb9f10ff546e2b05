# SPDX-License-Identifier: Apache-2.0
"""What is assessed of each unit: its quasi-identifiers and sensitive attributes, one value each.

A name of the card means its published form: a dimension its declared cells, a measure its value per unit on the grid,
clipped. A name of a source column means the text as it stands. Where rows of a unit differ, its value is the sorted
list of all it has: whoever looks for somebody may know every one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weir.errors import InvalidRequest
from weir_server.catalog.card import DatasetCard, Dimension, Measure, Mode, declared_columns
from weir_server.engine.relational import expression
from weir_server.publish.grid import cell_index, clipped_steps, order_key, text_of
from weir_server.publish.units import unit_value

OUTSIDE = -1
"""Stands for a value outside a dimension's cells, which publication refuses."""
_NONE = f"CAST('{-(2**100)}' AS HUGEINT)"
"""Stands for a measure without a value: below any sum."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of units."""

    name: str
    """As asked for."""
    kind: str
    """`dimension`, `measure` or `column`."""
    ordered: bool
    """Whether its values have an order that t-closeness goes by."""
    value: str
    """SQL aggregate over a unit's rows; never null."""
    missing: str
    """SQL aggregate: whether the unit lacks it in any row."""


def attribute(card: DatasetCard, name: str) -> Attribute:
    """The attribute of that name.

    Raises:
        InvalidRequest: neither a base dimension nor a measure of the card, nor a column that it declares.
    """
    dimension, measure = card.dimension(name), card.measure(name)
    if dimension is not None and dimension.coarsens is None:
        return _dimension(dimension)
    if measure is not None:
        return _measure(measure)
    if name in declared_columns(card) and name != card.unit_column:
        text = expression(text_of(name))
        value = _all(f"coalesce(concat('=', {text}), '-')")
        return Attribute(name, "column", False, value, f"bool_or({text} IS NULL)")
    raise InvalidRequest(
        f"{name!r:.60} is no base dimension, measure or column of the card: assess what publication reads",
        field="quasi_identifiers",
        rule="assess.name",
    )


def _dimension(dimension: Dimension) -> Attribute:
    cell = f"coalesce({expression(cell_index(dimension))}, {OUTSIDE})"
    if dimension.row_level:
        value = _all(cell)
    elif dimension.per_unit.order is not None:
        value = (
            f"CAST(coalesce(arg_min({cell}, {expression(order_key(dimension.per_unit.order))}), {OUTSIDE}) AS BIGINT)"
        )
    else:
        value = f"CAST(min({cell}) AS BIGINT)"
    missing = f"bool_or({text_of(dimension.column)} IS NULL)"
    return Attribute(dimension.name, "dimension", bool(dimension.edges) and not dimension.row_level, value, missing)


def _measure(measure: Measure) -> Attribute:
    if measure.mode is Mode.DP:
        whole = f"sum(CAST({expression(clipped_steps(measure))} AS HUGEINT))"
        value = f"coalesce({whole}, {_NONE})"
    else:
        clipped = f"least(greatest({expression(unit_value(measure))}, {measure.lower}), {measure.upper})"
        value = f"coalesce({clipped}, {_NONE})"
    return Attribute(measure.name, "measure", True, value, f"bool_or({text_of(measure.column)} IS NULL)")


def _all(value: str) -> str:
    return f"CAST(list_sort(list(DISTINCT {value})) AS VARCHAR)"


def attributes(card: DatasetCard, names: Sequence[str]) -> tuple[Attribute, ...]:
    """The attributes of these names, in their order.

    Raises:
        InvalidRequest: an unknown name, or one given twice.
    """
    if len(set(names)) != len(names):
        raise InvalidRequest("an attribute is named once", field="quasi_identifiers", rule="assess.twice")
    return tuple(attribute(card, name) for name in names)
