# SPDX-License-Identifier: Apache-2.0
"""Queries in flight: one at a time draws a release, and what has been charged runs to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


class OnError:
    """What is awaited where its block fails, before the failure goes on. A class, since these stand in every query and
    one made from a generator costs several times as much."""

    __slots__ = ("_act",)

    def __init__(self, act: Callable[[BaseException], Awaitable[None]]) -> None:
        self._act = act

    async def __aenter__(self) -> None:
        """Nothing."""

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Awaits the act; what it raises takes the failure's place."""
        if error is not None:
            await self._act(error)


@dataclass(slots=True)
class _Queue:
    """Who wants one release: a lock, and how many hold it or wait."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class _Turn:
    """One query's turn at a release."""

    __slots__ = ("_key", "_queue", "_queues")

    def __init__(self, queues: dict[str, _Queue], key: str) -> None:
        self._queues, self._key = queues, key

    async def __aenter__(self) -> bool:
        """Whether it waited."""
        queue = self._queues.get(self._key)
        if queue is None:
            queue = self._queues[self._key] = _Queue()
        self._queue = queue
        queue.length += 1
        waited = queue.length > 1
        try:
            await queue.lock.acquire()
        except BaseException:
            self._leave()
            raise
        return waited

    async def __aexit__(self, *failure: object) -> None:
        """The next one's turn."""
        self._queue.lock.release()
        self._leave()

    def _leave(self) -> None:
        self._queue.length -= 1
        if not self._queue.length:
            del self._queues[self._key]


class Turns:
    """Owns the tasks in flight and who waits for which release."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._queues: dict[str, _Queue] = {}

    def one_release_at_a_time(self, release_key: str) -> _Turn:
        """Equal queries wait for the first one's release instead of paying for a second draw of noise.

        Gives whether this one waited, so that a release may have been made since it last looked.
        """
        return _Turn(self._queues, release_key)

    async def to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Run what must not stop half-way; a caller that goes away leaves it running."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        try:
            return await asyncio.shield(task)
        finally:
            del task  # Its error holds this frame: they would keep each other.

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Read, so that an abandoned refusal is not reported as never retrieved.

    async def drain(self, *, seconds: float) -> None:
        """Wait for running queries, at most so long."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
