# SPDX-License-Identifier: Apache-2.0
"""A bare grpc.aio server under mutual TLS that returns what it gets: the peer of bench.serve. Ends with its input."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc
import grpc.aio

from weir_server.identity.pki import load_domain


async def _echo(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    return request


async def main(data_dir: str) -> None:
    """Serve until standard input closes; the port is the first line printed."""
    domain = load_domain(Path(data_dir))
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    handler = grpc.method_handlers_generic_handler("bench.Echo", {"Echo": grpc.unary_unary_rpc_method_handler(_echo)})
    server.add_generic_rpc_handlers((handler,))
    credentials = grpc.ssl_server_credentials(
        [(domain.server_key, domain.server_certificate)],
        root_certificates=domain.ca_certificate,
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
