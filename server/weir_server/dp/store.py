# SPDX-License-Identifier: Apache-2.0
"""Open bounded stores: one read-only engine per snapshot, its cubes in memory once they were asked for.

Bounded rows that a snapshot does not hold itself are asked where they are; its cubes never ask anybody.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from weir.errors import InternalError, Unavailable, WeirError
from weir_server.catalog.snapshot import Snapshot
from weir_server.dp.cube import Cube, load_cube
from weir_server.dp.layout import FILE, ROWS
from weir_server.engine.duckdb import Engine, open_engine
from weir_server.engine.relational import Statement
from weir_server.engine.spark import LOST, UNREACHABLE, SparkEngine

_OPENING_SECONDS = 20.0
"""How long whoever asks waits for a session."""
_GIVEN_UP_SECONDS = 120.0
"""After so long a session that is still being opened is given up, and another one tried."""


def _open_read_only(path: Path) -> Engine:
    return open_engine(path, read_only=True)


def _no_cluster() -> SparkEngine:
    raise Unavailable("no cluster is configured for the rows of this dataset", rule="engine.no_cluster")


class _Session:
    """A session on the cluster, opened by a thread of its own: a cluster that takes the call and never answers keeps
    that thread, and nobody else. Safe from any thread."""

    def __init__(self, opener: Callable[[], SparkEngine], location: str) -> None:
        self._opener, self._location = opener, location
        self._lock, self._known = threading.Lock(), threading.Event()
        self._closed = False
        self._engine: SparkEngine | None = None
        self._failure: WeirError | None = None
        self.began = time.monotonic()
        threading.Thread(target=self._open, name="weir-rows", daemon=True).start()

    @property
    def opening(self) -> bool:
        """Whether it is neither open nor failed."""
        return not self._known.is_set()

    @property
    def failed(self) -> bool:
        """Whether it did not open."""
        return self._failure is not None

    def engine(self, seconds: float) -> SparkEngine:
        """The open session, once it is there.

        Raises:
            Unavailable: not so soon.
            WeirError: what it failed of; a new one for each who asks, since errors gather where they have been.
        """
        if not self._known.wait(seconds):
            raise Unavailable("the cluster cannot be reached", rule=UNREACHABLE)
        if self._failure is not None:
            raise type(self._failure)(self._failure.message, rule=self._failure.rule)
        with self._lock:
            engine = self._engine
        if engine is None:  # It was closed meanwhile.
            raise Unavailable("the cluster's session has ended", rule=LOST)
        return engine

    def close(self) -> None:
        """End it, now or as soon as it is open."""
        with self._lock:
            self._closed = True
            engine, self._engine = self._engine, None
        if engine is not None:
            _end(engine)

    def _open(self) -> None:
        engine: SparkEngine | None = None
        try:
            engine = self._opener()
            engine.open(ROWS, self._location)
        except Exception as error:  # Whatever it is, whoever waits must hear of it.
            failure = (
                error if isinstance(error, WeirError) else InternalError("the engine failed", rule="engine.failed")
            )
            self._failure = failure.with_traceback(None)
        with self._lock:
            if not self._closed and self._failure is None:
                self._engine, engine = engine, None
        self._known.set()
        if engine is not None:  # Nobody will use it.
            _end(engine)


def _end(engine: SparkEngine) -> None:
    with suppress(WeirError):  # A cluster that is away has ended it, or will.
        engine.close()


class DistantRows:
    """Bounded rows on a cluster, in a session of their own: opened at first use, and again where it was lost. Safe
    from any thread."""

    def __init__(self, opener: Callable[[], SparkEngine], location: str) -> None:
        self._opener = opener
        self._location = location
        self._lock = threading.Lock()
        self._session: _Session | None = None

    def select(self, statement: Statement, *, seconds: float) -> list[tuple[Any, ...]]:
        """See `BoundedStore.select`."""
        end = time.monotonic() + seconds
        session = self._opened()
        try:
            return self._asked(session, statement, end)
        except Unavailable as error:
            if error.rule != LOST:
                raise
        return self._asked(self._opened(), statement, end)

    def close(self) -> None:
        """End the session, if there is one."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _asked(self, session: _Session, statement: Statement, end: float) -> list[tuple[Any, ...]]:
        left = end - time.monotonic()
        engine = session.engine(min(left, _OPENING_SECONDS))
        try:
            return engine.select(statement, seconds=max(0.0, end - time.monotonic()))
        except Unavailable as error:
            if error.rule in (LOST, UNREACHABLE):
                self._forget(session)
            raise

    def _opened(self) -> _Session:
        """The session that all share. One that does not open is given up after some time, and not by who waits first:
        else each who asks would leave another thread behind."""
        with self._lock:
            session = self._session
            if session is not None and (session.failed or self._hangs(session)):
                session.close()
                session = None
            if session is None:
                session = self._session = _Session(self._opener, self._location)
            return session

    def _hangs(self, session: _Session) -> bool:
        return session.opening and time.monotonic() - session.began > _GIVEN_UP_SECONDS

    def _forget(self, lost: _Session) -> None:
        with self._lock:
            if self._session is lost:
                self._session = None


class BoundedStore:
    """One open store. Safe from any thread: each statement runs on a cursor of its own."""

    def __init__(self, engine: Engine, distant: DistantRows | None = None) -> None:
        self._engine = engine
        self._distant = distant
        self._lock = threading.Lock()
        self._cubes: dict[str, Cube] = {}

    def select(self, statement: Statement, *, seconds: float) -> list[tuple[Any, ...]]:
        """What a statement over the bounded rows gives; interrupted after `seconds`.

        Raises:
            InternalError: the engine failed.
            Unavailable: interrupted, or the cluster with the rows cannot be reached.
        """
        if self._distant is not None:
            return self._distant.select(statement, seconds=seconds)
        with self._engine.cursor() as cursor:
            return cursor.select(statement, seconds=seconds)

    def cube(self, table: str) -> Cube:
        """A table of cells, loaded at first use.

        Raises:
            InternalError: the engine failed.
        """
        with self._lock:
            if table not in self._cubes:
                with self._engine.cursor() as cursor:
                    self._cubes[table] = load_cube(cursor, table)
            return self._cubes[table]

    def close(self) -> None:
        """Close it; the database closes with its last cursor, so that a running statement ends in peace."""
        self._engine.close()
        if self._distant is not None:
            self._distant.close()


class BoundedStores:
    """Keeps at most `most` stores open, the least recently used let go first. Safe from any thread.

    One process has one of these: DuckDB does not let a process open a file twice once its configuration is locked.
    """

    def __init__(
        self,
        *,
        opener: Callable[[Path], Engine] = _open_read_only,
        cluster: Callable[[], SparkEngine] = _no_cluster,
        most: int = 16,
    ) -> None:
        """`cluster`: opens a session where rows are that a snapshot does not hold itself."""
        self._opener = opener
        self._cluster = cluster
        self._most = most
        self._lock = threading.Lock()
        self._stores: OrderedDict[str, BoundedStore] = OrderedDict()

    def open(self, snapshot: Snapshot) -> BoundedStore:
        """The snapshot's store.

        Raises:
            InternalError: it does not open.
        """
        with self._lock:
            store = self._stores.pop(snapshot.manifest_digest, None)
            if store is None:
                distant = None if snapshot.rows is None else DistantRows(self._cluster, snapshot.rows.location)
                store = BoundedStore(self._opener(snapshot.directory / FILE), distant)
            self._stores[snapshot.manifest_digest] = store
            while len(self._stores) > self._most:
                self._stores.popitem(last=False)  # closes when the last query on it lets go, or its session idles
            return store

    def close(self) -> None:
        """Close all stores."""
        with self._lock:
            while self._stores:
                self._stores.popitem()[1].close()
