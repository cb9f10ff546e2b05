# SPDX-License-Identifier: Apache-2.0
"""Sandboxes on disk: built when first asked for, one at a time, bounded in number, size and pace, and never kept over
a restart, since each can be built again from its card.

    DATA/sandbox/<process>/<number>/snapshots/<dataset>/1/     a snapshot of synthetic rows, as a publication leaves it
    DATA/sandbox/<process>.lock                                held by the process for as long as it lives

Whoever asks for what is being built waits with the others; whoever asks for something else meanwhile waits a little,
and is then told to come back. A few may be built in a row, then one now and then; a card that failed is not tried again
for an hour. So no number of requests fills the disk or keeps a core busy.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import shutil
import sys
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from weir.errors import Overloaded, PublicationError, UnknownName
from weir_server.catalog.card import DatasetCard
from weir_server.catalog.codec import card_to_json
from weir_server.catalog.snapshot import Snapshot, open_snapshot
from weir_server.observe import event
from weir_server.sandbox.build import REFUSED, card_digest

DIRECTORY = "sandbox"
_MODULE = "weir_server.sandbox.build"
_DIGESTS = 256
"""Most digests of cards that are remembered."""
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
    in_a_row: int = 8
    """Most that are built one after the other, where none was for long."""
    pause_seconds: float = 10.0
    """After how long one more may be built."""
    patience_seconds: float = 3.0
    """How long to wait while another is being built."""
    retry_seconds: float = 3600.0
    """How long a card that made none is not tried again."""


def claim_directory(parent: Path, stack: ExitStack) -> Path:
    """A directory below `parent` that is this process's while `stack` is open: several may serve one domain. What
    processes left that have ended is removed."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for leftover in [path for path in parent.iterdir() if path.is_dir()]:
        with ExitStack() as brief:
            if _try_lock(leftover, brief):
                shutil.rmtree(leftover, ignore_errors=True)
    return next(path for path in (parent / str(number) for number in count()) if _try_lock(path, stack))


def _try_lock(directory: Path, stack: ExitStack) -> bool:
    held = os.open(f"{directory}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return False
    stack.callback(os.close, held)
    return True


class Builds:
    """Owns the directory of sandboxes. Used from one event loop; `clock`: monotonic seconds."""

    def __init__(self, directory: Path, *, clock: Callable[[], float], bounds: Bounds | None = None) -> None:
        # Absolute: the building process works in the directory that it is told.
        self._directory, self._clock = directory.absolute(), clock
        self._bounds = Bounds() if bounds is None else bounds
        self._kept: OrderedDict[str, Snapshot] = OrderedDict()
        self._digests: OrderedDict[int, tuple[DatasetCard, str]] = OrderedDict()
        """By identity of the card, which is held as long: hashing a large one again and again would cost."""
        self._failed: dict[str, float] = {}
        self._current: tuple[str, asyncio.Task[Snapshot]] | None = None
        self._free_at = clock()
        """When all `in_a_row` may be built again; each that is built puts it off by a pause."""
        self._number = 0
        shutil.rmtree(directory, ignore_errors=True)

    async def get(self, card: DatasetCard) -> Snapshot:
        """The synthetic snapshot of a card, built where there is none yet.

        Raises:
            Overloaded: another is being built, or was just now.
            UnknownName: the card makes no sandbox.
        """
        key = await self._digest(card)
        await self._turn(key)
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        if self._current is None:
            self._check_pace(key)
            task = asyncio.create_task(self._build(key, card))
            task.add_done_callback(self._finished)
            self._current = key, task
        return await asyncio.shield(self._current[1])

    async def close(self) -> None:
        """Stop building and remove everything."""
        if self._current is not None:
            task = self._current[1]
            task.cancel()
            with suppress(asyncio.CancelledError, Overloaded, UnknownName):
                await task
        self._kept.clear()
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)

    async def _digest(self, card: DatasetCard) -> str:
        known = self._digests.get(id(card))
        if known is None:
            known = self._digests[id(card)] = card, await asyncio.to_thread(card_digest, card)
        while len(self._digests) > _DIGESTS:
            self._digests.popitem(last=False)
        return known[1]

    async def _turn(self, key: str) -> None:
        """Wait until nothing else is being built, unless there is nothing to build."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._bounds.patience_seconds
        while key not in self._kept and self._current is not None and self._current[0] != key:
            if loop.time() >= deadline:
                raise Overloaded("another sandbox is being built; try again", rule="sandbox.building")
            await asyncio.wait((self._current[1],), timeout=deadline - loop.time())

    def _check_pace(self, key: str) -> None:
        now, bounds = self._clock(), self._bounds
        if now < self._failed.get(key, now):
            raise _no_sandbox()
        self._failed.pop(key, None)
        self._free_at = max(self._free_at, now)
        if self._free_at - now > (bounds.in_a_row - 1) * bounds.pause_seconds:
            raise Overloaded("too many sandboxes were built just now; try again", rule="sandbox.building")
        self._free_at += bounds.pause_seconds

    def _finished(self, task: asyncio.Task[Snapshot]) -> None:
        self._current = None
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
            content = await asyncio.to_thread(lambda: json.dumps(card_to_json(card)).encode())
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
