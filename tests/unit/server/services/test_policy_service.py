# SPDX-License-Identifier: Apache-2.0
"""What the public listener serves of PolicyService."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

from weir.v1 import policy_service_pb2
from weir_server.services.policy import add_party_handlers

MOVE, NOWHERE = "/weir.v1.PolicyService/SetContractState", "/weir.v1.PolicyService/Nowhere"
MOST = 4


class _Service:
    """Answers without a look at anything."""

    async def SetContractState(
        self, request: policy_service_pb2.SetContractStateRequest, call: object
    ) -> policy_service_pb2.SetContractStateResponse:
        return policy_service_pb2.SetContractStateResponse()


def flooded(address: str) -> tuple[list[grpc.StatusCode], grpc.StatusCode]:
    """How calls that nobody serves end, and one that ends a contract behind them."""
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        flood = [channel.unary_unary(NOWHERE).future(b"", timeout=10) for _ in range(5 * MOST)]
        assert any(call.exception(timeout=10) for call in flood[MOST + 1 :]), "turned away while the loop is busy"
        moved = channel.unary_unary(MOVE).future(b"", timeout=10)
        return [call.code() for call in flood], moved.code()


def keep_busy() -> None:
    """Holds the event loop: whatever comes has to wait in gRPC."""
    time.sleep(1)


async def test_calls_that_nobody_serves_keep_no_party_from_ending_its_contract() -> None:
    """Mutant: a generic handler. It waits in the queue that all unknown calls share, which anybody can fill."""
    server = grpc.aio.server(
        options=(
            ("grpc.so_reuseport", 0),
            ("grpc.server.max_pending_requests", MOST),
            ("grpc.server.max_pending_requests_hard_limit", MOST),
        )
    )
    add_party_handlers(_Service(), server)  # type: ignore[arg-type]
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(flooded, address)
        keep_busy()
        flood, moved = await asyncio.wrap_future(ended)
    await server.stop(0)
    assert flood.count(grpc.StatusCode.CANCELLED) >= 3 * MOST
    assert moved is grpc.StatusCode.OK
