# SPDX-License-Identifier: Apache-2.0
"""Fields of a card that catalogues show: namespace, contact, licence, quality, frequency, list prices, schemes."""

from typing import Any

import pytest

from tests.support.cards import clinic, parse
from weir.errors import CardError
from weir_server.catalog.codec import card_from_json, card_to_json
from weir_server.catalog.rates import Rates

SAID: dict[str, Any] = {
    "contact": "data@clinic.example",
    "licence": "https://creativecommons.org/licenses/by/4.0/",
    "quality": {"completeness": "Every visit since 2019 is in it.", "timeliness": "Two weeks behind."},
    "update_frequency": "quarterly",
    "list_rates": {"currency": "CNY", "per_query": "0.5", "per_epsilon": "12"},
}


def said(**changes: Any) -> dict[str, Any]:
    content = clinic() | SAID | changes
    content["unit"] = content["unit"] | {"namespace": "national-id"}
    return content


def test_what_a_card_says_for_catalogues_is_read_and_survives_its_json() -> None:
    content = said()
    content["dimensions"][0]["grading_scheme"] = "JR/T 0197-2020"
    content["measures"][0]["grading_scheme"] = "JR/T 0197-2020"
    card = parse(content)
    assert (card.unit_namespace, card.contact, card.update_frequency) == (
        "national-id",
        "data@clinic.example",
        "quarterly",
    )
    assert card.quality["timeliness"] == "Two weeks behind."
    assert card.list_rates == Rates(currency="CNY", per_query_micro=500_000, per_epsilon_micro=12_000_000)
    assert [item.grading_scheme for item in card.dimensions[:2]] == ["JR/T 0197-2020", ""]
    assert card.measures[0].grading_scheme == "JR/T 0197-2020"
    assert card_from_json(card_to_json(card)) == card


def test_a_card_of_an_earlier_release_says_nothing_of_them() -> None:
    content = card_to_json(parse(clinic()))
    for name in ("unit_namespace", "contact", "licence", "update_frequency", "quality", "list_rates"):
        del content[name]
    for item in (*content["dimensions"], *content["measures"]):
        del item["grading_scheme"]
    assert card_from_json(content) == parse(clinic())


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        pytest.param({"contact": "the office"}, "card.contact", id="contact that leads nowhere"),
        pytest.param({"contact": "javascript:alert(1)"}, "card.contact", id="contact that is a script"),
        pytest.param({"licence": "free"}, "card.licence", id="licence without an address"),
        pytest.param({"update_frequency": "often"}, "card.choice", id="unknown frequency"),
        pytest.param({"quality": {"Too Long": "x"}}, "card.quality", id="name of a statement"),
        pytest.param({"quality": {"accuracy": " "}}, "card.quality", id="empty statement"),
        pytest.param({"quality": "good"}, "card.mapping", id="quality in one word"),
        pytest.param({"quality": {f"q{i}": "x" for i in range(31)}}, "card.quality", id="too many statements"),
        pytest.param({"list_rates": {"per_query": "-1"}}, "list_rates.per_query", id="negative price"),
        pytest.param({"list_rates": {"currency": "yuan"}}, "list_rates.currency", id="currency in words"),
        pytest.param({"list_rates": {"per_row": 1}}, "card.unknown_key", id="price of what is not sold"),
    ],
)
def test_what_other_catalogues_could_not_read_is_refused(changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(CardError) as refused:
        parse(said(**changes))
    assert rule in {violation.rule for violation in refused.value.violations}


def test_a_namespace_is_a_plain_word() -> None:
    content = said()
    content["unit"]["namespace"] = "National ID"
    with pytest.raises(CardError) as refused:
        parse(content)
    assert [violation.rule for violation in refused.value.violations] == ["unit.namespace"]
