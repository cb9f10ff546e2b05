# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_HALF_DOWN, ROUND_HALF_UP, Decimal, localcontext
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger import ALICE, BOB, Books, open_books
from weir.errors import InvalidRequest
from weir.v1 import answer_pb2
from weir_server.audit.trace import _Ratio, trace


def plain(*numerators: int, scale: int = 0, denominators: tuple[int, ...] = ()) -> bytes:
    column = answer_pb2.ValueColumn(
        name="sum(x)",
        numerators=[str(n) for n in numerators],
        denominators=[str(n) for n in denominators],
        scale=scale,
    )
    return answer_pb2.Answer(dataset="census", values=[column]).SerializeToString()


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    opened = open_books(tmp_path)
    opened.answer({"queries": 1}, subject=ALICE, answer=plain(1041, 998, 2037))
    opened.answer({"queries": 1}, subject=BOB, answer=plain(1041, 7, 12, 14))
    opened.answer({"queries": 1}, subject=BOB, answer=plain(104150, 3, scale=2))
    opened.answer({"queries": 1}, subject=BOB, answer=b"\xff\xff an encrypted answer")
    yield opened
    opened.store.close()


def found(books: Books, *numbers: str, at_least: int = 1) -> list[tuple[str, int, int]]:
    matches = books.store.read(partial(trace, numbers=numbers, at_least=at_least))
    return [(match.requester, match.matched, match.cells) for match in matches]


def test_the_best_match_comes_first_with_who_received_it(books: Books) -> None:
    assert found(books, "2037", "1,041", "998") == [("alice", 3, 3), ("bob", 1, 4)]


def test_numbers_are_compared_at_the_scale_of_the_measure(books: Books) -> None:
    assert found(books, "1041.50") == [("bob", 1, 2)]


def test_chance_matches_can_be_left_out(books: Books) -> None:
    assert found(books, "2037", "1041", "998", at_least=2) == [("alice", 3, 3)]


def test_what_was_never_released_matches_nothing(books: Books) -> None:
    assert found(books, "31337") == []


def test_a_number_counts_as_often_as_it_was_seen(books: Books) -> None:
    assert found(books, "7", "7") == [("bob", 1, 4)]


def test_a_match_names_the_leaf_whose_commitment_the_answer_opens(books: Books) -> None:
    (match,) = books.store.read(partial(trace, numbers=["998"]))
    assert (match.leaf_index, match.contract, match.dataset) == (1, "c-1", "census")


@pytest.mark.parametrize("numbers", [[], ["x"], ["NaN"], ["Infinity"], ["1"] * 1001])
def test_what_is_no_list_of_numbers_is_refused(books: Books, numbers: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        books.store.read(partial(trace, numbers=numbers))


def ratio(numerator: int, denominator: int, *, scale: int = 0, root: bool = False) -> bytes:
    column = answer_pb2.ValueColumn(
        name="avg(x)", numerators=[str(numerator)], denominators=[str(denominator)], scale=scale, square_root=root
    )
    return answer_pb2.Answer(dataset="census", values=[column]).SerializeToString()


@pytest.mark.parametrize(
    ("answer", "seen", "matches"),
    [
        pytest.param(ratio(1, 3), "0.333", True, id="average, rounded down"),
        pytest.param(ratio(2, 3), "0.667", True, id="average, rounded up"),
        pytest.param(ratio(2, 3), "0.666", False, id="average, cut off"),
        pytest.param(ratio(2, 3), "0.67", False, id="two digits say nothing"),
        pytest.param(ratio(-200, 3), "-66.67", True, id="negative average"),
        pytest.param(ratio(-200, 3), "66.67", False, id="sign"),
        pytest.param(ratio(12345, 2, scale=2), "61.725", True, id="the whole value, at its scale"),
        pytest.param(ratio(12345, 2, scale=2), "61.72", True, id="half, to even"),
        pytest.param(ratio(12345, 2, scale=2), "61.73", True, id="half, away from zero"),
        pytest.param(ratio(12345, 2, scale=2), "61.71", False, id="not the nearest"),
        pytest.param(ratio(2, 1, root=True), "1.414", True, id="root"),
        pytest.param(ratio(2, 1, root=True), "1.4142135623730951", True, id="root, as a float shows it"),
        pytest.param(ratio(2, 1, root=True), "1.415", False, id="not the root"),
        pytest.param(ratio(2, 3), "0.6666666666666666", True, id="average, as a float shows it"),
        pytest.param(ratio(400, 1, scale=2, root=True), "2.00", True, id="whole root, as it was shown"),
        pytest.param(ratio(123456, 7), "17637", True, id="no digit behind the point"),
        pytest.param(ratio(123456, 7), "1.764E4", True, id="digits before the point only"),
        pytest.param(ratio(123456, 0), "17637", False, id="damaged"),
    ],
)
def test_ratios_and_roots_match_what_they_round_to(tmp_path: Path, answer: bytes, seen: str, matches: bool) -> None:
    books = open_books(tmp_path)
    books.answer({"queries": 1}, answer=answer)
    assert bool(found(books, seen)) is matches
    books.store.close()


@given(st.integers(-(10**12), 10**12), st.integers(2, 10**6), st.integers(0, 9))
def test_a_ratio_rounds_as_decimal_arithmetic_rounds_it(numerator: int, denominator: int, digits: int) -> None:
    exact = Decimal(numerator) / Decimal(denominator)
    shown = {int(exact.scaleb(digits).to_integral_value(mode)) for mode in (ROUND_HALF_DOWN, ROUND_HALF_UP)}
    assert _Ratio(numerator, denominator, root=False).nearest(digits) == shown


@given(st.integers(0, 10**12), st.integers(1, 10**6), st.integers(0, 9))
def test_a_root_rounds_as_decimal_arithmetic_rounds_it(numerator: int, denominator: int, digits: int) -> None:
    with localcontext(prec=60):
        exact = (Decimal(numerator) / Decimal(denominator)).sqrt().scaleb(digits)
        shown = {int(exact.to_integral_value(mode)) for mode in (ROUND_HALF_DOWN, ROUND_HALF_UP)}
    assert _Ratio(numerator, denominator, root=True).nearest(digits) == shown
