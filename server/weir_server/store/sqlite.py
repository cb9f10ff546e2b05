# SPDX-License-Identifier: Apache-2.0
"""The embedded store: one SQLite file in WAL mode with synchronous=FULL, locked for one process.

Only the writer's connection ever checkpoints the WAL: readers open the file read-only. That keeps away from the race
between two checkpointing connections that SQLite had before 3.51.3.
"""

from __future__ import annotations

import fcntl
import os
import queue
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from weir.errors import InvalidRequest, LedgerLocked, Unavailable
from weir_server.store import Row, SqlValue, Transaction
from weir_server.store.group import GROUP_LIMIT, Admit, GroupWriter
from weir_server.store.pending import PlainTransaction, Statements
from weir_server.store.schema import migrate, require_current

T = TypeVar("T")
FILE_NAME = "ledger.db"
LOCK_NAME = "ledger.lock"
_TYPES = {"int": "INTEGER", "bytes": "BLOB", "clustered": "WITHOUT ROWID"}
_BUSY_MS = 10_000
_IDLE_READERS = 8
_FATAL_CODES = frozenset({
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED,
})  # fmt: skip
"""Primary result codes that say the engine is at fault; what is on disk is then unknown."""
_UNREADABLE_CODES = _FATAL_CODES - {sqlite3.SQLITE_READONLY}
"""Those that say so of a reader, which may not write."""


class SqliteTransaction(PlainTransaction):
    """Statements on one connection."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[SqlValue] = ()) -> list[Row]:
        """Runs one statement and gives all its rows."""
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except OverflowError:
            raise _unstorable() from None

    def execute_many(self, sql: str, rows: Sequence[Sequence[SqlValue]]) -> None:
        """Runs one statement once per row of parameters."""
        try:
            self._connection.executemany(sql, rows)
        except OverflowError:
            raise _unstorable() from None


def _is_of(error: sqlite3.Error, codes: frozenset[int]) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in codes


def _unstorable() -> InvalidRequest:
    return InvalidRequest("a number of the request cannot be stored", rule="store.value")


class SqliteEngine:
    """The writer's connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.statements: Statements = SqliteTransaction(connection)

    def begin(self) -> None:
        """Takes the write lock at once, so that no statement can fail for it later.

        Raises:
            Unavailable: the tables are not this program's any more.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        require_current(self._connection.execute("SELECT version FROM schema_version WHERE id = 1").fetchone()[0])

    def abandon(self) -> None:
        """Gives the write lock back."""
        self._connection.execute("ROLLBACK")

    def savepoint(self) -> None:
        """Opens one operation's savepoint."""
        self._connection.execute("SAVEPOINT operation")

    def release(self) -> None:
        """Keeps what the operation did."""
        self._connection.execute("RELEASE operation")

    def undo(self) -> None:
        """Takes back what the operation did."""
        self._connection.execute("ROLLBACK TO operation")
        self._connection.execute("RELEASE operation")

    def commit(self) -> None:
        """Writes and syncs the WAL."""
        self._connection.execute("COMMIT")

    def is_fatal(self, error: BaseException) -> bool:
        """I/O, space, memory or corruption; or SQLite has ended the group's transaction by itself."""
        if not self._connection.in_transaction:
            return True
        return isinstance(error, sqlite3.Error) and _is_of(error, _FATAL_CODES)

    def close(self) -> None:
        """Frees the connection; an open transaction is rolled back."""
        self._connection.close()


class SqliteStore:
    """A store in one directory. See `weir_server.store.Store` for what its methods promise."""

    def __init__(
        self,
        directory: Path,
        *,
        seal: Callable[[Transaction], None],
        on_failure: Callable[[BaseException], None] = lambda error: None,
        connect: Callable[[Path], sqlite3.Connection] | None = None,
        group_limit: int = GROUP_LIMIT,
        admit: Admit = lambda engine_time: None,
    ) -> None:
        """Opens or makes the store of `directory` (which must exist).

        `seal` runs at the end of every group, inside its transaction. `on_failure` runs once, in the writer's thread,
        when the store stops by itself. `connect` makes the writer's connection: a seam for fault injection. `admit` is
        asked before each group.

        Raises:
            LedgerLocked: another process, or another store of this one, has the directory.
            Unavailable: the data was written by a newer Weir.
        """
        self._path = directory / FILE_NAME
        self._lock = _lock(directory / LOCK_NAME)
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        try:
            with closing(open_writer(self._path)) as connection:
                _migrate(connection)
            _sync_directory(directory)
            self._writer = GroupWriter(
                lambda: SqliteEngine((connect or open_writer)(self._path)),
                seal=seal,
                on_failure=on_failure,
                group_limit=group_limit,
                admit=admit,
            )
        except BaseException:
            os.close(self._lock)
            raise

    async def write(self, operation: Callable[[Transaction], T]) -> T:
        """Runs `operation` in the next group; see the port."""
        # A caller that goes away drops the result only: nothing undoes what its group may be committing.
        return await self._writer.submit_from_loop(operation)

    def write_sync(self, operation: Callable[[Transaction], T]) -> T:
        """Runs `operation` in the next group and waits; see the port."""
        return self._writer.submit(operation).result()

    def read(self, operation: Callable[[Transaction], T]) -> T:
        """Runs `operation` on a consistent snapshot; see the port.

        Raises:
            Unavailable: the file cannot be read now.
        """
        with self._reading() as connection:
            connection.execute("BEGIN")
            try:
                return operation(SqliteTransaction(connection))
            finally:
                connection.execute("ROLLBACK")

    def look(self, operation: Callable[[Transaction], T]) -> T:
        """Runs `operation`, each of whose statements sees what is durable by then; see the port.

        Raises:
            Unavailable: the file cannot be read now.
        """
        with self._reading() as connection:
            return operation(SqliteTransaction(connection))

    @property
    def stopped(self) -> bool:
        """Whether the store has failed or been closed."""
        return self._writer.stopped

    @property
    def refused(self) -> int:
        """Groups that were not admitted so far; see the port."""
        return self._writer.refused

    @property
    def shared(self) -> bool:
        """False: one process has the directory."""
        return False

    def close(self) -> None:
        """Finishes accepted writes, closes every connection, frees the lock. Again: nothing happens."""
        self._writer.close()
        while not self._readers.empty():
            self._readers.get_nowait().close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._reader()
            try:
                yield connection
            finally:
                self._return_reader(connection)
        except sqlite3.Error as error:
            if _is_of(error, _UNREADABLE_CODES):
                raise Unavailable("the ledger cannot be read", rule="store.read") from error
            raise

    def _reader(self) -> sqlite3.Connection:
        try:
            return self._readers.get_nowait()
        except queue.Empty:
            return open_reader(self._path)

    def _return_reader(self, connection: sqlite3.Connection) -> None:
        if self._readers.qsize() < _IDLE_READERS and not self._writer.stopped:
            self._readers.put(connection)
        else:
            connection.close()


def open_writer(path: Path) -> sqlite3.Connection:
    """A connection whose commits are durable when they return."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512)
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL syncs the WAL at every commit; NORMAL would lose acknowledged commits when the power fails.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Erased salts and answers are overwritten with zeros, not merely unlinked.
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A read-only connection; it may be used from any thread, one at a time."""
    uri = f"file:{quote(str(path))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    connection.execute("PRAGMA query_only = ON")
    return connection


@contextmanager
def read_only(directory: Path) -> Iterator[Transaction]:
    """One consistent snapshot of a store that this process does not own; safe beside the server that does.

    Raises:
        Unavailable: there is no store.
    """
    try:
        connection = open_reader(directory / FILE_NAME)
    except sqlite3.OperationalError as error:
        raise Unavailable("the directory holds no books", rule="store.missing") from error
    with closing(connection):
        connection.execute("BEGIN")
        yield SqliteTransaction(connection)


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        migrate(SqliteTransaction(connection), types=_TYPES)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _lock(path: Path) -> int:
    """An exclusive lock that ends with the process, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise LedgerLocked(
            "another process owns this data directory", rule="ledger.lock", field="data_directory"
        ) from error
    return descriptor


def _sync_directory(directory: Path) -> None:
    """Makes the new file's name durable too: without it a power cut could lose the whole ledger."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
