# SPDX-License-Identifier: Apache-2.0
"""Version differencing: what subtracting the answers of two or more versions of a dataset gives away."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.cards import parse
from tests.support.exact import Bench, query, table
from weir.errors import PublicationError
from weir.query import Function
from weir_server.catalog.card import DatasetCard
from weir_server.exact.records import Atom

Values = dict[str, tuple[str, int]]
"""Unit to town and value."""


def town_card(*, width: int = 0) -> DatasetCard:
    """Towns, and one measure with every statistic."""
    measure: dict[str, Any] = {
        "name": "visits",
        "column": "visits",
        "mode": "exact",
        "lower": 0,
        "upper": 100,
        "width": width,
        "statistics": ["sum", "avg", "variance"],
    }
    return parse(
        {
            "name": "towns",
            "title": "Towns",
            "description": "",
            "grade": "GENERAL",
            "personal_information": False,
            "responsible": "office",
            "provenance": "made for a test",
            "lineage": "towns",
            "unit": {"name": "person", "column": "who"},
            "source": {"kind": "csv", "location": "towns.csv"},
            "dimensions": [{"name": "town", "type": "text", "column": "town", "cells": ["a", "b", "c"]}],
            "measures": [measure],
            "exact": {"k": 10, "coarsening": [{"drop": "town"}]},
        }
    )


def rows(values: Values) -> list[dict[str, Any]]:
    """One row a unit."""
    return [{"who": who, "town": town, "visits": value} for who, (town, value) in values.items()]


def people(town: str, names: Sequence[str], value: int = 5) -> Values:
    """People of one town."""
    return dict.fromkeys(names, (town, value))


def named(prefix: str, count: int) -> list[str]:
    """Names."""
    return [f"{prefix}{i}" for i in range(count)]


def count_and_sum(bench: Bench, version: int) -> tuple[str, str]:
    """What everybody can ask of town a in one version."""
    answer = bench.ask(
        query(bench.snapshots[0].card, Function.COUNT, (Function.SUM, "visits"), group_by=["town"], snapshot=version)
    )
    found = table(answer)
    return found["count"][0][0], found["sum(visits)"][0][0]


@pytest.mark.parametrize(
    ("then", "shown"),
    [
        pytest.param(people("a", named("n", 1)), False, id="one joined"),
        pytest.param(people("a", named("n", 9)), False, id="nine joined"),
        pytest.param(people("a", named("n", 10)), True, id="ten joined"),
    ],
)
def test_people_who_join_show_only_together(then: Values, shown: bool, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = people("a", named("p", 30))
    bench.publish(town_card(), rows(first))
    report = bench.publish(town_card(), rows(first | then)).report
    assert (count_and_sum(bench, 2) != count_and_sum(bench, 1)) is shown
    assert report.held_back == (0 if shown else 1)


@pytest.mark.parametrize(("changed", "shown"), [(1, False), (9, False), (10, True), (21, False), (30, True)])
def test_a_correction_shows_only_when_ten_changed_and_ten_or_none_stayed(
    changed: int, shown: bool, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)
    first = people("a", named("p", 30))
    bench.publish(town_card(), rows(first))
    bench.publish(town_card(), rows(first | people("a", named("p", changed), value=6)))
    assert (count_and_sum(bench, 2) != count_and_sum(bench, 1)) is shown


def test_ten_leaving_while_one_joins_stays_hidden(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.publish(town_card(), rows(people("a", named("p", 30))))
    bench.publish(town_card(), rows(people("a", named("p", 20)) | people("a", ["new"], value=77)))
    assert count_and_sum(bench, 2) == count_and_sum(bench, 1)


def test_eleven_join_and_ten_leave_again_does_not_isolate_the_eleventh(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    old, new = people("a", named("p", 30)), people("a", named("n", 11), value=9)
    bench.publish(town_card(), rows(old))
    bench.publish(town_card(), rows(old | new))
    bench.publish(town_card(), rows(old | people("a", ["n0"], value=9)))
    assert count_and_sum(bench, 1) == ("30", "150")
    assert count_and_sum(bench, 2) == ("41", "249")
    assert count_and_sum(bench, 3) == ("41", "249"), "each step alone has classes of ten; both together do not"


def test_what_was_held_back_shows_when_enough_has_changed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    old = people("a", named("p", 30))
    bench.publish(town_card(), rows(old))
    bench.publish(town_card(), rows(old | people("a", named("n", 6))))
    bench.publish(town_card(), rows(old | people("a", named("n", 12))))
    assert [count_and_sum(bench, version)[0] for version in (1, 2, 3)] == ["30", "30", "42"]


def test_moving_between_towns_is_leaving_one_and_joining_the_other(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = people("a", named("p", 30)) | people("b", named("q", 30))
    bench.publish(town_card(), rows(first))
    bench.publish(town_card(), rows(first | people("b", ["p0"])))
    assert [atom.n for atom in bench.atoms(2)] == [30, 30]


def test_the_partition_is_inherited_so_that_no_finer_one_can_be_subtracted(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = people("a", named("p", 30)) | people("b", named("q", 5)) | people("c", named("r", 5))
    bench.publish(town_card(), rows(first))
    assert [(atom.level, atom.n) for atom in bench.atoms(1)] == [(0, 30), (1, 10)]
    bench.publish(town_card(), rows(first | people("b", named("s", 40))))
    assert [(atom.level, atom.n) for atom in bench.atoms(2)] == [(0, 30), (1, 50)]


def test_a_class_whose_sum_would_be_one_persons_is_held_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    card = town_card(width=20)
    first = people("a", named("p", 15), value=20) | people("a", named("q", 15), value=80)
    bench.publish(card, rows(first))
    joined = people("a", named("n", 14), value=0) | people("a", ["rich"], value=100)
    report = bench.publish(card, rows(first | joined)).report
    assert (report.atoms, report.held_back) == (1, 1)
    assert count_and_sum(bench, 2) == count_and_sum(bench, 1)


def test_cells_without_an_atom_may_form_one_later(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.publish(town_card(), rows(people("a", named("p", 5))))
    assert bench.atoms(1) == []
    bench.publish(town_card(), rows(people("a", named("p", 12))))
    assert [(atom.born, atom.n) for atom in bench.atoms(2)] == [(2, 12)]


@pytest.mark.parametrize("key", ["k", "coarsening", "measures", "dimensions"])
def test_a_version_may_not_change_the_exact_part_of_its_card(key: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    data = rows(people("a", named("p", 30)))
    card = town_card()
    bench.publish(card, data)
    changes: dict[str, Any] = {
        "k": 11,
        "coarsening": (),
        "measures": (replace(card.measures[0], upper=101),),
        "dimensions": (replace(card.dimensions[0], cells=card.dimensions[0].cells[:2]),),
    }
    with pytest.raises(PublicationError) as refused:
        bench.publish(replace(card, **{key: changes[key]}), data)
    assert [item.subject for item in refused.value.violations] == [key]


def test_without_the_private_record_no_further_version_is_made(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    data = rows(people("a", named("p", 30)))
    bench.publish(town_card(), data)
    for path in (tmp_path / "data" / "private" / "towns").iterdir():
        path.unlink()
    with pytest.raises(PublicationError) as refused:
        bench.publish(town_card(), data)
    assert refused.value.rule == "snapshot.members"


def histories(
    worlds: list[Values], records: list[list[Atom]]
) -> dict[tuple[int, int, int], dict[str, tuple[Any, ...]]]:
    """For each atom, each unit's values behind the atom's distinct records: written from the definition."""
    found: dict[tuple[int, int, int], dict[str, tuple[Any, ...]]] = defaultdict(dict)
    keys = {atom.key for atoms in records for atom in atoms}
    for key in keys:
        shown = sorted({atom.as_of for atoms in records for atom in atoms if atom.key == key})
        for who in {who for world in worlds for who in world}:
            found[key][who] = tuple(_value_in(worlds[version - 1].get(who), key) for version in shown)
    return found


def _value_in(entry: tuple[str, int] | None, key: tuple[int, int, int]) -> int | None:
    if entry is None:
        return None
    _, level, code = key
    inside = level == 1 or entry[0] == "abc"[code]
    return entry[1] if inside else None


@pytest.mark.parametrize("seed", range(3))
def test_over_any_run_of_versions_everyone_shares_a_history_with_nine_others(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    world: Values = people("a", named("p", 60)) | people("b", named("q", 45)) | people("c", named("r", 12))
    worlds, bench = [], Bench(tmp_path)
    for step in range(5):
        worlds.append(dict(world))
        bench.publish(town_card(), rows(world))
        group = draw.sample(sorted(world), draw.choice([0, 3, 12, 25]))
        match draw.choice(["leave", "change", "join", "mixed"]):
            case "leave":
                world = {who: entry for who, entry in world.items() if who not in group}
            case "change":
                world |= {who: (world[who][0], world[who][1] + 1) for who in group}
            case "join":
                world |= people(draw.choice("abc"), named(f"n{step}-", draw.choice([4, 11, 30])))
            case _:
                world = {who: entry for who, entry in world.items() if who not in group[:12]}
                world |= people("a", named(f"m{step}-", draw.choice([9, 10, 20])))
    records = [bench.atoms(version) for version in range(1, 6)]
    level_1 = {atom.key for atoms in records for atom in atoms if atom.level == 1}
    assert not level_1, "towns are large enough to be atoms of their own, so that the oracle needs no climb"
    for key, units in histories(worlds, records).items():
        classes: dict[tuple[str, ...], int] = defaultdict(int)
        for values in units.values():
            if any(value is not None for value in values):
                classes[_pattern(values)] += 1
        assert all(size >= 10 for size in classes.values()), (key, dict(classes))


def _pattern(values: tuple[int | None, ...]) -> tuple[str, ...]:
    steps = []
    for before, now in zip((None, *values), values, strict=False):
        steps.append("out" if now is None else "new" if before is None else "same" if before == now else "changed")
    return tuple(steps)
