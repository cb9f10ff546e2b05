# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weir_server.console.charts import Charts, Series, _ceiling
from weir_server.console.text import words_of

CHARTS = Charts(words_of("en"))
AMOUNTS = st.lists(st.integers(0, 10**12), max_size=60)


def svg(markup: str) -> ET.Element:
    found = re.search(r"<svg.*?</svg>", markup, re.DOTALL)
    assert found is not None
    return ET.fromstring(found.group(0))


@given(values=AMOUNTS)
def test_columns_stay_inside_their_picture_whatever_the_numbers(values: list[int]) -> None:
    labels = [str(n) for n in range(len(values))]
    drawn = svg(CHARTS.columns("Traffic", labels, [Series("a", values), Series("b", values)]))
    for box in drawn.iter("rect"):
        assert 0 <= float(box.attrib["y"]) <= 200
        assert float(box.attrib["height"]) >= 0
        assert float(box.attrib["x"]) + float(box.attrib["width"]) <= 640


@example(value=5)
@given(value=st.integers(0, 10**15))
def test_an_axis_reaches_the_largest_number_and_not_much_further(value: int) -> None:
    top = _ceiling(value)
    assert value <= top <= max(4, value * 5 // 2)
    assert top % 4 == 0


@given(values=AMOUNTS, limit=st.integers(0, 10**12))
def test_a_budget_burns_down_inside_its_picture(values: list[int], limit: int) -> None:
    drawn = svg(CHARTS.burn("Budget", [str(n) for n in range(len(values))], [Series("a", values)], limit))
    line = drawn.find("line[@class='limit']")
    assert line is not None
    assert 0 <= float(line.attrib["y1"]) <= 200


@pytest.mark.parametrize("draw", ["columns", "bars", "burn", "gauge"])
def test_names_are_text_and_nothing_is_styled_in_place(draw: str) -> None:
    nasty = "<b>&\"'"
    drawn = {
        "columns": lambda: CHARTS.columns(nasty, [nasty], [Series(nasty, [1]), Series(nasty, [2])]),
        "bars": lambda: CHARTS.bars(nasty, [(nasty, 3, nasty)]),
        "burn": lambda: CHARTS.burn(nasty, [nasty], [Series(nasty, [1]), Series(nasty, [2])], 2),
        "gauge": lambda: CHARTS.gauge(nasty, 1, 2, "warn"),
    }[draw]()
    assert "<b>" not in drawn
    assert "style=" not in drawn
    assert svg(drawn).attrib["role"] == "img"


def test_a_chart_is_named_for_who_cannot_see_it() -> None:
    drawn = svg(CHARTS.bars("Most answers", [("alice", 3, "3")]))
    title = drawn.find("title")
    assert title is not None
    assert title.text == "Most answers"
    assert drawn.attrib["aria-labelledby"] == title.attrib["id"]
