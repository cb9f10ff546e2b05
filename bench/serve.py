# SPDX-License-Identifier: Apache-2.0
"""Exact queries through a real server process, beside a bare grpc.aio echo of the same bytes under the same TLS.

`exact.p50_vs_echo`: median latency of one metered exact query at a time, over the echo's plus one durable commit of the
same disk. `exact.throughput_vs_echo`: answers a second with 64 in flight, over the echo's. The client shares the
machine's cores with both servers. Every query is a new one: none is answered by idempotency or from a sticky release
unless the row says so.

`meter.overhead_vs_unmetered`: median latency over that of the same pipeline without ledger, log and receipts behind a
bare handler (`bench.unmetered_server`); `…_guarded`: over the one that also has identity, admission, decision and the
operator log. `meter.cpu_…`: processor time of the server an answer, 64 in flight, over theirs.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.rows import Row, compared
from tests.support.load import channel
from tests.support.sample import envelope, running_sample
from tests.support.server import RunningServer
from tests.support.wire import call, key
from weir.v1 import query_service_pb2, quota_service_pb2

ROUNDS = 3
ONE_BY_ONE = 300
IN_FLIGHT = 64
SECONDS = 4.0
AHEAD = 15_000
"""Requests made before the first is sent; some more than a run of all rounds takes."""
SETTINGS = "[limits]\nrequests_per_second = 1000000\nburst = 1000000\n"
RUN_QUERY = "/weir.v1.QueryService/RunQuery"


def measure() -> list[Row]:
    """Rows {name, ours, theirs, ratio, unit, spread}."""
    with tempfile.TemporaryDirectory() as directory, running_sample(Path(directory), settings=SETTINGS) as server:
        identity = server.identity("requester", "alice")
        lift_quota(server)
        data_dir = str(server.data_dir)
        with ExitStack() as stack:
            targets = {
                "ours": Target(server.public, server.process.pid),
                "echo": stack.enter_context(peer("bench.echo_server", data_dir)),
                "bare": stack.enter_context(peer("bench.unmetered_server", data_dir, "bare")),
                "guarded": stack.enter_context(peer("bench.unmetered_server", data_dir, "guarded")),
            }
            commit = durable_commit_ms(Path(directory))
            return asyncio.run(_measure(targets, identity, commit))


@dataclass(frozen=True, slots=True)
class Target:
    """A server process."""

    address: str
    pid: int

    def cpu_seconds(self) -> float:
        """Processor time it has used, of user and kernel."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def peer(module: str, *arguments: str) -> Iterator[Target]:
    """A peer process, until its input closes."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Target(f"127.0.0.1:{int(process.stdout.readline())}", process.pid)
    finally:
        process.stdin.close()
        process.wait(timeout=10)


def lift_quota(server: RunningServer) -> None:
    """Lets alice ask as often as a bench does."""
    quota = quota_service_pb2.Quota(id="alice-queries", metric="queries", requester="alice", limit=10**9)
    request = quota_service_pb2.SetQuotaRequest(quota=quota, reason="bench", idempotency_key=key())
    operator = server.channel(server.identity("operator", "olga"), admin=True)
    call(operator, "/weir.v1.QuotaAdminService/SetQuota", request)


def durable_commit_ms(directory: Path) -> float:
    """Median milliseconds of one small append with fdatasync, which is what one commit costs at least."""
    times = []
    descriptor = os.open(directory / "commit.probe", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(100):
            started = time.perf_counter()
            os.write(descriptor, b"\0" * 4096)
            os.fdatasync(descriptor)
            times.append((time.perf_counter() - started) * 1000)
    finally:
        os.close(descriptor)
    return statistics.median(times)


async def _measure(targets: dict[str, Target], identity: Path, commit_ms: float) -> list[Row]:
    async with AsyncExitStack() as stack:
        channels = {
            name: await stack.enter_async_context(channel(target.address, identity)) for name, target in targets.items()
        }
        fresh, again = ahead(fresh_queries()), ahead(_sticky_queries())
        query = channels["ours"].unary_unary(RUN_QUERY)
        reflect = channels["echo"].unary_unary("/bench.Echo/Echo")
        bare, guarded = (channels[name].unary_unary(RUN_QUERY) for name in ("bare", "guarded"))
        body = next(fresh)
        calls: dict[str, tuple[Target, Callable[[], Awaitable[object]]]] = {
            "ours": (targets["ours"], lambda: query(next(fresh), timeout=60)),
            "sticky": (targets["ours"], lambda: query(next(again), timeout=60)),
            "echo": (targets["echo"], lambda: reflect(body, timeout=60)),
            "bare": (targets["bare"], lambda: bare(next(fresh), timeout=60)),
            "guarded": (targets["guarded"], lambda: guarded(next(fresh), timeout=60)),
        }
        for _, ask in calls.values():
            await _latency(ask, 50)
        latencies: dict[str, list[float]] = {name: [] for name in calls}
        rates: dict[str, list[float]] = {name: [] for name in calls}
        cpu: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, (_, ask) in calls.items():
                latencies[name].append(await _latency(ask, ONE_BY_ONE))
            for name, (target, ask) in calls.items():
                rate, spent = await _rate(target, ask)
                rates[name].append(rate)
                cpu[name].append(spent)
    bases = [value + commit_ms for value in latencies["echo"]]
    ours, sticky = latencies["ours"], latencies["sticky"]
    bare_peer, guarded_peer = "the same pipeline without a meter", "the same, with identity, admission and decision"
    return [
        compared("exact.p50_vs_echo", ours, bases, unit="ms", peer=f"echo and one commit of {commit_ms:.2f} ms"),
        compared("exact.sticky_p50_vs_echo", sticky, bases, unit="ms", peer="echo and one commit"),
        compared("exact.throughput_vs_echo", rates["ours"], rates["echo"], unit="answers/s", peer="echo"),
        compared("exact.sticky_throughput_vs_echo", rates["sticky"], rates["echo"], unit="answers/s", peer="echo"),
        compared("meter.overhead_vs_unmetered", ours, latencies["bare"], unit="ms", peer=bare_peer),
        compared("meter.overhead_vs_unmetered_guarded", ours, latencies["guarded"], unit="ms", peer=guarded_peer),
        compared("meter.cpu_vs_unmetered", cpu["ours"], cpu["bare"], unit="CPU ms", peer=bare_peer),
        compared("meter.cpu_vs_unmetered_guarded", cpu["ours"], cpu["guarded"], unit="CPU ms", peer=guarded_peer),
        compared("meter.sticky_cpu_vs_unmetered", cpu["sticky"], cpu["bare"], unit="CPU ms", peer=bare_peer),
    ]


async def _latency(call: Callable[[], Awaitable[object]], count: int) -> float:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await call()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


async def _rate(target: Target, call: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Answers a second, and milliseconds of the server's processor time an answer."""
    done, end = 0, time.perf_counter() + SECONDS

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call()
            done += 1

    started, spent = time.perf_counter(), target.cpu_seconds()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return done / (time.perf_counter() - started), (target.cpu_seconds() - spent) / done * 1000


def ahead(requests: Iterator[bytes], many: int = AHEAD) -> Iterator[bytes]:
    """The same requests, the first of them made before anything is measured: the client shares the server's cores."""
    return itertools.chain(list(itertools.islice(requests, many)), requests)


def fresh_queries() -> Iterator[bytes]:
    """Endless distinct questions: weights make each aggregate list, and so each release, a new one."""
    for number in itertools.count():
        message = envelope()
        first, second = number % 999 + 1, number // 999 % 999 + 1
        message.query.aggregates[0].weight, message.query.aggregates[1].weight = first, second
        message.query.snapshot = 1
        yield _request(message)


def _sticky_queries() -> Iterator[bytes]:
    while True:
        yield _request(envelope())


def _request(message: query_service_pb2.QueryEnvelope) -> bytes:
    request = query_service_pb2.RunQueryRequest(envelope=message, idempotency_key=secrets.token_hex(16))
    return request.SerializeToString()
