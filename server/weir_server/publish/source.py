# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""Reading a source, declared columns only: into the publisher's own database, or on the cluster where it lies.

CSV is read as text (see `delimited`), so that decimals stay exact; Parquet and DuckDB keep their types. PostgreSQL is
read in one read-only, repeatable-read transaction, streamed by COPY. On a cluster, a table or Parquet is copied once
below the cluster's directory. What is read is the relation `source_raw` (`source_read`, where consents are still to be
applied); nothing of the source is opened again afterwards, so one that changes meanwhile cannot split a snapshot in
two.

Integers, decimals and texts are kept as they are, all else as its text. That of a binary float reads back to the same
float; Spark on Java 17 and older writes some with a digit more than they need, and 2e23 as 1.9999999999999998E23: what
must be exact is stored as a decimal.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from weir.errors import InternalError, PublicationError, Violation
from weir_server.catalog.card import DatasetCard, Source, declared_columns
from weir_server.engine.duckdb import Engine
from weir_server.engine.relational import identifier, quote, statement
from weir_server.publish.delimited import load, read_header
from weir_server.publish.place import Place, Remote

RAW = "source_raw"
READ = "source_read"
"""The source before rows without consent are left out."""
REMOTE_KINDS = ("table", "parquet")
"""What a location on a cluster starts with, before a colon."""
_ATTACHED = "source_file"
_NAMED = "source_named"
_PLAIN = ("tinyint", "smallint", "int", "bigint", "string")


def source_path(source: Source, *, card_directory: Path, override: Path | None) -> Path | None:
    """File of the source; None for what is no file. A relative location counts from the card.

    Raises:
        PublicationError: no such file.
    """
    if source.kind in ("postgres", "spark"):
        return None
    path = override if override is not None else card_directory / source.location
    if not path.is_file():
        raise PublicationError("the source file does not exist", rule="source.missing", field="source.location")
    return path.resolve()


def read_source(card: DatasetCard, *, place: Place, path: Path | None, work: Path) -> int:
    """Make `source_raw` of the source, or `source_read` where the card names a register of consents; its number of
    rows.

    Raises:
        PublicationError: unreadable, or a declared column is absent.
    """
    target = RAW if card.consent is None else READ
    return read_columns(card.source, declared_columns(card), target=target, place=place, path=path, work=work)


def read_columns(
    source: Source, columns: Sequence[str], *, target: str, place: Place, path: Path | None, work: Path
) -> int:
    """Create the table `target` of these columns of a source and return its number of rows.

    Raises:
        PublicationError: unreadable, or a column is absent.
    """
    if place.remote is not None and source.kind != "spark":  # the card's rules say so, too
        raise PublicationError("data and register are on one cluster, or neither is", rule="source.spark")
    try:
        if place.remote is not None:
            _copy_remote(source, columns, target, place.remote)
        else:
            _copy_local(source, columns, target, place.local, path, work)
    except InternalError:
        raise PublicationError("the source cannot be read as declared", rule="source.unreadable") from None
    return int(place.rows.select(statement(f"SELECT COUNT(*) FROM {target}"))[0][0])


def _copy_local(
    source: Source, columns: Sequence[str], target: str, engine: Engine, path: Path | None, work: Path
) -> None:
    if path is None:
        # Written as text by the database itself, so that numerics stay exact.
        path = _fetch_postgres(source, columns, work / f"{target}.csv")
    if source.kind in ("csv", "postgres"):
        names = read_header(path, delimiter=source.delimiter)
        _check_columns(columns, names, header=source.kind == "csv")
        load(columns, target=target, engine=engine, path=path, delimiter=source.delimiter, names=names)
        return
    relation = _relation(source, engine, path)
    present = {str(row[0]): str(row[1]).upper() for row in engine.query(f"DESCRIBE SELECT * FROM {relation}")}
    _check_columns(columns, present)
    kept = ", ".join(_kept(column, present[column]) for column in columns)
    engine.run(f"CREATE TABLE {target} AS SELECT {kept} FROM {relation}")
    if source.kind == "duckdb":
        engine.run(f"DETACH {_ATTACHED}")  # data and register may lie in one file


def _copy_remote(source: Source, columns: Sequence[str], target: str, remote: Remote) -> None:
    kind, _, path = source.location.partition(":")
    if kind == "parquet" and remote.keeps(path):
        raise PublicationError("private records of publications are no source", rule="source.private")
    engine = remote.engine
    present = engine.columns(source.location)
    _check_columns(columns, present)
    kept = ", ".join(_kept_remote(column, present[column].lower()) for column in columns)
    engine.name(_NAMED, source.location)
    engine.keep(target, statement(f"SELECT {kept} FROM {_NAMED}"))
    engine.drop(_NAMED)


def _kept_remote(column: str, kind: str) -> str:
    """As `_kept`; times are in UTC, those that mean an instant with their zone, as DuckDB writes them."""
    name = identifier(column)
    if kind in _PLAIN or kind.startswith("decimal("):
        return name
    if kind.startswith(("varchar(", "char(")) or kind in ("boolean", "date", "float", "double", "timestamp_ntz"):
        return f"CAST({name} AS TEXT) AS {name}"
    if kind == "timestamp":
        return f"CAST({name} AS TEXT) || '+00' AS {name}"
    raise PublicationError(
        f"columns of type {kind:.40} are not read: cast it to text in a view",
        violations=[Violation(rule="source.type", subject=column, count=0, sentence="a number, text, time or boolean")],
        rule="source.type",
    )


def _kept(column: str, kind: str) -> str:
    """A column as it is kept: integers and decimals as they are; floats as their shortest text, which reads back
    exactly; everything else as text."""
    plain = kind.endswith("INT") or kind in ("INTEGER", "UINTEGER", "VARCHAR") or kind.startswith("DECIMAL")
    return identifier(column) if plain else f"CAST({identifier(column)} AS VARCHAR) AS {identifier(column)}"


def _relation(source: Source, engine: Engine, path: Path) -> str:
    if source.kind == "parquet":
        return f"read_parquet({quote(str(path))})"
    engine.run(f"ATTACH {quote(str(path))} AS {_ATTACHED} (READ_ONLY)")
    parts = source.table.split(".")
    schema, table = parts if len(parts) == 2 else ("main", source.table)
    return f"{_ATTACHED}.{identifier(schema)}.{identifier(table)}"


def _check_columns(columns: Sequence[str], present: Iterable[str], *, header: bool = False) -> None:
    """Refuse a source without one of `columns`. `header`: `present` is the first line of a file, which may be no
    header, but somebody's record: it is told only where it holds names that the card declares."""
    names = dict.fromkeys(present)
    missing = [column for column in columns if column not in names]
    if not missing:
        return
    if header and len(missing) == len(columns):
        found = f"the first line has none of them in {len(names)} fields: is it the header, and is the delimiter right?"
    else:
        found = f"it has: {', '.join(f'{name:.60}' for name in list(names)[:30])}{', …' if len(names) > 30 else ''}"
    raise PublicationError(
        f"the source lacks {len(missing)} declared columns: {', '.join(missing[:10])}; {found}",
        violations=[
            Violation(rule="source.column", subject=column, count=0, sentence="the source has no such column")
            for column in missing
        ],
        rule="source.column",
    )


def _fetch_postgres(source: Source, columns: Sequence[str], path: Path) -> Path:
    """Copy the columns into the CSV file `path` of the work directory, in one read-only transaction."""
    try:
        import psycopg
        from psycopg import sql
    except ImportError:
        raise PublicationError(
            "reading PostgreSQL needs `pip install dataweir[postgres]`", rule="source.extra"
        ) from None
    connection_string = os.environ.get(source.location)
    if not connection_string:
        raise PublicationError(
            "the environment variable with the connection string is not set", rule="source.connection"
        )
    failed: str | None = None
    try:
        with psycopg.connect(connection_string) as connection:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            present = _postgres_columns(connection, source.table)
            _check_columns(columns, present)
            query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT csv, HEADER true, ENCODING 'UTF8')").format(
                sql.SQL(", ").join(sql.Identifier(column) for column in columns),
                sql.Identifier(*source.table.split(".")),
            )
            with path.open("wb") as file, connection.cursor() as cursor, cursor.copy(query) as copy:
                for block in copy:
                    file.write(block)
    except psycopg.Error as error:
        failed = type(error).__name__  # its text may quote values or the connection string
    if failed is not None:
        raise PublicationError("the database refused to be read", rule="source.unreadable")
    return path


def _postgres_columns(connection: object, table: str) -> set[str]:
    from psycopg import Connection, sql

    assert isinstance(connection, Connection)  # noqa: S101 - tells the type checker what the caller made
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(sql.Identifier(*table.split("."))))
        return {column.name for column in cursor.description or ()}
