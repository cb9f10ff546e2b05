# SPDX-License-Identifier: Apache-2.0
"""Values of files that may change under a running server: certificates, the list of revoked ones, keys of tokens."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from weir.errors import WeirError
from weir_server.observe import event, exception_fields

T = TypeVar("T")
RECENT_SECONDS = 0.02
"""How long ago `recent` may have looked."""
_Stamp = tuple[tuple[int, int, int] | None, ...]


class Watched(Generic[T]):
    """A value read from files, and read again once one of them changed. Safe to use from several threads.

    A reading that fails keeps the value there was and says so in the log once, since half a renewal, or a file that is
    being written, must not end a service. It is tried again at each look until it succeeds.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], T]) -> None:
        """Raises whatever `read` raises: a start without the value is no start."""
        self._paths = tuple(str(path) for path in paths)
        self._name = paths[-1].name
        self._read = read
        self._lock = threading.Lock()
        # Before reading: what changes while it is read is then seen at the next look.
        self._stamp = self._look()
        self._refused: _Stamp | None = None
        self._value = read()
        self._next = 0.0

    def get(self) -> T:
        """The newest value that could be read; costs a stat for each file."""
        stamp = self._look()
        if stamp == self._stamp:
            return self._value
        with self._lock:
            if stamp != self._stamp:
                self._renew(stamp)
            return self._value

    def recent(self) -> T:
        """As `get`, but what is looked at was so within the last 20 milliseconds: for what every call asks and
        nobody expects to change from one call to the next."""
        now = time.monotonic()
        if now < self._next:
            return self._value
        self._next = now + RECENT_SECONDS
        return self.get()

    def _renew(self, stamp: _Stamp) -> None:
        name = self._name
        try:
            self._value = self._read()
        except (WeirError, OSError, ValueError) as error:
            if stamp != self._refused:
                event("reload_refused", level=logging.ERROR, file=name, **exception_fields(error))
            self._refused = stamp
        else:
            self._stamp = stamp
            event("reloaded", file=name)

    def _look(self) -> _Stamp:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: str) -> tuple[int, int, int] | None:
    """What changes when a file is replaced or written; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
