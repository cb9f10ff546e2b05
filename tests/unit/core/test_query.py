# SPDX-License-Identifier: Apache-2.0
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.queries import LITERALS, PREDICATES, QUERIES
from weir.errors import InvalidQuery
from weir.query import (
    Aggregate,
    AllOf,
    AnyOf,
    Comparison,
    Function,
    IsNull,
    Literal,
    LiteralValue,
    Membership,
    Negation,
    Operator,
    Predicate,
    Query,
    canonicalise,
    children,
    leaves,
    parse_decimal_literal,
    query_json,
)

COUNT = Aggregate(Function.COUNT)
ROW_VALUES = st.none() | st.integers(-3, 3)
SMALL = st.sampled_from(["a", "b", "c"])
SMALL_LEAVES: st.SearchStrategy[Predicate] = st.one_of(
    st.builds(Comparison, SMALL, st.sampled_from(Operator), st.integers(-3, 3).map(Literal)),
    st.builds(
        Membership,
        SMALL,
        st.lists(st.integers(-3, 3).map(Literal), min_size=1, max_size=3).map(tuple),
        st.booleans(),
    ),
    st.builds(IsNull, SMALL, st.booleans()),
)


def _some(inner: st.SearchStrategy[Predicate]) -> st.SearchStrategy[Predicate]:
    operands = st.lists(inner, min_size=1, max_size=3).map(tuple)
    return st.one_of(st.builds(AllOf, operands), st.builds(AnyOf, operands), st.builds(Negation, inner))


SMALL_PREDICATES = st.recursive(SMALL_LEAVES, _some, max_leaves=10)


def evaluate(node: Predicate, row: dict[str, int | None]) -> bool | None:
    """An independent three-valued oracle."""
    match node:
        case Comparison(column, operator, literal):
            value, constant = row[column], literal.value
            if value is None:
                return None
            assert isinstance(constant, int)
            return {
                "=": value == constant,
                "<>": value != constant,
                "<": value < constant,
                "<=": value <= constant,
                ">": value > constant,
                ">=": value >= constant,
            }[operator.value]
        case Membership(column, literals, negated):
            value = row[column]
            return None if value is None else (value in [item.value for item in literals]) != negated
        case IsNull(column, negated):
            return (row[column] is None) != negated
        case Negation(operand):
            inner = evaluate(operand, row)
            return None if inner is None else not inner
        case AllOf(operands):
            parts = [evaluate(operand, row) for operand in operands]
            return False if False in parts else None if None in parts else True
        case AnyOf(operands):
            parts = [evaluate(operand, row) for operand in operands]
            return True if True in parts else None if None in parts else False


def count_where(where: Predicate) -> Query:
    return Query("census", (COUNT,), where=where)


@given(SMALL_PREDICATES, st.fixed_dictionaries({"a": ROW_VALUES, "b": ROW_VALUES, "c": ROW_VALUES}))
def test_the_canonical_form_keeps_three_valued_meaning(where, row):
    canonical = canonicalise(count_where(where)).where
    assert canonical is not None
    assert evaluate(canonical, row) == evaluate(where, row)


@given(QUERIES)
def test_canonicalising_twice_changes_nothing_more(query):
    once = canonicalise(query)
    assert canonicalise(once) == once
    assert query_json(canonicalise(once)) == query_json(once)


@given(PREDICATES)
def test_a_canonical_predicate_has_no_negation_and_no_nested_connective_of_its_own_kind(where):
    canonical = canonicalise(count_where(where)).where
    assert canonical is not None
    level = [canonical]
    while level:
        for node in level:
            assert not isinstance(node, Negation)
            assert not any(type(child) is type(node) for child in children(node))
            assert not isinstance(node, AllOf | AnyOf) or len(node.operands) > 1
        level = [child for node in level for child in children(node)]


@given(QUERIES, st.randoms(use_true_random=False))
def test_order_and_duplicates_do_not_change_the_canonical_form(query, random):
    groups, aggregates = [*query.group_by, *query.group_by], [*query.aggregates, *query.aggregates]
    random.shuffle(groups)
    random.shuffle(aggregates)
    shuffled = Query(query.dataset, tuple(aggregates), tuple(groups[:8]), query.where, query.snapshot)
    expected = Query(query.dataset, query.aggregates, tuple(groups[:8]), query.where, query.snapshot)
    assert query_json(canonicalise(shuffled)) == query_json(canonicalise(expected))


@given(st.lists(PREDICATES, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_operands_commute(operands, random):
    shuffled = random.sample(operands, len(operands))
    assert canonicalise(count_where(AllOf(tuple(operands)))) == canonicalise(count_where(AllOf(tuple(shuffled))))


@given(LITERALS, LITERALS)
def test_literals_are_equal_exactly_when_their_canonical_forms_are(one, other):
    assert (one == other) == (one.canonical() == other.canonical())
    assert one != other or hash(one) == hash(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [(True, 1), (False, 0), (1, Decimal(1)), (1, "1"), (True, "True")],
    ids=["true-1", "false-0", "integer-decimal", "integer-text", "boolean-text"],
)
def test_literals_of_different_types_are_never_merged(one: LiteralValue, other: LiteralValue):
    where = Membership("a", (Literal(one), Literal(other)))
    canonical = canonicalise(count_where(where)).where
    assert isinstance(canonical, Membership)
    assert len(canonical.literals) == 2


def test_decimals_that_differ_in_the_fortieth_digit_stay_apart():
    one, other = Decimal("1." + "0" * 38 + "1"), Decimal("1." + "0" * 38 + "2")
    assert Literal(one).canonical() != Literal(other).canonical()
    assert Literal(Decimal("1.50")) == Literal(Decimal("1.5"))
    assert Literal(Decimal("-0.0")) == Literal(Decimal(0))


@given(LITERALS)
def test_a_decimal_survives_its_wire_text(literal):
    if isinstance(literal.value, Decimal):
        assert parse_decimal_literal(format(literal.value, "f")) == literal


@pytest.mark.parametrize("text", ["", "1e5", "NaN", "Infinity", " 1", "1.", ".5", "+1", "1_0", "١", "9" * 65])
def test_only_plain_decimal_text_is_a_decimal(text):
    with pytest.raises(InvalidQuery) as caught:
        parse_decimal_literal(text)
    assert caught.value.rule == "literal.decimal"


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (2**63, "literal.range"),
        (-(2**63) - 1, "literal.range"),
        ("x" * 257, "literal.text"),
        ("a\x00b", "literal.text"),
        ("a\nb", "literal.text"),
        (Decimal("NaN"), "literal.decimal"),
        (Decimal("Infinity"), "literal.decimal"),
        (Decimal("1" * 41), "literal.decimal"),
        (Decimal("1e-40"), "literal.decimal"),
        (Decimal("1e999999"), "literal.decimal"),
    ],
    ids=lambda value: str(value)[:20].replace("\x00", "0"),
)
def test_a_literal_outside_its_type_is_refused(value, rule):
    with pytest.raises(InvalidQuery) as caught:
        Literal(value)
    assert caught.value.rule == rule


def deep(levels: int) -> Predicate:
    node: Predicate = IsNull("a")
    for _ in range(levels - 1):
        node = Negation(node)
    return node


def test_a_predicate_may_have_32_levels_and_500_nodes():
    count_where(deep(32))
    count_where(AllOf(tuple(IsNull("a") for _ in range(499))))


@pytest.mark.parametrize(
    ("where", "rule"),
    [
        (deep(33), "query.depth"),
        (deep(100_000), "query.depth"),
        (AllOf(tuple(IsNull("a") for _ in range(500))), "query.nodes"),
        (AllOf(tuple(IsNull("a") for _ in range(10_000))), "query.nodes"),
    ],
    ids=["33-levels", "100000-levels", "501-nodes", "10001-nodes"],
)
def test_a_larger_predicate_is_refused_without_recursion(where, rule):
    with pytest.raises(InvalidQuery) as caught:
        count_where(where)
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    ("build", "rule"),
    [
        (lambda: Query("Census", (COUNT,)), "name.form"),
        (lambda: Query("x" * 64, (COUNT,)), "name.form"),
        (lambda: Query("a\n", (COUNT,)), "name.form"),
        (lambda: Query("census", ()), "query.aggregates"),
        (lambda: Query("census", (COUNT,) * 33), "query.aggregates"),
        (lambda: Query("census", (COUNT,), ("a",) * 9), "query.groups"),
        (lambda: Query("census", (COUNT,), ("a; drop",)), "name.form"),
        (lambda: Aggregate(Function.SUM), "aggregate.measure"),
        (lambda: Aggregate(Function.COUNT, "x"), "aggregate.measure"),
        (lambda: Aggregate(Function.QUANTILE, "x"), "aggregate.quantile"),
        (lambda: Aggregate(Function.QUANTILE, "x", 1_000_000), "aggregate.quantile"),
        (lambda: Aggregate(Function.SUM, "x", 5), "aggregate.quantile"),
        (lambda: Aggregate(Function.SUM, "x", weight=0), "aggregate.weight"),
        (lambda: Aggregate(Function.SUM, "x", weight=1001), "aggregate.weight"),
        (lambda: AllOf(()), "predicate.operands"),
        (lambda: AnyOf(()), "predicate.operands"),
        (lambda: Membership("a", ()), "predicate.list"),
        (lambda: Membership("a", (Literal(1),) * 1001), "predicate.list"),
        (lambda: Comparison("1a", Operator.EQUAL, Literal(1)), "name.form"),
        (lambda: IsNull(""), "name.form"),
    ],
)
def test_a_malformed_part_is_refused_by_rule(build, rule):
    with pytest.raises(InvalidQuery) as caught:
        build()
    assert caught.value.rule == rule


def test_leaves_come_left_to_right():
    where = AllOf((IsNull("a"), AnyOf((IsNull("b"), Negation(IsNull("c"))))))
    assert [leaf.column for leaf in leaves(where)] == ["a", "b", "c"]
    assert list(leaves(None)) == []


def test_aggregate_names_are_those_of_the_answer():
    assert COUNT.name == "count"
    assert Aggregate(Function.SUM, "visits").name == "sum(visits)"
    assert Aggregate(Function.QUANTILE, "visits", 500_000).name == "quantile(visits,0.5)"
    assert Aggregate(Function.QUANTILE, "visits", 1).name == "quantile(visits,0.000001)"
