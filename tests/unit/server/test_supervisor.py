# SPDX-License-Identifier: Apache-2.0
"""The supervisor of several workers, with processes that do what a test tells them in place of servers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from weir.errors import Unavailable
from weir_server import workers
from weir_server.config import Config, Shutdown
from weir_server.workers import Shared, supervise

SERVES = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
HANGS = "import time; time.sleep(600)"
DIES = "import sys; sys.exit(3)"


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    return Shared(tmp_path, None, replace(Config(), shutdown=Shutdown(drain_seconds=1)))


def lives(monkeypatch: pytest.MonkeyPatch, program: Callable[[int, int], str]) -> list[int]:
    """Worker `number` runs `program(number, life)`; gives the numbers in the order in which they are started."""
    begun: list[int] = []

    def command(number: int, shared: Shared, ready: Path) -> list[str]:
        begun.append(number)
        return [sys.executable, "-c", program(number, begun.count(number)), str(ready)]

    monkeypatch.setattr(workers, "_command", command)
    monkeypatch.setattr(workers, "_PAUSE_SECONDS", 0.01)
    return begun


def children() -> set[int]:
    """Processes that this one has started and that still run."""
    found = set()
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found.add(int(entry.name))
    return found


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_stop_is_heard_at_once_while_a_worker_starts(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the supervisor waits for the worker to be ready first, up to a minute, and is then killed by systemd."""
    before, stop = children(), asyncio.Event()
    begun = lives(monkeypatch, lambda number, life: HANGS)
    running = asyncio.create_task(supervise(shared, workers=2, stop=stop, ready=lambda: None))
    await until(lambda: len(begun) == 1 and len(children() - before) == 1)
    started = time.monotonic()
    stop.set()
    assert await running
    assert time.monotonic() - started < 5
    assert children() <= before


async def test_a_stop_is_heard_while_a_worker_starts_again(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    before, stop, ready = children(), asyncio.Event(), asyncio.Event()
    begun = lives(monkeypatch, lambda number, life: SERVES if life == 1 else HANGS)
    running = asyncio.create_task(supervise(shared, workers=2, stop=stop, ready=ready.set))
    await ready.wait()
    os.kill(min(children() - before), signal.SIGKILL)
    await until(lambda: len(begun) == 3 and len(children() - before) == 2)
    stop.set()
    assert await asyncio.wait_for(running, timeout=5)
    assert children() <= before


async def test_one_that_takes_long_to_start_keeps_nobody_from_being_seen_to_die(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, stop, ready = children(), asyncio.Event(), asyncio.Event()
    begun = lives(monkeypatch, lambda number, life: HANGS if (number, life) == (0, 2) else SERVES)
    running = asyncio.create_task(supervise(shared, workers=2, stop=stop, ready=ready.set))
    await ready.wait()
    first, second = sorted(children() - before)
    os.kill(first, signal.SIGKILL)
    await until(lambda: begun == [0, 1, 0])
    os.kill(second, signal.SIGKILL)
    await until(lambda: begun == [0, 1, 0, 1])
    stop.set()
    assert await running


async def test_workers_that_keep_dying_end_the_whole(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = asyncio.Event()
    begun = lives(monkeypatch, lambda number, life: SERVES.replace("time.sleep(600)", "sys.exit(3)"))
    assert not await asyncio.wait_for(supervise(shared, workers=1, stop=stop, ready=lambda: None), timeout=60)
    assert len(begun) == 10


async def test_a_worker_that_does_not_start_is_told(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    lives(monkeypatch, lambda number, life: DIES)
    with pytest.raises(Unavailable) as caught:
        await supervise(shared, workers=1, stop=asyncio.Event(), ready=lambda: None)
    assert caught.value.rule == "workers.start"
