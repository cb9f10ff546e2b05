# SPDX-License-Identifier: Apache-2.0
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.cards import clinic, consented, parse, spending
from weir.errors import CardError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cards.md").read_text(encoding="utf-8")


def anonymised() -> dict[str, Any]:
    return clinic() | {"anonymisation": {"report": "0" * 64, "file": "report.json"}}


def known_keys(*path: Any) -> list[str]:
    """The keys that the card reader knows at a place, as its own refusal lists them."""
    contents = {"dp": spending, "consent": consented, "anonymisation": anonymised}
    content = contents.get(path[0] if path else "", clinic)()
    place: Any = content
    for step in path:
        place = place[step]
    place["no_such_key"] = 1
    with pytest.raises(CardError) as refused:
        parse(content)
    (violation,) = (item for item in refused.value.violations if item.rule == "card.unknown_key")
    return violation.sentence.partition("known here: ")[2].split(", ")


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("unit",),
        ("source",),
        ("dimensions", 0),
        ("dimensions", 1),
        ("dimensions", 3),
        ("dimensions", 3, "bins"),
        ("measures", 0),
        ("measures", 3),
        ("measures", 3, "per_level"),
        ("exact",),
        ("exact", "coarsening", 0),
        ("dp",),
        ("consent",),
        ("anonymisation",),
    ],
    ids=lambda path: ".".join(map(str, path)) or "card",
)
def test_every_key_of_a_card_is_documented(path: tuple[Any, ...]) -> None:
    written = set(re.findall(r"`([^`]*)`", PAGE))
    words = {word for text in written for word in re.findall(r"[a-z_]+", text)}
    assert [key for key in known_keys(*path) if key not in words] == []


def test_the_page_links_to_cards_that_exist() -> None:
    targets = re.findall(r"\]\(\.\./([^)]*)\)", PAGE)
    assert targets
    assert all((ROOT / target).exists() for target in targets)
