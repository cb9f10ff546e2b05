# SPDX-License-Identifier: Apache-2.0
"""Exact mode: building atoms from 10 M rows, and answering from stores of 10^4 to 10^8 published rows.

Building is beside bare DuckDB doing the same two GROUP BYs over the same Parquet file with no check, no clip and no
climb; both in a process of their own, so that peak memory is theirs alone. Run: `python -m bench.exact [rows]`.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np

from weir.query import Aggregate, AllOf, Comparison, Function, Literal, Operator, Predicate, Query, canonicalise
from weir_server.catalog.card import Cell, DatasetCard, Dimension, Grade, Measure, Mode, Source
from weir_server.catalog.snapshot import Snapshot
from weir_server.engine.duckdb import open_engine
from weir_server.engine.relational import quote
from weir_server.exact.records import ATOMS, write_atoms
from weir_server.exact.technique import ExactTechnique
from weir_server.plan.conditions import bind_condition
from weir_server.plan.values import BoundQuery, Every, Principal, Submission
from weir_server.publish.atoms import CELLS, TAKEN, climb
from weir_server.publish.publisher import publish

SIZES = (31, 9, 2, 20)
"""Cells of the four dimensions, as in the utility figures of the atom store."""
ROWS = 10_000_000
_REPEATS = 300
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def card(source: Path | None = None) -> DatasetCard:
    """11,160 fine cells, a sum and a variance."""
    names = ("region", "age", "sex", "sector")
    dimensions = tuple(
        Dimension(name, name, "integer", tuple(Cell(i, str(i)) for i in range(size)), name)
        for name, size in zip(names, SIZES, strict=True)
    )
    spread = frozenset({Function.SUM, Function.AVG, Function.VARIANCE})
    return DatasetCard(
        name="bench",
        title="Bench",
        description="",
        grade=Grade.GENERAL,
        grading_scheme="GB/T 43697-2024",
        personal_information=False,
        legal_basis="",
        responsible="bench",
        provenance="generated",
        lineage="bench",
        unit_name="person",
        unit_column="who",
        source=Source("parquet", str(source or "bench.parquet")),
        dimensions=dimensions,
        measures=(
            Measure("amount", "Amount", "USD", "amount", Mode.EXACT, 2, 0, 100_000, statistics=spread),
            Measure("visits", "Visits", "", "visits", Mode.EXACT, 0, 0, 50),
        ),
        coarsening=(("sector", None), ("age", None), ("sex", None), ("region", None)),
    )


def make_source(path: Path, rows: int) -> None:
    """Skewed people with two rows each."""
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        skewed = ", ".join(
            f"CAST(floor({size} * pow((hash(range // 2, {i}) % 1000003) / 1000003.0, 2)) AS INTEGER) AS {name}"
            for i, (name, size) in enumerate(zip(("region", "age", "sex", "sector"), SIZES, strict=True))
        )
        connection.execute(
            f"COPY (SELECT range // 2 AS who, {skewed}, (hash(range, 9) % 60000) / 100.0 AS amount, "
            f"hash(range, 10) % 12 AS visits FROM range({rows})) TO {quote(str(path))} (FORMAT parquet)"
        )


def measure() -> list[dict[str, Any]]:
    """Rows of the benchmark."""
    return [*measure_build(ROWS), *measure_scale()]


def measure_build(rows: int) -> list[dict[str, Any]]:
    """Building atoms against the bare aggregation, and the memory it takes."""
    with TemporaryDirectory() as folder:
        source = Path(folder) / "source.parquet"
        make_source(source, rows)
        ours = [_child("build", source) for _ in range(2)]
        theirs = [_child("bare", source) for _ in range(2)]
    speeds = [rows / run["seconds"] for run in ours]
    bare = [rows / run["seconds"] for run in theirs]
    peak = max(run["peak_mib"] for run in ours)
    ratios = [ours_ / theirs_ for ours_, theirs_ in zip(speeds, bare, strict=True)]
    return [
        {
            "name": "exact.build_rows_per_second",
            "ours": round(statistics.median(speeds)),
            "theirs": round(statistics.median(bare)),
            "ratio": round(statistics.median(ratios), 3),
            "unit": f"rows/s of {rows:,}; theirs: bare DuckDB GROUP BY",
            "spread": round(max(ratios) - min(ratios), 3),
        },
        {
            "name": "exact.build_peak_memory",
            "ours": round(peak),
            "theirs": 2048,
            "ratio": round(peak / 2048, 3),
            "unit": "MiB; theirs: the bound",
            "spread": round(peak - min(run["peak_mib"] for run in ours)),
        },
    ]


def _child(task: str, source: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.exact", task, str(source)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def _run_child(task: str, source: Path) -> None:
    started = time.perf_counter()
    if task == "build":
        with TemporaryDirectory(dir=source.parent) as folder:
            publish(
                card(source), card_directory=source.parent, data_dir=Path(folder), version=1, previous=None,
                now=_NOW, salt=b"s" * 32,
            )  # fmt: skip
    else:
        _bare(source)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def _bare(source: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        connection.execute(
            "SELECT region, age, sex, sector, count(*), sum(amount), sum(amount * amount), sum(visits) FROM ("
            "SELECT who, min(region) region, min(age) age, min(sex) sex, min(sector) sector, sum(amount) amount, "
            f"sum(visits) visits FROM {quote(str(source))} GROUP BY who) GROUP BY ALL"
        ).fetchall()


def measure_scale() -> list[dict[str, Any]]:
    """Median time of analyse, execute and release over stores of more and more rows: it grows with cells, not rows."""
    times = {rows: _query_time(rows) for rows in (10**4, 10**6, 10**8)}
    (small, _), (large, spread) = times[10**4], times[10**8]
    return [
        {
            "name": "exact.scale_1e8_vs_1e4",
            "ours": round(large * 1e6),
            "theirs": round(small * 1e6),
            "ratio": round(large / small, 2),
            "unit": "µs a query (median) at 1e8 rows; theirs: at 1e4 rows",
            "spread": round(spread / small, 2),
        },
        {
            "name": "exact.queries_per_second_one_thread",
            "ours": round(1 / times[10**6][0]),
            "theirs": 1000,
            "ratio": round(1 / times[10**6][0] / 1000, 2),
            "unit": "analyse + execute + release, 11,160 cells; theirs: the aim",
            "spread": round(times[10**6][1] / times[10**6][0], 2),
        },
    ]


def _query_time(rows: int) -> tuple[float, float]:
    with TemporaryDirectory() as folder:
        snapshot = simulated_snapshot(Path(folder), rows)
        technique = ExactTechnique()
        bounds = [bind(snapshot, query) for query in queries()]
        taken = []
        for turn in range(_REPEATS):
            bound = bounds[turn % len(bounds)]
            started = time.perf_counter()
            analysis = technique.analyse(bound)
            technique.release(bound, analysis, technique.execute(bound, analysis))
            taken.append(time.perf_counter() - started)
        warm = taken[len(bounds) :]
        quartiles = statistics.quantiles(warm, n=4)
        return statistics.median(warm), quartiles[2] - quartiles[0]


def simulated_snapshot(directory: Path, rows: int) -> Snapshot:
    """A snapshot whose cells were drawn at the publisher's intermediate form, then climbed by the publisher itself."""
    draw = np.random.default_rng(5)
    weights = np.ones(1)
    for size in SIZES:
        axis = np.arange(1, size + 1, dtype=float) ** -1.0
        weights = np.outer(weights, axis).reshape(-1)
    units = draw.multinomial(rows // 2, weights / weights.sum())
    with open_engine(None) as engine:
        engine.run(
            f"CREATE TABLE {CELLS} (code BIGINT, n BIGINT, s_0 HUGEINT, hh_0 HUGEINT, hl_0 HUGEINT, ll_0 HUGEINT, "
            "s_1 HUGEINT)"
        )
        engine.run(f"CREATE TABLE {TAKEN} (code BIGINT, born INTEGER, level INTEGER, coarse BIGINT)")
        engine.run(
            f"INSERT INTO {CELLS} SELECT code, n, n * 30000, 0, 0, n * 1000000000, n * 6 FROM "
            "(SELECT unnest(CAST(? AS BIGINT[])) AS code, unnest(CAST(? AS BIGINT[])) AS n) WHERE n > 0",
            [list(range(len(units))), units.tolist()],
        )
        partition = climb(card(), engine=engine, version=1)
    write_atoms(directory / ATOMS, partition.atoms, measures=["amount", "visits"])
    return Snapshot(card(), 1, _NOW, f"simulated {rows}", directory, (ATOMS,))


def queries() -> list[Query]:
    """Questions of the kinds people ask."""
    total, average = Aggregate(Function.SUM, "amount"), Aggregate(Function.AVG, "visits")
    count, variance = Aggregate(Function.COUNT), Aggregate(Function.VARIANCE, "amount")
    young: Predicate = Comparison("age", Operator.LESS, Literal(4))
    north = AllOf((young, Comparison("region", Operator.EQUAL, Literal(3))))
    return [
        canonicalise(query)
        for query in (
            Query("bench", (count,)),
            Query("bench", (count, total), ("region",)),
            Query("bench", (count, average), ("sex", "age"), young),
            Query("bench", (count, variance), ("sector",), north),
        )
    ]


def bind(snapshot: Snapshot, query: Query) -> BoundQuery:
    """The query bound without a catalogue."""
    made = snapshot.card
    submission = Submission(
        Principal("bench", "requester", "bench"), query, "c", "", Mode.EXACT, None, None, None, "key", ""
    )
    return BoundQuery(
        submission=submission,
        query=query,
        snapshot=snapshot,
        mode=Mode.EXACT,
        groups=tuple(item for name in query.group_by if (item := made.dimension(name)) is not None),
        aggregates=tuple((a, None if a.measure is None else made.measure(a.measure)) for a in query.aggregates),
        condition=Every(()) if query.where is None else bind_condition(query.where, made),
    )


if __name__ == "__main__":
    if sys.argv[1:2] in (["build"], ["bare"]):
        _run_child(sys.argv[1], Path(sys.argv[2]))
    else:
        print(json.dumps([*measure_build(int(sys.argv[1]) if sys.argv[1:] else ROWS), *measure_scale()], indent=2))
