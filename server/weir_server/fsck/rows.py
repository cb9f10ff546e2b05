# SPDX-License-Identifier: Apache-2.0
"""How fsck reads the books: its own connection to either engine, one consistent snapshot, nothing written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

_DATABASE = "ledger.db"


class Rows(Protocol):
    """Statements with `?` for parameters, on one snapshot."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Iterable[tuple[Any, ...]]:
        """Rows of a statement."""
        ...

    def has_table(self, name: str) -> bool:
        """Whether the books have this table; older ones that were not started since may lack newer tables."""
        ...

    def damage(self) -> bool:
        """Whether the engine itself finds its pages or indexes damaged: that can hide rows from every statement."""
        ...

    def mistyped(self) -> Sequence[str]:
        """Tables with a value of another type than its column's: nothing can be read from it then."""
        ...


class SqliteRows:
    """The embedded file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Iterable[tuple[Any, ...]]:
        """Rows of a statement."""
        return self._connection.execute(sql, parameters)

    def has_table(self, name: str) -> bool:
        """Whether there is this table."""
        return bool(self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchall())

    def damage(self) -> bool:
        """SQLite's own check."""
        return self._connection.execute("PRAGMA integrity_check(10)").fetchall() != [("ok",)]

    def mistyped(self) -> Sequence[str]:
        """SQLite keeps a type with each value, apart from its column's; one bit of it makes a text of bytes."""
        tables = self._connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
        ).fetchall()
        return [table for (table,) in tables if self._is_mistyped(table)]

    def _is_mistyped(self, table: str) -> bool:
        columns = self._connection.execute("SELECT name, lower(type) FROM pragma_table_info(?)", (table,)).fetchall()
        other = " OR ".join(f"typeof({_quoted(name)}) <> ?" for name, _ in columns)
        statement = f"SELECT 1 FROM {_quoted(table)} WHERE {other} LIMIT 1"  # noqa: S608
        return bool(self._connection.execute(statement, [kind for _, kind in columns]).fetchall())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def sqlite_rows(directory: Path) -> Iterator[SqliteRows]:
    """The books of a directory; safe while a server runs on it.

    Raises:
        sqlite3.DatabaseError: there is no database, or its file is damaged.
    """
    uri = f"file:{quote(str(directory / _DATABASE))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        yield SqliteRows(connection)


class PostgresRows:
    """The served schema."""

    def __init__(self, connection: Any, schema: str) -> None:
        self._connection, self._schema = connection, schema

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Iterable[tuple[Any, ...]]:
        """Rows of a statement."""
        found: list[tuple[Any, ...]] = self._connection.execute(sql.replace("?", "%s"), parameters or None).fetchall()
        return found

    def has_table(self, name: str) -> bool:
        """Whether there is this table."""
        place = f"{self._schema}.{name}"
        return bool(self._connection.execute("SELECT to_regclass(%s) IS NOT NULL", (place,)).fetchone()[0])

    def damage(self) -> bool:
        """Nothing that a connection may ask: pages are the server's own to check (`pg_amcheck`)."""
        return False

    def mistyped(self) -> Sequence[str]:
        """None: a column has one type."""
        return ()


@contextmanager
def postgres_rows(conninfo: str, schema: str) -> Iterator[PostgresRows]:
    """The books of a schema, beside the processes that use it.

    Raises:
        Unavailable: the server cannot be reached.
    """
    from weir_server.store.postgres import open_connection

    with closing(open_connection(conninfo, schema)) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield PostgresRows(connection, schema)
