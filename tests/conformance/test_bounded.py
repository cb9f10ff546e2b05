# SPDX-License-Identifier: Apache-2.0
"""Bounded rows and what dp asks of them are the same wherever the rows lie, and equal to plain Python."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.support import dp as support
from tests.support.rows import Cluster
from weir.query import AllOf, AnyOf, Comparison, IsNull, Literal, Membership, Operator, Predicate
from weir_server.catalog.card import DatasetCard, PerUnit, Reduction
from weir_server.catalog.remote_rows import read_rows
from weir_server.catalog.snapshot import Snapshot
from weir_server.dp.aggregate import totals
from weir_server.dp.layout import bucket_column, centre
from weir_server.dp.plan import compile_plan, uses_cube
from weir_server.dp.store import BoundedStores
from weir_server.dp.tally import Kind, Tally, base_name, shift, strides
from weir_server.engine.duckdb import Engine, open_engine
from weir_server.engine.relational import statement
from weir_server.engine.spark import SparkEngine, open_spark
from weir_server.plan.values import BoundQuery, CellTest, Condition, Every, NullTest, Some, ValueTest
from weir_server.publish.bounded import Elsewhere, fingerprint_of_rows, write_bounded

SALT = bytes(range(32))
KEY = bytes(range(1, 33))
_COLUMNS = "d_region, d_year, v_spend, v_visits, k_spend, k_visits, g_year, u, r"


def people(units: int = 60) -> list[support.Row]:
    """Rows of every kind: many a unit, equal ones, nulls, halves to round, numbers beyond any bound."""
    draw, rows = random.Random(7), []
    spends = (None, "1", "2", "-9.99", "19.995", "7.25", "1e1", "99999999999999999999", "0.01")
    for unit in range(units):
        region = draw.choice(support.REGIONS)
        for _ in range(draw.randint(1, 9)):
            year, visits = draw.choice((1, 2, 3, 4, None)), draw.choice((None, "0", "3", "12", "9"))
            rows.append((f"p{unit}", region, year, draw.choice(spends), visits))
    return rows


def card() -> DatasetCard:
    made = support.card(rows_per_unit=4, groups_per_unit={"year": 2})
    return replace(made, measures=tuple(replace(measure, rounding="half_even") for measure in made.measures))


def publish_here(dataset: DatasetCard, rows: Sequence[support.Row], directory: Path, *, key: bytes = KEY) -> Snapshot:
    directory.mkdir()
    return support.publish(dataset, rows, directory, salt=key)


@contextmanager
def session(cluster: Cluster) -> Iterator[SparkEngine]:
    engine = open_spark(cluster)
    try:
        yield engine
    finally:
        engine.close()


def publish_there(
    dataset: DatasetCard, rows: Sequence[support.Row], directory: Path, cluster: Cluster, *, key: bytes = KEY
) -> Snapshot:
    directory.mkdir()
    location = f"{cluster.directory}/rows/{directory.name}"
    columns = {"person": "TEXT", "region": "TEXT", "year": "INT", "spend": "TEXT", "visits": "TEXT"}
    with session(cluster) as engine, open_engine(None, directories=[directory]) as local:
        engine.load("source_there", columns, rows)
        elsewhere = Elsewhere(engine, location, key)
        report = write_bounded(
            dataset, engine=local, rows_relation="source_there", directory=directory, salt=SALT, elsewhere=elsewhere
        )
        engine.drop("source_there")
    made = support.snapshot(dataset, directory, report.files)
    return replace(made, rows=read_rows(directory, report.files))


def stored(snapshot: Snapshot, cluster: Cluster | None = None, columns: str = _COLUMNS) -> Counter[tuple[object, ...]]:
    stores = open_stores(cluster)
    try:
        return Counter(stores.open(snapshot).select(statement(f"SELECT {columns} FROM rows"), seconds=120))
    finally:
        stores.close()


def open_stores(cluster: Cluster | None) -> BoundedStores:
    return BoundedStores() if cluster is None else BoundedStores(cluster=lambda: open_spark(cluster))


def cubes(snapshot: Snapshot) -> dict[str, list[tuple[object, ...]]]:
    with open_engine(snapshot.directory / "bounded.duckdb") as engine:
        return {table: table_of(engine, table) for table in ("cube", "units", "cube_spend", "cube_visits")}


def table_of(engine: Engine, table: str) -> list[tuple[object, ...]]:
    names = sorted(str(row[0]) for row in engine.query(f"DESCRIBE {table}"))
    return sorted(engine.query(f"SELECT {', '.join(names)} FROM {table}"))


def test_rows_and_cubes_are_those_of_duckdb(cluster: Cluster, tmp_path: Path) -> None:
    here = publish_here(card(), people(), tmp_path / "here")
    there = publish_there(card(), people(), tmp_path / "there", cluster)
    assert stored(there, cluster) == stored(here)
    assert cubes(there) == cubes(here)
    with open_engine(there.directory / "bounded.duckdb") as engine:
        assert engine.one("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'rows'") == 0


def test_a_unit_has_the_cell_of_its_first_row(cluster: Cluster, tmp_path: Path) -> None:
    region, *others = card().dimensions
    first = replace(region, per_unit=PerUnit(Reduction.FIRST, "visits"))
    dataset = replace(card(), dimensions=(first, *others))
    rows: list[support.Row] = [
        (f"q{unit}", support.REGIONS[(unit + turn) % 3], 1, "1", str(turn)) for unit in range(30) for turn in range(5)
    ]
    random.Random(1).shuffle(rows)
    here = publish_here(dataset, rows, tmp_path / "here")
    there = publish_there(dataset, rows, tmp_path / "there", cluster)
    assert stored(there, cluster) == stored(here)
    cells = {row[0]: row[1] for row in stored(here, columns="u, d_region")}
    assert Counter(cells.values()) == {0: 10, 1: 10, 2: 10}


def test_one_more_unit_changes_no_other_ones_rows(cluster: Cluster, tmp_path: Path) -> None:
    without_number = _COLUMNS.replace(" u,", "")
    rows = people(30)
    extra: list[support.Row] = [("extra", "north", year, "3", "3") for year in (1, 2, 3, 4, 1, 1)]
    before = stored(publish_there(card(), rows, tmp_path / "before", cluster), cluster, without_number)
    after = stored(publish_there(card(), [*extra, *rows], tmp_path / "after", cluster), cluster, without_number)
    assert not before - after
    assert sum((after - before).values()) == 4


def test_the_fingerprint_names_the_rows_whatever_their_order(cluster: Cluster, tmp_path: Path) -> None:
    rows = people(20)
    one = publish_there(card(), rows, tmp_path / "one", cluster)
    two = publish_there(card(), rows[::-1], tmp_path / "two", cluster)
    three = publish_there(card(), rows[1:], tmp_path / "three", cluster)
    assert one.rows is not None
    assert two.rows is not None
    assert three.rows is not None
    assert one.rows.fingerprint == two.rows.fingerprint != three.rows.fingerprint
    with session(cluster) as engine:
        engine.open("again", one.rows.location)
        assert fingerprint_of_rows(engine, "again", key=KEY) == one.rows.fingerprint


EVERYTHING = (
    support.count(),
    support.count_units(),
    *(support.of(function, name) for name in ("spend", "visits") for function in sorted(support.ALL, key=str)),
)
NORTH = Comparison("region", Operator.EQUAL, Literal("north"))
WHERE: dict[str, Predicate | None] = {
    "all": None,
    "cell": NORTH,
    "cells": Membership("year", (Literal(1), Literal(3))),
    "coarse cell": Comparison("half", Operator.NOT_EQUAL, Literal("late")),
    "value": Comparison("spend", Operator.GREATER, Literal(0)),
    "mixed": AnyOf(
        (AllOf((NORTH, IsNull("spend", negated=True))), Comparison("visits", Operator.LESS_OR_EQUAL, Literal(4)))
    ),
}
SPREAD = (
    ((), "all"),
    (("region",), "value"),
    (("side",), "coarse cell"),
    (("half",), "mixed"),
    (("region", "year"), "cell"),
    (("side", "half"), "cells"),
)


def test_every_tally_is_that_of_plain_python(cluster: Cluster, tmp_path: Path) -> None:
    there = publish_there(card(), people(), tmp_path / "there", cluster)
    rows = [dict(zip(_COLUMNS.split(", "), row, strict=True)) for row in stored(there, cluster).elements()]
    stores = open_stores(cluster)
    try:
        store = stores.open(there)
        for groups, where in SPREAD:
            bound = support.bind(there, *EVERYTHING, groups=groups, where=WHERE[where])
            plan = compile_plan(bound, 10**9)
            found = totals(bound, plan, store, rows_only=True, seconds=120)
            assert found == {tally: oracle(bound, tally, rows) for tally in found}, (groups, where)
            if all(uses_cube(bound, tally) for tally in found):
                assert totals(bound, plan, store, seconds=120) == found
    finally:
        stores.close()


def oracle(bound: BoundQuery, tally: Tally, rows: Sequence[dict[str, int]]) -> list[int]:
    """The tally over bounded rows, by loops."""
    width = tally.width()
    found, seen = [0] * (bound.cells * width), set()
    for row in rows:
        if not holds(bound.condition, row):
            continue
        cell = cell_of(bound, row)
        if tally.kind is Kind.UNITS:
            ranked = any(base_name(group) == "year" for group in bound.groups)
            if (row["u"], cell) in seen or (ranked and row["g_year"] >= 2):
                continue
            seen.add((row["u"], cell))
            found[cell] += 1
        elif tally.measure is None:
            found[cell] += 1
        elif tally.kind is Kind.BUCKETS:
            bucket = row[bucket_column(tally.measure.name)]
            if bucket is not None:
                found[cell * width + bucket] += 1
        elif row[f"v_{tally.measure.name}"] is not None:
            value = row[f"v_{tally.measure.name}"]
            away = value - centre(tally.measure)
            found[cell] += {Kind.VALUES: 1, Kind.SQUARES: away * away}.get(tally.kind, value - shift(tally))
    return found


def cell_of(bound: BoundQuery, row: dict[str, int]) -> int:
    index = 0
    for group, stride in zip(bound.groups, strides(bound.groups), strict=True):
        cell = row[f"d_{base_name(group)}"]
        index += stride * (cell if group.coarsens is None else group.mapping[cell])
    return index


def holds(node: Condition, row: dict[str, int]) -> bool:
    match node:
        case Every(operands):
            return all(holds(operand, row) for operand in operands)
        case Some(operands):
            return any(holds(operand, row) for operand in operands)
        case CellTest(dimension, cells):
            return row[f"d_{dimension}"] in cells
        case NullTest(measure, negated):
            return (row[f"v_{measure}"] is None) != negated
        case ValueTest(measure, operator, literal):
            value = row[f"v_{measure}"]
            return value is not None and COMPARE[operator](value, literal)


COMPARE = {
    Operator.GREATER: lambda value, literal: value > literal,
    Operator.LESS_OR_EQUAL: lambda value, literal: value <= literal,
}
