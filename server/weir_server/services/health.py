# SPDX-License-Identifier: Apache-2.0
"""grpc.health.v1, for callers with a certificate: what `health.readiness` found, read and never probed.

The whole server and each of its services have one answer, since they stand on one ledger. Beside them the parts can be
asked for by name (`weir.ledger`, `weir.clock`, `weir.log`, `weir.live`), which tells why, and no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from grpc_health.v1 import health_pb2, health_pb2_grpc

from weir.errors import UnknownName
from weir_server.health.readiness import PARTS, Health
from weir_server.services.guard import Call

_POLL_SECONDS = 0.5


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Readiness and its parts."""

    def __init__(self, health: Health, *, services: Iterable[str]) -> None:
        """`services`: full names of those of the listener."""
        self._health = health
        self._services = frozenset({"", *services, *PARTS})

    async def Check(self, request: health_pb2.HealthCheckRequest, call: Call) -> health_pb2.HealthCheckResponse:
        """State now."""
        if request.service not in self._services:
            raise UnknownName("this listener has no service of that name", field="service", rule="name.service")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, call: Call
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """State now and at every change, until the call's deadline."""
        shown: int | None = None
        while True:
            known = request.service in self._services
            status = self._status(request.service) if known else health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            if status != shown:
                shown = status
                yield health_pb2.HealthCheckResponse(status=status)
            await asyncio.sleep(_POLL_SECONDS)

    def _status(self, service: str) -> int:
        serving = self._health.serves(service)
        return int(health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING)
