# SPDX-License-Identifier: Apache-2.0
"""Bounded rows: what a snapshot keeps of a source for differential privacy (DESIGN §5).

Each unit's rows are ranked once, at random from a secret salt and that unit's own rows alone, and only those below
the bound are kept; values are clipped, as integers on the declared grid. Adding or removing one unit therefore adds
or removes at most `rows_per_unit` stored rows and changes no other: every sensitivity of `weir_server.dp` rests on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from weir.errors import PublicationError, Violation
from weir_server.catalog.card import DatasetCard
from weir_server.catalog.remote_rows import FILE as REMOTE_FILE
from weir_server.catalog.remote_rows import RemoteRows, rows_to_json
from weir_server.dp.layout import FILE, ROWS, base_dimensions, has_cube
from weir_server.engine.duckdb import Engine
from weir_server.engine.port import RowEngine
from weir_server.engine.relational import quote
from weir_server.engine.spark import SparkEngine
from weir_server.publish.bounded_report import Effect, effects_of_bounds
from weir_server.publish.bounded_sql import (
    cube_statements,
    missing_statement,
    outside_statement,
    rows_statement,
    units_statement,
)
from weir_server.publish.fingerprint import fingerprint

_SALT_BYTES = 16
_STORE = "bounded_store"
_UNITS = "bounded_units"
_REMOTE = "bounded_rows"
_CONTEXT = "bounded rows"


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


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A cluster that holds the source's rows, and keeps the bounded ones."""

    engine: SparkEngine
    location: str
    """Directory for the bounded rows of this version alone; it does not exist yet."""
    key: bytes
    """What ranks are drawn by there, instead of the salt: `rank_key`."""


def rank_key(salt: bytes, *, dataset: str, version: int) -> bytes:
    """What a cluster sees in place of the salt, for one version of one dataset: it says nothing of others.

    Source: RFC 5869.
    """
    info = f"weir/ranks/1|{dataset}|{version}".encode()
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(salt)


def write_bounded(
    card: DatasetCard,
    *,
    engine: Engine,
    rows_relation: str,
    directory: Path,
    salt: bytes,
    elsewhere: Elsewhere | None = None,
    report_epsilon_nano: int = 0,
) -> BoundedReport:
    """Writes the bounded store of `card` into `directory`.

    `engine`: a publishing engine that may write below `directory`. `rows_relation`: table, view or subquery of the
    source's rows with their own columns, in `engine`, or in that of `elsewhere`: the bounded rows stay there then, and
    only the cube is written here. `salt`: at least 16 secret random bytes; with the same salt a unit whose rows did not
    change keeps the same rows in every snapshot (elsewhere, with the same key). It is stored nowhere here.
    `report_epsilon_nano`: loss to spend on saying how much the bounds drop; 0 to say nothing.

    Raises:
        PublicationError: a row without a unit, or a value outside a dimension's declared cells.
        InternalError: an engine failed.
        Unavailable: the cluster cannot be reached.
    """
    if len(salt) < _SALT_BYTES:
        raise ValueError(f"a salt has at least {_SALT_BYTES} bytes")
    source: RowEngine = engine if elsewhere is None else elsewhere.engine
    _check_units(card, source, rows_relation)
    engine.run(f"ATTACH {quote(str(directory / FILE))} AS {_STORE}")
    try:
        if elsewhere is None:
            files = _write_here(card, engine, rows_relation, salt.hex())
        else:
            files = _write_elsewhere(card, engine, rows_relation, elsewhere, directory)
    finally:
        engine.run(f"DETACH {_STORE}")
    effects: tuple[Effect, ...] = ()
    if report_epsilon_nano:
        effects = effects_of_bounds(card, engine=source, rows_relation=rows_relation, epsilon_nano=report_epsilon_nano)
    return BoundedReport(files=files, cube=has_cube(card), effects=effects, epsilon_nano=report_epsilon_nano)


def _write_here(card: DatasetCard, engine: Engine, relation: str, key: str) -> tuple[str, ...]:
    rows = f"{_STORE}.{ROWS}"
    engine.keep(_UNITS, units_statement(card, rows=relation, key=key))
    try:
        engine.keep(rows, rows_statement(card, rows=relation, units=_UNITS, key=key))
    finally:
        engine.drop(_UNITS)
    _check_cells(card, engine, rows)
    for name, (_, filled) in cube_statements(card, rows=rows).items():
        engine.keep(f"{_STORE}.{name}", filled)
    return (FILE,)


def _write_elsewhere(
    card: DatasetCard, engine: Engine, relation: str, elsewhere: Elsewhere, directory: Path
) -> tuple[str, ...]:
    cluster, key = elsewhere.engine, elsewhere.key.hex()
    cluster.keep(_UNITS, units_statement(card, rows=relation, key=key))
    try:
        made = rows_statement(card, rows=relation, units=_UNITS, key=key)
        cluster.save(_REMOTE, made, path=elsewhere.location)
    finally:
        cluster.drop(_UNITS)
    _check_cells(card, cluster, _REMOTE)
    for name, (columns, filled) in cube_statements(card, rows=_REMOTE).items():
        kinds = {column: "INTEGER" if column.startswith(("d_", "k_")) else "HUGEINT" for column in columns}
        cells = (row for batch in cluster.stream(filled) for row in batch)
        engine.load(f"{_STORE}.{name}", kinds, cells)
    named = RemoteRows("spark", elsewhere.location, fingerprint_of_rows(cluster, _REMOTE, key=elsewhere.key))
    cluster.drop(_REMOTE)
    (directory / REMOTE_FILE).write_bytes(rows_to_json(named))
    return (FILE, REMOTE_FILE)


def fingerprint_of_rows(cluster: SparkEngine, relation: str, *, key: bytes) -> str:
    """What names the bounded rows of a relation of the cluster, in any order. `key`: `rank_key`.

    Raises:
        InternalError: the engine failed.
        Unavailable: the cluster cannot be reached.
    """
    columns = sorted(cluster.columns(f"table:{relation}"))
    return fingerprint(cluster, relation=relation, columns=columns, salt=key, context=_CONTEXT)


def _check_units(card: DatasetCard, engine: RowEngine, relation: str) -> None:
    missing = engine.select(missing_statement(card, rows=relation))[0][0]
    if missing:
        sentence = "every row names its privacy unit"
        violation = Violation("unit.missing", card.unit_column, int(missing), sentence)
        raise PublicationError("rows without a privacy unit", violations=(violation,), rule="unit.missing")


def _check_cells(card: DatasetCard, engine: RowEngine, rows: str) -> None:
    """A NULL cell is a value that the card does not declare; groups would silently lose its rows."""
    names = [item.name for item in base_dimensions(card)]
    if not names:
        return
    outside = engine.select(outside_statement(card, rows=rows))[0]
    violations = tuple(
        Violation("dimension.undeclared", name, int(count), "every value lies in a declared cell")
        for name, count in zip(names, outside, strict=True)
        if count
    )
    if violations:
        raise PublicationError("values outside the declared cells", violations=violations, rule="dimension.undeclared")
