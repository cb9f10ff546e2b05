# SPDX-License-Identifier: Apache-2.0
"""Publication of bounded rows: what is kept of a unit is its own affair, and all is settled before it is stored."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import dp as support
from weir.errors import PublicationError
from weir_server.catalog.card import DatasetCard
from weir_server.dp.layout import FILE
from weir_server.engine.duckdb import Engine, open_engine
from weir_server.publish.bounded import write_bounded

PEOPLE: list[support.Row] = [
    (f"p{person}", support.REGIONS[person % 3], str(1 + row % 4), f"{person}.{row}0", str(row % 10))
    for person in range(20)
    for row in range(9)
]
SALT = bytes(range(32))


def stored(
    tmp_path: Path, name: str, rows: list[support.Row], dataset: DatasetCard, salt: bytes = SALT
) -> Counter[object]:
    """The stored rows without unit numbers, as a multiset."""
    folder = tmp_path / name
    folder.mkdir()
    support.publish(dataset, rows, folder, salt=salt)
    with open_engine(folder / FILE) as engine:
        return Counter(engine.query("SELECT * EXCLUDE (u) FROM rows"))


def test_rows_ranks_and_cubes_are_those_of_earlier_versions(tmp_path: Path) -> None:
    # Made by the version before the language: what a unit keeps must not change from one of ours to the next.
    draw, rows = random.Random(7), []
    for unit in range(300):
        region = draw.choice(support.REGIONS)
        for _ in range(draw.randint(1, 9)):
            year = draw.choice((1, 2, 3, 4, None))
            spend = draw.choice((None, "1", "2", "-9.99", "19.995", "7.25", "1e1"))
            rows.append((f"p{unit}", region, year, spend, draw.choice((None, "0", "3", "12"))))
    dataset = support.card(rows_per_unit=4, groups_per_unit={"year": 2})
    halves = tuple(replace(measure, rounding="half_even") for measure in dataset.measures)
    support.publish(replace(dataset, measures=halves), rows, tmp_path, salt=SALT)
    with open_engine(tmp_path / FILE) as engine:
        assert {table: named(engine, table) for table in EARLIER} == EARLIER


EARLIER = {
    "rows": "40d98abdbdc4629c",
    "cube": "ae9c1c419d0b4544",
    "units": "72254f290006534c",
    "cube_spend": "cfae1e0bc9a05b02",
}


def named(engine: Engine, table: str) -> str:
    columns = ", ".join(sorted(str(row[0]) for row in engine.query(f"DESCRIBE {table}")))
    rows = sorted(map(repr, engine.query(f"SELECT {columns} FROM {table}")))
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def test_at_most_the_bounded_rows_of_each_unit_are_kept(tmp_path: Path) -> None:
    support.publish(support.card(rows_per_unit=4), PEOPLE, tmp_path)
    with open_engine(tmp_path / FILE) as engine:
        assert engine.query("SELECT DISTINCT n FROM (SELECT count(*) AS n FROM rows GROUP BY u)") == [(4,)]
        assert engine.query("SELECT DISTINCT r FROM rows ORDER BY r") == [(0,), (1,), (2,), (3,)]


def test_what_is_kept_of_a_unit_does_not_depend_on_others_or_on_order(tmp_path: Path) -> None:
    dataset = support.card(rows_per_unit=3, groups_per_unit={"year": 2})
    one = [row for row in PEOPLE if row[0] == "p7"]
    alone = stored(tmp_path, "alone", one, dataset)
    crowd = stored(tmp_path, "crowd", PEOPLE, dataset)
    others = stored(tmp_path, "others", [row for row in reversed(PEOPLE) if row[0] != "p7"], dataset)
    assert crowd - others == alone
    assert others - crowd == Counter()


def test_another_salt_keeps_other_rows(tmp_path: Path) -> None:
    dataset = support.card(rows_per_unit=3)
    assert stored(tmp_path, "a", PEOPLE, dataset) != stored(tmp_path, "b", PEOPLE, dataset, salt=bytes(32))


def test_every_row_of_a_unit_is_equally_likely_to_be_kept(tmp_path: Path) -> None:
    # 900 units keep 3 of 9 rows each; a row position expects 300 with deviation 14, so 6 sigma is 85 (1e-8 over all).
    rows: list[support.Row] = [(f"q{i}", "north", "1", str(row), "0") for i in range(900) for row in range(9)]
    kept = stored(tmp_path, "even", rows, support.card(rows_per_unit=3, measures=(support.spend_measure(),)))
    by_value = Counter[object]()
    for row, times in kept.items():
        by_value[row[2]] += times  # type: ignore[index]
    assert sum(by_value.values()) == 2700
    assert all(abs(times - 300) < 85 for times in by_value.values())


def test_equal_rows_of_a_unit_are_drawn_one_by_one(tmp_path: Path) -> None:
    # Six equal rows and three others, three kept: were equal rows drawn together, mixtures would not occur.
    rows: list[support.Row] = []
    for unit in range(200):
        rows += [(f"e{unit}", "north", "1", "1", "1")] * 6
        rows += [(f"e{unit}", "north", "1", str(value), "1") for value in (2, 3, 4)]
    support.publish(support.card(rows_per_unit=3), rows, tmp_path)
    with open_engine(tmp_path / FILE) as engine:
        mixed = "SELECT count(*) FROM (SELECT u FROM rows GROUP BY u HAVING count(*) FILTER (WHERE v_spend = 100) = 2)"
        # Two equal and one other: 45 of 84 draws; 200 units expect 107, deviation 7.
        assert 65 < engine.one(mixed) < 150


def test_groups_are_ranked_within_the_unit_without_gaps_or_ties(tmp_path: Path) -> None:
    support.publish(support.card(rows_per_unit=9, groups_per_unit={"year": 2}), PEOPLE, tmp_path)
    with open_engine(tmp_path / FILE) as engine:
        ranks = engine.query("SELECT u, list(DISTINCT g_year), count(DISTINCT d_year) FROM rows GROUP BY u")
        assert all(sorted(found) == list(range(cells)) for _, found, cells in ranks)


def test_neither_unit_ids_nor_the_salt_are_stored(tmp_path: Path) -> None:
    rows: list[support.Row] = [("canary-unit-4711", "north", "1", "1", "1")]
    support.publish(support.card(), rows, tmp_path, salt=SALT)
    content = (tmp_path / FILE).read_bytes()
    assert b"canary-unit" not in content
    assert SALT not in content
    assert SALT.hex().encode() not in content


def test_a_row_without_a_unit_is_refused(tmp_path: Path) -> None:
    with (
        support.source([(None, "north", "1", "1", "1")], tmp_path) as engine,
        pytest.raises(PublicationError) as refused,
    ):  # type: ignore[list-item]
        write_bounded(support.card(), engine=engine, rows_relation="source_rows", directory=tmp_path, salt=SALT)
    assert refused.value.rule == "unit.missing"


def test_an_undeclared_cell_is_refused_by_dimension_and_count_alone(tmp_path: Path) -> None:
    rows: list[support.Row] = [("a", "atlantis", "1", "1", "1"), ("b", "north", "77", "1", "1")]
    with support.source(rows, tmp_path) as engine, pytest.raises(PublicationError) as refused:
        write_bounded(support.card(), engine=engine, rows_relation="source_rows", directory=tmp_path, salt=SALT)
    assert {(v.subject, v.count) for v in refused.value.violations} == {("region", 1), ("year", 1)}
    assert "atlantis" not in str(refused.value)


def test_a_short_salt_is_refused(tmp_path: Path) -> None:
    with support.source([], tmp_path) as engine, pytest.raises(ValueError, match="16 bytes"):
        write_bounded(support.card(), engine=engine, rows_relation="source_rows", directory=tmp_path, salt=b"short")


def test_an_empty_source_makes_an_empty_store(tmp_path: Path) -> None:
    support.publish(support.card(), [], tmp_path)
    with open_engine(tmp_path / FILE) as engine:
        assert [engine.one(f"SELECT count(*) FROM {table}") for table in ("rows", "cube", "units")] == [0, 0, 0]


def test_the_report_says_with_noise_how_much_each_bound_drops(tmp_path: Path) -> None:
    rows: list[support.Row] = [("a", "north", str(1 + i % 4), "99", "1") for i in range(9)]
    rows += [("b", "north", "1", "1", None)] * 4 + [("c", "west", None, None, "77")]
    dataset = support.card(rows_per_unit=2, groups_per_unit={"year": 3})
    with support.source(rows, tmp_path) as engine:
        report = write_bounded(
            dataset,
            engine=engine,
            rows_relation="source_rows",
            directory=tmp_path,
            salt=SALT,
            report_epsilon_nano=900 * 10**9,  # noise is 0 but with a probability below 1e-15
        )
    found = {effect.subject: effect.count for effect in report.effects}
    assert found == {"units": 3, "rows_per_unit": 2, "rows_dropped": 4, "year": 1, "spend": 1, "visits": 1}
    assert report.epsilon_nano == 900 * 10**9


def test_without_a_loss_the_report_says_nothing(tmp_path: Path) -> None:
    with support.source(PEOPLE, tmp_path) as engine:
        report = write_bounded(
            support.card(), engine=engine, rows_relation="source_rows", directory=tmp_path, salt=SALT
        )
    assert (report.effects, report.epsilon_nano) == ((), 0)
