# SPDX-License-Identifier: Apache-2.0
"""Queries in flight: one at a time draws a release, and what has been charged runs to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Turns:
    """Owns the tasks in flight and who waits for which release."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._release_locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def one_release_at_a_time(self, release_key: str) -> AsyncIterator[bool]:
        """Equal queries wait for the first one's release instead of paying for a second draw of noise.

        Gives whether this one waited, so that a release may have been made since it last looked.
        """
        lock, waiting = self._release_locks.get(release_key, (asyncio.Lock(), 0))
        self._release_locks[release_key] = (lock, waiting + 1)
        try:
            async with lock:
                yield waiting > 0
        finally:
            lock, waiting = self._release_locks.pop(release_key)
            if waiting > 1:
                self._release_locks[release_key] = (lock, waiting - 1)

    async def to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Run what must not stop half-way; a caller that goes away leaves it running."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Read, so that an abandoned refusal is not reported as never retrieved.

    async def drain(self, *, seconds: float) -> None:
        """Wait for running queries, at most so long."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
