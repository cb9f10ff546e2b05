# SPDX-License-Identifier: Apache-2.0
"""The aggregate of a dp query over bounded rows: on a Spark cluster beside our DuckDB, on the same rows and machine.

What is timed is the very statement that a served query makes, with a filter that no cube
answers: one thread of DuckDB over its own file, and Spark with both cores over Parquet, the way to the cluster and back
included. On one machine this says what a cluster costs, not what it gains. Run: `python -m bench.spark [millions]`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.dp import bind, grow, publish
from bench.rows import Row, compared
from tests.support.rows import running_sail, running_spark, spark_home
from weir.query import Aggregate, Comparison, Function, Literal, Operator
from weir_server.catalog.snapshot import Snapshot
from weir_server.dp.layout import FILE
from weir_server.dp.plan import compile_plan
from weir_server.dp.sql import sums_statement
from weir_server.dp.store import BoundedStore, BoundedStores, DistantRows
from weir_server.engine.duckdb import open_engine
from weir_server.engine.relational import Statement
from weir_server.engine.spark import Cluster, open_spark

_MILLIONS = 50
_PUBLISHED = 10
"""Millions of rows that are published; the store is grown from that."""
_ROUNDS = 5
_SECONDS = 300.0
_KINDS = {"UTINYINT": "SMALLINT", "USMALLINT": "INTEGER", "UINTEGER": "BIGINT"}
"""Types of a bounded store, as Spark has them."""


def measure(millions: int = _MILLIONS) -> list[Row]:
    """Apache Spark where `make spark` has installed it, and Sail. Takes 3 GB of disk and some minutes."""
    with TemporaryDirectory() as folder:
        directory = Path(folder)
        (directory / "store").mkdir()
        published = min(millions, _PUBLISHED)
        snapshot, _ = publish(published, directory / "store")
        if millions > published:
            grow(snapshot, millions // published)
        location = _as_parquet(snapshot, directory / "rows")
        rows, home = [], spark_home()
        if home is not None:
            with running_spark(home, directory / "spark") as remote:
                name = f"spark.vs_duckdb_{millions}m"
                rows.append(_beside(snapshot, remote, location, name=name, cluster="Apache Spark local[2]"))
        name = f"spark.vs_duckdb_{millions}m" if home is None else f"spark.sail_vs_duckdb_{millions}m"
        with running_sail() as remote:
            rows.append(_beside(snapshot, remote, location, name=name, cluster="Sail"))
        return rows


def _as_parquet(snapshot: Snapshot, target: Path) -> Path:
    """The bounded rows as a cluster would have written them: several files, sorted by cell."""
    with open_engine(snapshot.directory / FILE, directories=[target.parent], threads=2, memory_limit="4GB") as engine:
        columns = [(str(row[0]), str(row[1])) for row in engine.query("DESCRIBE rows")]
        cast = ", ".join(f"CAST({name} AS {_KINDS.get(kind, kind)}) AS {name}" for name, kind in columns)
        options = "FORMAT parquet, COMPRESSION zstd, FILE_SIZE_BYTES '64MB'"
        engine.run(f"COPY (SELECT {cast} FROM rows) TO '{target}' ({options})")
    return target


def _beside(snapshot: Snapshot, remote: str, location: Path, *, name: str, cluster: str) -> Row:
    dear = Comparison("amount", Operator.GREATER_OR_EQUAL, Literal(50))
    bound = bind(snapshot, ("region",), dear, Aggregate(Function.COUNT), Aggregate(Function.SUM, "amount"))
    tallies = [part.tally for output in compile_plan(bound, 10**9).outputs for part in output.parts]
    ask = sums_statement(bound, tallies)
    stores, ours = BoundedStores(), DistantRows(partial(open_spark, Cluster(remote, "nowhere")), str(location))
    try:
        theirs = stores.open(snapshot)
        if sorted(_once(ours, ask)) != sorted(_once(theirs, ask)):  # also warms both
            raise SystemExit("the engines do not agree")
        rounds = [(_seconds(ours, ask), _seconds(theirs, ask)) for _ in range(_ROUNDS)]
    finally:
        ours.close()
        stores.close()
    mine, others = [pair[0] for pair in rounds], [pair[1] for pair in rounds]
    return compared(name, mine, others, unit="s", peer="DuckDB, one thread", detail=f"{cluster}, both cores")


def _once(store: BoundedStore | DistantRows, ask: Statement) -> Sequence[tuple[object, ...]]:
    return [tuple(int(value) for value in row) for row in store.select(ask, seconds=_SECONDS)]


def _seconds(store: BoundedStore | DistantRows, ask: Statement) -> float:
    start = time.perf_counter()
    _once(store, ask)
    return time.perf_counter() - start


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if sys.argv[1:] else _MILLIONS), indent=2))
