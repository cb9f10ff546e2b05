# SPDX-License-Identifier: Apache-2.0
"""The served store: one PostgreSQL schema that several server processes share.

Each process groups its own writes, and a group takes the ledger's advisory lock before it reads anything. So at any
moment one process writes: quotas are exact, the head of the log moves under one hand, and a process that dies frees the
lock with its connection. Readers never wait for it.
"""

from __future__ import annotations

import queue
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from typing import LiteralString, TypeVar, cast

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

from weir.errors import InvalidRequest, Unavailable
from weir_server.store import Row, SqlValue, Transaction
from weir_server.store.group import GROUP_LIMIT, Admit, GroupWriter
from weir_server.store.pending import PlainTransaction, Statements
from weir_server.store.schema import migrate, require_current

T = TypeVar("T")
Connection = psycopg.Connection[tuple[object, ...]]
_TYPES = {"int": "BIGINT", "bytes": "BYTEA", "clustered": ""}
_OLDEST = 140_000
_IDLE_READERS = 8
_CONNECT_SECONDS = 10
_KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
"""A peer that is gone without a word is noticed within seconds, at both ends."""
_LONGEST_PAUSE = "15s"
"""For which the writer may do nothing inside a transaction: a process that hangs, or a machine that is cut off, holds
its turn, its tasks and its holds no longer than this; it has lost the books then, and ends."""
_SESSION = {
    # `off` would acknowledge commits that a crash of the server loses.
    "synchronous_commit": "on",
    "client_encoding": "UTF8",
    # Waiting for one's turn takes as long as it takes, and a quiet process keeps what it holds, whatever a database
    # sets for others.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    **{f"tcp_{name}": str(value) for name, value in _KEEPALIVE.items()},
}
_SESSION_WHERE_KNOWN = {
    # From PostgreSQL 17 on: it would end a group that waits for its turn, or a long read of the log.
    "transaction_timeout": "0",
}
_SCHEMA = re.compile(r"[a-z][a-z0-9_]{0,62}")
_FATAL_CLASSES = frozenset({"08", "25", "40", "53", "57", "58", "XX"})
"""SQLSTATE classes that say the engine is at fault: connection, transaction state, rollback, resources, intervention,
system, internal. What is durable is then unknown."""


_BEGIN = sql.SQL(
    """BEGIN ISOLATION LEVEL READ COMMITTED;
    SELECT pg_advisory_xact_lock({});
    SELECT version, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM schema_version WHERE id = 1"""
)
"""One way to the server and back. The last statement sees what was committed while the lock was waited for; whoever
migrates holds the same lock."""
_TASK_KEY = "hashtextextended(current_schema() || '/weir-task/' || ?::text, 0)"
_OWNER_KEY = "hashtextextended('weir-owner/' || ?::text, 0)"


class PostgresTransaction(PlainTransaction):
    """Statements on one connection."""

    __slots__ = ("_cursor", "_led", "_owner")

    def __init__(self, connection: Connection, *, owner: str = "") -> None:
        self._cursor, self._owner = psycopg.RawCursor(connection), owner
        self._cursor.format = psycopg.pq.Format.BINARY
        self._led: set[str] = set()

    @property
    def owner(self) -> str:
        """Name of this process."""
        return self._owner

    def is_gone(self, owner: str) -> bool:
        """Whether nobody holds the lock of that name: its process, or its connection to the books, has ended."""
        return owner != self._owner and bool(
            self.execute(f"SELECT pg_try_advisory_xact_lock({_OWNER_KEY})", (owner,))[0][0]
        )

    def lead(self, task: str) -> bool:
        """Takes the lock of the task for the session of the connection: it ends with the process, whatever ends it."""
        if task not in self._led and self.execute(f"SELECT pg_try_advisory_lock({_TASK_KEY})", (task,))[0][0]:
            self._led.add(task)
        return task in self._led

    def step_down(self) -> None:
        """Leaves every task to the other processes."""
        while self._led:
            self.execute(f"SELECT pg_advisory_unlock({_TASK_KEY})", (self._led.pop(),))

    def execute(self, sql: str, parameters: Sequence[SqlValue] = ()) -> list[Row]:
        """Runs one statement and gives all its rows."""
        try:
            self._cursor.execute(_numbered(sql), parameters or None)
        except (psycopg.DataError, OverflowError) as error:
            raise unstorable(error) from None
        return [] if self._cursor.description is None else cast("list[Row]", self._cursor.fetchall())

    def execute_many(self, sql: str, rows: Sequence[Sequence[SqlValue]]) -> None:
        """Runs one statement once per row of parameters."""
        if rows:
            try:
                self._cursor.executemany(_numbered(sql), rows)
            except (psycopg.DataError, OverflowError) as error:
                raise unstorable(error) from None


def unstorable(error: Exception) -> Exception:
    """What a value that cannot be stored means. One that never left this process (a NUL in a text, a number of more
    than 64 bits) is the caller's fault and no failure of the server's, which would stop the store."""
    if getattr(error, "sqlstate", None) is not None:
        return error
    return InvalidRequest("a text or number of the request cannot be stored", rule="store.value")


@lru_cache(maxsize=1024)
def _numbered(statement: str) -> bytes:
    """The statement with `$1, $2 …` for its `?`, those inside quotes excepted."""
    count = 0
    parts = statement.split("'")
    for position in range(0, len(parts), 2):
        pieces = parts[position].split("?")
        numbered = pieces[0]
        for piece in pieces[1:]:
            count += 1
            numbered += f"${count}{piece}"
        parts[position] = numbered
    return "'".join(parts).encode()


class PostgresEngine:
    """The writer's connection."""

    def __init__(self, connection: Connection, *, lock: int) -> None:
        self._connection = connection
        self._begin = _BEGIN.format(sql.Literal(lock))
        owner = secrets.token_hex(8)
        self._transaction = PostgresTransaction(connection, owner=owner)
        self.statements: Statements = self._transaction
        # Of the session: it ends with the connection, however that ends, and what this process holds is nobody's then.
        self.statements.execute(f"SELECT pg_advisory_lock({_OWNER_KEY})", (owner,))
        self.statements.execute(
            "SELECT set_config('idle_in_transaction_session_timeout', ?::text, false)", (_LONGEST_PAUSE,)
        )

    def begin(self) -> int:
        """Waits for its turn among the processes. Each later statement sees everything that was committed before it.

        Raises:
            Unavailable: the tables are not this program's any more.
        """
        cursor = self._connection.execute(self._begin, prepare=False)
        while cursor.nextset():
            pass
        row = cursor.fetchone()
        version, time = (None, None) if row is None else row
        require_current(cast("SqlValue", version))
        return cast("int", time)

    def abandon(self) -> None:
        """Gives the turn back, and every task that this process leads: it can do none of them."""
        self._run("ROLLBACK")
        self._transaction.step_down()

    def savepoint(self) -> None:
        """Opens one operation's savepoint."""
        self._run("SAVEPOINT operation")

    def release(self) -> None:
        """Keeps what the operation did."""
        self._run("RELEASE SAVEPOINT operation")

    def undo(self) -> None:
        """Takes back what the operation did."""
        self._run("ROLLBACK TO SAVEPOINT operation")
        self._run("RELEASE SAVEPOINT operation")

    def commit(self) -> None:
        """Returns once the server has written and synced; frees the lock.

        Raises:
            Unavailable: the server rolled back instead, which it tells in the command's tag only.
        """
        if self._run("COMMIT") != "COMMIT":
            raise Unavailable("the ledger's transaction was rolled back", rule="store.commit")

    def is_fatal(self, error: BaseException) -> bool:
        """The connection, the server or the group's transaction is gone or damaged."""
        status = self._connection.info.transaction_status
        if self._connection.closed or status in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN):
            return True
        return isinstance(error, psycopg.Error) and (error.sqlstate is None or error.sqlstate[:2] in _FATAL_CLASSES)

    def close(self) -> None:
        """Frees the connection; the server rolls back an open transaction."""
        self._connection.close()

    def _run(self, statement: LiteralString) -> str | None:
        return self._connection.execute(statement).statusmessage


class PostgresStore:
    """A store in one schema of a PostgreSQL database. See `weir_server.store.Store` for what its methods promise."""

    def __init__(
        self,
        conninfo: str,
        *,
        seal: Callable[[Transaction], None],
        schema: str = "weir",
        on_failure: Callable[[BaseException], None] = lambda error: None,
        connect: Callable[[str, str], Connection] | None = None,
        group_limit: int = GROUP_LIMIT,
        admit: Admit = lambda engine_time: None,
    ) -> None:
        """Opens or makes the store.

        `conninfo`: libpq connection string or URL. `seal` runs at the end of every group, inside its transaction.
        `on_failure` runs once, in the writer's thread, when the store stops by itself. `connect` makes the writer's
        connection: a seam for fault injection. `admit` is asked before each group.

        Raises:
            InvalidRequest: not a schema name.
            Unavailable: no server, one that does not keep what it acknowledges, or data of a newer Weir.
        """
        if not _SCHEMA.fullmatch(schema):
            raise InvalidRequest("not a schema name", field="ledger.schema", rule="store.schema")
        self._conninfo, self._schema = conninfo, schema
        self._readers: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        with closing(open_connection(conninfo, schema)) as connection:
            _require_durable(connection)
            lock = _migrate(connection, schema)
        writer = (connect or open_connection)(conninfo, schema)
        self._writer = GroupWriter(
            lambda: PostgresEngine(writer, lock=lock),
            seal=seal,
            on_failure=on_failure,
            group_limit=group_limit,
            admit=admit,
        )

    async def write(self, operation: Callable[[Transaction], T]) -> T:
        """Runs `operation` in the next group; see the port."""
        return await self._writer.submit_from_loop(operation)

    def write_sync(self, operation: Callable[[Transaction], T]) -> T:
        """Runs `operation` in the next group and waits; see the port."""
        return self._writer.submit(operation).result()

    def read(self, operation: Callable[[Transaction], T]) -> T:
        """Runs `operation` on a consistent snapshot; see the port.

        Raises:
            Unavailable: the server cannot be reached.
        """
        connection = self._reader()
        try:
            with _snapshot(connection):
                return operation(PostgresTransaction(connection))
        except psycopg.OperationalError as error:
            raise Unavailable("the ledger cannot be reached", rule="store.connection") from error
        finally:
            self._return_reader(connection)

    def look(self, operation: Callable[[Transaction], T]) -> T:
        """As `read`: here a snapshot costs little beside the way to the server."""
        return self.read(operation)

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
        """True: processes take turns."""
        return True

    def close(self) -> None:
        """Finishes accepted writes, closes every connection. Again: nothing happens."""
        self._writer.close()
        while not self._readers.empty():
            self._readers.get_nowait().close()

    def _reader(self) -> Connection:
        try:
            return self._readers.get_nowait()
        except queue.Empty:
            return open_connection(self._conninfo, self._schema)

    def _return_reader(self, connection: Connection) -> None:
        if self._readers.qsize() < _IDLE_READERS and not self._writer.stopped and not connection.closed:
            self._readers.put(connection)
        else:
            connection.close()


def open_connection(conninfo: str, schema: str, *, kind: type[Connection] = psycopg.Connection) -> Connection:
    """A connection whose commits are durable when they return. `kind`: a seam for fault injection.

    Raises:
        Unavailable: the server cannot be reached, takes no writes, or is reached through a pool of connections.
    """
    try:
        connection = kind.connect(
            conninfo,
            autocommit=True,
            connect_timeout=_CONNECT_SECONDS,
            application_name="weir",
            prepare_threshold=1,
            # A standby would answer with what was true a moment ago.
            target_session_attrs="read-write",
            keepalives_idle=_KEEPALIVE["keepalives_idle"],
            keepalives_interval=_KEEPALIVE["keepalives_interval"],
            keepalives_count=_KEEPALIVE["keepalives_count"],
        )
    except psycopg.OperationalError as error:
        raise Unavailable("the ledger's database cannot be reached", rule="store.connection") from error
    except psycopg.ProgrammingError:  # Its text quotes the string, which may hold what nobody should read.
        raise Unavailable(
            "not a connection string of PostgreSQL", field="ledger.postgres", rule="store.connection"
        ) from None
    try:
        _prepare(connection, schema)
    except BaseException as error:
        connection.close()
        if isinstance(error, psycopg.OperationalError):
            raise Unavailable("the ledger's database cannot be reached", rule="store.connection") from error
        raise
    return connection


def _prepare(connection: Connection, schema: str) -> None:
    """Settings of the session, and what one must be able to rely on.

    Raises:
        Unavailable: too old a server, or not a session of its own.
    """
    if connection.info.server_version < _OLDEST:
        raise Unavailable(f"the ledger needs PostgreSQL {_OLDEST // 10_000} or newer", rule="store.version")
    connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(schema)))
    for name, value in _SESSION.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    for name, value in _SESSION_WHERE_KNOWN.items():
        connection.execute("SELECT set_config(name, %s, false) FROM pg_settings WHERE name = %s", (value, name))
    process = connection.execute("SELECT pg_backend_pid()").fetchone()
    if process != (connection.info.backend_pid,):
        # Locks of the session say who is alive: in a pool they would be somebody else's, or outlive their process.
        raise Unavailable("the ledger's connections must not go through a pool", rule="store.pool")
    # One type for all integers: otherwise each size would be a statement of its own.
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(int, Int8BinaryDumper)


@contextmanager
def read_only(conninfo: str, schema: str) -> Iterator[Transaction]:
    """One consistent snapshot of a store, beside the processes that use it.

    Raises:
        Unavailable: the server cannot be reached.
    """
    with closing(open_connection(conninfo, schema)) as connection, _snapshot(connection):
        yield PostgresTransaction(connection)


@contextmanager
def _snapshot(connection: Connection) -> Iterator[None]:
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("ROLLBACK")


def _require_durable(connection: Connection) -> None:
    """Refuses a server that could lose what it acknowledged: a ledger on it would give budget back.

    Raises:
        Unavailable: set up without fsync or whole pages.
    """
    for setting in ("fsync", "full_page_writes"):
        value = connection.execute(sql.SQL("SHOW {}").format(sql.Identifier(setting))).fetchone()
        if value != ("on",):
            raise Unavailable(
                f"the database runs with {setting} off: it may lose what it acknowledged", rule="store.durable"
            )


def _migrate(connection: Connection, schema: str) -> int:
    """Brings the tables up to date, one process at a time; gives the schema's key of the advisory lock."""
    with connection.transaction():
        found = connection.execute("SELECT hashtextextended('weir/' || %s::text, 0)", (schema,)).fetchone()
        lock = cast("int", found[0]) if found is not None else 0
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock,))
        if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchall():
            # Only then: even `IF NOT EXISTS` asks for a right that who owns a schema made for it need not have.
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        migrate(PostgresTransaction(connection), types=_TYPES)
    return lock
