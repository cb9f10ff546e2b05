# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.cards import clinic, parse, spending
from weir.errors import PublicationError
from weir_server.catalog.card import DatasetCard, Grade, Mode
from weir_server.catalog.card_file import load_card
from weir_server.catalog.snapshot import open_snapshot
from weir_server.sandbox.build import build
from weir_server.sandbox.rows import LEAST_UNITS, MOST_ROWS, MOST_UNITS, Row, columns_of, rows_of

EXAMPLES = Path(__file__).parents[4] / "examples" / "rand_hie"


def column(card: DatasetCard, rows: list[Row], name: str) -> list[str | None]:
    at = [item.name for item in columns_of(card)].index(name)
    return [row[at] for row in rows]


def by_unit(card: DatasetCard, rows: list[Row], name: str) -> list[list[str | None]]:
    found: dict[str | None, list[str | None]] = {}
    for row, value in zip(rows, column(card, rows, name), strict=True):
        found.setdefault(row[0], []).append(value)
    return list(found.values())


def test_rows_are_a_function_of_card_and_seed() -> None:
    card = parse(clinic())
    assert list(rows_of(card, seed="a")) == list(rows_of(card, seed="a"))
    assert list(rows_of(card, seed="a")) != list(rows_of(card, seed="b"))


def test_every_declared_cell_is_hit_missing_ones_included() -> None:
    card = parse(clinic())
    rows = list(rows_of(card, seed="a"))
    assert set(column(card, rows, "region")) == {"north", "east", "south", "west"}
    assert set(column(card, rows, "member")) == {"true", "false", None}
    ages = [int(text or "") for text in column(card, rows, "age")]
    assert [any(low <= age < high for age in ages) for low, high in ((0, 18), (18, 40), (40, 65))] == [True] * 3
    assert min(ages) >= 0
    assert max(ages) < 65


def test_a_few_thousand_units_have_some_rows_each() -> None:
    card = parse(clinic())
    groups = by_unit(card, list(rows_of(card, seed="a")), "region")
    assert LEAST_UNITS <= len(groups) <= MOST_UNITS
    assert {len(values) for values in groups} == {3}  # as many as keep two levels and a choice of further rows


def test_what_is_constant_in_a_unit_is_drawn_once() -> None:
    card = parse(clinic())
    groups = by_unit(card, list(rows_of(card, seed="a")), "region")
    assert all(len(set(values)) == 1 for values in groups)


def test_what_orders_rows_differs_within_a_unit() -> None:
    card = parse(clinic())
    groups = by_unit(card, list(rows_of(card, seed="a")), "day")
    assert all(len(set(values)) == len(values) for values in groups)


def test_every_unit_has_rows_of_every_level() -> None:
    card = parse(clinic())
    assert all({"1", "2"} <= set(values) for values in by_unit(card, list(rows_of(card, seed="a")), "ward"))


def test_what_is_added_up_over_rows_stays_within_the_bounds() -> None:
    card = parse(clinic())
    sums = [sum(float(text or 0) for text in unit) for unit in by_unit(card, list(rows_of(card, seed="a")), "spend")]
    assert -10.5 < min(sums) < 0
    assert 80 < max(sums) < 90.5


def test_values_lie_on_the_declared_grid() -> None:
    card = parse(spending())
    texts = [text for text in column(card, list(rows_of(card, seed="a")), "spend") if text is not None]
    assert all(len(text.partition(".")[2]) <= 2 and 0 <= float(text) <= 90 for text in texts)
    assert len(texts) < len(column(card, list(rows_of(card, seed="a")), "spend"))  # dp: some are missing


def test_no_card_makes_more_rows_than_the_limit() -> None:
    content = spending()
    content["dp"]["rows_per_unit"] = 1_000_000
    content["dimensions"][0]["cells"] = [f"r{i}" for i in range(5_000)]
    content["dimensions"] = [item for item in content["dimensions"] if item["name"] != "zone"]
    assert sum(1 for _ in rows_of(parse(content), seed="a")) <= MOST_ROWS


def test_core_data_has_no_rows_at_all() -> None:
    with pytest.raises(PublicationError) as refused:
        next(rows_of(replace(parse(clinic()), grade=Grade.CORE, measures=()), seed="a"))
    assert refused.value.rule == "sandbox.core"


def unit_is_a_dimension(content: dict[str, Any]) -> None:
    content["unit"]["column"] = "region"


def order_is_a_row_level_dimension(content: dict[str, Any]) -> None:
    content["dimensions"][3]["per_unit"] = {"first": "ward"}
    content["dimensions"][3]["column"] = "age"


def column_listed_twice(content: dict[str, Any]) -> None:
    content["dimensions"].append({"name": "half", "type": "text", "column": "region", "cells": ["north", "east"]})


def strange_texts(content: dict[str, Any]) -> None:
    content["dimensions"][0]["cells"] = ["a,b", 'q"uote', "tab;semi", "华东", " spaced ", "x'y"]
    content["dimensions"] = [item for item in content["dimensions"] if item["name"] != "zone"]


def widest_bounds(content: dict[str, Any]) -> None:
    content["measures"][0] |= {"lower": -(2**62) + 1, "upper": 2**62 - 1, "scale": 0}


def bins_below_nothing(content: dict[str, Any]) -> None:
    content["dimensions"][3]["bins"]["edges"] = [-5, 0, 1, 2**40]
    content["dimensions"][4]["groups"] = {"no": [-5], "yes": [0, 1]}


@pytest.mark.parametrize(
    "change",
    [
        lambda content: None,
        unit_is_a_dimension,
        order_is_a_row_level_dimension,
        column_listed_twice,
        strange_texts,
        widest_bounds,
        bins_below_nothing,
    ],
    ids=["plain", "unit is a dimension", "order is row level", "listed twice", "strange texts", "widest", "bins"],
)
def test_the_rows_of_a_dp_card_are_rows_that_it_would_publish(
    change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    content = spending()
    change(content)
    card = parse(content)
    assert open_snapshot(published(card, tmp_path), expected_digest=digest(tmp_path)).card.name == card.name


@pytest.mark.parametrize("name", ["clinic", "visits", "spending"])
def test_the_rows_of_known_cards_are_rows_that_they_would_publish(name: str, tmp_path: Path) -> None:
    card = parse(clinic()) if name == "clinic" else load_card(EXAMPLES / f"{name}.yaml")
    snapshot = open_snapshot(published(card, tmp_path), expected_digest=digest(tmp_path))
    assert snapshot.published == datetime(2000, 1, 1, tzinfo=UTC)
    assert any(snapshot.files)


def test_a_card_with_levels_that_must_not_be_missing_is_published(tmp_path: Path) -> None:
    content = clinic()
    content["measures"] = [
        {
            "name": "pain",
            "column": "pain",
            "mode": Mode.EXACT.value,
            "per_unit": "max",
            "lower": 0,
            "upper": 10,
            "per_level": {"column": "ward", "values": [1, 2, 3, 4]},
        }
    ]
    published(parse(content), tmp_path)


DIGESTS: dict[Path, str] = {}


def published(card: DatasetCard, directory: Path) -> Path:
    DIGESTS[directory] = build(card, directory)
    return directory / "snapshots" / card.name / "1"


def digest(directory: Path) -> str:
    return DIGESTS[directory]


def test_nothing_but_the_snapshot_is_left_on_disk(tmp_path: Path) -> None:
    build(parse(clinic()), tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["atoms.jsonl", "manifest.json"]


def test_equal_cards_make_equal_sandboxes(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    assert build(parse(clinic()), first) == build(parse(clinic()), second)
