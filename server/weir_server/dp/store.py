# SPDX-License-Identifier: Apache-2.0
"""Open bounded stores: one read-only engine per snapshot, its cubes in memory once they were asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from weir_server.catalog.snapshot import Snapshot
from weir_server.dp.cube import Cube, load_cube
from weir_server.dp.layout import FILE
from weir_server.engine.duckdb import Engine, open_engine
from weir_server.engine.relational import Statement


def _open_read_only(path: Path) -> Engine:
    return open_engine(path, read_only=True)


class BoundedStore:
    """One open store. Safe from any thread: each statement runs on a cursor of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._cubes: dict[str, Cube] = {}

    def select(self, statement: Statement, *, seconds: float) -> list[tuple[Any, ...]]:
        """What a statement over the bounded rows gives; interrupted after `seconds`.

        Raises:
            InternalError: the engine failed.
            Unavailable: interrupted.
        """
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


class BoundedStores:
    """Keeps at most `most` stores open, the least recently used let go first. Safe from any thread.

    One process has one of these: DuckDB does not let a process open a file twice once its configuration is locked.
    """

    def __init__(self, *, opener: Callable[[Path], Engine] = _open_read_only, most: int = 16) -> None:
        self._opener = opener
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
                store = BoundedStore(self._opener(snapshot.directory / FILE))
            self._stores[snapshot.manifest_digest] = store
            while len(self._stores) > self._most:
                self._stores.popitem(last=False)  # closes when the last query on it lets go
            return store

    def close(self) -> None:
        """Close all stores."""
        with self._lock:
            while self._stores:
                self._stores.popitem()[1].close()
