# SPDX-License-Identifier: Apache-2.0
"""Open bounded stores: one read-only engine per snapshot, a cursor of it per query."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from weir_server.catalog.snapshot import Snapshot
from weir_server.dp.layout import FILE
from weir_server.engine.duckdb import Engine, open_engine


def _open_read_only(path: Path) -> Engine:
    return open_engine(path, read_only=True)


class BoundedStores:
    """Keeps at most `most` engines open, the least recently used closed first. Safe from any thread."""

    def __init__(self, *, opener: Callable[[Path], Engine] = _open_read_only, most: int = 16) -> None:
        self._opener = opener
        self._most = most
        self._lock = threading.Lock()
        self._engines: OrderedDict[str, Engine] = OrderedDict()

    @contextmanager
    def cursor(self, snapshot: Snapshot) -> Iterator[Engine]:
        """A cursor on the snapshot's store, closed afterwards. A running query outlives the closing of its engine,
        since a database closes with its last connection.

        Raises:
            InternalError: the store does not open.
        """
        with self._lock:
            engine = self._engine(snapshot)
            cursor = engine.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def close(self) -> None:
        """Close all engines."""
        with self._lock:
            while self._engines:
                self._engines.popitem()[1].close()

    def _engine(self, snapshot: Snapshot) -> Engine:
        engine = self._engines.pop(snapshot.manifest_digest, None)
        if engine is None:
            engine = self._opener(snapshot.directory / FILE)
        self._engines[snapshot.manifest_digest] = engine
        while len(self._engines) > self._most:
            self._engines.popitem(last=False)[1].close()
        return engine
