# SPDX-License-Identifier: Apache-2.0
"""A small dp dataset, its bounded store, and bound queries over it, for every dp test."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from weir.amounts import parse_epsilon
from weir.query import Aggregate, Function, LiteralValue, Predicate, Query, canonicalise
from weir_server.catalog.card import Bounds, Cell, DatasetCard, Dimension, Grade, Measure, Mode, Source
from weir_server.catalog.snapshot import Snapshot
from weir_server.dp.technique import DpTechnique
from weir_server.engine.duckdb import Engine, open_engine
from weir_server.plan.conditions import bind_condition
from weir_server.plan.values import BoundQuery, Every, Principal, Submission
from weir_server.publish.bounded import write_bounded

Row = tuple[str, str, int | str | None, str | None, str | None]
"""unit, region, year, spend, visits: unit-level region, row-level year, numbers as decimal text."""
REGIONS = ("north", "south", "west")
YEARS = (1, 2, 3, 4)
ALL = frozenset(Function) - {Function.COUNT, Function.COUNT_UNITS}
_FRESH = itertools.count()
_BATCH = 200


def cells(values: Sequence[LiteralValue], *, null: bool = False) -> tuple[Cell, ...]:
    """Declared cells, with a null cell last where asked."""
    listed = [Cell(value, str(value)) for value in values]
    return (*listed, *([Cell(None, "none")] if null else []))


def spend_measure(*, lower: int = -500, upper: int = 2000) -> Measure:
    """Money in cents: two digits, bounds in grid steps, five buckets."""
    edges = (lower, lower + 100, 0, 700, 1500, upper) if lower + 100 < 0 and upper > 1500 else (lower, upper)
    return Measure("spend", "Spend", "USD", "spend", Mode.DP, 2, lower, upper, statistics=ALL, buckets=edges)


def visits_measure() -> Measure:
    """A count of 0 to 9, one bucket for each."""
    return Measure("visits", "Visits", "", "visits", Mode.DP, 0, 0, 9, statistics=ALL, buckets=tuple(range(10)))


def card(
    *,
    rows_per_unit: int = 3,
    groups_per_unit: Mapping[str, int] | None = None,
    measures: tuple[Measure, ...] | None = None,
) -> DatasetCard:
    """Card of the small dataset."""
    year = Dimension("year", "Year", "integer", cells(YEARS, null=True), "year", row_level=True)
    half = Dimension(
        "half",
        "Half",
        "text",
        cells(("early", "late", "unknown")),
        row_level=True,
        coarsens="year",
        mapping=(0, 0, 1, 1, 2),
    )
    region = Dimension("region", "Region", "text", cells(REGIONS), "region")
    side = Dimension("side", "Side", "text", cells(("pole", "rest")), coarsens="region", mapping=(0, 0, 1))
    return DatasetCard(
        name="spending",
        title="Spending",
        description="",
        grade=Grade.IMPORTANT,
        grading_scheme="GB/T 43697-2024",
        personal_information=False,
        legal_basis="",
        responsible="tests",
        provenance="made up",
        lineage="spending",
        unit_name="person",
        unit_column="person",
        source=Source("csv", "none.csv"),
        dimensions=(region, side, year, half),
        measures=(spend_measure(), visits_measure()) if measures is None else measures,
        bounds=Bounds(rows_per_unit, dict(groups_per_unit or {})),
        epsilon_lifetime=10**12,
    )


@contextmanager
def source(rows: Sequence[Row], directory: Path) -> Iterator[Engine]:
    """A publishing engine whose table `source_rows` holds `rows`, as text where the source would be a CSV file."""
    with open_engine(None, directories=[directory]) as engine:
        engine.run(
            "CREATE TABLE source_rows (person VARCHAR, region VARCHAR, year INTEGER, spend VARCHAR, visits VARCHAR)"
        )
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            marks = ", ".join(["(?, ?, ?, ?, ?)"] * len(batch))
            engine.run(f"INSERT INTO source_rows VALUES {marks}", [value for row in batch for value in row])
        yield engine


def publish(card: DatasetCard, rows: Sequence[Row], directory: Path, *, salt: bytes = bytes(32)) -> Snapshot:
    """A snapshot whose bounded store was written from `rows`."""
    with source(rows, directory) as engine:
        report = write_bounded(card, engine=engine, rows_relation="source_rows", directory=directory, salt=salt)
    return snapshot(card, directory, report.files)


def snapshot(card: DatasetCard, directory: Path, files: tuple[str, ...]) -> Snapshot:
    """A snapshot value over `directory`, with a digest of its own."""
    digest = f"{next(_FRESH):064x}"
    return Snapshot(card, 1, datetime(2026, 1, 1, tzinfo=UTC), digest, directory, files)


def bind(
    snapshot: Snapshot,
    *aggregates: Aggregate,
    groups: Sequence[str] = (),
    where: Predicate | None = None,
    epsilon: str | None = "1",
    within: str | None = None,
) -> BoundQuery:
    """A bound dp query, as binding would make it."""
    card = snapshot.card
    query = canonicalise(Query(card.name, aggregates, tuple(groups), where, snapshot.version))
    submission = Submission(
        principal=Principal("alice", "requester", "test"),
        query=query,
        contract="c-1",
        purpose="",
        mode=Mode.DP,
        epsilon_nano=None if epsilon is None else parse_epsilon(epsilon),
        within=within,
        max_price_micro=None,
        idempotency_key=secrets.token_hex(8),
        request_digest="",
    )
    return BoundQuery(
        submission=submission,
        query=query,
        snapshot=snapshot,
        mode=Mode.DP,
        groups=tuple(_known(card.dimension(name)) for name in query.group_by),
        aggregates=tuple((a, None if a.measure is None else _known(card.measure(a.measure))) for a in query.aggregates),
        condition=Every(()) if query.where is None else bind_condition(query.where, card),
    )


def _known(item: Any) -> Any:
    assert item is not None, "the test names something the card lacks"
    return item


def count() -> Aggregate:
    """COUNT(*)."""
    return Aggregate(Function.COUNT)


def count_units() -> Aggregate:
    """COUNT(DISTINCT unit)."""
    return Aggregate(Function.COUNT_UNITS)


def of(function: Function, measure: str = "spend", *, quantile_ppm: int | None = None, weight: int = 1) -> Aggregate:
    """An aggregate of a measure."""
    rank = 500_000 if function is Function.QUANTILE and quantile_ppm is None else quantile_ppm
    return Aggregate(function, measure, rank, weight)


def answer(bound: BoundQuery, technique: DpTechnique) -> Any:
    """The release of a bound query: analyse, execute, release."""
    analysis = technique.analyse(bound)
    return technique.release(bound, analysis, technique.execute(bound, analysis))


@contextmanager
def published(rows: Sequence[Row], dataset: DatasetCard | None = None) -> Iterator[Snapshot]:
    """A snapshot in a directory that goes away afterwards."""
    with TemporaryDirectory() as folder:
        yield publish(card() if dataset is None else dataset, rows, Path(folder))
