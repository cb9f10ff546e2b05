# SPDX-License-Identifier: Apache-2.0
"""Sandboxes on disk: built when first asked for, one at a time, bounded in number, size and pace, and never kept over
a restart, since each can be built again from its card.

    DATA/sandbox/<number>/snapshots/<dataset>/1/        a snapshot of synthetic rows, as a publication leaves it

Whoever asks for what is being built waits with the others; whoever asks for something else meanwhile is told to come
back. A card that failed is not tried again for an hour. So no number of requests fills the disk or keeps more than
one core busy.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sys
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from weir.errors import Overloaded, PublicationError, UnknownName
from weir_server.catalog.card import DatasetCard
from weir_server.catalog.codec import card_to_json
from weir_server.catalog.snapshot import Snapshot, open_snapshot
from weir_server.observe import event
from weir_server.sandbox.build import REFUSED, card_digest

DIRECTORY = "sandbox"
_MODULE = "weir_server.sandbox.build"
_KEPT_ENVIRONMENT = ("PATH", "LANG", "PYTHONPATH", "PYTHONWARNINGS", "TZ")
"""What the building process sees of this one's environment: nothing that could hold a secret."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What sandboxes may take."""

    kept: int = 16
    """Most on disk, the least recently used removed first."""
    bytes_each: int = 128 * 1024 * 1024
    """Largest size of one."""
    seconds: float = 90.0
    """Longest time that building one may take."""
    pause_seconds: float = 2.0
    """Least time between the end of one and the beginning of the next."""
    retry_seconds: float = 3600.0
    """How long a card that made none is not tried again."""


class Builds:
    """Owns the directory of sandboxes. Used from one event loop; `clock`: monotonic seconds."""

    def __init__(self, directory: Path, *, clock: Callable[[], float], bounds: Bounds | None = None) -> None:
        self._directory, self._clock = directory, clock
        self._bounds = Bounds() if bounds is None else bounds
        self._kept: OrderedDict[str, Snapshot] = OrderedDict()
        self._failed: dict[str, float] = {}
        self._current: tuple[str, asyncio.Task[Snapshot]] | None = None
        self._ended = -self._bounds.pause_seconds
        self._number = 0
        shutil.rmtree(directory, ignore_errors=True)

    async def get(self, card: DatasetCard) -> Snapshot:
        """The synthetic snapshot of a card, built where there is none yet.

        Raises:
            Overloaded: another is being built, or was just now.
            UnknownName: the card makes no sandbox.
        """
        key = card_digest(card)
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        if self._current is None:
            self._check_pace(key)
            task = asyncio.create_task(self._build(key, card))
            task.add_done_callback(self._finished)
            self._current = key, task
        building, task = self._current
        if building != key:
            raise Overloaded("another sandbox is being built; try again", rule="sandbox.building")
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Stop building and remove everything."""
        if self._current is not None:
            task = self._current[1]
            task.cancel()
            with suppress(asyncio.CancelledError, Overloaded, UnknownName):
                await task
        self._kept.clear()
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)

    def _check_pace(self, key: str) -> None:
        now = self._clock()
        if now < self._failed.get(key, now):
            raise _no_sandbox()
        self._failed.pop(key, None)
        if now < self._ended + self._bounds.pause_seconds:
            raise Overloaded("a sandbox was built just now; try again", rule="sandbox.building")

    def _finished(self, task: asyncio.Task[Snapshot]) -> None:
        self._current, self._ended = None, self._clock()
        if not task.cancelled():
            task.exception()  # Read, so that a failure that nobody waits for is not reported as never retrieved.

    async def _build(self, key: str, card: DatasetCard) -> Snapshot:
        self._number += 1
        directory = self._directory / str(self._number)
        try:
            snapshot = await self._published(card, directory)
        except PublicationError as error:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
            self._failed[key] = self._clock() + self._bounds.retry_seconds
            event("sandbox_failed", level=logging.ERROR, rule=error.rule or "")
            raise _no_sandbox() from None
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self._kept[key] = snapshot
        while len(self._kept) > self._bounds.kept:
            oldest = self._kept.popitem(last=False)[1]
            await asyncio.to_thread(shutil.rmtree, oldest.directory.parents[2], ignore_errors=True)
        return snapshot

    async def _published(self, card: DatasetCard, directory: Path) -> Snapshot:
        await asyncio.to_thread(directory.mkdir, parents=True, mode=0o700)
        digest = await self._run(card, directory)
        if await asyncio.to_thread(_size, directory) > self._bounds.bytes_each:
            raise PublicationError("the sandbox is too large", rule="sandbox.size")
        path = directory / "snapshots" / card.name / "1"
        return await asyncio.to_thread(open_snapshot, path, expected_digest=digest)

    async def _run(self, card: DatasetCard, directory: Path) -> str:
        """Let a process build; the digest of the manifest that it wrote."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _MODULE,
            str(directory),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=directory,
            env={name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ},
        )
        try:
            content = json.dumps(card_to_json(card)).encode()
            output, _ = await asyncio.wait_for(process.communicate(content), self._bounds.seconds)
        except TimeoutError:
            raise PublicationError("the sandbox took too long to build", rule="sandbox.time") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == REFUSED:
            raise PublicationError("the card makes no sandbox", rule=str(json.loads(output)["rule"]))
        if process.returncode != 0:
            raise PublicationError("the sandbox could not be built", rule="sandbox.process")
        return str(json.loads(output)["manifest_digest"])


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _no_sandbox() -> UnknownName:
    return UnknownName("no synthetic rows can be made from this card", field="query.dataset", rule="sandbox.none")
