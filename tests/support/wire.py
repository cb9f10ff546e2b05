# SPDX-License-Identifier: Apache-2.0
"""Plain gRPC calls below the SDK: any method by name, any bytes, and errors as the WeirErrors they carry."""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Iterable
from typing import Any

import grpc
from google.rpc import status_pb2

from weir.errors import WeirError
from weir.wire import error_from_status

TRAILER = "grpc-status-details-bin"


class WireFailure(Exception):
    """A call failed without a typed error."""

    def __init__(self, error: grpc.RpcError) -> None:
        super().__init__(f"{error.code()}: {error.details()}")
        self.code = error.code()


def key() -> str:
    """A fresh idempotency key."""
    return secrets.token_hex(16)


def method(channel: grpc.Channel, rpc: str) -> Any:
    """The callable of `/weir.v1.XService/Call`, with its own (de)serialisation."""
    service, name = rpc.removeprefix("/").split("/")
    for module in ("catalogue", "query", "encrypted", "policy", "quota", "audit"):
        stubs = importlib.import_module(f"weir.v1.{module}_service_pb2_grpc")
        stub = getattr(stubs, f"{service.rpartition('.')[2]}Stub", None)
        if stub is not None:
            return getattr(stub(channel), name)
    raise LookupError(rpc)


def call(channel: grpc.Channel, rpc: str, request: Any, *, timeout: float | None = 30.0) -> Any:
    """A unary call. Raises the WeirError that the server sent, or WireFailure where it sent none."""
    try:
        return method(channel, rpc)(request, timeout=timeout)
    except grpc.RpcError as error:
        raise typed(error) from None


def collect(channel: grpc.Channel, rpc: str, request: Any, *, timeout: float | None = 30.0) -> list[Any]:
    """All responses of a streaming call; `request` may be an iterator of requests."""
    try:
        return list(method(channel, rpc)(request, timeout=timeout))
    except grpc.RpcError as error:
        raise typed(error) from None


def raw_call(channel: grpc.Channel, rpc: str, body: bytes, *, timeout: float | None = 30.0) -> bytes:
    """A unary call of any bytes."""
    try:
        reply: bytes = channel.unary_unary(rpc)(body, timeout=timeout)
    except grpc.RpcError as error:
        raise typed(error) from None
    return reply


def typed(error: grpc.RpcError) -> WeirError | WireFailure:
    """What a failed call means."""
    trailers: Iterable[tuple[str, Any]] = error.trailing_metadata() or ()
    details = dict(trailers).get(TRAILER)
    if details is None:
        return WireFailure(error)
    return error_from_status(status_pb2.Status.FromString(details))
