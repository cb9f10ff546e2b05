# SPDX-License-Identifier: Apache-2.0
"""The outermost guard: every call of every service passes through here, bytes in and bytes out.

It owns (de)serialisation, so that no exception of any kind reaches gRPC, which would send its text to the caller.
In this order, each step before the next one costs anything:

    1  authenticate    certificate of the connection, token       Unauthenticated, Overloaded where that fails too often
    2  admit           a token and a seat                         Overloaded, never billed
    3  authorise       blacklist, then one table, call by role    Suspended, PermissionDenied
    4  deadline        present, at most ten minutes               DeadlineRequired
    5  size, decode    before any message is parsed               InvalidRequest
    6  serve           the service                                its own error, or InternalError with an incident id

What refuses a metered call from step 3 on leaves a leaf in the log. Only a WeirError's public parts leave; any other
exception is replaced, and the operator log keeps its type and code location, never its text.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError, Message

from weir.errors import (
    AccessError,
    DeadlineRequired,
    InternalError,
    InvalidRequest,
    PermissionDenied,
    RefusalError,
    RequestError,
    Unauthenticated,
    Unavailable,
    WeirError,
)
from weir.wire import error_to_status
from weir_server.config import Limits
from weir_server.identity.authentication import HEADER, Authentication
from weir_server.observe import Metrics, event, exception_fields
from weir_server.plan.values import Principal
from weir_server.services.access import ACCESS, ADMIN, Access
from weir_server.services.admission import Admission
from weir_server.services.strangers import RULE as FAILED_TOO_OFTEN
from weir_server.services.strangers import Strangers, stranger

STATUS_TRAILER = "grpc-status-details-bin"
MESSAGE_SECONDS = 30
"""How long the message of a call may take, from when the call is looked at."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_CLOSED = Access(roles=frozenset(), listeners=frozenset())
"""Row of a call that has none."""


class Refuse(Protocol):
    """Meters the refusal of a call that never became a submission: one leaf; its receipt is attached to the error."""

    async def __call__(self, principal_name: str, role: str, call: str, error: WeirError) -> None:
        """Returns once the leaf is durable."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """What a service may know of a call beside its request."""

    principal: Principal
    rpc: str
    """Full name, `/weir.v1.QueryService/RunQuery`."""
    now: datetime
    """When it arrived, by the server's clock; UTC."""


@dataclass(slots=True)
class _Progress:
    """How far a call got; owned by the guard."""

    rpc: str
    access: Access
    started: float
    principal: Principal | None = None


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Wraps every handler of one listener."""

    def __init__(
        self,
        *,
        listener: str,
        authentication: Authentication,
        limits: Limits,
        admission: Admission,
        metrics: Metrics,
        now: Callable[[], datetime],
        refuse: Refuse,
        check_caller: Callable[[Principal], None] = lambda principal: None,
        strangers: Strangers | None = None,
    ) -> None:
        """`check_caller` raises where no call of this caller is answered, whatever it calls. `strangers`: those of the
        whole server, by default of this listener."""
        self._listener = listener
        self._authentication = authentication
        self._limits = limits
        self._admission = admission
        self._metrics = metrics
        self._now = now
        self._refuse = refuse
        self._check_caller = check_caller
        self._strangers = Strangers(clock=time.monotonic) if strangers is None else strangers
        self._wrapped: dict[str, tuple[Any, Any]] = {}
        """By call: the handler that was found, and its guarded form."""

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The guarded form of a handler; None where the listener serves no such call."""
        handler = await continuation(details)
        if handler is None:
            return None
        known = self._wrapped.get(details.method)
        if known is None or known[0] is not handler:
            known = self._wrapped[details.method] = handler, self._wrap(details.method, handler)
        return known[1]

    def _wrap(self, rpc: str, handler: Any) -> Any:
        # All as streams of requests: gRPC would wait for a single message before anybody looks at the call, for ever
        # and in nobody's seat.
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._bidirectional(rpc, handler))
        if handler.request_streaming:
            raise NotImplementedError("no service of Weir streams requests into one response")
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._downward(rpc, handler))
        return grpc.stream_unary_rpc_method_handler(self._unary(rpc, handler))

    def _unary(self, rpc: str, handler: Any) -> Callable[[AsyncIterator[bytes], Any], Awaitable[bytes]]:
        async def serve(messages: AsyncIterator[bytes], context: Any) -> bytes:
            progress = self._begin(rpc)
            try:
                with self._admission.seat(self._authenticate(progress, context)):
                    call = self._authorise(progress, context)
                    request = self._decode(progress, handler, await _only(messages))
                    response = await handler.unary_unary(request, call)
                    reply: bytes = response.SerializeToString()
            except Exception as error:
                await self._fail(progress, error, context)
                return b""  # Not sent: gRPC has sent the status.
            except BaseException:
                self._end(progress, reason="CANCELLED")
                raise
            self._end(progress, reason="OK")
            return reply

        return serve

    def _downward(self, rpc: str, handler: Any) -> Callable[[AsyncIterator[bytes], Any], AsyncIterator[bytes]]:
        async def serve(messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            progress = self._begin(rpc)
            try:
                with self._admission.seat(self._authenticate(progress, context)):
                    call = self._authorise(progress, context)
                    request = self._decode(progress, handler, await _only(messages))
                    async with aclosing(handler.unary_stream(request, call)) as responses:
                        async for response in responses:
                            yield response.SerializeToString()
            except Exception as error:
                await self._fail(progress, error, context)
            except BaseException:
                self._end(progress, reason="CANCELLED")
                raise
            else:
                self._end(progress, reason="OK")

        return serve

    def _bidirectional(self, rpc: str, handler: Any) -> Callable[[AsyncIterator[bytes], Any], AsyncIterator[bytes]]:
        async def serve(messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            progress = self._begin(rpc)
            try:
                with self._admission.seat(self._authenticate(progress, context)):
                    call = self._authorise(progress, context)
                    requests = self._decode_all(progress, handler, messages)
                    async with aclosing(handler.stream_stream(requests, call)) as responses:
                        async for response in responses:
                            yield response.SerializeToString()
            except Exception as error:
                await self._fail(progress, error, context)
            except BaseException:
                self._end(progress, reason="CANCELLED")
                raise
            else:
                self._end(progress, reason="OK")

        return serve

    def _begin(self, rpc: str) -> _Progress:
        self._metrics.in_flight.inc()
        return _Progress(rpc, ACCESS.get(rpc, _CLOSED), time.monotonic())

    def _authenticate(self, progress: _Progress, context: Any) -> str:
        """Sets the caller; gives the name its seat is counted under."""
        shown = context.auth_context().get("x509_pem_cert", ())
        if len(shown) != 1:
            raise Unauthenticated("the connection shows no client certificate", rule="certificate.missing")
        if self._strangers:
            self._strangers.check(stranger(shown[0], context.peer()))
        # Metadata is read for this one key only, and never logged: it holds the token.
        headers = [value for key, value in context.invocation_metadata() or () if key == HEADER]
        try:
            progress.principal = self._authentication.caller(shown[0], headers, now=self._now())
        except Unauthenticated:
            self._strangers.failed(stranger(shown[0], context.peer()))
            raise
        return f"{progress.principal.role}/{progress.principal.name}"

    def _authorise(self, progress: _Progress, context: Any) -> Call:
        """Checks blacklist, role, listener and deadline; gives what the service is called with."""
        principal, access = progress.principal, progress.access
        if principal is None:
            raise Unauthenticated("the connection shows no client certificate", rule="certificate.missing")
        self._check_caller(principal)  # First: one refusal for every call, whatever the role might have made.
        if not access.allows(principal.role, listener=self._listener):
            elsewhere = access.allows(principal.role, listener=ADMIN)
            where = " here: it is served on the admin address (listen.admin)" if elsewhere else ""
            raise PermissionDenied(
                f"the role {principal.role} may not make this call{where}",
                rule="access.role",
                metadata={"role": principal.role},
            )
        remaining, longest = context.time_remaining(), self._limits.max_deadline_seconds
        if remaining is None or remaining > longest:
            raise DeadlineRequired(
                f"every call needs a deadline of at most {longest} seconds",
                rule="deadline",
                metadata={"max_seconds": str(longest)},
            )
        return Call(principal, progress.rpc, self._now())

    def _decode(self, progress: _Progress, handler: Any, raw: bytes) -> Message:
        limit = self._limits.max_policy_bytes if progress.access.policy else self._limits.max_request_bytes
        if len(raw) > limit:
            raise InvalidRequest(
                f"a message of this call is at most {limit} bytes", field="message", rule="message.size"
            )
        request: Message = handler.request_deserializer(raw)
        if b"\0" in raw:
            _check_texts(request)
        return request

    async def _decode_all(
        self, progress: _Progress, handler: Any, messages: AsyncIterator[bytes]
    ) -> AsyncIterator[Message]:
        total, limit = 0, self._limits.max_upload_bytes
        async for raw in messages:
            total += len(raw)
            if total > limit:
                raise InvalidRequest(f"an upload is at most {limit} bytes", field="message", rule="upload.size")
            yield self._decode(progress, handler, raw)

    async def _fail(self, progress: _Progress, error: Exception, context: Any) -> None:
        """Ends a call with a typed error. Cancelled calls do not come here: there is nobody to tell."""
        public = _public_error(error, progress.rpc)
        try:
            if progress.access.metered and _is_refusal(public):
                public = await self._meter(progress, public)
        except BaseException:  # The caller went away meanwhile.
            self._end(progress, reason="CANCELLED")
            raise
        self._end(progress, reason=public.reason, rule=public.rule or "")
        status = error_to_status(public)
        details = ((STATUS_TRAILER, status.SerializeToString()),)
        try:
            await context.abort(_CODES[status.code], status.message, details)
        except grpc.aio.AbortError as aborted:
            # gRPC keeps it with the call and raises it again once the handler has ended. With its traceback and context
            # it would hold this call and everything that it has made until the garbage collector comes by.
            aborted.__traceback__ = aborted.__context__ = None

    async def _meter(self, progress: _Progress, error: WeirError) -> WeirError:
        """Leaves the leaf. Where that fails the caller hears so: no refusal goes out that the log does not know."""
        if progress.principal is None or error.receipt is not None:
            return error
        try:
            await self._refuse(progress.principal.name, progress.principal.role, progress.rpc, error)
        except Exception as failure:
            return _public_error(failure, progress.rpc)
        return error

    def _end(self, progress: _Progress, *, reason: str, rule: str = "") -> None:
        seconds = time.monotonic() - progress.started
        self._metrics.in_flight.dec()
        if progress.access is not _CLOSED:
            self._metrics.call_ended(progress.rpc, reason=reason, seconds=seconds)
        if rule == FAILED_TOO_OFTEN:
            return  # The metric counts it: a flood writes no lines.
        role = "none" if progress.principal is None else progress.principal.role
        event(
            "call",
            rpc=progress.rpc,
            listener=self._listener,
            role=role,
            reason=reason,
            rule=rule,
            seconds=round(seconds, 6),
        )


async def _only(messages: AsyncIterator[bytes]) -> bytes:
    """The message of a call that sends one.

    Raises:
        InvalidRequest: none comes in time.
        CancelledError: gRPC has ended the call, whose message is larger than the transport takes.
    """
    try:
        async with asyncio.timeout(MESSAGE_SECONDS):
            return await anext(aiter(messages))
    except TimeoutError:
        raise InvalidRequest("the call's message did not come", field="message", rule="message.missing") from None
    except StopAsyncIteration:
        raise asyncio.CancelledError from None


def _check_texts(message: Message) -> None:
    """Refuses the one character that not every engine can store. No name, key, reason or text of anybody has it.

    Raises:
        InvalidRequest: naming the field.
    """
    for field, value in message.ListFields():
        if isinstance(value, bytes | int | float):
            continue
        for part in (value,) if isinstance(value, str | Message) else value:
            if isinstance(part, Message):
                _check_texts(part)
            elif isinstance(part, str) and "\0" in part:
                raise InvalidRequest("a text holds the character NUL", field=field.name, rule="message.text")


def _is_refusal(error: WeirError) -> bool:
    """Whether the caller or the policy is at fault, and not the service."""
    return isinstance(error, RequestError | AccessError | RefusalError) and not isinstance(error, Unauthenticated)


def _public_error(error: Exception, rpc: str) -> WeirError:
    """What may leave in place of any exception."""
    if isinstance(error, WeirError):
        return error
    if isinstance(error, DecodeError):
        return InvalidRequest("the message is no valid protobuf of this call", field="message", rule="message.decode")
    if isinstance(error, TimeoutError):
        return Unavailable("not done in time; send the same request again", rule="deadline.passed")
    incident = secrets.token_hex(6)
    event("incident", level=logging.ERROR, rpc=rpc, incident=incident, **exception_fields(error))
    return InternalError(
        "the service failed; operators find the cause by the incident id", metadata={"incident": incident}
    )
