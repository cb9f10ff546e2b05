# SPDX-License-Identifier: Apache-2.0
"""Attacks on exact answers by name. Each is run twice: against Weir, where it recovers nothing, and against Weir with
one defence taken out, where the same code recovers the secret. The second run shows that the first means something.

The prey is one person, alone in a cell, and what they spent on visits.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.cards import parse
from tests.support.exact import Bench, query, table
from weir.query import AllOf, AnyOf, Comparison, Function, Literal, Operator, Predicate
from weir_server.catalog.card import DatasetCard
from weir_server.publish import atoms as atoms_module
from weir_server.publish import carry as carry_module
from weir_server.publish import publisher as publisher_module
from weir_server.publish.members import load
from weir_server.publish.place import Place
from weir_server.publish.width import interval_width

TOWNS, JOBS = ("a", "b", "c", "d"), ("farmer", "smith", "priest")
PREY = ("d", "priest")
SECRET = 37
Cell = tuple[str, str]
Asked = tuple[int, int] | None


def card(*, width: int = 0, coarsening: bool = True) -> DatasetCard:
    """Towns and jobs; a small cell gives up first the job, then the town."""
    return parse(
        {
            "name": "jobs",
            "title": "Jobs",
            "description": "",
            "grade": "GENERAL",
            "personal_information": False,
            "responsible": "office",
            "provenance": "made for a test",
            "lineage": "jobs",
            "unit": {"name": "person", "column": "who"},
            "source": {"kind": "csv", "location": "jobs.csv"},
            "dimensions": [
                {"name": "town", "type": "text", "column": "town", "cells": list(TOWNS)},
                {"name": "job", "type": "text", "column": "job", "cells": list(JOBS)},
            ],
            "measures": [
                {"name": "visits", "column": "visits", "mode": "exact", "lower": 0, "upper": 100, "width": width}
            ],
            "exact": {"k": 10, "coarsening": [{"drop": "job"}, {"drop": "town"}] if coarsening else []},
        }
    )


def people(*, prey: bool = True) -> list[dict[str, Any]]:
    """Most cells are large; d has eleven smiths and the prey."""
    draw = random.Random(7)
    sizes = {(town, job): 15 for town in "abc" for job in JOBS} | {("d", "smith"): 11, ("d", "farmer"): 0, PREY: 0}
    rows = [
        {"who": f"{town}{job}{i}", "town": town, "job": job, "visits": draw.randint(0, 60)}
        for (town, job), size in sizes.items()
        for i in range(size)
    ]
    return [*rows, {"who": "prey", "town": PREY[0], "job": PREY[1], "visits": SECRET}] if prey else rows


@pytest.fixture(params=["weir", "without atoms of k"])
def arena(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Bench, bool]:
    """A published dataset, and whether the defence is there. Without it every person is an atom of their own, and only
    the threshold of `ask` is left: the classical defence."""
    defended = request.param == "weir"
    bench, made = Bench(tmp_path), card()
    if not defended:
        monkeypatch.setattr(publisher_module, "check_card", lambda _: [])
        made = replace(made, k=1)
    bench.publish(made, people())
    return bench, defended


def ask(bench: Bench, cells: set[Cell]) -> Asked:
    """Count and sum over a set of cells, or None: with a threshold of 10, as other systems have."""
    if not cells:
        return None
    answer = bench.ask(query(bench.snapshots[0].card, Function.COUNT, (Function.SUM, "visits"), where=where(cells)))
    found = table(answer)
    count, total = found["count"][0][0], found["sum(visits)"][0][0]
    if not count or int(count) < 10:
        return None
    return int(count), int(total)


def where(cells: set[Cell]) -> Predicate:
    """The predicate that selects these cells."""
    return AnyOf(
        tuple(
            AllOf(
                (
                    Comparison("town", Operator.EQUAL, Literal(town)),
                    Comparison("job", Operator.EQUAL, Literal(job)),
                )
            )
            for town, job in sorted(cells)
        )
    )


ALL = frozenset(product(TOWNS, JOBS))


def tracker(bench: Bench) -> Asked:
    """All, minus all but the prey's cell."""
    return combine([(1, ask(bench, set(ALL))), (-1, ask(bench, set(ALL - {PREY})))])


def differencing(bench: Bench) -> Asked:
    """The prey's town, minus the town without the prey's job."""
    town = {cell for cell in ALL if cell[0] == PREY[0]}
    return combine([(1, ask(bench, town)), (-1, ask(bench, town - {PREY}))])


def four_sets(bench: Bench) -> Asked:
    """Four sets, any two of which differ by far more than ten people."""
    a, b = {("a", "farmer"), ("a", "smith")}, {("b", "farmer"), ("b", "smith")}
    c, d = {("c", "farmer"), ("c", "smith")}, {("c", "priest"), ("b", "priest")}
    parts = [(1, {PREY} | a | b), (-1, a | c), (-1, b | d), (1, c | d)]
    return combine([(sign, ask(bench, cells)) for sign, cells in parts])


def complementary(bench: Bench) -> Asked:
    """The total, minus every cell of the table that has a value."""
    answer = bench.ask(
        query(bench.snapshots[0].card, Function.COUNT, (Function.SUM, "visits"), group_by=["job", "town"])
    )
    found = table(answer)
    counts = [int(n) for n, _ in found["count"] if n and int(n) >= 10]
    sums = [int(s) for (n, _), (s, _) in zip(found["count"], found["sum(visits)"], strict=True) if n and int(n) >= 10]
    total = ask(bench, set(ALL))
    return None if total is None else (total[0] - sum(counts), total[1] - sum(sums))


def reconstruction(bench: Bench) -> Asked:
    """Two hundred random subsets, then linear algebra: the prey's cell, where the answers determine it."""
    draw, rows, counts, sums = random.Random(3), [], [], []
    cells = sorted(ALL)
    for _ in range(200):
        chosen = {cell for cell in cells if draw.random() < 0.5}
        answer = ask(bench, chosen)
        # What was left out is public too, so an attacker uses only the answers that mean exactly what was asked.
        if answer is not None and complete(bench, chosen):
            rows.append([float(cell in chosen) for cell in cells])
            counts.append(answer[0])
            sums.append(answer[1])
    matrix = np.array(rows)
    indicator = np.array([float(cell == PREY) for cell in cells])
    weights, *_ = np.linalg.lstsq(matrix.T, indicator, rcond=None)
    if not np.allclose(matrix.T @ weights, indicator, atol=1e-8):
        return None  # the prey's cell is no combination of what was answered
    return round(float(weights @ np.array(counts))), round(float(weights @ np.array(sums)))


def complete(bench: Bench, cells: set[Cell]) -> bool:
    """Whether an answer leaves nothing out."""
    answer = bench.ask(query(bench.snapshots[0].card, Function.COUNT, where=where(cells)))
    return answer.coverage.left_out_total == "0"


def combine(parts: list[tuple[int, Asked]]) -> Asked:
    """Signed sum of answers; None where one was refused."""
    if any(answer is None for _, answer in parts):
        return None
    known = [(sign, answer) for sign, answer in parts if answer is not None]
    return sum(sign * answer[0] for sign, answer in known), sum(sign * answer[1] for sign, answer in known)


@pytest.mark.parametrize("attack", [tracker, differencing, four_sets, complementary, reconstruction])
def test_no_combination_of_answers_is_about_one_person(
    attack: Callable[[Bench], Asked], arena: tuple[Bench, bool]
) -> None:
    bench, defended = arena
    found = attack(bench)
    if defended:
        assert found is None or found[0] == 0 or abs(found[0]) >= 10, "about nobody, or about at least ten people"
        assert found is None or found[1] != SECRET
    else:
        assert found == (1, SECRET), "with a threshold alone, the attack works"


@pytest.mark.parametrize("coarsening", [False, True])
def test_presence_does_not_show_where_nobody_else_is(coarsening: bool, tmp_path: Path) -> None:
    """With or without the prey, every reply is the same: an empty cell and a cell of one answer alike."""
    replies = []
    for prey in (False, True):
        bench = Bench(tmp_path / str(prey))
        bench.directory.mkdir()
        rows = [row for row in people(prey=prey) if row["town"] != "d" or row["who"] == "prey"]
        bench.publish(card(coarsening=coarsening), rows)
        asked = [query(card(), Function.COUNT, group_by=["town", "job"]), query(card(), Function.COUNT)]
        asked += [query(card(), Function.COUNT, (Function.SUM, "visits"), where=where({PREY}))]
        replies.append([bench.ask(each).SerializeToString(deterministic=True) for each in asked])
    assert replies[0] == replies[1]


def dominated() -> list[dict[str, Any]]:
    """In a, nine farmers without visits and one with a hundred; elsewhere people like others."""
    rows = [row for row in people() if (row["town"], row["job"]) != ("a", "farmer")]
    return rows + [{"who": f"d{i}", "town": "a", "job": "farmer", "visits": 100 if i == 0 else 0} for i in range(10)]


@pytest.mark.parametrize("defended", [True, False])
def test_the_second_largest_learns_little_about_the_largest(
    defended: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not defended:
        monkeypatch.setattr(atoms_module, "wide_enough", lambda spread, measure: True)
    bench = Bench(tmp_path)
    bench.publish(card(width=30), dominated())
    found = table(bench.ask(query(card(), Function.COUNT, (Function.SUM, "visits"), where=where({("a", "farmer")}))))
    count, total = found["count"][0][0], found["sum(visits)"][0][0]
    if defended:
        assert (count, total) == ("", ""), "the cell was merged with others"
        for atom in bench.atoms():
            assert interval_width(lower=0, upper=100, members=atom.n, residual=atom.totals[0].sum) >= 30
    else:
        # One who has none knows that the other nine share 100, so their values lie in an interval of length 100;
        # the one who has 100 knows each of the others exactly.
        assert (count, total) == ("10", "100")
        assert interval_width(lower=0, upper=100, members=9, residual=int(total) - 100) == 0


def history(bench: Bench) -> list[tuple[int, int]]:
    """Count and sum of town d in each version: eleven join, then ten of them leave."""
    base = people(prey=False)
    joined = [{"who": f"new{i}", "town": "d", "job": "smith", "visits": SECRET if i == 0 else 5} for i in range(11)]
    for rows in (base, base + joined, base + joined[:1]):
        bench.publish(card(), rows)
    results = []
    for version in (1, 2, 3):
        found = table(
            bench.ask(
                query(card(), Function.COUNT, (Function.SUM, "visits"), where=where({("d", "smith")}), snapshot=version)
            )
        )
        results.append((int(found["count"][0][0]), int(found["sum(visits)"][0][0])))
    return results


def forgetful(made: DatasetCard, *, place: Place, path: Path) -> None:
    """Mutant: the publisher remembers the last step only."""
    load(made, place=place, path=path)
    place.local.run("UPDATE members SET history = ''")
    place.local.run("DELETE FROM members WHERE NOT present")


@pytest.mark.parametrize("mutant", [None, "forgets earlier steps", "has no rule"])
def test_subtracting_versions_gives_nobody_away(
    mutant: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mutant == "forgets earlier steps":
        monkeypatch.setattr(publisher_module, "load", forgetful)
    if mutant == "has no rule":
        judge = carry_module.judge
        monkeypatch.setattr(carry_module, "judge", lambda *given, **named: (judge(*given, **named)[0], set()))
    found = history(Bench(tmp_path))
    difference = found[2][0] - found[0][0], found[2][1] - found[0][1]
    if mutant is None:
        assert difference[0] == 0 or difference[0] >= 10
        assert difference[1] != SECRET
    else:
        assert difference == (1, SECRET)
