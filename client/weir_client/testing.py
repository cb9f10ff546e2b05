# SPDX-License-Identifier: Apache-2.0
"""For tests of programs that use the SDK: a transport without a network.

    transport = MockTransport({"QueryService/RunQuery": lambda request: RunQueryResponse(...)})
    client = weir_client.Client(transport)

A handler gets the request message and returns the response message, or raises a `weir.errors` class as the service
would. For calls that stream, it returns all responses; for RunEncryptedQuery it gets all requests in a list. The same
transport serves `weir_client.aio.Client`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from weir.errors import InvalidRequest
from weir.v1 import encrypted_service_pb2
from weir_client._calls import Call, Exchange, Method, Stream

__all__ = ["MockTransport"]


class MockTransport:
    """Answers calls from handlers named `Service/Method`, and keeps what was asked in `requests`."""

    def __init__(self, handlers: Mapping[str, Callable[[Any], Any]]) -> None:
        self._handlers = dict(handlers)
        self.requests: list[tuple[str, Any]] = []
        """Every call made, with its request message (a list of them for RunEncryptedQuery), oldest first."""
        self.closed = False

    def call(self, effect: Call) -> Message:
        """One request, one response."""
        response: Message = self._handle(effect.method, effect.request)
        return response

    def stream(self, effect: Stream) -> Sequence[Message]:
        """One request, all its responses."""
        return list(self._handle(effect.method, effect.request))

    def exchange(self, effect: Exchange) -> Sequence[Message]:
        """Accepts the header's number of weights, takes the upload, then asks the handler."""
        header: Any = effect.header
        accepted = encrypted_service_pb2.RunEncryptedQueryResponse(
            accepted=encrypted_service_pb2.HeaderAccepted(cells=header.header.weights)
        )
        if effect.upload is None:
            return [accepted]
        requests = [effect.header, *effect.upload(accepted)]
        return [accepted, *self._handle(effect.method, requests)]

    def close(self) -> None:
        """Later calls are refused, as with a closed client."""
        self.closed = True

    def _handle(self, method: Method, request: Any) -> Any:
        if self.closed:
            raise InvalidRequest("the client is closed", rule="client.closed")
        self.requests.append((method.key, request))
        handler = self._handlers.get(method.key)
        if handler is None:
            raise InvalidRequest(f"no handler for {method.key}", rule="transport")
        return handler(request)
