# SPDX-License-Identifier: Apache-2.0
"""dp queries against the raw DuckDB aggregate on the same snapshot: same file, same threads, same run.

Ours is the whole technique (analyse, execute, release with noise). The raw side is the bare statement over the bounded
rows, whose columns are already small integers, which is as fast as DuckDB gets. Run: `python -m bench.dp [millions …]`.
Sizes are multiples of ten from ten on.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from weir.amounts import NANO
from weir.query import Aggregate, Comparison, Function, Literal, Operator, Predicate, Query, canonicalise
from weir_server.catalog.card import Bounds, Cell, DatasetCard, Dimension, Grade, Measure, Mode, Source
from weir_server.catalog.snapshot import Snapshot
from weir_server.dp.aggregate import totals
from weir_server.dp.layout import FILE
from weir_server.dp.plan import DpPlan
from weir_server.dp.store import BoundedStore, BoundedStores
from weir_server.dp.technique import DpTechnique
from weir_server.engine.duckdb import open_engine
from weir_server.engine.relational import statement
from weir_server.plan.conditions import bind_condition
from weir_server.plan.values import Analysis, BoundQuery, Every, Principal, Raw, Submission
from weir_server.publish.bounded import write_bounded

ROWS_PER_UNIT = 20
_SIZES = (1, 10, 50)
_PUBLISHED = 10
"""Millions of rows that are published at most; larger stores are grown from that."""
_REPEATS = 15
_MANY = [Function.SUM, Function.AVG, Function.HISTOGRAM, Function.QUANTILE]
_COUNT = Aggregate(Function.COUNT)
_SUM = Aggregate(Function.SUM, "amount")


def card() -> DatasetCard:
    """31 x 9 x 2 unit-level cells by 12 months, one measure."""

    def listed(name: str, number: int, *, row_level: bool = False) -> Dimension:
        cells = tuple(Cell(value, str(value)) for value in range(number))
        return Dimension(name, name, "integer", cells, name, row_level=row_level)

    buckets = tuple(range(0, 10_001, 500))
    return DatasetCard(
        name="bench",
        title="Bench",
        description="",
        grade=Grade.IMPORTANT,
        grading_scheme="GB/T 43697-2024",
        personal_information=False,
        legal_basis="",
        responsible="bench",
        provenance="generated",
        lineage="bench",
        unit_name="person",
        unit_column="person",
        source=Source("duckdb", "bench.duckdb"),
        dimensions=(listed("region", 31), listed("age", 9), listed("sex", 2), listed("month", 12, row_level=True)),
        measures=(
            Measure("amount", "", "USD", "amount", Mode.DP, 2, 0, 10_000, statistics=frozenset(_MANY), buckets=buckets),
        ),
        bounds=Bounds(ROWS_PER_UNIT, {"month": 12}),
        epsilon_lifetime=10**15,
    )


def publish(millions: int, directory: Path) -> tuple[Snapshot, float]:
    """A snapshot of that many million generated rows, ten a person, and the seconds its bounded store took."""
    rows = millions * 1_000_000
    with open_engine(None, threads=2, memory_limit="6GB", temp_directory=directory, directories=[directory]) as engine:
        engine.run(
            "CREATE TABLE source_rows AS SELECT i % ? AS person, (i % ?) % 31 AS region, (i % ?) % 9 AS age, "
            "(i % ?) % 2 AS sex, hash(i) % 12 AS month, CAST(hash(i + 7) % 12000 AS DECIMAL(18, 2)) / 100 AS amount "
            "FROM range(?) t(i)",
            [rows // 10] * 4 + [rows],
        )
        start = time.perf_counter()
        report = write_bounded(card(), engine=engine, rows_relation="source_rows", directory=directory, salt=bytes(32))
        took = time.perf_counter() - start
    return Snapshot(card(), 1, datetime(2026, 1, 1, tzinfo=UTC), f"{millions:064x}", directory, report.files), took


def grow(snapshot: Snapshot, times: int) -> None:
    """Each unit `times` times over, in place: larger stores without the hours of publishing them. Queries see no
    difference to a published store of that size."""
    with open_engine(snapshot.directory / FILE, read_only=False, threads=2, memory_limit="6GB") as engine:
        engine.run(
            "CREATE TABLE grown AS SELECT r.* REPLACE (u + CAST(100000000 * t.i AS UINTEGER) AS u) "
            "FROM rows r, range(?) t(i) ORDER BY d_region, d_age, d_sex, d_month",
            [times],
        )
        engine.run("DROP TABLE rows")
        engine.run("ALTER TABLE grown RENAME TO rows")
        for table, columns in (("cube", ("n", "c_amount", "s_amount")), ("cube_amount", ("n",)), ("units", ("n",))):
            engine.run(f"UPDATE {table} SET " + ", ".join(f"{name} = {name} * {times}" for name in columns))


def bind(snapshot: Snapshot, groups: tuple[str, ...], where: Predicate | None, *aggregates: Aggregate) -> BoundQuery:
    """A bound query at epsilon 1."""
    dataset = snapshot.card
    query = canonicalise(Query(dataset.name, aggregates, groups, where, 1))
    submission = Submission(
        Principal("bench", "requester", "bench"), query, "c", "", Mode.DP, NANO, None, None, "bench", ""
    )
    return BoundQuery(
        submission=submission,
        query=query,
        snapshot=snapshot,
        mode=Mode.DP,
        groups=tuple(d for name in query.group_by for d in dataset.dimensions if d.name == name),
        aggregates=tuple((a, dataset.measure(a.measure or "")) for a in query.aggregates),
        condition=Every(()) if where is None else bind_condition(where, dataset),
    )


def measure(sizes: tuple[int, ...] = _SIZES) -> list[dict[str, object]]:
    """One row per key: medians of seconds, the median of the rounds' ratios, and its spread (quartiles over median).

    Peers run at 10 M rows where WEIR_BENCH_SMARTNOISE_PYTHON and WEIR_BENCH_OPENDP_POLARS_PYTHON name interpreters that
    have them; without one that row is left out.
    """
    results: list[dict[str, object]] = []
    for millions in sizes:
        with TemporaryDirectory() as folder:
            published = min(millions, _PUBLISHED)
            snapshot, took = publish(published, Path(folder))
            print(f"{published} M rows: bounded store in {took:.1f} s", file=sys.stderr)
            if millions > published:
                grow(snapshot, millions // published)
            results += _measure_snapshot(snapshot, millions)
            if millions == _PUBLISHED:
                results += _measure_peers(snapshot)
    return results


def _measure_peers(snapshot: Snapshot) -> list[dict[str, object]]:
    """The plain question from our cube beside each peer that is there, on the same rows."""
    file = snapshot.directory / "facts.parquet"
    with open_engine(snapshot.directory / FILE, directories=[snapshot.directory]) as engine:
        columns = "CAST(u AS BIGINT) AS person, CAST(d_region AS BIGINT) AS region, CAST(v_amount AS BIGINT) AS amount"
        engine.run(f"COPY (SELECT {columns} FROM rows) TO '{file}' (FORMAT parquet)")
        rows = int(engine.one("SELECT count(*) FROM rows"))
    found, technique = [], DpTechnique()
    plain = bind(snapshot, ("region",), None, _COUNT, _SUM)
    _answer(technique, plain)
    try:
        for peer in ("smartnoise", "opendp_polars"):
            interpreter = os.environ.get(f"WEIR_BENCH_{peer.upper()}_PYTHON")
            if interpreter:
                theirs = _peer_seconds(peer, interpreter, file, rows)
                ours = [_seconds(partial(_answer, technique, plain)) for _ in theirs]
                found.append(_row(f"dp.vs_{peer}", ours, theirs))
    finally:
        technique.close()
    return found


def _peer_seconds(peer: str, interpreter: str, file: Path, rows: int) -> list[float]:
    request: dict[str, object] = {"parquet": str(file), "rows": rows, "regions": 31, "rows_per_unit": ROWS_PER_UNIT}
    request |= {"upper": 10_000, "rounds": 2}
    command = [interpreter, str(Path(__file__).with_name("dp_peer.py")), peer]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=True)
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])["seconds"]
    return seconds


def _measure_snapshot(snapshot: Snapshot, millions: int) -> list[dict[str, object]]:
    stores, found = BoundedStores(), []
    technique = DpTechnique(stores)
    dear = Comparison("amount", Operator.GREATER_OR_EQUAL, Literal(50))
    plain = bind(snapshot, ("region",), None, _COUNT, _SUM)
    filtered = bind(snapshot, ("region",), dear, _COUNT, _SUM)
    try:
        raw = stores.open(snapshot)
        cases: list[tuple[str, Callable[[], object], str]] = [
            ("cube", lambda: _answer(technique, plain), ""),
            ("rows", lambda: _answer_from_rows(technique, plain, raw), ""),
            ("filter", lambda: _answer(technique, filtered), "WHERE v_amount >= 5000"),
        ]
        for name, ours, where in cases:
            bare = f"SELECT d_region, COUNT(*), EXACT_SUM(v_amount) FROM rows {where} GROUP BY d_region"
            theirs = partial(raw.select, statement(bare), seconds=300.0)
            found.append(_compare(f"dp.{name}_{millions}m_vs_raw", ours, theirs))
    finally:
        technique.close()
    return found


def _answer(technique: DpTechnique, bound: BoundQuery) -> object:
    analysis = technique.analyse(bound)
    return technique.release(bound, analysis, technique.execute(bound, analysis))


def _answer_from_rows(technique: DpTechnique, bound: BoundQuery, store: BoundedStore) -> object:
    """The same answer as for a grid too large for a cube."""
    analysis: Analysis = technique.analyse(bound)
    assert isinstance(analysis.body, DpPlan)
    raw = Raw(totals(bound, analysis.body, store, rows_only=True, seconds=300.0))
    return technique.release(bound, analysis, raw)


def _compare(name: str, ours: Callable[[], object], theirs: Callable[[], object]) -> dict[str, object]:
    """Both sides in turn, so that whatever else the machine does hits both."""
    for call in (ours, theirs):
        call()
    rounds = [(_seconds(ours), _seconds(theirs)) for _ in range(_REPEATS)]
    return _row(name, [mine for mine, _ in rounds], [other for _, other in rounds])


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _row(name: str, ours: Sequence[float], theirs: Sequence[float]) -> dict[str, object]:
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "name": name,
        "ours": statistics.median(ours),
        "theirs": statistics.median(theirs),
        "ratio": middle,
        "unit": "s",
        "spread": (high - low) / middle,
    }


if __name__ == "__main__":
    print(json.dumps(measure(tuple(map(int, sys.argv[1:])) or _SIZES), indent=2))
