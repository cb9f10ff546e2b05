# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""Bounded rows: what a snapshot keeps of a source for differential privacy (DESIGN §5).

Each unit's rows are ranked once, at random from a secret salt and that unit's own rows alone, and only those below
the bound are kept; values are clipped, as integers on the declared grid. Adding or removing one unit therefore adds
or removes at most `rows_per_unit` stored rows and changes no other: every sensitivity of `weir_server.dp` rests on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from weir.errors import PublicationError, Violation
from weir_server.catalog.card import DatasetCard
from weir_server.dp.layout import (
    CUBE,
    FILE,
    ROWS,
    UNITS,
    base_dimensions,
    bucket_column,
    bucket_table,
    cell_column,
    centre,
    dp_measures,
    has_cube,
    has_units,
    is_bucketed,
    is_squared,
    reach,
    unit_dimensions,
    value_column,
)
from weir_server.engine.duckdb import Engine
from weir_server.engine.relational import quote
from weir_server.publish.bounded_report import Effect, effects_of_bounds
from weir_server.publish.bounded_sql import rows_statement, units_statement
from weir_server.publish.grid import unit_key

_SALT_BYTES = 16
_STORE = "bounded_store"
_UNITS = "bounded_units"


@dataclass(frozen=True, slots=True)
class BoundedReport:
    """What was written. It says nothing of the data but what was released with dp."""

    files: tuple[str, ...]
    """Names in the snapshot's directory."""
    cube: bool
    """Whether queries over dimensions alone are answered from the cube."""
    effects: tuple[Effect, ...] = ()
    """How much each bound drops, with noise; empty where no loss was given for it."""
    epsilon_nano: int = 0
    """Loss of `effects`: to be booked on the lineage before they are shown to anybody."""


def write_bounded(
    card: DatasetCard,
    *,
    engine: Engine,
    rows_relation: str,
    directory: Path,
    salt: bytes,
    report_epsilon_nano: int = 0,
) -> BoundedReport:
    """Writes the bounded store of `card` into `directory`.

    `engine`: a publishing engine that may write below `directory`, with the macros of `grid`. `rows_relation`: table,
    view or subquery of the source's rows with their own columns. `salt`: at least 16 secret random bytes; with the
    same salt a unit whose rows did not change keeps the same rows in every snapshot. It is stored nowhere here.
    `report_epsilon_nano`: loss to spend on saying how much the bounds drop; 0 to say nothing.

    Raises:
        PublicationError: a row without a unit, or a value outside a dimension's declared cells.
    """
    if len(salt) < _SALT_BYTES:
        raise ValueError(f"a salt has at least {_SALT_BYTES} bytes")
    _check_units(card, engine, rows_relation)
    engine.run(f"ATTACH {quote(str(directory / FILE))} AS {_STORE}")
    try:
        secret = salt.hex()
        engine.run(units_statement(card, rows=rows_relation, target=_UNITS), [secret])
        target = f"{_STORE}.{ROWS}"
        engine.run(rows_statement(card, rows=rows_relation, units=_UNITS, target=target), [secret])
        _check_cells(card, engine)
        for statement in _cube_statements(card):
            engine.run(statement)
    finally:
        engine.run(f"DROP TABLE IF EXISTS {_UNITS}")
        engine.run(f"DETACH {_STORE}")
    effects: tuple[Effect, ...] = ()
    if report_epsilon_nano:
        effects = effects_of_bounds(card, engine=engine, rows_relation=rows_relation, epsilon_nano=report_epsilon_nano)
    return BoundedReport(files=(FILE,), cube=has_cube(card), effects=effects, epsilon_nano=report_epsilon_nano)


def _check_units(card: DatasetCard, engine: Engine, relation: str) -> None:
    missing = engine.one(f"SELECT count(*) FROM {relation} WHERE {unit_key(card)} IS NULL")
    if missing:
        sentence = "every row names its privacy unit"
        violation = Violation("unit.missing", card.unit_column, int(missing), sentence)
        raise PublicationError("rows without a privacy unit", violations=(violation,), rule="unit.missing")


def _check_cells(card: DatasetCard, engine: Engine) -> None:
    """A NULL cell is a value that the card does not declare; groups would silently lose its rows."""
    names = [item.name for item in base_dimensions(card)]
    if not names:
        return
    counts = ", ".join(f"count(*) FILTER (WHERE {cell_column(name)} IS NULL)" for name in names)
    outside = engine.query(f"SELECT {counts} FROM {_STORE}.{ROWS}")[0]
    violations = tuple(
        Violation("dimension.undeclared", name, int(count), "every value lies in a declared cell")
        for name, count in zip(names, outside, strict=True)
        if count
    )
    if violations:
        raise PublicationError("values outside the declared cells", violations=violations, rule="dimension.undeclared")


def _cube_statements(card: DatasetCard) -> list[str]:
    cells = [cell_column(item.name) for item in base_dimensions(card)]
    statements = [_units_table([cell_column(item.name) for item in unit_dimensions(card)])] if has_units(card) else []
    if not has_cube(card):
        return statements
    statements.append(_cube_table(card, cells))
    statements += [_bucket_table(item.name, cells) for item in dp_measures(card) if is_bucketed(item)]
    return statements


def _units_table(cells: list[str]) -> str:
    # Every unit has exactly one row of rank 0.
    return _table(UNITS, cells, ["count(*) AS n"], where="r = 0")


def _cube_table(card: DatasetCard, cells: list[str]) -> str:
    sums = ["count(*) AS n"]
    for measure in dp_measures(card):
        name, value = measure.name, value_column(measure.name)
        away = f"(CAST({value} AS HUGEINT) - {centre(measure)})"
        if reach(measure) < 2**31:
            away = f"(CAST({value} AS BIGINT) - {centre(measure)})"
        sums += [f"count({value}) AS c_{name}", f"coalesce(sum({away}), 0) AS s_{name}"]
        if is_squared(measure):
            sums.append(f"coalesce(sum({away} * {away}), 0) AS q_{name}")
    return _table(CUBE, cells, sums)


def _bucket_table(measure: str, cells: list[str]) -> str:
    bucket = bucket_column(measure)
    return _table(bucket_table(measure), [*cells, bucket], ["count(*) AS n"], where=f"{bucket} IS NOT NULL")


def _table(name: str, keys: list[str], sums: list[str], *, where: str = "TRUE") -> str:
    # A group of all rows has one result row even of nothing, so HAVING keeps an empty store empty.
    grouped = f"GROUP BY {', '.join(keys)} ORDER BY {', '.join(keys)}" if keys else "HAVING count(*) > 0"
    selected = f"SELECT {', '.join([*keys, *sums])} FROM {_STORE}.{ROWS} WHERE {where} {grouped}"
    return f"CREATE TABLE {_STORE}.{name} AS {selected}"
