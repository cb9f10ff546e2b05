# SPDX-License-Identifier: Apache-2.0
"""Units that move between atoms: what differences of several atoms over several versions give away."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.test_exact_versions import Values, named, people, rows, town_card
from tests.support.exact import Bench
from weir.query import Function
from weir_server.catalog.card import DatasetCard
from weir_server.exact.records import Atom
from weir_server.publish import carry as carry_module


def sums(bench: Bench, version: int) -> dict[str, tuple[int, int]]:
    """Count and sum of each town's own atom, as a version answers."""
    return {"abc"[atom.code]: (atom.n, atom.totals[0].sum) for atom in bench.atoms(version) if atom.level == 0}


def publish_all(bench: Bench, card: DatasetCard, *worlds: Values) -> list[int]:
    """Publishes one version each; gives what each held back."""
    return [bench.publish(card, rows(world)).report.held_back for world in worlds]


@pytest.mark.parametrize("secret", [3, 97])
def test_nine_who_move_together_do_not_single_out_the_tenth_who_leaves(secret: int, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    stay, there, movers = people("a", named("s", 20)), people("b", named("q", 20)), named("m", 9)
    first = stay | there | people("a", movers) | {"x": ("a", secret)}
    held = publish_all(bench, town_card(), first, stay | there | people("b", [*movers, "known"]))
    old, new = sums(bench, 1), sums(bench, 2)
    assert (old["a"][0] - new["a"][0], new["b"][0] - old["b"][0]) == (10, 0), "a shows ten gone, and b not who came"
    assert held == [0, 1]


def test_one_who_stays_is_not_what_is_left_of_a_cell_that_moved_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    movers = named("m", 9)
    first = people("a", movers) | {"x": ("a", 42)} | people("b", ["known"])
    held = publish_all(bench, town_card(), first, {"x": ("a", 42)} | people("b", [*movers, "known"]))
    assert set(sums(bench, 2)) == {"a"}, "an atom of b would be a without x, and somebody known"
    assert held == [0, 3], "the record of a, the cell of b, and what it would climb to"


def test_ten_of_eleven_who_move_leave_no_one_behind_alone(tmp_path: Path) -> None:
    """The atom they move to sees ten join, and the one they leave is as it was: their difference would be the last."""
    bench = Bench(tmp_path)
    first = people("a", named("m", 10)) | {"x": ("a", 42)} | people("b", named("q", 20))
    publish_all(bench, town_card(), first, people("b", [*named("q", 20), *named("m", 10)]) | {"x": ("a", 42)})
    assert sums(bench, 2) == sums(bench, 1)


def test_ten_who_move_and_ten_who_stay_show_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    stay, there, movers = people("a", named("s", 10)), people("b", named("q", 20)), named("m", 10)
    held = publish_all(bench, town_card(), stay | there | people("a", movers), stay | there | people("b", movers))
    assert held == [0, 0]
    assert {town: n for town, (n, _) in sums(bench, 2).items()} == {"a": 10, "b": 30}


def test_a_few_who_move_and_many_who_leave_keep_only_the_record_that_they_join(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    stay, there = people("a", named("s", 30)), people("b", named("q", 20))
    first = stay | there | people("a", [*named("m", 3), *named("g", 20)])
    assert publish_all(bench, town_card(), first, stay | there | people("b", named("m", 3))) == [0, 1]
    assert {town: n for town, (n, _) in sums(bench, 2).items()} == {"a": 30, "b": 20}


def test_one_who_changes_on_the_way_is_not_told_from_nine_who_do_not(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    stay, there, movers = people("a", named("s", 20)), people("b", named("q", 20)), named("m", 10)
    moved = people("b", movers[1:]) | {movers[0]: ("b", 50)}
    publish_all(bench, town_card(), stay | there | people("a", movers), stay | there | moved)
    old, new = sums(bench, 1), sums(bench, 2)
    assert new["a"] != old["a"], "ten have left"
    assert new["b"] == old["b"], "what b gains and a loses would differ by one person's change"


@pytest.mark.parametrize("then", [{"p": 100}, {"p": 100, "wide": True}], ids=["joined as they are", "changed later"])
def test_a_width_holds_for_every_class_that_versions_tell_apart(then: dict[str, Any], tmp_path: Path) -> None:
    """Those who joined before and are still there are what the first version lacks of the third."""
    bench = Bench(tmp_path)
    card = town_card(width=20)
    card = replace(card, measures=(replace(card.measures[0], statistics=frozenset({Function.SUM, Function.AVG})),))
    first = {f"a{i}": ("a", 20 + 6 * i) for i in range(10)}
    at_most = people("a", named("p", 10), value=100)
    with_others = {f"q{i}": ("a", 40 + i) for i in range(10)}
    second = first | ({f"p{i}": ("a", 30 + 6 * i) for i in range(10)} if "wide" in then else at_most | with_others)
    publish_all(bench, card, first, second, first | at_most)
    shown = [sums(bench, version)["a"] for version in (1, 2, 3)]
    assert shown[2] == shown[1], "else ten would have a sum of 1,000, and each of them 100"


def test_of_two_measures_ten_changes_are_ten_of_one(tmp_path: Path) -> None:
    bench, card = Bench(tmp_path), _with_two_measures()
    first = {f"s{i}": ("a", 5, 5) for i in range(30)}
    then = first | {f"s{i}": ("a", 6, 5) for i in range(9)} | {"s9": ("a", 5, 50)}
    for world in (first, then):
        listed = [{"who": who, "town": town, "v0": v0, "v1": v1} for who, (town, v0, v1) in world.items()]
        held = bench.publish(card, listed).report.held_back
    assert (held, sums(bench, 2)) == (1, sums(bench, 1)), "the second measure's sum would differ by one person's change"


def _with_two_measures() -> DatasetCard:
    card = town_card()
    return replace(card, measures=tuple(replace(card.measures[0], name=name, column=name) for name in ("v0", "v1")))


def test_a_new_atom_is_as_wide_in_those_who_changed_on_the_way(tmp_path: Path) -> None:
    bench, card = Bench(tmp_path), town_card(width=20)
    card = replace(card, measures=(replace(card.measures[0], statistics=frozenset({Function.SUM, Function.AVG})),))
    stay, kept = {f"s{i}": ("a", 5 * i) for i in range(20)}, {f"u{i}": ("a", 10 * i) for i in range(10)}
    moved = {who: ("b", value) for who, (_, value) in kept.items()} | people("b", named("c", 10), value=100)
    publish_all(bench, card, stay | kept | people("a", named("c", 10), value=0), stay | moved)
    assert "b" not in sums(bench, 2), "less what a lost, ten would have changed by 1,000: from 0 to 100, each of them"


def test_units_that_joined_an_atom_which_kept_its_record_are_not_held_against_its_width(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    stay, leave, there = (
        {f"{x}{i}": (town, 5 * i) for i in range(20)} for x, town in (("s", "a"), ("l", "a"), ("q", "b"))
    )
    few = {f"l{i}": ("b", 5 * i) for i in range(5)}
    joined = {f"n{i}": ("a", 10 * i) for i in range(10)}
    publish_all(bench, town_card(width=20), stay | leave | there, stay | there, stay | joined | few | there)
    assert [sums(bench, version)["b"][0] for version in (1, 2, 3)] == [20, 20, 20]
    assert sums(bench, 3)["a"][0] == 30


def test_versions_of_a_laxer_time_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier publishers judged atom by atom: there may be a unit that shares its trace with nobody."""
    bench = Bench(tmp_path)
    stay, there, movers = people("a", named("s", 20)), people("b", named("q", 20)), named("m", 9)
    second = stay | there | people("b", [*movers, "known"])
    with monkeypatch.context() as lax:
        judge = carry_module.judge
        lax.setattr(carry_module, "judge", lambda *given, **named: (judge(*given, **named)[0], set()))
        publish_all(bench, town_card(), stay | there | people("a", movers) | {"x": ("a", 97)}, second)
    assert sums(bench, 2)["b"][0] == 30, "else this tests nothing"
    publish_all(bench, town_card(), second | people("a", named("n", 10)))
    assert sums(bench, 3)["a"][0] == 30


# ── any run of versions ───────────────────────────────────────────────────────────────────────────────────────────


def _traces(worlds: Sequence[Values], records: Sequence[Sequence[Atom]]) -> dict[tuple[Any, ...], int]:
    """How many units share all that any record of any version shows of them: by the definition, without the
    publisher's histories. None where a unit is not behind a record; else whether its value is that of before."""
    shown = sorted({(atom.key, atom.as_of) for atoms in records for atom in atoms})
    own = {(version, atom.code) for version, atoms in enumerate(records, 1) for atom in atoms if atom.level == 0}
    found: dict[tuple[Any, ...], int] = defaultdict(int)
    for who in sorted({who for world in worlds for who in world}):
        trace, before = [], {}
        for key, version in shown:
            entry = worlds[version - 1].get(who)
            town = None if entry is None else "abc".index(entry[0])
            _, level, code = key
            inside = town is not None and ((version, town) not in own if level else town == code)
            value = entry[1] if entry is not None and inside else None
            trace.append(None if value is None else before.get(key) in (None, value))
            before[key] = value
        if any(step is not None for step in trace):
            found[tuple(trace)] += 1
    return found


def _next_world(world: Values, draw: random.Random, step: int) -> Values:
    world = dict(world)
    for turn in range(draw.choice([1, 1, 2])):
        size, home = draw.choice([3, 10, 11, 12, 20]), draw.choice("abc")
        living = sorted(who for who, (town, _) in world.items() if town == home)
        group = draw.sample(living, min(size, len(living)))
        match draw.choice(["leave", "change", "join", "move", "move", "move apart"]):
            case "leave":
                world = {who: entry for who, entry in world.items() if who not in group}
            case "change":
                world |= {who: (world[who][0], world[who][1] + 1) for who in group}
            case "join":
                world |= people(home, named(f"n{step}{turn}-", size))
            case "move":
                goal = draw.choice("abc")
                world |= {who: (goal, world[who][1]) for who in group}
            case _:
                world |= {who: (draw.choice("abc"), world[who][1]) for who in group}
    return world


@pytest.mark.slow
def test_over_any_run_of_versions_and_moves_everyone_shares_a_trace_with_nine_others(tmp_path: Path) -> None:
    versions_that_showed = 0
    for seed in range(16):
        draw = random.Random(seed)
        towns = (
            people("a", named("p", 60)) | people("b", named("q", 45)) | people("c", named("r", draw.choice([6, 30])))
        )
        directory = tmp_path / str(seed)
        directory.mkdir()
        worlds, bench = [towns], Bench(directory)
        for step in range(4):
            worlds.append(_next_world(worlds[-1], draw, step))
        for world in worlds:
            bench.publish(town_card(), rows(world))
        records = [bench.atoms(version) for version in range(1, 6)]
        found = _traces(worlds, records)
        assert min(found.values()) >= 10, (seed, found)
        versions_that_showed += sum(new != old for old, new in pairwise(records))
    assert versions_that_showed >= 20, "where hardly anything is shown, nothing was tested"
