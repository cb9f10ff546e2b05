# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from decimal import Decimal

import pytest

from tests.support.bound import catalogue, wide_card
from tests.support.domain import COUNT, DOLLARS, VISITS, by_site, census_card, equals, spending_card, submit
from weir.errors import InvalidQuery, RequestError, UnknownName
from weir.query import (
    Aggregate,
    Comparison,
    Function,
    IsNull,
    Literal,
    Membership,
    Negation,
    Operator,
    Predicate,
    Query,
    canonicalise,
)
from weir_server.catalog.card import Cell, Dimension, Grade, Measure, Mode
from weir_server.plan.bind import MAX_NUMBERS, bind
from weir_server.plan.conditions import bind_condition
from weir_server.plan.values import BoundQuery, CellTest, EncryptedTerms, Every, NullTest, Some, ValueTest

CATALOGUE = catalogue()
AVG = Aggregate(Function.AVG, "dollars")


def bound(query: Query, mode: Mode | None = None) -> BoundQuery:
    return bind(submit(canonicalise(query), mode=mode), CATALOGUE)


def condition(where: Predicate, dataset: str = "wide") -> object:
    return bound(Query(dataset, (COUNT,), (), where)).condition


def refused(query: Query, mode: Mode | None = None) -> RequestError:
    with pytest.raises((InvalidQuery, UnknownName)) as caught:
        bound(query, mode)
    error = caught.value
    assert error.field is not None
    return error


def compare(column: str, operator: str, value: bool | int | str | Decimal) -> Comparison:
    return Comparison(column, Operator(operator), Literal(value))


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        (Query("nothing", (COUNT,)), "name.dataset"),
        (Query("census", (COUNT,), snapshot=9), "name.snapshot"),
        (Query("census", (COUNT,), ("planet",)), "name.dimension"),
        (Query("census", (Aggregate(Function.SUM, "planet"),)), "name.measure"),
        (Query("census", (COUNT,), (), equals("planet", 1)), "name.column"),
        (Query("census", (Aggregate(Function.SUM, "site"),)), "name.measure"),
        (Query("census", (DOLLARS,)), "name.measure"),
    ],
)
def test_unknown_names_are_named_by_rule(query: Query, rule: str) -> None:
    error = refused(query)
    assert isinstance(error, UnknownName)
    assert error.rule == rule


def test_grouping_by_a_measure_is_explained() -> None:
    assert refused(Query("census", (VISITS,), ("visits",))).rule == "group.dimension"


def test_what_a_measure_does_not_offer_is_listed() -> None:
    error = refused(Query("census", (Aggregate(Function.VARIANCE, "visits"),)))
    assert error.rule == "aggregate.undeclared"
    assert "avg, sum" in error.message


def test_the_latest_version_is_filled_in_so_that_what_is_approved_names_a_snapshot() -> None:
    assert bound(by_site()).query.snapshot == 1
    assert bound(by_site()).query == bound(Query("census", (COUNT,), ("site",), snapshot=1)).query


# ── modes and sizes ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("query", "asked", "mode"),
    [
        (by_site(), None, Mode.EXACT),
        (by_site(VISITS), None, Mode.EXACT),
        (by_site(VISITS, COUNT), Mode.EXACT, Mode.EXACT),
        (by_site(DOLLARS, dataset="spending"), None, Mode.DP),
        (by_site(dataset="spending"), Mode.DP, Mode.DP),
        (by_site(dataset="spending"), None, Mode.DP),
    ],
)
def test_the_measures_decide_the_mode(query: Query, asked: Mode | None, mode: Mode) -> None:
    assert bound(query, asked).mode is mode


def test_a_measure_is_never_released_in_another_mode_than_its_own() -> None:
    assert refused(by_site(DOLLARS, dataset="spending"), Mode.EXACT).rule == "mode.one"
    assert refused(by_site(VISITS), Mode.DP).rule == "mode.one"


def test_a_count_must_say_its_mode_where_both_are_offered() -> None:
    exact, dp = census_card().measures[0], spending_card().measures[0]
    both = catalogue(census_card(measures=(exact, dp), epsilon_lifetime=1))
    with pytest.raises(InvalidQuery) as caught:
        bind(submit(by_site()), both)
    assert caught.value.rule == "mode.one"
    assert bind(submit(by_site(), mode=Mode.DP), both).mode is Mode.DP
    with pytest.raises(InvalidQuery):
        bind(submit(by_site(VISITS, DOLLARS)), both)


def test_core_data_binds_to_something_that_the_red_line_refuses() -> None:
    core = catalogue(census_card(grade=Grade.CORE))
    assert bind(submit(by_site()), core).mode not in census_card(grade=Grade.CORE).modes


def test_cells_are_the_product_of_the_declared_ones() -> None:
    assert bound(Query("census", (COUNT,), ("site", "age"))).cells == 4 * 4
    assert bound(Query("census", (COUNT,))).cells == 1


def large(cells: int) -> Dimension:
    return Dimension("many", "Many", "integer", tuple(Cell(at, str(at)) for at in range(cells)), "many")


def test_the_largest_answer_allowed_is_exactly_the_limit() -> None:
    card = spending_card(dimensions=(large(MAX_NUMBERS // 2),))
    query = Query("spending", (COUNT, DOLLARS), ("many",))
    assert bind(submit(query), catalogue(card)).cells == MAX_NUMBERS // 2
    with pytest.raises(InvalidQuery) as caught:
        bind(submit(Query("spending", (COUNT, DOLLARS, AVG), ("many",))), catalogue(card))
    assert caught.value.rule == "answer.size"


def test_a_table_for_secret_weights_may_be_as_large_as_the_weights_announced_in_two_columns() -> None:
    cells = MAX_NUMBERS // 2 + 1
    card = catalogue(spending_card(dimensions=(large(cells),)))
    query = Query("spending", (COUNT, DOLLARS), ("many",))
    announced = EncryptedTerms("weights", "sha256:" + "0" * 64, weights=cells, weight_bits=20)
    assert bind(submit(query, encrypted=announced), card).cells == cells
    for terms in (None, replace(announced, weights=cells - 1), EncryptedTerms("sealed", announced.key_id)):
        with pytest.raises(InvalidQuery) as caught:
            bind(submit(query, encrypted=terms), card)
        assert caught.value.rule == "answer.size"


def test_a_histogram_counts_as_one_number_for_each_bucket() -> None:
    edges = tuple(range(12))
    measure = Measure(
        "fine", "", "", "fine", Mode.DP, 0, 0, 11, statistics=frozenset({Function.HISTOGRAM}), buckets=edges
    )
    card = spending_card(dimensions=(large(MAX_NUMBERS // 11 + 1),), measures=(measure,))
    with pytest.raises(InvalidQuery) as caught:
        bind(submit(Query("spending", (Aggregate(Function.HISTOGRAM, "fine"),), ("many",))), catalogue(card))
    assert caught.value.rule == "answer.size"


# ── conditions on dimensions ───────────────────────────────────────────────────────────────────────────────────────


def test_equality_becomes_a_set_of_cells() -> None:
    assert condition(equals("site", "west")) == CellTest("site", frozenset({2}))
    assert condition(Negation(equals("site", "west"))) == CellTest("site", frozenset({0, 1, 3}))


def test_a_null_cell_is_true_only_under_is_null() -> None:
    assert condition(compare("year", "<>", 1)) == CellTest("year", frozenset({1, 2}))
    assert condition(Membership("year", (Literal(1), Literal(2)), negated=True)) == CellTest("year", frozenset({2}))
    assert condition(IsNull("year")) == CellTest("year", frozenset({3}))
    assert condition(Negation(IsNull("year"))) == CellTest("year", frozenset({0, 1, 2}))


def test_a_condition_on_a_coarser_dimension_is_one_on_its_base() -> None:
    assert condition(equals("coast", "sea")) == CellTest("site", frozenset({2, 3}))
    assert condition(compare("half", "<", 3)) == CellTest("year", frozenset({0, 1}))
    assert condition(IsNull("adult")) == CellTest("age", frozenset({3}))


def test_bins_are_cut_at_their_edges_only() -> None:
    assert condition(compare("age", "<", 18)) == CellTest("age", frozenset({0}))
    assert condition(compare("age", ">=", 18)) == CellTest("age", frozenset({1, 2}))
    assert condition(compare("age", "<", 120)) == CellTest("age", frozenset({0, 1, 2}))
    assert condition(compare("age", ">=", 120)) == CellTest("age", frozenset())


@pytest.mark.parametrize(
    "where",
    [compare("age", "<", 30), compare("age", "<=", 18), compare("age", ">", 18), compare("age", ">=", 64),
     compare("half", "<=", 3), compare("half", "<", 2)],
    ids=str,
)  # fmt: skip
def test_what_would_cut_a_bin_is_refused_with_the_edges(where: Predicate) -> None:
    error = refused(Query("wide", (COUNT,), (), where))
    assert error.rule == "predicate.bin"
    assert "use < or >= with one of" in error.message


@pytest.mark.parametrize(
    ("where", "rule"),
    [
        (equals("site", 3), "literal.type"),
        (equals("site", "paris"), "literal.domain"),
        (equals("age", "18"), "literal.type"),
        (equals("age", 19), "literal.domain"),
        (equals("year", True), "literal.type"),
        (equals("member", 1), "literal.type"),
        (compare("age", "=", Decimal("18.0")), "literal.type"),
        (compare("site", "<", "west"), "predicate.order"),
        (compare("member", ">", False), "predicate.order"),
        (compare("site", "<", 3), "literal.type"),
        (Membership("site", (Literal("west"), Literal("paris"))), "literal.domain"),
        (equals("dollars", "ten"), "literal.type"),
        (equals("dollars", True), "literal.type"),
        (compare("dollars", "<", Decimal("0.005")), "literal.grid"),
    ],
    ids=str,
)
def test_literals_of_the_wrong_kind_are_refused(where: Predicate, rule: str) -> None:
    assert refused(Query("wide", (COUNT,), (), where)).rule == rule


def test_declared_values_are_told_as_a_query_writes_them_and_null_as_what_it_asks_for() -> None:
    cells = (Cell("Surgery, general", "s"), Cell("O'Neill", "o"), Cell(None, "unknown"))
    ward = Dimension("ward", "Ward", "text", cells, column="ward")
    card = replace(wide_card(), dimensions=(ward,))
    with pytest.raises(InvalidQuery) as caught:
        bind_condition(equals("ward", "Surgery"), card)
    assert caught.value.message.endswith("are 'Surgery, general', 'O''Neill'; for missing values use IS NULL")


def test_a_negation_left_in_a_query_is_not_bound() -> None:
    query = Query("wide", (COUNT,), (), Negation(equals("site", "west")))
    with pytest.raises(InvalidQuery) as caught:
        bind(submit(query), CATALOGUE)
    assert caught.value.rule == "predicate.canonical"


# ── conditions on measures ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "steps"),
    [(3, 300), (Decimal("3.5"), 350), (Decimal("-0.01"), -1), (-5, -500), (-6, -501), (10**12, 2_001)],
)  # fmt: skip
def test_a_number_becomes_grid_steps_and_stops_just_outside_the_bounds(value: int | Decimal, steps: int) -> None:
    assert condition(compare("dollars", "<", value)) == ValueTest("dollars", Operator.LESS, steps)


def test_lists_of_numbers_become_tests_of_each() -> None:
    listed = (Literal(1), Literal(Decimal("2.5")))
    inside, outside = condition(Membership("dollars", listed)), condition(Membership("dollars", listed, negated=True))
    assert isinstance(inside, Some)
    assert isinstance(outside, Every)
    assert {test.literal for test in inside.operands if isinstance(test, ValueTest)} == {100, 250}
    assert {test.operator for test in outside.operands if isinstance(test, ValueTest)} == {Operator.NOT_EQUAL}


def test_a_measure_can_be_tested_for_null() -> None:
    assert condition(IsNull("dollars")) == NullTest("dollars", negated=False)
    assert condition(Negation(IsNull("dollars"))) == NullTest("dollars", negated=True)


def test_a_query_without_where_binds_to_what_is_always_true() -> None:
    assert bound(Query("wide", (COUNT,))).condition == Every(())


def test_nothing_of_the_requesters_text_is_left_after_binding() -> None:
    names = {dimension.name for dimension in wide_card().dimensions}
    tested = condition(Membership("site", (Literal("west"), Literal("east"))))
    assert isinstance(tested, CellTest)
    assert tested.dimension in names
    assert all(isinstance(cell, int) for cell in tested.cells)
