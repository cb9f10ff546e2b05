# SPDX-License-Identifier: Apache-2.0
"""Sums over everything, worked out beside the pages that show them: at most so old, and no page waits for the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from weir_server.store import Store, Transaction

T = TypeVar("T")


class Cached(Generic[T]):
    """One value of the books. Used from the event loop only. `clock`: monotonic seconds."""

    def __init__(
        self, store: Store, operation: Callable[[Transaction], T], *, seconds: float, clock: Callable[[], float]
    ) -> None:
        self._store, self._operation, self._seconds, self._clock = store, operation, seconds, clock
        self._value: T | None = None
        self._made = float("-inf")
        self._making: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The value. From `seconds` on a new one is made beside the page that asked; one three times as old, at which
        nobody has looked for a while, is not shown any more."""
        age = self._clock() - self._made
        if age >= self._seconds and self._making is None:
            self._making = asyncio.create_task(self._make())
            # Read, so that a failure nobody waited for is not reported as never retrieved: the next page tries again.
            self._making.add_done_callback(lambda task: None if task.cancelled() else task.exception())
        if self._making is not None and (self._value is None or age >= 3 * self._seconds):
            return await asyncio.shield(self._making)
        assert self._value is not None  # noqa: S101 - made above
        return self._value

    def forget(self) -> None:
        """The next one who asks gets a new value, made after something was changed."""
        self._value, self._made = None, float("-inf")

    async def _make(self) -> T:
        started = self._clock()
        try:
            value = await asyncio.to_thread(self._store.read, self._operation)
            self._value, self._made = value, started
            return value
        finally:
            self._making = None
