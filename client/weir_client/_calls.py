# SPDX-License-Identifier: Apache-2.0
"""Calls as values, and the one seam to a transport.

What the SDK does is written once, as generators (`_operations`, `_encrypted`, `_audit`) that yield the effects below
and get their replies. `drive` runs them over a blocking transport, `drive_async` over either kind.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from google.protobuf import message_factory
from google.protobuf.message import Message

from weir.errors import WeirError
from weir.v1 import (
    audit_service_pb2,
    case_service_pb2,
    catalogue_service_pb2,
    encrypted_service_pb2,
    policy_service_pb2,
    query_service_pb2,
    quota_service_pb2,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Method:
    """One call of one service."""

    service: str
    """Without the package: `QueryService`."""
    name: str
    """`RunQuery`."""
    request: type[Message]
    response: type[Message]

    @property
    def path(self) -> str:
        """As HTTP/2 names it."""
        return f"/weir.v1.{self.service}/{self.name}"

    @property
    def key(self) -> str:
        """`QueryService/RunQuery`: how mock handlers are named."""
        return f"{self.service}/{self.name}"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, one response: the reply is that message."""

    method: Method
    request: Message
    timeout: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One request, many responses: the reply is the list of them."""

    method: Method
    request: Message
    timeout: float


@dataclass(frozen=True, slots=True)
class Exchange:
    """A header, its acceptance, then an upload and the responses: the reply is the list of all responses. Without an
    upload the call is given up once the header is accepted, and the reply is the list of the acceptance alone."""

    method: Method
    header: Message
    upload: Callable[[Message], Iterator[Message]] | None
    """From the acceptance to the messages of the upload; only iterated once the header is accepted. It may take long:
    it runs beside the event loop."""
    timeout: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait; no reply."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Compute:
    """Work that would stall an event loop; the reply is its result."""

    work: Callable[[], Any]


Effect = Call | Stream | Exchange | Sleep | Compute
Operation = Generator[Effect, Any, T]


class Transport(Protocol):
    """The seam. Every method raises WeirError and nothing else; a blocking one returns, an async one is awaited."""

    def call(self, effect: Call) -> Message | Awaitable[Message]:
        """One request, one response."""
        ...

    def stream(self, effect: Stream) -> Sequence[Message] | Awaitable[Sequence[Message]]:
        """One request, all its responses."""
        ...

    def exchange(self, effect: Exchange) -> Sequence[Message] | Awaitable[Sequence[Message]]:
        """Header, acceptance, upload, all responses."""
        ...

    def close(self) -> Awaitable[None] | None:
        """Release connections. Safe to repeat."""
        ...


def method(service: str, name: str) -> Method:
    """A call by its names in the protos."""
    descriptor = _SERVICES[service].methods_by_name[name]
    return Method(
        service,
        name,
        message_factory.GetMessageClass(descriptor.input_type),
        message_factory.GetMessageClass(descriptor.output_type),
    )


def drive(operation: Operation[T], transport: Transport) -> T:
    """Run an operation to its end in this thread. `transport` MUST be a blocking one."""
    reply: Any = None
    failure: WeirError | None = None
    try:
        while True:
            effect = operation.send(reply) if failure is None else operation.throw(failure)
            reply, failure = None, None
            try:
                reply = _perform(effect, transport)
            except WeirError as error:
                failure = error
    except StopIteration as stop:
        result: T = stop.value
        return result


async def drive_async(operation: Operation[T], transport: Transport) -> T:
    """Run an operation to its end on this event loop."""
    reply: Any = None
    failure: WeirError | None = None
    try:
        while True:
            effect = operation.send(reply) if failure is None else operation.throw(failure)
            reply, failure = None, None
            try:
                reply = await _perform_async(effect, transport)
            except WeirError as error:
                failure = error
    except StopIteration as stop:
        result: T = stop.value
        return result


def _perform(effect: Effect, transport: Transport) -> Any:
    match effect:
        case Call():
            return transport.call(effect)
        case Stream():
            return transport.stream(effect)
        case Exchange():
            return transport.exchange(effect)
        case Sleep(seconds):
            return time.sleep(seconds)
        case Compute(work):
            return work()


async def _perform_async(effect: Effect, transport: Transport) -> Any:
    if isinstance(effect, Sleep):
        return await asyncio.sleep(effect.seconds)
    if isinstance(effect, Compute):
        return await asyncio.to_thread(effect.work)
    reply = _perform(effect, transport)
    return await reply if inspect.isawaitable(reply) else reply


_SERVICES = {
    service.name: service
    for module in (
        audit_service_pb2,
        case_service_pb2,
        catalogue_service_pb2,
        encrypted_service_pb2,
        policy_service_pb2,
        query_service_pb2,
        quota_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
}
