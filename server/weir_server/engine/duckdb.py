# SPDX-License-Identifier: Apache-2.0
"""DuckDB behind a guard: the only way Weir opens it.

Two kinds of engine. A *query* engine reads one database file read-only and can reach no other file, extension or
network: file systems are disabled and the configuration is locked, in the order that also closes `read_blob` on the
own file and `COPY … TO '<own file>.wal'`. A *publishing* engine may read and write below named directories.

DuckDB's errors quote cell values. None of them leaves this module: every failure becomes a fixed text, raised outside
the handler so that not even `__context__` holds the original.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import duckdb
import numpy as np

from weir.errors import InternalError, Unavailable, WeirError
from weir_server.engine.relational import Dialect, Statement, quote

_T = TypeVar("_T")
_LOG = logging.getLogger("weir.engine")
Parameter = bool | int | str | float | list[Any] | None
"""What may be bound to `?`. Text goes in as a parameter, never into the statement."""


class Engine:
    """One DuckDB connection. A connection runs one statement at a time; `cursor` gives each thread its own."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def query(
        self, sql: str, params: Sequence[Parameter] = (), *, seconds: float | None = None
    ) -> list[tuple[Any, ...]]:
        """All rows of a generated statement, as Python values (integers stay exact, HUGEINT included).

        `seconds`: interrupt after this long.

        Raises:
            InternalError: the engine failed; the text says nothing of the data.
            Unavailable: interrupted, by `seconds` or by `interrupt`.
        """
        with self._deadline(seconds):
            return _guarded(lambda: self._connection.execute(sql, list(params)).fetchall())

    def arrays(
        self, sql: str, params: Sequence[Parameter] = (), *, seconds: float | None = None
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Columns of a generated statement as numpy arrays. Integers come exact up to BIGINT; HUGEINT would come as
        float, so cast such columns to text first.

        Raises: as `query`.
        """
        with self._deadline(seconds):
            return dict(_guarded(lambda: self._connection.execute(sql, list(params)).fetchnumpy()))

    def batches(
        self, sql: str, params: Sequence[Parameter] = (), *, rows: int = 10_000
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Rows in lists of at most `rows`, streamed from a cursor of its own.

        Raises: as `query`.
        """
        with self.cursor() as cursor:
            cursor.run(sql, params)
            while batch := _guarded(lambda: cursor._connection.fetchmany(rows)):
                yield batch

    def one(self, sql: str, params: Sequence[Parameter] = ()) -> Any:
        """First column of the only row.

        Raises: as `query`.
        """
        return self.query(sql, params)[0][0]

    def run(self, sql: str, params: Sequence[Parameter] = (), *, seconds: float | None = None) -> None:
        """Run a generated statement for its effect.

        Raises: as `query`.
        """
        with self._deadline(seconds):
            _guarded(lambda: self._connection.execute(sql, list(params)))

    def select(self, statement: Statement, *, seconds: float | None = None) -> list[tuple[Any, ...]]:
        """See `RowEngine.select`."""
        return self.query(statement.text(Dialect.DUCKDB), seconds=seconds)

    def stream(self, statement: Statement, *, rows: int = 10_000) -> Iterator[list[tuple[Any, ...]]]:
        """See `RowEngine.stream`."""
        return self.batches(statement.text(Dialect.DUCKDB), rows=rows)

    def keep(self, name: str, statement: Statement) -> None:
        """See `RowEngine.keep`. `name` may say the attached database, too."""
        self.run(f"CREATE TABLE {name} AS {statement.text(Dialect.DUCKDB)}")

    def load(self, name: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> None:
        """See `RowEngine.load`."""
        self.run(f"CREATE TABLE {name} ({', '.join(f'{column} {kind}' for column, kind in columns.items())})")
        values = ", ".join(f"unnest(CAST(? AS {kind}[]))" for kind in columns.values())
        for batch in batched(rows, 100_000):
            self.run(f"INSERT INTO {name} SELECT {values}", [list(column) for column in zip(*batch, strict=True)])

    def drop(self, name: str) -> None:
        """See `RowEngine.drop`."""
        self.run(f"DROP TABLE {name}")

    def cursor(self) -> Engine:
        """Another connection to the same database, for another thread; close it too."""
        return Engine(_guarded(self._connection.cursor))

    def interrupt(self) -> None:
        """Stop the statement that runs now; it raises Unavailable in its own thread. Safe from any thread."""
        self._connection.interrupt()

    def close(self) -> None:
        """Close this connection; the database closes with its last one."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _deadline(self, seconds: float | None) -> Iterator[None]:
        if seconds is None:
            yield
            return
        timer = threading.Timer(max(seconds, 0.0), self.interrupt)  # DuckDB has no statement timeout of its own
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def open_engine(
    path: Path | None,
    *,
    read_only: bool = True,
    threads: int = 1,
    memory_limit: str = "1GB",
    temp_directory: Path | None = None,
    directories: Sequence[Path] = (),
) -> Engine:
    """A locked-down engine over the database file `path`, or over memory when None.

    `memory_limit`: as DuckDB writes it, for example `1GB`. `temp_directory`: where it may spill; None forbids
    spilling, and a query engine (read-only, no directories) cannot spill at all.
    `directories`: existing directories below which statements may read and write files; every query path gives none.

    Raises:
        InternalError: the file is missing or no database, or a setting was refused.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "threads": threads,
        "memory_limit": memory_limit,
        "temp_directory": "" if temp_directory is None else str(temp_directory),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "python_enable_replacements": False,
    }
    connection = _guarded(
        lambda: duckdb.connect(
            ":memory:" if path is None else str(path), read_only=read_only and path is not None, config=settings
        )
    )
    engine = Engine(connection)
    for statement in _lockdown(directories, writable=path is not None and not read_only):
        engine.run(statement)
    return engine


def _lockdown(directories: Sequence[Path], *, writable: bool) -> Iterator[str]:
    yield "SET TimeZone = 'UTC'"
    yield "SET enable_progress_bar = false"
    if directories:
        paths = ", ".join(quote(f"{path.resolve()}/") for path in directories)
        yield f"SET allowed_directories = [{paths}]"
    yield "SET enable_external_access = false"
    if not directories and not writable:  # a writable database needs the file system for its own log
        # Closes what external access leaves open: reading or overwriting the own database file.
        yield "SET disabled_filesystems = 'LocalFileSystem'"
    yield "SET lock_configuration = true"


def batched(rows: Iterable[_T], most: int) -> Iterator[list[_T]]:
    """`rows` in lists of at most `most`."""
    source = iter(rows)
    while batch := list(islice(source, most)):
        yield batch


def _guarded(call: Callable[[], _T]) -> _T:
    try:
        return call()
    except duckdb.InterruptException:
        failure: WeirError = Unavailable("the engine was stopped before it finished", rule="engine.interrupted")
    except (duckdb.Error, OSError) as error:
        _LOG.error("engine failure of type %s", type(error).__name__)  # its text would quote cells
        failure = InternalError("the engine failed", rule="engine.failed")
    try:
        raise failure  # here, so that the failure has no context
    finally:
        del failure  # its traceback holds this frame, and with it the call
