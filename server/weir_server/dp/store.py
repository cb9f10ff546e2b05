# SPDX-License-Identifier: Apache-2.0
"""Open bounded stores: one read-only engine per snapshot, its cubes in memory once they were asked for.

Bounded rows that a snapshot does not hold itself are asked where they are; its cubes never ask anybody.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from pathlib import Path
from typing import Any

from weir.errors import Unavailable, WeirError
from weir_server.catalog.snapshot import Snapshot
from weir_server.dp.cube import Cube, load_cube
from weir_server.dp.layout import FILE, ROWS
from weir_server.engine.duckdb import Engine, open_engine
from weir_server.engine.relational import Statement
from weir_server.engine.spark import LOST, UNREACHABLE, SparkEngine


def _open_read_only(path: Path) -> Engine:
    return open_engine(path, read_only=True)


def _no_cluster() -> SparkEngine:
    raise Unavailable("no cluster is configured for the rows of this dataset", rule="engine.no_cluster")


class DistantRows:
    """Bounded rows on a cluster, in a session of their own: opened at first use, and again where it was lost. Safe
    from any thread."""

    def __init__(self, opener: Callable[[], SparkEngine], location: str) -> None:
        self._opener = opener
        self._location = location
        self._lock = threading.Lock()
        self._session: Future[SparkEngine] | None = None
        """Open, or being opened."""

    def select(self, statement: Statement, *, seconds: float) -> list[tuple[Any, ...]]:
        """See `BoundedStore.select`."""
        session = self._opened()
        try:
            return self._engine(session, seconds).select(statement, seconds=seconds)
        except Unavailable as error:
            if error.rule in (LOST, UNREACHABLE):
                self._forget(session)
            if error.rule != LOST:
                raise
        finally:
            del session  # What it failed with may hold this frame.
        return self._engine(self._opened(), seconds).select(statement, seconds=seconds)

    def close(self) -> None:
        """End the session, if there is one."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.add_done_callback(_end)

    def _opened(self) -> Future[SparkEngine]:
        """The session that all share. A thread of its own opens it: a cluster that takes the connection and never
        answers keeps whoever asks for no longer than a statement may take, and nobody else."""
        with self._lock:
            if self._session is None:
                self._session = Future()
                threading.Thread(target=self._open, args=(self._session,), name="weir-rows", daemon=True).start()
            return self._session

    def _open(self, session: Future[SparkEngine]) -> None:
        try:
            engine = self._opener()
            engine.open(ROWS, self._location)
        except BaseException as error:
            self._forget(session)
            session.set_exception(error.with_traceback(None))
        else:
            session.set_result(engine)

    def _engine(self, session: Future[SparkEngine], seconds: float) -> SparkEngine:
        try:
            return session.result(seconds)
        except FutureTimeout:
            self._forget(session)
            session.add_done_callback(_end)  # It may still come.
        finally:
            del session
        raise Unavailable("the cluster cannot be reached", rule=UNREACHABLE)

    def _forget(self, lost: Future[SparkEngine]) -> None:
        with self._lock:
            if self._session is lost:
                self._session = None


def _end(session: Future[SparkEngine]) -> None:
    if session.exception() is None:
        with suppress(WeirError):  # a cluster that is away has ended it, or will
            session.result().close()


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
