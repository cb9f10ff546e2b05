# SPDX-License-Identifier: Apache-2.0
"""What monitoring asks over plain HTTP, for whom a certificate is too much: metrics, readiness, liveness.

    /metrics         Prometheus text
    /health/ready    200 `serving`, or 503 and one of the public states: whether calls should be sent here
    /health/live     200 as long as the event loop turns, else 503: what is not live should be started again

Nothing of a caller is looked at beyond these three paths, and none causes a write.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from weir_server.health.readiness import SERVING, Health
from weir_server.plain_http import Handler, PlainListener

_PLAIN = "text/plain; charset=utf-8"


class ProbeServer(PlainListener):
    """Serves what one server's registry and health say."""

    def __init__(self, registry: CollectorRegistry, health: Health, *, host: str, port: int) -> None:
        """Listens at once.

        Raises:
            OSError: the address cannot be taken.
        """
        handler = type("ProbeHandler", (_Handler,), {"registry": registry, "health": health})
        super().__init__(handler, host=host, port=port, name="weir-probes")


class _Handler(Handler):
    registry: CollectorRegistry
    health: Health

    def answer(self) -> None:
        """Answers one of the paths."""
        if self.path == "/metrics":
            self.send(200, CONTENT_TYPE_LATEST, generate_latest(self.registry))
        elif self.path == "/health/ready":
            state = self.health.state()
            self.send(200 if state == SERVING else 503, _PLAIN, f"{state}\n".encode())
        elif self.path == "/health/live":
            live = self.health.live()
            self.send(200 if live else 503, _PLAIN, b"live\n" if live else b"stalled\n")
        else:
            self.send(404, _PLAIN, b"")
