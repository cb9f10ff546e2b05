# SPDX-License-Identifier: Apache-2.0
"""A query must not keep the event loop busy: what binding looks at is bounded before it looks."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.support.domain import census_card
from weir.errors import InvalidQuery
from weir.query import AllOf, Comparison, Literal, Membership, Operator, check_size
from weir_server.catalog.card import Cell, DatasetCard
from weir_server.plan.conditions import MAX_SETTLED, bind_condition

CELLS = 3000


def wide_card() -> DatasetCard:
    """A card whose first dimension has thousands of cells."""
    card = census_card()
    first = card.dimensions[0]
    wide = replace(first, type="integer", cells=tuple(Cell(number, str(number)) for number in range(CELLS)))
    return replace(card, dimensions=(wide, *card.dimensions[1:]))


def one_of_many(column: str) -> Membership:
    return Membership(column, tuple(Literal(number) for number in range(1000)))


def test_long_lists_over_a_wide_dimension_are_settled_quickly() -> None:
    card = wide_card()
    started = time.process_time()
    bind_condition(AllOf((one_of_many(card.dimensions[0].name),) * 5), card)
    # Scanning the cells for each literal took seconds; a set takes milliseconds. The bound leaves a wide margin.
    assert time.process_time() - started < 1.0


def test_literals_of_all_lists_count_together() -> None:
    with pytest.raises(InvalidQuery) as caught:
        check_size(AllOf((one_of_many("site"),) * 6))
    assert caught.value.rule == "query.literals"


def test_too_many_comparisons_over_a_wide_dimension_are_refused_before_they_are_settled() -> None:
    card = wide_card()
    name = card.dimensions[0].name
    count = MAX_SETTLED // CELLS + 1
    node = AllOf(tuple(Comparison(name, Operator.EQUAL, Literal(number)) for number in range(count)))
    with pytest.raises(InvalidQuery) as caught:
        bind_condition(node, card)
    assert caught.value.rule == "query.work"
