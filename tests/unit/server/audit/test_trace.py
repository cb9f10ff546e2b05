# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.ledger import ALICE, BOB, Books, open_books
from weir.errors import InvalidRequest
from weir.v1 import answer_pb2
from weir_server.audit.trace import trace


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
