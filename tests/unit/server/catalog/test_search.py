# SPDX-License-Identifier: Apache-2.0
import pytest

from tests.support.cards import clinic, parse
from weir_server.catalog.search import found, searchable


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("", True),
        ("  ", True),
        ("clinic", True),
        ("CLINIC", True),
        ("health", True),
        ("visits to a", True),
        ("to visits", True),
        ("spend", True),
        ("zone", True),
        ("data office", True),
        ("门诊", True),
        ("诊记", True),
        ("门诊　健康", True),
        ("ｃｌｉｎｉｃ", True),
        ("clinic spending", False),
        ("hospital", False),
        ("门 学校", False),
        ("clinic.csv", False),
    ],
    ids=repr,
)
def test_every_word_stands_somewhere_in_the_card(search: str, expected: bool) -> None:
    card = parse(clinic() | {"title": "门诊记录", "keywords": ["health", "健康"]})
    assert found(search, searchable(card)) is expected
