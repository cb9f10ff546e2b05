# SPDX-License-Identifier: Apache-2.0
"""Several server processes on one machine: they share the listeners' ports and the ledger, and one watches over them.

The supervisor serves nothing itself. It keeps the ports (bound, never listening), starts the workers, starts again what
dies, and passes on the signal to end. Worker 0 alone serves the console and the log's files; worker i has its metrics
i ports above the stated one. Only a ledger that processes may share makes this safe, so it asks for PostgreSQL.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from weir.errors import InvalidRequest, Unavailable
from weir_server.config import Config, split_address
from weir_server.observe import event

MOST_WORKERS = 64
_START_SECONDS = 60.0
_PAUSE_SECONDS = 0.5
"""Before a worker that died is started again."""
_DEATHS, _DEATHS_SECONDS = 10, 60.0
"""So many deaths in so long a time end the whole: whatever kills workers that fast is not cured by starting them."""


@dataclass(slots=True)
class _Worker:
    """One process, whatever its number of lives."""

    number: int
    process: asyncio.subprocess.Process | None = None
    lives: int = 0
    deaths: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Shared:
    """What all workers are started with."""

    data_dir: Path
    config_file: Path | None
    config: Config
    """With the ports that were really taken, and each worker's share of the cores."""


async def supervise(shared: Shared, *, workers: int, stop: asyncio.Event, ready: Callable[[], None]) -> bool:
    """Runs `workers` servers until `stop` is set, also while they start; True where they ended as asked.

    Raises:
        Unavailable: a worker does not start.
    """
    with tempfile.TemporaryDirectory(prefix="weir-workers-") as folder:
        team = [_Worker(number) for number in range(workers)]
        running = asyncio.create_task(_run(team, shared, Path(folder), ready))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            return stop.is_set()
        finally:
            await _cancel(running, stopped)
            await _end(team, shared.config.shutdown.drain_seconds)


async def _run(team: list[_Worker], shared: Shared, folder: Path, ready: Callable[[], None]) -> None:
    """Starts the team and keeps it running; ends where a worker dies too often."""
    # One after the other: the first makes or migrates the tables that all of them use.
    for worker in team:
        await _start(worker, shared, folder)
    ready()
    event("supervising", workers=len(team), pid=os.getpid())
    # Each apart: that one takes long to start keeps nobody from being seen to die.
    keeping = [asyncio.create_task(_keep(worker, shared, folder)) for worker in team]
    try:
        await asyncio.wait(keeping, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _cancel(*keeping)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def reserve_ports(config: Config, stack: ExitStack) -> Config:
    """The configuration with ports that stay this machine's as long as the stack is open.

    Raises:
        InvalidRequest: the ledger cannot be shared.
        Unavailable: an address cannot be taken.
    """
    if not config.ledger.postgres:
        raise InvalidRequest(
            "several workers need a ledger they can share: set ledger.postgres", field="workers", rule="workers.ledger"
        )
    taken = {
        name: _reserve(getattr(config.listen, name), key=f"listen.{name}", stack=stack) for name in ("public", "admin")
    }
    return replace(config, listen=replace(config.listen, **taken))


def _reserve(address: str, *, key: str, stack: ExitStack) -> str:
    host, port = split_address(address, key=key)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        held.bind((host.strip("[]"), port))
    except OSError as error:
        raise Unavailable(f"the address {address} cannot be taken", field=key, rule="listen.address") from error
    return f"{host}:{held.getsockname()[1]}"


async def _start(worker: _Worker, shared: Shared, folder: Path) -> None:
    ready = folder / f"ready-{worker.number}-{worker.lives}"
    worker.process = await asyncio.create_subprocess_exec(*_command(worker.number, shared, ready))
    deadline = time.monotonic() + _START_SECONDS
    while not ready.exists():
        if worker.process.returncode is not None or time.monotonic() > deadline:
            raise Unavailable(f"worker {worker.number} does not start; its own words are above", rule="workers.start")
        await asyncio.sleep(0.05)


def _command(number: int, shared: Shared, ready: Path) -> list[str]:
    listen = shared.config.listen
    command = [sys.executable, "-m", "weir_server", "serve", "--data", str(shared.data_dir), "--worker", str(number)]
    command += ["--listen", listen.public, "--admin", listen.admin, "--ready-file", str(ready), "--json"]
    command += ["--metrics", _metrics(listen.metrics, number)]
    command += ["--kernels", str(shared.config.encrypted.workers)]
    # Sign-ins of the console are one process's.
    command += ["--console", listen.console if number == 0 else ""]
    return command if shared.config_file is None else [*command, "--config", str(shared.config_file)]


def _metrics(address: str, number: int) -> str:
    if not address:
        return ""
    host, port = split_address(address, key="listen.metrics")
    return f"{host}:{port + number if port else 0}"


async def _keep(worker: _Worker, shared: Shared, folder: Path) -> None:
    """Starts it again whenever it dies; returns where it dies too often."""
    while worker.process is not None:
        code = await worker.process.wait()
        now = time.monotonic()
        worker.deaths = [moment for moment in worker.deaths if now - moment < _DEATHS_SECONDS] + [now]
        worker.lives += 1
        event("worker_died", level=logging.ERROR, worker=worker.number, code=code)
        if len(worker.deaths) >= _DEATHS:
            return
        await asyncio.sleep(_PAUSE_SECONDS)
        with suppress(Unavailable):  # Seen again as another death.
            await _start(worker, shared, folder)


async def _end(team: list[_Worker], drain_seconds: int) -> None:
    """Passes on the signal and waits; what does not end in time is killed, which the ledger survives."""
    running = [worker.process for worker in team if worker.process is not None and worker.process.returncode is None]
    for process in running:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
    waiting = [asyncio.create_task(process.wait()) for process in running]
    if waiting:
        _, late = await asyncio.wait(waiting, timeout=drain_seconds + 15)
        for process in running:
            if late and process.returncode is None:
                process.kill()
        await asyncio.gather(*waiting)
