# SPDX-License-Identifier: Apache-2.0
"""A load generator: closed and open loop, mixed traffic, and everything that a client would keep of its calls.

Tests and benches both use it from here; it imports nothing of either. It runs in one event loop of a process that is
not the server's, so what it measures has passed the wire. `Client.send` never raises for what a server may do to it.
"""

from __future__ import annotations

import asyncio
import bisect
import hashlib
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable, Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.rpc import status_pb2

from tests.support.traffic import RUN, Ask
from tests.support.wire import TRAILER
from weir.errors import Overloaded, ServiceError, WeirError
from weir.v1 import answer_pb2, encrypted_service_pb2, query_service_pb2, receipt_pb2
from weir.wire import error_from_status

T = TypeVar("T")
ANSWERED, ESTIMATED, REFUSED = "answered", "estimated", "refused"
"""How a call ends that the server has looked at."""
OVERLOADED, TURNED_AWAY = "overloaded", "turned away"
"""How a call ends that is too many: by the service, typed; or by its transport, before any of its code has run."""
LOST = "lost"
"""How a call ends of which nobody can know whether it was answered; the same key will tell."""
SERVED, REJECTED = frozenset({ANSWERED, ESTIMATED, REFUSED}), frozenset({OVERLOADED, TURNED_AWAY})
DEADLINE = 20.0
"""Seconds a call may take."""
CONNECTIONS = 2
"""Of each requester: a connection carries 256 calls at once, and the rest would queue in the client."""
EXAMPLES = 50
"""Of so many answers, about one is kept whole."""
_TICK = 0.002
_BEAT, LATE = 0.01, 0.04
"""Seconds between beats; seconds by which one may be late."""
_GIVES_WAY = 3
"""Niceness, which Linux keeps for each thread."""
_MOST_OUTSTANDING = 1_500
"""Calls of an open loop that may be unanswered at once; more would measure the client's queue."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that has ended."""

    kind: str
    outcome: str
    began: float
    """Monotonic seconds."""
    seconds: float

    @property
    def ended(self) -> float:
        """Monotonic seconds."""
        return self.began + self.seconds


@dataclass(frozen=True, slots=True)
class Kept:
    """What a client keeps of an answer."""

    requester: str
    same: str
    leaf_index: int
    leaf: bytes
    """SHA-256."""
    answer: bytes
    """SHA-256 of the answer as it would be had it not been given before."""


@dataclass(slots=True)
class Diary:
    """Everything that came back."""

    calls: list[Call] = field(default_factory=list)
    answers: dict[str, Kept] = field(default_factory=dict)
    """By idempotency key."""
    refusals: dict[int, bytes] = field(default_factory=dict)
    """SHA-256 of the leaf by its index, of refusals that came with their receipt."""
    open: dict[str, Ask] = field(default_factory=dict)
    """Requests with a key whose fate is not known."""
    repeated: list[str] = field(default_factory=list)
    """Keys that were answered in two ways: none, if all is well."""
    examples: list[query_service_pb2.RunQueryResponse] = field(default_factory=list)
    """Some replies as they came, for whoever wants to verify receipts."""

    def ended(self, outcomes: Container[str], *, since: float, until: float) -> list[Call]:
        """Calls of these outcomes that ended between two moments."""
        return [call for call in self.calls if call.outcome in outcomes and since <= call.ended < until]


class Client:
    """Channels of several requesters to one address, which may go away and come back."""

    def __init__(
        self, address: str, identities: dict[str, Path], diary: Diary, *, connections: int = CONNECTIONS
    ) -> None:
        """`identities`: files by requester."""
        self.diary = diary
        self._channels = {
            name: [channel(address, path) for _ in range(connections)] for name, path in identities.items()
        }
        self._methods: dict[tuple[str, str], list[Any]] = {}
        self._turn = 0

    async def close(self) -> None:
        """Ends what is in flight."""
        for channels in self._channels.values():
            for channel in channels:
                await channel.close()

    async def send(self, ask: Ask, *, deadline: float = DEADLINE) -> str:
        """One call, written into the diary; gives its outcome."""
        again = ask.key in self.diary.open
        if ask.key:
            self.diary.open[ask.key] = ask
        began = time.monotonic()
        try:
            kept = await (self._uploaded(ask, deadline) if ask.upload else self._asked(ask, deadline))
        except grpc.aio.AioRpcError as error:
            outcome = self._refused(ask, error)
        else:
            outcome = ESTIMATED if kept is None else self._keep(ask, kept)
        self.diary.calls.append(Call(ask.kind, outcome, began, time.monotonic() - began))
        if outcome in REJECTED and not again:
            self.diary.open.pop(ask.key, None)  # Nothing was looked at, so nothing can have been charged.
        return outcome

    async def _asked(self, ask: Ask, deadline: float) -> Kept | None:
        reply = await self._method(ask)(ask.body, timeout=deadline)
        if ask.rpc != RUN:
            return None
        message = query_service_pb2.RunQueryResponse.FromString(reply)
        if len(self.diary.answers) % EXAMPLES == 0:
            self.diary.examples.append(message)
        return _kept(ask, _plain(message.answer), message.receipt)

    async def _uploaded(self, ask: Ask, deadline: float) -> Kept:
        call = self._method(ask)(iter((ask.body, ask.upload)), timeout=deadline)
        async for reply in call:
            message = encrypted_service_pb2.RunEncryptedQueryResponse.FromString(reply)
        return _kept(ask, message.completed.answer, message.completed.receipt)

    def _method(self, ask: Ask) -> Any:
        name = (ask.requester, ask.rpc)
        found = self._methods.get(name)
        if found is None:
            channels = self._channels[ask.requester]
            found = [(each.stream_stream if ask.upload else each.unary_unary)(ask.rpc) for each in channels]
            self._methods[name] = found
        self._turn += 1
        return found[self._turn % len(found)]

    def _keep(self, ask: Ask, kept: Kept) -> str:
        """Writes an answer down; a key that has one already must have got the same."""
        if self.diary.answers.setdefault(ask.key, kept) != kept:
            self.diary.repeated.append(ask.key)
        self.diary.open.pop(ask.key, None)
        return ANSWERED

    def _refused(self, ask: Ask, error: grpc.aio.AioRpcError) -> str:
        refusal = typed(error)
        if refusal is None:
            return TURNED_AWAY if error.code() is grpc.StatusCode.CANCELLED else LOST
        if isinstance(refusal, ServiceError):
            return OVERLOADED if isinstance(refusal, Overloaded) else LOST
        self.diary.open.pop(ask.key, None)
        if isinstance(refusal.receipt, receipt_pb2.Receipt):
            self.diary.refusals[refusal.receipt.leaf_index] = _digest(refusal.receipt.leaf)
        return REFUSED


def typed(error: grpc.aio.AioRpcError) -> WeirError | None:
    """The server's own words; None where the transport spoke."""
    details = dict(error.trailing_metadata() or ()).get(TRAILER)
    return None if details is None else error_from_status(status_pb2.Status.FromString(details))


async def closed_loop(send: Callable[[], Awaitable[object]], *, callers: int, seconds: float) -> None:
    """So many callers, each asking again once it has been answered."""
    end = time.monotonic() + seconds

    async def caller() -> None:
        while time.monotonic() < end:
            await send()

    await asyncio.gather(*(caller() for _ in range(callers)))


async def open_loop(
    send: Callable[[], Awaitable[object]], *, rate: float, seconds: float = inf, stop: asyncio.Event | None = None
) -> float:
    """Sends `rate` calls a second, answered or not, for so long or until `stop`, and waits for the last; gives how many
    a second it really sent.

    It sends no more while `_MOST_OUTSTANDING` calls are unanswered.
    """
    running: set[asyncio.Task[object]] = set()
    began, sent = time.monotonic(), 0
    while (now := time.monotonic()) < began + seconds and not (stop is not None and stop.is_set()):
        for _ in range(min(int(rate * (now - began)) - sent, _MOST_OUTSTANDING - len(running))):
            task = asyncio.ensure_future(send())
            running.add(task)
            task.add_done_callback(running.discard)
            sent += 1
        await asyncio.sleep(_TICK)
    took = time.monotonic() - began
    await asyncio.gather(*running)
    return sent / took


def giving_way(work: Callable[[], T]) -> T:
    """Runs `work` in a thread that gives way to others: a generator stands for machines whose cores a server does not
    share, and what it takes of this one's is not the server's to lose."""

    def give_way() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _GIVES_WAY)

    with ThreadPoolExecutor(1, initializer=give_way) as thread:
        return thread.submit(work).result()


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` of the values (0 to 1) do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Heartbeat:
    """How late this process's own event loop was, and when: what was measured meanwhile was measured too long."""

    def __init__(self) -> None:
        self.late: list[tuple[float, float]] = []
        """Monotonic moments between which the loop did not run for longer than `LATE`."""
        self._task = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_BEAT)
            if (now := time.monotonic()) - before > _BEAT + LATE:
                self.late.append((before, now))

    def punctual(self, calls: Iterable[Call]) -> list[Call]:
        """Those of the calls during which the loop was not late."""
        late = self.late
        starts = [start for start, _ in late]

        def undisturbed(call: Call) -> bool:
            at = bisect.bisect_left(starts, call.ended)
            return at == 0 or late[at - 1][1] < call.began

        return [call for call in calls if undisturbed(call)]

    def stop(self) -> None:
        """Ends it."""
        self._task.cancel()


def resident_mib(pid: int) -> float:
    """Memory of a process that is in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _kept(ask: Ask, answer: bytes, receipt: receipt_pb2.Receipt) -> Kept:
    return Kept(ask.requester, ask.same, receipt.leaf_index, _digest(receipt.leaf), _digest(answer))


def channel(address: str, identity: Path) -> grpc.aio.Channel:
    """A connection of its own, which comes back soon after its server does. `identity`: an identity file."""
    content = json.loads(identity.read_text(encoding="utf-8"))
    credentials = grpc.ssl_channel_credentials(
        root_certificates=content["ca"].encode(),
        private_key=content["private_key"].encode(),
        certificate_chain=content["certificate"].encode(),
    )
    options = (
        ("grpc.ssl_target_name_override", content["server_name"]),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    )
    return grpc.aio.secure_channel(address, credentials, options=options)


def _plain(answer: bytes) -> bytes:
    """An answer without what tells whether it was given before, and how its aggregates were weighted."""
    message = answer_pb2.Answer.FromString(answer)
    message.ClearField("sticky")
    message.ClearField("epsilon_nano")
    return message.SerializeToString(deterministic=True)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
