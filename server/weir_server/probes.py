# SPDX-License-Identifier: Apache-2.0
"""What monitoring asks over plain HTTP, for whom a certificate is too much: metrics, readiness, liveness.

    /metrics         Prometheus text
    /health/ready    200 `serving`, or 503 and one of the public states: whether calls should be sent here
    /health/live     200 as long as the event loop turns, else 503: what is not live should be started again

No path, header or body of a caller is looked at beyond these three paths, and none causes a write.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from weir_server.health import SERVING, Health
from weir_server.log.serve import BoundedServer

_SECONDS = 10.0
_PLAIN = "text/plain; charset=utf-8"


class ProbeServer:
    """Serves from a thread of its own until closed."""

    def __init__(
        self,
        registry: CollectorRegistry,
        health: Health,
        *,
        host: str,
        port: int,
    ) -> None:
        """Listens at once.

        Raises:
            OSError: the address cannot be taken.
        """
        handler = type("ProbeHandler", (_Handler,), {"registry": registry, "health": health})
        self._server = BoundedServer((host, port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="weir-probes", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it got."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Takes no more requests and ends the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    registry: CollectorRegistry
    health: Health
    timeout = _SECONDS
    server_version, sys_version = "weir", ""

    def do_GET(self) -> None:
        """Answers one of the paths."""
        if self.path == "/metrics":
            self._send(200, CONTENT_TYPE_LATEST, generate_latest(self.registry))
        elif self.path == "/health/ready":
            state = self.health.state()
            self._send(200 if state == SERVING else 503, _PLAIN, f"{state}\n".encode())
        elif self.path == "/health/live":
            live = self.health.live()
            self._send(200 if live else 503, _PLAIN, b"live\n" if live else b"stalled\n")
        else:
            self._send(404, _PLAIN, b"")

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: paths are the caller's text."""
