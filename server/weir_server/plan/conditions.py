# SPDX-License-Identifier: Apache-2.0
"""Binding of predicates: from columns and literals to sets of cells and integers on a grid. Pure."""

from __future__ import annotations

import operator as operators
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from weir.errors import InvalidQuery, UnknownName
from weir.query import (
    AllOf,
    AnyOf,
    Comparison,
    IsNull,
    Literal,
    LiteralValue,
    Membership,
    Negation,
    Operator,
    Predicate,
    leaves,
)
from weir_server.catalog.card import DatasetCard, Dimension, Measure
from weir_server.plan.values import CellTest, Condition, Every, NullTest, Some, ValueTest

_TESTS: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQUAL: operators.eq,
    Operator.NOT_EQUAL: operators.ne,
    Operator.LESS: operators.lt,
    Operator.LESS_OR_EQUAL: operators.le,
    Operator.GREATER: operators.gt,
    Operator.GREATER_OR_EQUAL: operators.ge,
}
_ORDERED = frozenset({Operator.LESS, Operator.LESS_OR_EQUAL, Operator.GREATER, Operator.GREATER_OR_EQUAL})
MAX_SETTLED = 500_000
"""Most cells looked at while a predicate is bound, over all of its comparisons."""
_CUTS_BINS = frozenset({Operator.LESS_OR_EQUAL, Operator.GREATER})


def bind_condition(node: Predicate, card: DatasetCard) -> Condition:
    """The predicate over the card's base dimensions and measures.

    Raises:
        UnknownName: a column is neither dimension nor measure.
        InvalidQuery: literal of the wrong type, off the declared cells or grid, an order where there is none, or more
            comparisons than can be settled at once.
    """
    _check_work(node, card)
    return _bind(node, card)


def _check_work(node: Predicate, card: DatasetCard) -> None:
    """Each comparison is settled for every cell of its dimension, in the event loop: that must stay short."""
    sizes = {dimension.name: len(dimension.cells) for dimension in card.dimensions}
    if sum(sizes.get(leaf.column, 1) for leaf in leaves(node)) > MAX_SETTLED:
        raise InvalidQuery(
            "the predicate compares dimensions of many cells too often; use IN with a list, or fewer comparisons",
            field="query.where",
            rule="query.work",
        )


def _bind(node: Predicate, card: DatasetCard) -> Condition:
    match node:
        case AllOf(operands):
            return Every(tuple(_bind(operand, card) for operand in operands))
        case AnyOf(operands):
            return Some(tuple(_bind(operand, card) for operand in operands))
        case Negation():
            raise InvalidQuery("a canonical query has no NOT", field="query.where", rule="predicate.canonical")
        case Comparison(column) | Membership(column) | IsNull(column):
            dimension, measure = card.dimension(column), card.measure(column)
            if dimension is not None:
                return _lower(_matching_cells(node, dimension), dimension)
            if measure is not None:
                return _bind_value(node, measure)
            raise UnknownName(f"no column {column} is declared", field="query.where", rule="name.column")


def _matching_cells(node: Comparison | Membership | IsNull, dimension: Dimension) -> frozenset[int]:
    """Indexes of the dimension's own cells for which the leaf is true; the null cell only under IS NULL."""
    valued = [index for index, cell in enumerate(dimension.cells) if cell.value is not None]
    known = frozenset(cell.value for cell in dimension.cells)
    match node:
        case IsNull(_, negated):
            nulls = frozenset(range(len(dimension.cells))) - frozenset(valued)
            return frozenset(valued) if negated else nulls
        case Membership(_, literals, negated):
            listed = {_declared(literal, dimension, known) for literal in literals}
            return frozenset(i for i in valued if (dimension.cells[i].value in listed) != negated)
        case Comparison(_, operator, literal):
            value = _comparable(operator, literal, dimension, known)
            test = _TESTS[operator]
            return frozenset(i for i in valued if test(dimension.cells[i].value, value))


def _comparable(
    operator: Operator, literal: Literal, dimension: Dimension, known: frozenset[LiteralValue | None]
) -> LiteralValue:
    if operator not in _ORDERED:
        return _declared(literal, dimension, known)
    _check_type(literal, dimension)
    if dimension.type != "integer":
        raise InvalidQuery(
            f"{dimension.name} has no order; use =, <> or IN", field="query.where", rule="predicate.order"
        )
    if not _is_binned(dimension):
        return literal.value
    # A bin cannot be cut: only its edges decide for all of its values, and only with < and >=.
    edges = _edges(dimension)
    if operator in _CUTS_BINS or literal.value not in edges:
        raise InvalidQuery(
            f"{dimension.name} is in bins; use < or >= with one of {_listing(edges)}",
            field="query.where",
            rule="predicate.bin",
        )
    return literal.value


def _is_binned(dimension: Dimension) -> bool:
    return bool(dimension.edges) or (dimension.coarsens is not None and dimension.type == "integer")


def _edges(dimension: Dimension) -> list[LiteralValue]:
    if dimension.edges:
        return list(dimension.edges)
    return [cell.value for cell in dimension.cells if cell.value is not None]


def _declared(literal: Literal, dimension: Dimension, known: frozenset[LiteralValue | None]) -> LiteralValue:
    _check_type(literal, dimension)
    if literal.value not in known:
        values = [cell.value for cell in dimension.cells if cell.value is not None]
        missing = "; for missing values use IS NULL" if None in known else ""
        raise InvalidQuery(
            f"the literal is not a declared value of {dimension.name}; declared are {_listing(values)}{missing}",
            field="query.where",
            rule="literal.domain",
        )
    return literal.value


def _check_type(literal: Literal, dimension: Dimension) -> None:
    if literal.kind != dimension.type:
        raise InvalidQuery(
            f"{dimension.name} is compared with {dimension.type} literals, not {literal.kind}",
            field="query.where",
            rule="literal.type",
        )


def _lower(cells: frozenset[int], dimension: Dimension) -> CellTest:
    """The test on the base dimension that means the same."""
    if dimension.coarsens is None:
        return CellTest(dimension.name, cells)
    base = frozenset(index for index, coarse in enumerate(dimension.mapping) if coarse in cells)
    return CellTest(dimension.coarsens, base)


def _bind_value(node: Comparison | Membership | IsNull, measure: Measure) -> Condition:
    match node:
        case IsNull(_, negated):
            return NullTest(measure.name, negated)
        case Comparison(_, operator, literal):
            return ValueTest(measure.name, operator, _on_grid(literal, measure))
        case Membership(_, literals, negated):
            operator = Operator.NOT_EQUAL if negated else Operator.EQUAL
            tests = tuple(ValueTest(measure.name, operator, _on_grid(literal, measure)) for literal in literals)
            return Every(tests) if negated else Some(tests)


def _on_grid(literal: Literal, measure: Measure) -> int:
    """The literal in grid steps, clipped just outside the bounds (which decides every comparison alike)."""
    if literal.kind not in ("integer", "decimal"):
        raise InvalidQuery(
            f"{measure.name} is compared with numbers, not {literal.kind}", field="query.where", rule="literal.type"
        )
    numerator, denominator = Decimal(literal.value).as_integer_ratio()
    steps, rest = divmod(numerator * 10**measure.scale, denominator)
    if rest:
        raise InvalidQuery(
            f"{measure.name} has {measure.scale} decimal digits; the literal has more",
            field="query.where",
            rule="literal.grid",
        )
    clipped: int = max(measure.lower - 1, min(measure.upper + 1, steps))
    return clipped


def _listing(values: list[LiteralValue]) -> str:
    return ", ".join(_literal(value) for value in values[:12]) + (", …" if len(values) > 12 else "")


def _literal(value: LiteralValue) -> str:
    """As a query writes it, so that a value with a comma in it reads as one."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower() if isinstance(value, bool) else str(value)
