# SPDX-License-Identifier: Apache-2.0
"""The services of the gRPC listeners, called in-process by whoever is signed in.

The same table says who may call what, the same functions check shapes and act, and so the same keys, reasons and log
entries hold. What a page reads beyond any call is named by the call whose readers may see it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from google.protobuf.message import Message

from weir.errors import PermissionDenied, WeirError
from weir_server.observe import event
from weir_server.plan.values import Principal
from weir_server.services.access import ACCESS
from weir_server.services.guard import Call
from weir_server.store import Store, Transaction

T = TypeVar("T")
LISTENER = "console"


def may(role: str, *calls: str) -> bool:
    """Whether a role may make every one of these calls; a call without a row is closed to everybody."""
    return all(call in ACCESS and role in ACCESS[call].roles for call in calls)


def require(principal: Principal, *calls: str) -> None:
    """Refuses a role that may not make every one of these calls.

    Raises:
        PermissionDenied: in the words of the gRPC listeners.
    """
    if not may(principal.role, *calls):
        raise PermissionDenied(
            f"the role {principal.role} may not make this call",
            rule="access.role",
            metadata={"role": principal.role},
        )


class Gate:
    """Calls services on behalf of a person. `services`: by full name, as gRPC knows them."""

    def __init__(self, services: Mapping[str, object], store: Store, *, now: Callable[[], datetime]) -> None:
        self._services, self._store, self._now = services, store, now

    async def call(self, principal: Principal, rpc: str, request: Message) -> Any:
        """One unary call, checked, served and noted in the operator log like any other.

        Raises:
            PermissionDenied: the role may not.
            WeirError: what the service refuses with.
        """
        started, reason, rule = time.monotonic(), "OK", ""
        try:
            require(principal, rpc)
            return await self._method(rpc)(request, Call(principal, rpc, self._now()))
        except WeirError as error:
            reason, rule = error.reason, error.rule or ""
            raise
        finally:
            seconds = round(time.monotonic() - started, 6)
            event(
                "call", rpc=rpc, listener=LISTENER, role=principal.role, reason=reason, rule=rule, seconds=seconds
            )  # fmt: skip

    def stream(self, principal: Principal, rpc: str, request: Message) -> AsyncIterator[Any]:
        """The messages of a call that streams downwards.

        Raises:
            PermissionDenied: the role may not.
        """
        require(principal, rpc)
        messages: AsyncIterator[Any] = self._method(rpc)(request, Call(principal, rpc, self._now()))
        return messages

    async def read(self, principal: Principal, rpc: str, operation: Callable[[Transaction], T]) -> T:
        """A read of the books that whoever may make `rpc` may see. In a worker thread: the store's reads wait.

        Raises:
            PermissionDenied: the role may not.
        """
        require(principal, rpc)
        return await asyncio.to_thread(self._store.read, operation)

    def _method(self, rpc: str) -> Callable[[Message, Call], Any]:
        _, service, method = rpc.split("/")
        found: Callable[[Message, Call], Any] = getattr(self._services[service], method)
        return found
