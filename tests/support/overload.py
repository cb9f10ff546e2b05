# SPDX-License-Identifier: Apache-2.0
"""A server under more load than it can bear, and through what can happen to it meanwhile; then what is left of it.

Turns of a closed loop (which measures the peak) and an open loop at several times that rate; then, under load: two
kills, a stall, a full disk; then everything whose fate is not known is sent again, until nothing is open.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.load import (
    ANSWERED,
    REJECTED,
    SERVED,
    Call,
    Client,
    Diary,
    Heartbeat,
    closed_loop,
    open_loop,
    resident_mib,
)
from tests.support.sample import publish_sample
from tests.support.server import make_domain, start_server
from tests.support.traffic import CAPPED, REQUESTERS, Ask, Secret, Traffic, documents
from tests.support.wire import call, key
from weir.v1 import policy_service_pb2, quota_service_pb2

TIMES_PEAK = 3.0
"""Rate of the overload, over the calls a second of the peak."""
TURNS = 4
CALLERS = 64
SETTINGS = "[encrypted]\nworkers = 1\n"
"""As shipped, but for a process that a machine of two cores has no core for."""
_RAMP = 0.3
"""Share of a window that passes before anything is counted: answers lag behind by as long as a call takes."""
_PAUSE = 0.02
_STALL_SECONDS = 2.0
_DISK_BYTES = 64 * 1024
"""What is left when the disk begins to be full."""


@dataclass(frozen=True, slots=True)
class Window:
    """Some seconds of one kind of load."""

    began: float
    ended: float
    offered: float
    """Calls a second that were sent."""

    def calls(self, diary: Diary, outcomes: Iterable[str]) -> list[Call]:
        """Calls of these outcomes that ended in it, without its beginning."""
        return diary.ended(frozenset(outcomes), since=self._counted(), until=self.ended)

    def rate(self, diary: Diary, outcomes: Iterable[str]) -> float:
        """Such calls a second."""
        return len(self.calls(diary, outcomes)) / (self.ended - self._counted())

    def _counted(self) -> float:
        return self.began + _RAMP * (self.ended - self.began)


@dataclass(slots=True)
class Ordeal:
    """What was seen."""

    data_dir: Path
    diary: Diary = field(default_factory=Diary)
    turns: list[tuple[Window, Window]] = field(default_factory=list)
    """Peak and overload."""
    memory: list[list[float]] = field(default_factory=list)
    """MiB of the server, sampled during each overload."""
    rejected: list[list[Call]] = field(default_factory=list)
    """Calls of each overload that were too many, while the generator was on time."""
    disturbed: int = 0
    """How many of them it was not."""
    overseen: list[Call] = field(default_factory=list)
    """An operator's calls during overload."""
    exits: dict[str, int] = field(default_factory=dict)
    """How the process ended, by what was done to it."""
    back_seconds: list[float] = field(default_factory=list)
    """From the end of a process to the next answer."""
    after_stall_seconds: float = 0.0
    """From the end of the stall to the next answer."""
    resent: int = 0
    """Requests whose fate was not known, all told in the end."""
    balances: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Used and held of every limit at the end, by its id."""


class Siege:
    """The server of the moment and the load upon it."""

    def __init__(self, directory: Path, *, seconds: float) -> None:
        """`seconds`: what the whole takes, but for what is sent again at its end."""
        self._seconds = seconds
        # Servers are started from here: a thread of the generator would hand down that it gives way.
        self._starter = ThreadPoolExecutor(1)
        self._starter.submit(int).result()
        data_dir = make_domain(directory)
        publish_sample(data_dir)
        self._server = start_server(data_dir, settings=SETTINGS)
        self.seen = Ordeal(data_dir)
        self._traffic = Traffic()
        apply = policy_service_pb2.ApplyPolicyRequest(documents=documents(), idempotency_key=key())
        call(self._operator(), "/weir.v1.PolicyService/ApplyPolicy", apply)
        self._identities = {name: self._server.identity("requester", name) for name in (*REQUESTERS, CAPPED)}
        self._secret = Secret(self._server.channel(self._identities["alice"]), requester="alice")

    async def run(self) -> Ordeal:
        """All of it."""
        client = Client(self._server.public, self._identities, self.seen.diary)
        try:
            await self._turns(client)
            await self._faults(client)
            await self._settle(client)
        finally:
            await client.close()
            self.close()
        return self.seen

    def close(self) -> None:
        """Ends the server."""
        self.seen.exits["end"] = self._server.stop(seconds=60)
        self._starter.shutdown()

    # ── peak and overload, in turns: what else the machine does then falls on both ─────────────────────────────────

    async def _turns(self, client: Client) -> None:
        diary, share = self.seen.diary, self._seconds / 100
        await closed_loop(partial(self._patiently, client), callers=CALLERS, seconds=4 * share)
        for _ in range(TURNS):
            began = time.monotonic()
            await closed_loop(partial(self._patiently, client), callers=CALLERS, seconds=6 * share)
            peak = Window(began, time.monotonic(), 0.0)
            rate = peak.rate(diary, SERVED) * TIMES_PEAK
            self.seen.turns.append((peak, await self._overload(client, rate=rate, seconds=10 * share)))

    async def _patiently(self, client: Client) -> None:
        """One call, and a pause where it was one too many."""
        if await client.send(self._traffic.next()) in REJECTED:
            await asyncio.sleep(_PAUSE)

    async def _overload(self, client: Client, *, rate: float, seconds: float) -> Window:
        heartbeat, memory, began = Heartbeat(), list[float](), time.monotonic()
        beside = [asyncio.create_task(self._oversee()), asyncio.create_task(self._encrypted(client))]
        beside.append(asyncio.create_task(self._sample(memory)))
        offered = await open_loop(lambda: client.send(self._traffic.next()), rate=rate, seconds=seconds)
        heartbeat.stop()
        for task in beside:
            task.cancel()
        window = Window(began, began + seconds, offered)
        rejected = self.seen.diary.ended(REJECTED, since=began, until=began + seconds)
        punctual = heartbeat.punctual(rejected)
        self.seen.rejected.append(punctual)
        self.seen.disturbed += len(rejected) - len(punctual)
        self.seen.memory.append(memory)
        return window

    async def _oversee(self) -> None:
        operator = self._operator()
        while True:
            began = time.monotonic()
            await asyncio.to_thread(_balances, operator)
            self.seen.overseen.append(Call("oversee", ANSWERED, began, time.monotonic() - began))
            await asyncio.sleep(0.5)

    async def _encrypted(self, client: Client) -> None:
        while True:
            await client.send(self._secret.next())
            await asyncio.sleep(1.0)

    async def _sample(self, memory: list[float]) -> None:
        while True:
            memory.append(resident_mib(self._server.process.pid))
            await asyncio.sleep(0.25)

    # ── faults, under load ─────────────────────────────────────────────────────────────────────────────────────────

    async def _faults(self, client: Client) -> None:
        rate = 1.5 * min(peak.rate(self.seen.diary, SERVED) for peak, _ in self.seen.turns)
        seconds = self._seconds / 100 * 4
        for fault in (self._kill, self._stall, self._fill_disk, self._kill):
            stop = asyncio.Event()
            load = asyncio.create_task(open_loop(lambda: client.send(self._traffic.next()), rate=rate, stop=stop))
            await asyncio.sleep(seconds)
            await fault()
            await asyncio.sleep(seconds)
            stop.set()
            await load

    async def _kill(self) -> None:
        self._server.process.kill()
        await self._restart("kill")

    async def _stall(self) -> None:
        self._server.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(_STALL_SECONDS)
        self._server.process.send_signal(signal.SIGCONT)
        moment = time.monotonic()
        self.seen.after_stall_seconds = await self._next_answer(moment) - moment

    async def _fill_disk(self) -> None:
        # A limit of the kernel on the size of files: writes fail half-way, as they do on a full disk.
        longest = (self.seen.data_dir / "ledger" / "ledger.db-wal").stat().st_size + _DISK_BYTES
        resource.prlimit(self._server.process.pid, resource.RLIMIT_FSIZE, (longest, resource.RLIM_INFINITY))
        await asyncio.to_thread(self._server.process.wait, 60)
        await self._restart("disk full")

    async def _restart(self, what: str) -> None:
        ended, address = time.monotonic(), self._server.public
        self.seen.exits[what] = await asyncio.to_thread(self._server.stop)
        start = partial(start_server, self.seen.data_dir, settings=SETTINGS, public=address)
        self._server = await asyncio.get_running_loop().run_in_executor(self._starter, start)
        self.seen.back_seconds.append(await self._next_answer(time.monotonic()) - ended)

    async def _next_answer(self, moment: float) -> float:
        """When the first call that was sent since then was answered."""
        deadline = moment + 60
        while time.monotonic() < deadline:
            for each in reversed(self.seen.diary.calls):
                if each.outcome == ANSWERED and each.began >= moment:
                    return each.ended
            await asyncio.sleep(0.05)
        raise TimeoutError("the server did not come back")

    # ── the end: everybody asks again for what they do not know ────────────────────────────────────────────────────

    async def _settle(self, client: Client) -> None:
        diary = self.seen.diary
        self.seen.resent = len(diary.open)
        while diary.open:
            waiting = list(diary.open.values())
            await asyncio.gather(*(self._send_all(client, waiting) for _ in range(CALLERS // 2)))
        self.seen.balances = await asyncio.to_thread(_balances, self._operator())

    async def _send_all(self, client: Client, waiting: list[Ask]) -> None:
        while waiting:
            if await client.send(waiting.pop()) not in SERVED:
                await asyncio.sleep(0.1)

    def _operator(self) -> Any:
        return self._server.channel(self._server.identity("operator", "olga"), admin=True)


def _balances(operator: Any) -> dict[str, tuple[int, int]]:
    listed = call(operator, "/weir.v1.QuotaAdminService/ListQuotas", quota_service_pb2.ListQuotasRequest())
    return {balance.quota.id: (balance.used, balance.held) for balance in listed.balances}
