# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for typed queries."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import strategies as st

from weir.query import (
    Aggregate,
    AllOf,
    AnyOf,
    Comparison,
    Function,
    IsNull,
    Literal,
    Membership,
    Negation,
    Operator,
    Predicate,
    Query,
)

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
_TEXTS = st.text(max_size=12).filter(str.isprintable)


def _decimal(digits: int, places: int) -> Decimal:
    return Decimal(digits).scaleb(-places)


DECIMALS = st.builds(_decimal, st.integers(-(10**27), 10**27), st.integers(0, 27))
LITERALS = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), DECIMALS, _TEXTS).map(Literal)
LEAVES: st.SearchStrategy[Predicate] = st.one_of(
    st.builds(Comparison, NAMES, st.sampled_from(Operator), LITERALS),
    st.builds(Membership, NAMES, st.lists(LITERALS, min_size=1, max_size=4).map(tuple), st.booleans()),
    st.builds(IsNull, NAMES, st.booleans()),
)


def _connect(inner: st.SearchStrategy[Predicate]) -> st.SearchStrategy[Predicate]:
    operands = st.lists(inner, min_size=1, max_size=4).map(tuple)
    return st.one_of(st.builds(AllOf, operands), st.builds(AnyOf, operands), st.builds(Negation, inner))


PREDICATES = st.recursive(LEAVES, _connect, max_leaves=12)


@st.composite
def aggregates(draw: st.DrawFn) -> Aggregate:
    """Any valid aggregate."""
    function = draw(st.sampled_from(Function))
    plain = function in (Function.COUNT, Function.COUNT_UNITS)
    ranked = function is Function.QUANTILE
    return Aggregate(
        function,
        None if plain else draw(NAMES),
        draw(st.integers(1, 999_999)) if ranked else None,
        draw(st.integers(1, 1000)),
    )


QUERIES = st.builds(
    Query,
    dataset=NAMES,
    aggregates=st.lists(aggregates(), min_size=1, max_size=5).map(tuple),
    group_by=st.lists(NAMES, max_size=4).map(tuple),
    where=st.none() | PREDICATES,
    snapshot=st.integers(0, 2**32 - 1),
)
