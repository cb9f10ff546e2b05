# SPDX-License-Identifier: Apache-2.0
"""gRPC transports, blocking and async, over mutual TLS. Foreign errors end here: what leaves is a WeirError."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, status_pb2

from weir.errors import InvalidRequest, Overloaded, Unavailable, WeirError
from weir.wire import error_from_status
from weir_client._calls import Call, Exchange, Method, Stream
from weir_client._identity import Identity
from weir_client._token import Token, token_metadata

_DETAILS = "grpc-status-details-bin"
_MAX_RECEIVE = 64 * 1024 * 1024


def grpc_transport(address: str, identity: Identity, *, token: Token | None = None) -> GrpcTransport:
    """A blocking transport to `host:port`. Connects at the first call. `token`: shown with every call."""
    channel = grpc.secure_channel(address, _credentials(identity), options=_options(identity))
    return GrpcTransport(channel, token=token)


def grpc_aio_transport(address: str, identity: Identity, *, token: Token | None = None) -> GrpcAioTransport:
    """An async transport to `host:port`, for the event loop that runs now. `token`: shown with every call."""
    channel = grpc.aio.secure_channel(address, _credentials(identity), options=_options(identity))
    return GrpcAioTransport(channel, lambda: grpc_transport(address, identity, token=token), token=token)


class GrpcTransport:
    """Blocking transport over a gRPC channel, which it owns. May be used from several threads."""

    def __init__(self, channel: grpc.Channel, *, token: Token | None = None) -> None:
        self._channel = channel
        self._token = token

    def call(self, effect: Call) -> Message:
        """One request, one response."""
        try:
            stub = self._channel.unary_unary(effect.method.path, **_codecs(effect.method))
            return cast(Message, stub(effect.request, timeout=effect.timeout, metadata=token_metadata(self._token)))
        except grpc.RpcError as error:
            raise _weir_error(error) from None
        except ValueError:
            raise _closed() from None

    def stream(self, effect: Stream) -> Sequence[Message]:
        """One request, all its responses."""
        try:
            stub = self._channel.unary_stream(effect.method.path, **_codecs(effect.method))
            return list(stub(effect.request, timeout=effect.timeout, metadata=token_metadata(self._token)))
        except grpc.RpcError as error:
            raise _weir_error(error) from None
        except ValueError:
            raise _closed() from None

    def exchange(self, effect: Exchange) -> Sequence[Message]:
        """Header, acceptance, upload, all responses."""
        accepted: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        failure: list[WeirError] = []
        try:
            stub = self._channel.stream_stream(effect.method.path, **_codecs(effect.method))
            metadata = token_metadata(self._token)
            responses = stub(_requests(effect, accepted, failure), timeout=effect.timeout, metadata=metadata)
            first = next(responses)
            if effect.upload is None:
                responses.cancel()
                return [first]
            accepted.put(first)
            return [first, *responses]
        except StopIteration:
            raise Unavailable("the service ended the stream before accepting it", rule="stream.ended") from None
        except grpc.RpcError as error:
            raise failure[0] if failure else _weir_error(error) from None
        except ValueError:
            raise _closed() from None
        finally:
            accepted.put(None)  # lets the request thread end when the header was refused

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def _requests(
    effect: Exchange, accepted: queue.SimpleQueue[Message | None], failure: list[WeirError]
) -> Iterator[Message]:
    """Messages of the upload; gRPC iterates them in a thread of its own, one at a time as they are sent."""
    yield effect.header
    acceptance = accepted.get()
    if acceptance is None or effect.upload is None:
        return
    try:
        yield from effect.upload(acceptance)
    except WeirError as error:
        failure.append(error)
        raise


class GrpcAioTransport:
    """Async transport over a gRPC channel, which it owns. Bound to one event loop.

    Exchanges go over a blocking channel of their own, in a thread: in `grpc.aio` a write that meets the service's
    refusal replaces its status by "Internal error from Core", and the reason is lost.
    """

    def __init__(
        self, channel: grpc.aio.Channel, blocking: Callable[[], GrpcTransport], *, token: Token | None = None
    ) -> None:
        self._channel = channel
        self._token = token
        self._open_blocking = blocking
        self._blocking: GrpcTransport | None = None
        self._is_closed = False

    async def call(self, effect: Call) -> Message:
        """One request, one response."""
        stub = self._channel.unary_unary(effect.method.path, **_codecs(effect.method))
        try:
            return cast(
                Message, await stub(effect.request, timeout=effect.timeout, metadata=token_metadata(self._token))
            )
        except grpc.RpcError as error:
            raise _weir_error(error) from None
        except grpc.aio.UsageError:
            raise _closed() from None

    async def stream(self, effect: Stream) -> Sequence[Message]:
        """One request, all its responses."""
        stub = self._channel.unary_stream(effect.method.path, **_codecs(effect.method))
        try:
            return [
                message
                async for message in stub(effect.request, timeout=effect.timeout, metadata=token_metadata(self._token))
            ]
        except grpc.RpcError as error:
            raise _weir_error(error) from None
        except grpc.aio.UsageError:
            raise _closed() from None

    async def exchange(self, effect: Exchange) -> Sequence[Message]:
        """Header, acceptance, upload, all responses. Cancelling the waiting leaves it to end by its deadline."""
        if self._is_closed:
            raise _closed()
        if self._blocking is None:
            self._blocking = self._open_blocking()
        return await asyncio.to_thread(self._blocking.exchange, effect)

    async def close(self) -> None:
        """Close the channels."""
        self._is_closed = True
        if self._blocking is not None:
            self._blocking.close()
        await self._channel.close()


def _credentials(identity: Identity) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=identity.ca.encode(),
        private_key=identity.private_key.encode(),
        certificate_chain=identity.certificate.encode(),
    )


def _options(identity: Identity) -> list[tuple[str, Any]]:
    return [
        ("grpc.ssl_target_name_override", identity.server_name),
        ("grpc.max_receive_message_length", _MAX_RECEIVE),
        # Two clients of one process are two identities: they must never share a connection.
        ("grpc.use_local_subchannel_pool", 1),
        # The operation retries by itself, with the same idempotency key and within the caller's deadline.
        ("grpc.enable_retries", 0),
    ]


def _codecs(method: Method) -> dict[str, Any]:
    return {
        "request_serializer": method.request.SerializeToString,
        "response_deserializer": method.response.FromString,
    }


def _weir_error(error: Any) -> WeirError:
    return _from_parts(error.code(), error.details(), error.trailing_metadata())


def _from_parts(code: grpc.StatusCode, details: str | None, trailers: Any) -> WeirError:
    for key, value in trailers or ():
        if key == _DETAILS:
            try:
                return error_from_status(status_pb2.Status.FromString(value))
            except DecodeError:
                break
    found = error_from_status(status_pb2.Status(code=code.value[0]))
    if code.value[0] == code_pb2.RESOURCE_EXHAUSTED and "larger than max" not in (details or ""):
        # One code for two things, and only the transport's text tells them apart; nobody reads a message that is too
        # large twice, but a server that is full will have room.
        return Overloaded("the server takes no more calls now", rule="transport")
    if code.value[0] == code_pb2.UNAVAILABLE and details:
        # Written by our own end of the connection: why it cannot connect.
        found.message = f"{found.message}: {details[:300]}"
        found.args = (found.message,)
    return found


def _closed() -> WeirError:
    return InvalidRequest("the client is closed", rule="client.closed")
