# SPDX-License-Identifier: Apache-2.0
"""Swap invariance: exchanging the records of units of one atom leaves every transcript of every coalition unchanged.

A transcript is everything a requester sees: the answer's bytes, the analysis it is priced by, or the refusal's class,
text, field and rule. Several requesters choose queries from what all of them saw before.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.properties.test_exact_oracle import random_query, random_units
from tests.support.cards import clinic, parse
from tests.support.exact import Bench, OracleAtom, clinic_rows, oracle_atoms, records, submission
from weir.errors import WeirError
from weir.query import Aggregate, Comparison, Function, Literal, Operator, Query, canonicalise
from weir_server.catalog.card import DatasetCard
from weir_server.catalog.catalogue import Catalogue
from weir_server.plan.bind import bind

Unit = tuple[str, dict[str, Any], list[dict[str, Any]]]


def permute(draw: random.Random, card: DatasetCard, units: Sequence[Unit], atoms: Sequence[OracleAtom]) -> list[Unit]:
    """The same people in the same cells, their records exchanged at random within each atom.

    Age is read from the first row, so it stays with the person while all else moves.
    """
    position = {unit[0]: i for i, unit in enumerate(units)}
    moved = list(units)
    for atom in atoms:
        places = [position[member.unit] for member in atom.members]
        for place, source in zip(places, draw.sample(places, len(places)), strict=True):
            own = [dict(row) for row in units[source][2]]
            own[0]["age"] = units[place][2][0]["age"]
            moved[place] = (units[place][0], units[place][1], own)
    return moved


def next_query(draw: random.Random, card: DatasetCard, seen: list[bytes]) -> Query:
    """A query that depends on everything seen so far: right, or wrong in one of several ways."""
    adaptive = random.Random(f"{draw.random()}{b''.join(seen[-3:]).hex()}")
    asked = random_query(adaptive, card)
    kind = adaptive.random()
    if kind < 0.1:
        return canonicalise(replace(asked, where=Comparison("spend", Operator.GREATER, Literal(5))))
    if kind < 0.15:
        return canonicalise(replace(asked, group_by=("nowhere",)))
    if kind < 0.2:
        return canonicalise(replace(asked, aggregates=(Aggregate(Function.QUANTILE, "spend", 500_000),)))
    if kind < 0.25:
        return canonicalise(replace(asked, where=Comparison("age", Operator.LESS_OR_EQUAL, Literal(7))))
    return asked


def transcript(bench: Bench, card: DatasetCard, *, seed: int, queries: int) -> list[bytes]:
    """What three colluding requesters see."""
    draw, seen = random.Random(seed), list[bytes]()
    catalogue = Catalogue().with_snapshot(bench.snapshots[-1])
    for turn in range(queries):
        asked = next_query(draw, card, seen)
        try:
            bound = bind(submission(asked, name=("alice", "bob", "carol")[turn % 3]), catalogue)
            analysis = bench.technique.analyse(bound)
            answer = bench.technique.release(bound, analysis, bench.technique.execute(bound, analysis))
            public = [
                repr(analysis.mechanism),
                repr(analysis.work),
                repr(analysis.magnitudes),
                *(column.SerializeToString(deterministic=True).hex() for column in analysis.columns),
            ]
            seen.append(answer.SerializeToString(deterministic=True) + repr(public).encode())
        except WeirError as error:
            seen.append(repr((type(error).__name__, error.message, error.field, error.rule, error.metadata)).encode())
    return seen


def two_worlds(seed: int, directory: Path) -> tuple[DatasetCard, Bench, Bench]:
    """A dataset, and the same with records exchanged within atoms; both published."""
    draw = random.Random(seed)
    content = clinic()
    # A width would make the partition depend on the records; the theorem speaks of a given partition.
    card = parse(content)
    units = random_units(draw, 400)
    rows = list(clinic_rows(units))
    atoms = oracle_atoms(card, records(card, rows))
    swapped = list(clinic_rows(permute(draw, card, units, atoms)))
    assert swapped != rows
    first, second = Bench(directory / "first", entropy=bytes), Bench(directory / "second", entropy=bytes)
    for bench, data in ((first, rows), (second, swapped)):
        bench.directory.mkdir()
        bench.publish(card, data)
    return card, first, second


@pytest.mark.parametrize("seed", range(4))
def test_no_transcript_tells_two_exchanged_records_apart(seed: int, tmp_path: Path) -> None:
    card, first, second = two_worlds(seed, tmp_path)
    ours = transcript(first, card, seed=seed, queries=150)
    assert ours == transcript(second, card, seed=seed, queries=150)
    assert len(set(ours)) > 40, "the transcripts say something"


def test_not_even_the_snapshot_on_disk_tells_them_apart(tmp_path: Path) -> None:
    _, first, second = two_worlds(9, tmp_path)
    assert first.snapshots[0].manifest_digest == second.snapshots[0].manifest_digest


def test_exchanging_records_across_atoms_does_show(tmp_path: Path) -> None:
    """The comparison has power: what lies outside the theorem changes the transcript."""
    draw = random.Random(2)
    card = parse(clinic())
    units = random_units(draw, 400)
    north = next(i for i, unit in enumerate(units) if unit[1]["region"] == "north" and unit[2][0]["pain"] == "12")
    south = next(i for i, unit in enumerate(units) if unit[1]["region"] == "south" and unit[2][0]["pain"] == "0")
    other = list(units)
    for place, source in ((north, south), (south, north)):
        own = [dict(row) for row in units[source][2]]
        own[0]["age"] = units[place][2][0]["age"]
        other[place] = (units[place][0], units[place][1], own)
    benches = [Bench(tmp_path / "a"), Bench(tmp_path / "b")]
    for bench, data in zip(benches, (units, other), strict=True):
        bench.directory.mkdir()
        bench.publish(card, list(clinic_rows(data)))
    assert transcript(benches[0], card, seed=1, queries=60) != transcript(benches[1], card, seed=1, queries=60)
