# SPDX-License-Identifier: Apache-2.0
"""Binding without a store: the small cards of `tests.support.domain` in a catalogue, and a naive evaluator of
predicates in SQL's three-valued logic to hold bound conditions against."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from tests.support.domain import DIMENSIONS, census_card, spending_card
from weir.query import (
    AllOf,
    AnyOf,
    Comparison,
    Function,
    IsNull,
    LiteralValue,
    Membership,
    Negation,
    Operator,
    Predicate,
)
from weir_server.catalog.card import Cell, DatasetCard, Dimension, Measure, Mode
from weir_server.catalog.catalogue import Catalogue
from weir_server.catalog.snapshot import Snapshot
from weir_server.plan.values import CellTest, Condition, Every, NullTest, Some, ValueTest

Row = dict[str, LiteralValue | None]
"""Value of every dimension and measure, as SQL would see them; None is null."""
_MONEY = frozenset({Function.SUM, Function.AVG, Function.HISTOGRAM, Function.QUANTILE})


def wide_card() -> DatasetCard:
    """A dp card with every kind of dimension: text, boolean, plain and binned integers, nulls, coarser ones."""
    year = Dimension("year", "Year", "integer", tuple(Cell(v, str(v)) for v in (1, 2, 3, None)), "year", row_level=True)
    adult = Dimension("member", "Member", "boolean", (Cell(False, "no"), Cell(True, "yes")), "member")
    decade = Dimension(
        "half", "Half", "integer", (Cell(1, "early"), Cell(3, "late"), Cell(None, "none")),
        row_level=True, coarsens="year", mapping=(0, 0, 1, 2),
    )  # fmt: skip
    dollars = Measure(
        "dollars", "Dollars", "USD", "dollars", Mode.DP, 2, -500, 2_000,
        statistics=_MONEY, buckets=(-500, 0, 1_000, 2_000),
    )  # fmt: skip
    card = spending_card(name="wide", measures=(dollars,))
    return replace(card, dimensions=(*DIMENSIONS, year, decade, adult))


def catalogue(*cards: DatasetCard) -> Catalogue:
    """Version 1 of each card; the usual three where none is named."""
    found = Catalogue()
    for card in cards or (census_card(), spending_card(), wide_card()):
        found = found.with_snapshot(
            Snapshot(
                card, 1, datetime(2026, 1, 1, tzinfo=UTC), hashlib.sha256(card.name.encode()).hexdigest(), Path(), ()
            )
        )
    return found


def row_of(card: DatasetCard, cells: dict[str, int], steps: dict[str, int | None]) -> Row:
    """What SQL would see of base cells and grid values; coarser dimensions follow from their base."""
    row: Row = {}
    for dimension in card.dimensions:
        at = cells[dimension.coarsens or dimension.name]
        row[dimension.name] = dimension.cells[dimension.mapping[at] if dimension.coarsens else at].value
    for measure in card.measures:
        found = steps[measure.name]
        row[measure.name] = None if found is None else Decimal(found).scaleb(-measure.scale)
    return row


def truth(node: Predicate, row: Row) -> bool | None:
    """SQL's answer for one row: true, false, or unknown (None). Written from the standard, not from the binder."""
    match node:
        case AllOf(operands):
            found = [truth(operand, row) for operand in operands]
            return False if False in found else (None if None in found else True)
        case AnyOf(operands):
            found = [truth(operand, row) for operand in operands]
            return True if True in found else (None if None in found else False)
        case Negation(operand):
            inner = truth(operand, row)
            return None if inner is None else not inner
        case IsNull(column, negated):
            return (row[column] is None) != negated
        case Membership(column, literals, negated):
            value = row[column]
            return None if value is None else (value in [literal.value for literal in literals]) != negated
        case Comparison(column, operator, literal):
            value = row[column]
            return None if value is None else _compare(value, operator, literal.value)


def _compare(value: LiteralValue, operator: Operator, literal: LiteralValue) -> bool:
    less, equal = value < literal, value == literal  # type: ignore[operator]
    return {
        Operator.EQUAL: equal,
        Operator.NOT_EQUAL: not equal,
        Operator.LESS: less,
        Operator.LESS_OR_EQUAL: less or equal,
        Operator.GREATER: not less and not equal,
        Operator.GREATER_OR_EQUAL: not less,
    }[operator]


def holds(condition: Condition, cells: dict[str, int], steps: dict[str, int | None]) -> bool:
    """Whether a bound condition is true of base cells and grid values."""
    match condition:
        case Every(operands):
            return all(holds(operand, cells, steps) for operand in operands)
        case Some(operands):
            return any(holds(operand, cells, steps) for operand in operands)
        case CellTest(name, wanted):
            return cells[name] in wanted
        case NullTest(name, negated):
            return (steps[name] is None) != negated
        case ValueTest(name, operator, literal):
            found = steps[name]
            return found is not None and _compare(found, operator, literal)
