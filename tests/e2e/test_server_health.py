# SPDX-License-Identifier: Apache-2.0
"""A real server says over HTTP and gRPC whether it should be sent calls, and why not."""

from __future__ import annotations

import asyncio
import resource
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.server import make_domain, open_channel, running_server, write_identity
from tests.support.time import Machine
from tests.support.wire import call, key
from weir.errors import Unavailable
from weir.v1 import policy_service_pb2
from weir_server.app import Addresses, serve
from weir_server.config import Config, Encrypted, Listen

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
STOP = policy_service_pb2.SetSuspensionRequest(
    scope=policy_service_pb2.SUSPENSION_SCOPE_REQUESTER, name="alice", suspended=True, reason="test"
)


@asynccontextmanager
async def serving(data_dir: Path, machine: Machine) -> AsyncIterator[Addresses]:
    """A server in this process, on a machine whose clock the test sets."""
    loopback = "127.0.0.1:0"
    listen = Listen(public=loopback, admin=loopback, metrics=loopback, console="")
    config = replace(Config(), listen=listen, encrypted=Encrypted(workers=0))
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    running = asyncio.create_task(
        serve(data_dir, config=config, stop=stop, ready=ready.set_result, keeper=machine.keeper())
    )
    await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield await ready
    finally:
        stop.set()
        assert await running


def asked(address: str, path: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as reply:
            return int(reply.status), reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def checked(channel: grpc.Channel, service: str) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    return int(health_pb2_grpc.HealthStub(channel).Check(request, timeout=10).status)


async def until(address: str, expected: tuple[int, str]) -> None:
    deadline = time.monotonic() + 20
    while (found := await asyncio.to_thread(asked, address, "/health/ready")) != expected:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)


async def test_a_server_whose_clock_is_set_takes_no_writes_and_says_so_until_it_is_right(tmp_path: Path) -> None:
    data_dir, machine = make_domain(tmp_path), Machine.now()
    olga = write_identity(tmp_path / "olga.weir", data_dir, role="operator", name="olga")

    async with serving(data_dir, machine) as addresses:
        channel = open_channel(addresses.admin, olga, local=True)

        async def status(service: str) -> int:
            return await asyncio.to_thread(checked, channel, service)

        async def act() -> None:
            request = policy_service_pb2.SetSuspensionRequest()
            request.CopyFrom(STOP)
            request.idempotency_key = key()
            await asyncio.to_thread(call, channel, "/weir.v1.PolicyService/SetSuspension", request)

        await act()
        assert await asyncio.to_thread(asked, addresses.metrics, "/health/ready") == (200, "serving\n")
        assert await status("") == SERVING

        machine.set(days=365)
        await until(addresses.metrics, (503, "clock\n"))
        parts = ("", "weir.v1.PolicyService", "weir.clock", "weir.ledger", "weir.log", "weir.live")
        assert [await status(part) for part in parts] == [NOT_SERVING] * 3 + [SERVING] * 3
        assert await asyncio.to_thread(asked, addresses.metrics, "/health/live") == (200, "live\n")
        with pytest.raises(Unavailable) as caught:
            await act()
        assert caught.value.rule == "clock.jump"
        _, text = await asyncio.to_thread(asked, addresses.metrics, "/metrics")
        assert 'weir_not_ready{state="clock"} 1.0' in text
        assert "weir_healthy 0.0" in text

        machine.set(days=-365)
        await until(addresses.metrics, (200, "serving\n"))
        assert await status("") == SERVING
        await act()
        channel.close()


def test_a_full_disk_ends_an_idle_server_within_seconds(tmp_path: Path) -> None:
    """Mutant: health that writes nothing is SERVING until the first caller has found out."""
    with running_server(tmp_path) as server:
        assert asked(server.metrics, "/health/ready") == (200, "serving\n")
        # A file-size limit of the kernel: writes fail half-way, as they do on a full disk.
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (16_384, 16_384))
        assert server.process.wait(timeout=15) == 70
        assert any(line["event"] == "ledger_stopped" for line in server.log_lines())


def test_probes_tell_no_more_than_words_and_know_no_other_path(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        assert asked(server.metrics, "/health/live") == (200, "live\n")
        for path in (
            "/",
            "/health",
            "/metrics?name[]=weir_calls",
            "/health/ready/../../etc/passwd",
            "/secrets/log.key",
        ):
            assert asked(server.metrics, path) == (404, "")
