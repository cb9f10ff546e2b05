# SPDX-License-Identifier: Apache-2.0
"""What a server bears: answers a second, and the slowest of them, at 32 and 256 in flight; what is left under overload.

`serve.rps_*`, `serve.p99_*`: beside a bare grpc.aio echo of the same bytes under the same TLS, at the same concurrency,
in turns. `serve.goodput_at_10x`: answers a second while ten times the peak is sent, over the peak, both in turns.
`serve.rps_exact_2_workers`: two processes on one PostgreSQL over one process on it. The client shares the machine's
cores with all of them, so at ten times it can send less than it is told to; `detail` says how much it sent.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench.rows import Row, compared
from bench.serve import RUN_QUERY, SETTINGS, ahead, fresh_queries, lift_quota, peer
from tests.support.load import channel, open_loop, percentile
from tests.support.postgres import find_binaries, running_postgres
from tests.support.sample import apply_contracts, publish_sample, running_sample, spending_envelope
from tests.support.server import RunningServer, make_domain, start_server
from weir.v1 import query_service_pb2

ROUNDS = 3
SECONDS = 4.0
IN_FLIGHT = (32, 256)
TIMES = 10.0
LIMITS = SETTINGS + "max_in_flight_per_requester = 256\n"
_PEAK_CALLERS = 64
_PAUSE = 0.02
"""Seconds after which a caller who was one too many sends again; they count as time that it waited."""
_RAMP = 2.0
"""Seconds of overload before anything is counted."""
_OVERLOAD = 6.0
"""Seconds of overload in which answers are counted."""
_CONNECTIONS, _MANY_CONNECTIONS = 6, 16
_EPSILON = 20_000
"""Nano-epsilon of the first dp question; each of the next takes one more."""

Send = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What callers saw in some seconds."""

    rate: float
    """Answers a second."""
    p99_ms: float


def measure() -> list[Row]:
    """Rows."""
    with tempfile.TemporaryDirectory() as directory, running_sample(Path(directory), settings=LIMITS) as server:
        lift_quota(server)
        with peer("bench.echo_server", str(server.data_dir)) as echo:
            rows = asyncio.run(_beside_echo(server, echo.address))
        rows.append(asyncio.run(_goodput(server)))
    return rows + _workers()


async def _beside_echo(server: RunningServer, echo: str) -> list[Row]:
    async with AsyncExitStack() as stack:
        ours, theirs = [await _channels(stack, server, address) for address in (server.public, echo)]
        exact, dp = ahead(fresh_queries()), ahead(_dp_queries())
        body = next(exact)
        calls: dict[str, Send] = {
            "exact": _sender(ours, RUN_QUERY, exact),
            "dp": _sender(ours, RUN_QUERY, dp),
            "echo": _sender(theirs, "/bench.Echo/Echo", itertools.repeat(body)),
        }
        seen: dict[tuple[str, int], list[Seen]] = {(name, many): [] for name in calls for many in IN_FLIGHT}
        for send in calls.values():
            await _closed(send, callers=32, seconds=1.0)
        for _ in range(ROUNDS):
            for (name, many), rounds in seen.items():
                rounds.append(await _closed(calls[name], callers=many, seconds=SECONDS))
    return [row for many in IN_FLIGHT for row in _rows(seen, many)]


def _rows(seen: dict[tuple[str, int], list[Seen]], many: int) -> Iterator[Row]:
    """The rows of one concurrency; that of 32 has the plain names."""
    suffix, detail = "" if many == IN_FLIGHT[0] else f"_{many}", f"{many} in flight"
    echo = seen["echo", many]
    for name in ("exact", "dp"):
        rates = [each.rate for each in seen[name, many]], [each.rate for each in echo]
        yield compared(f"serve.rps_{name}{suffix}", *rates, unit="answers/s", peer="bare grpc.aio echo", detail=detail)
        slowest = [each.p99_ms for each in seen[name, many]], [each.p99_ms for each in echo]
        yield compared(f"serve.p99_{name}_ms{suffix}", *slowest, unit="ms", peer="bare grpc.aio echo", detail=detail)


async def _goodput(server: RunningServer) -> Row:
    async with AsyncExitStack() as stack:
        channels = await _channels(stack, server, server.public)
        send = _sender(channels, RUN_QUERY, ahead(fresh_queries(), 60_000))
        peaks, goods, offered = [], [], []
        for _ in range(ROUNDS):
            peaks.append((await _closed(send, callers=_PEAK_CALLERS, seconds=_OVERLOAD)).rate)
            good, sent = await _overload(send, rate=peaks[-1] * TIMES)
            goods.append(good)
            offered.append(sent / peaks[-1])
    return compared(
        "serve.goodput_at_10x",
        goods,
        peaks,
        unit="answers/s",
        peer="own peak, 64 in flight",
        detail=f"really sent: {statistics.median(offered):.1f} times the peak",
    )


async def _overload(send: Send, *, rate: float) -> tuple[float, float]:
    """Answers a second, and calls sent a second."""
    answered: list[float] = []

    async def one() -> None:
        if await _sent(send):
            answered.append(time.monotonic())

    began = time.monotonic() + _RAMP
    sent = await open_loop(one, rate=rate, seconds=_RAMP + _OVERLOAD)
    return sum(began <= moment < began + _OVERLOAD for moment in answered) / _OVERLOAD, sent


def _workers() -> list[Row]:
    """Two processes on one PostgreSQL beside one; nothing where there is no PostgreSQL."""
    binaries = find_binaries()
    if binaries is None:
        return []
    with running_postgres(binaries, durable=True) as conninfo, ExitStack() as stack:
        one, two = (stack.enter_context(_shared(conninfo, workers)) for workers in (1, 2))
        rates = asyncio.run(_in_turns([one, two]))
    return [
        compared(
            "serve.rps_exact_2_workers",
            rates[1],
            rates[0],
            unit="answers/s",
            peer="one worker on the same PostgreSQL",
            detail=f"64 in flight on {_MANY_CONNECTIONS} connections",
        )
    ]


@contextmanager
def _shared(conninfo: str, workers: int) -> Iterator[RunningServer]:
    with tempfile.TemporaryDirectory() as directory:
        data_dir = make_domain(Path(directory))
        settings = f'{LIMITS}[ledger]\npostgres = "{conninfo}"\nschema = "bench_{workers}"\n[encrypted]\nworkers = 0\n'
        (data_dir / "weir.toml").write_text(settings, encoding="utf-8")
        publish_sample(data_dir)
        server = start_server(data_dir, settings=settings, workers=workers)
        try:
            apply_contracts(server)
            lift_quota(server)
            yield server
        finally:
            server.stop()


async def _in_turns(servers: list[RunningServer]) -> list[list[float]]:
    """Answers a second of each server, by round. Many connections, since those go to one process or another."""
    async with AsyncExitStack() as stack:
        sends = []
        for server in servers:
            channels = await _channels(stack, server, server.public, connections=_MANY_CONNECTIONS)
            sends.append(_sender(channels, RUN_QUERY, ahead(fresh_queries())))
        for send in sends:
            await _closed(send, callers=_PEAK_CALLERS, seconds=1.0)
        rates: list[list[float]] = [[] for _ in servers]
        for _ in range(ROUNDS):
            for send, mine in zip(sends, rates, strict=True):
                mine.append((await _closed(send, callers=_PEAK_CALLERS, seconds=SECONDS)).rate)
    return rates


async def _closed(send: Send, *, callers: int, seconds: float) -> Seen:
    times: list[float] = []
    began = time.perf_counter()

    async def caller() -> None:
        while (started := time.perf_counter()) < began + seconds:
            await _sent_at_last(send)
            times.append(time.perf_counter() - started)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return Seen(len(times) / (time.perf_counter() - began), percentile(times, 0.99) * 1000)


async def _sent(send: Send) -> bool:
    """One call; False where it was one too many."""
    try:
        await send()
    except grpc.aio.AioRpcError as error:
        if error.code() not in (grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED):
            raise
        return False
    return True


async def _sent_at_last(send: Send) -> None:
    for _ in itertools.count():
        if await _sent(send):
            return
        await asyncio.sleep(_PAUSE)


def _sender(channels: list[grpc.aio.Channel], rpc: str, bodies: Iterator[bytes]) -> Send:
    methods = itertools.cycle([each.unary_unary(rpc) for each in channels])
    return lambda: next(methods)(next(bodies), timeout=60)


async def _channels(
    stack: AsyncExitStack, server: RunningServer, address: str, *, connections: int = _CONNECTIONS
) -> list[grpc.aio.Channel]:
    identity = server.identity("requester", "alice")
    made = [await stack.enter_async_context(channel(address, identity)) for _ in range(connections)]
    for each in made:  # One after the other: a crowd of handshakes takes longer than each may.
        await each.channel_ready()
    return made


def _dp_queries() -> Iterator[bytes]:
    """Endless distinct questions, each with noise of its own."""
    for number in itertools.count():
        message = spending_envelope(epsilon_nano=_EPSILON + number)
        request = query_service_pb2.RunQueryRequest(envelope=message, idempotency_key=secrets.token_hex(16))
        yield request.SerializeToString()
