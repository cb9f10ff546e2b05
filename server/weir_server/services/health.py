# SPDX-License-Identifier: Apache-2.0
"""grpc.health.v1: SERVING means that the books can be written and the server takes new calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable

from grpc_health.v1 import health_pb2, health_pb2_grpc

from weir.errors import UnknownName
from weir_server.services.guard import Call

_POLL_SECONDS = 0.5


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """One answer for the whole server and for each of its services, since they stand on one ledger."""

    def __init__(self, *, healthy: Callable[[], bool], services: Iterable[str]) -> None:
        self._healthy = healthy
        self._services = frozenset({"", *services})

    async def Check(self, request: health_pb2.HealthCheckRequest, call: Call) -> health_pb2.HealthCheckResponse:
        """State now."""
        if request.service not in self._services:
            raise UnknownName("this listener has no service of that name", field="service", rule="name.service")
        return health_pb2.HealthCheckResponse(status=self._status())

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, call: Call
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """State now and at every change, until the call's deadline."""
        shown: int | None = None
        while True:
            known = request.service in self._services
            status = self._status() if known else health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            if status != shown:
                shown = status
                yield health_pb2.HealthCheckResponse(status=status)
            await asyncio.sleep(_POLL_SECONDS)

    def _status(self) -> int:
        serving = self._healthy()
        return int(health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING)
