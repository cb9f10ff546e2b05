# SPDX-License-Identifier: Apache-2.0
"""The guard around services that misbehave: whatever they raise, only public text leaves."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import grpc
import pytest

from tests.support.garbage import left_behind
from tests.support.server import make_domain, write_identity
from tests.support.wire import TRAILER, typed
from weir import errors
from weir.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    catalogue_service_pb2,
    query_service_pb2_grpc,
    receipt_pb2,
)
from weir.v1 import catalogue_service_pb2_grpc as catalogue
from weir_server import observe
from weir_server.config import Limits
from weir_server.identity import pki
from weir_server.identity.authentication import Authentication
from weir_server.observe import Metrics
from weir_server.services.access import PUBLIC
from weir_server.services.admission import Admission
from weir_server.services.guard import Call, Guard
from weir_server.services.strangers import Strangers

SECRET = "zebra-4711"
LIST = "/weir.v1.CatalogueService/ListDatasets"
RUN = "/weir.v1.QueryService/RunQuery"
ENTRIES = "/weir.v1.AuditService/ListEntries"


@dataclass
class Host:
    """A guarded listener whose services do what a test tells them."""

    act: Callable[[Call], Any]
    refusals: list[tuple[str, str, str, errors.WeirError]] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)
    address: str = ""
    identity: Path = Path()
    log: io.StringIO = field(default_factory=io.StringIO)

    async def refuse(self, principal_name: str, role: str, call: str, error: errors.WeirError) -> None:
        self.refusals.append((principal_name, role, call, error))
        error.receipt = receipt_pb2.Receipt(leaf_index=len(self.refusals))

    def channel(self) -> grpc.aio.Channel:
        import json

        content = json.loads(self.identity.read_text())
        credentials = grpc.ssl_channel_credentials(
            content["ca"].encode(), content["private_key"].encode(), content["certificate"].encode()
        )
        options = (("grpc.ssl_target_name_override", "localhost"),)
        return grpc.aio.secure_channel(self.address, credentials, options=options)

    async def error(self, rpc: str = LIST, body: bytes = b"") -> errors.WeirError:
        """The typed error a call meets."""
        async with self.channel() as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(rpc)(body, timeout=10.0)
        error = typed(caught.value)
        assert isinstance(error, errors.WeirError)
        everything = repr(caught.value) + str(caught.value.trailing_metadata()) + self.log.getvalue()
        assert SECRET not in everything
        return error


class _Catalogue(catalogue.CatalogueServiceServicer):
    def __init__(self, host: Host) -> None:
        self._host = host

    async def ListDatasets(self, request: Any, call: Call) -> Any:
        result = self._host.act(call)
        return await result if asyncio.iscoroutine(result) else result


class _Query(query_service_pb2_grpc.QueryServiceServicer):
    def __init__(self, host: Host) -> None:
        self._host = host

    async def RunQuery(self, request: Any, call: Call) -> Any:
        return self._host.act(call)


class _Audit(audit_service_pb2_grpc.AuditServiceServicer):
    def __init__(self, host: Host) -> None:
        self._host = host

    async def ListEntries(self, request: Any, call: Call) -> AsyncIterator[Any]:
        yield audit_service_pb2.ListEntriesResponse()
        self._host.act(call)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async for running in _hosted(tmp_path, Limits()):
        yield running


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[Host]:
    async for running in _hosted(tmp_path, Limits(max_in_flight_per_requester=1)):
        yield running


async def _hosted(tmp_path: Path, limits: Limits) -> AsyncIterator[Host]:
    data_dir = make_domain(tmp_path)
    domain = pki.load_domain(data_dir)
    host = Host(act=lambda call: catalogue_service_pb2.ListDatasetsResponse())
    host.identity = write_identity(tmp_path / "alice.weir", data_dir, role="requester", name="alice")
    handler = logging.StreamHandler(host.log)
    handler.setFormatter(observe.SafeFormatter())
    loggers = [logging.getLogger(), logging.getLogger(observe.LOGGER)]
    for logger in loggers[:1]:
        logger.addHandler(handler)
    level = loggers[1].level
    loggers[1].setLevel(logging.INFO)
    guard = Guard(
        listener=PUBLIC,
        authentication=Authentication(domain=domain.name, revoked=frozenset),
        limits=limits,
        admission=Admission(limits, clock=time.monotonic),
        metrics=host.metrics,
        now=lambda: datetime.now(UTC),
        refuse=host.refuse,
    )
    server = grpc.aio.server(interceptors=(guard,))
    catalogue.add_CatalogueServiceServicer_to_server(_Catalogue(host), server)
    query_service_pb2_grpc.add_QueryServiceServicer_to_server(_Query(host), server)
    audit_service_pb2_grpc.add_AuditServiceServicer_to_server(_Audit(host), server)
    credentials = grpc.ssl_server_credentials(
        [(domain.server_key, domain.server_certificate)], domain.ca_certificate, require_client_auth=True
    )
    host.address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    await server.start()
    yield host
    await server.stop(0)
    loggers[0].removeHandler(handler)
    loggers[1].setLevel(level)


def _raising(error: Exception) -> Callable[[Call], Any]:
    def act(call: Call) -> Any:
        raise error

    return act


def _engine_error() -> Exception:
    with pytest.raises(duckdb.Error) as caught:
        duckdb.connect().execute(f"SELECT CAST('{SECRET}' AS INTEGER)")
    assert SECRET in str(caught.value)  # engines quote cells: that is the danger
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ValueError(f"bad cell {SECRET}"), id="value error"),
        pytest.param(_engine_error(), id="engine error that quotes a cell"),
        pytest.param(KeyError(SECRET), id="key error"),
        pytest.param(RecursionError(SECRET), id="recursion"),
        pytest.param(NotImplementedError(SECRET), id="not implemented"),
    ],
)
async def test_a_foreign_exception_becomes_an_incident_and_its_text_goes_nowhere(host: Host, error: Exception) -> None:
    host.act = _raising(error)
    met = await host.error()
    assert isinstance(met, errors.InternalError)
    incident = met.metadata["incident"]
    lines = [line for line in host.log.getvalue().splitlines() if incident in line]
    assert len(lines) == 1
    assert f'"exception": "{type(error).__name__}"' in lines[0]
    assert '"location": "' in lines[0]


async def test_every_error_of_the_tree_arrives_as_itself_within_the_trailers(host: Host) -> None:
    for kind in errors.tree():
        if (kind.__subclasses__() and kind is not errors.PublicationError) or kind is errors.LogInconsistent:
            continue
        host.act = _raising(kind("x" * 5_000, field="f" * 500, rule="some.rule"))
        async with host.channel() as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(LIST)(b"", timeout=10)
        trailers = caught.value.trailing_metadata()
        assert trailers is not None
        size = sum(len(str(name)) + len(value) for name, value in trailers)
        assert size < 8 * 1024
        assert dict(trailers)[TRAILER]
        assert type(typed(caught.value)) is kind or typed(caught.value).reason == kind.reason  # type: ignore[union-attr]


async def test_a_timeout_inside_a_service_is_unavailable_and_may_be_repeated(host: Host) -> None:
    host.act = _raising(TimeoutError(SECRET))
    assert isinstance(await host.error(), errors.Unavailable)


async def test_an_error_in_the_middle_of_a_stream_ends_it_with_its_type(host: Host) -> None:
    host.act = _raising(ValueError(SECRET))
    host.identity = write_identity(
        host.identity.with_name("ann.weir"), host.identity.parent / "data", role="auditor", name="ann"
    )
    async with host.channel() as channel:
        stream = channel.unary_stream(ENTRIES)(b"", timeout=10)
        assert await stream.read() == b""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
    assert isinstance(typed(caught.value), errors.InternalError)
    assert SECRET not in repr(caught.value)


async def test_a_refusal_of_a_metered_call_is_metered_once_and_carries_its_receipt(host: Host) -> None:
    error = await host.error(RUN, b"\xff\xff")
    assert isinstance(error, errors.InvalidRequest)
    assert [(name, role, call) for name, role, call, _ in host.refusals] == [("alice", "requester", RUN)]


async def test_a_refusal_that_has_its_receipt_is_not_metered_again(host: Host) -> None:
    refusal = errors.PolicyDenied("no")
    refusal.receipt = receipt_pb2.Receipt(leaf_index=9)
    host.act = _raising(refusal)
    await host.error(RUN)
    assert host.refusals == []


async def test_a_refusal_that_cannot_be_logged_is_not_told(host: Host) -> None:
    host.act = _raising(errors.PolicyDenied("no"))
    host.refusals = _Stopped()
    error = await host.error(RUN)
    assert isinstance(error, errors.Unavailable)
    assert error.rule == "ledger.stopped"


class _Stopped(list[Any]):
    """A ledger that takes nothing any more."""

    def append(self, item: object) -> None:
        raise errors.Unavailable("the ledger has stopped", rule="ledger.stopped")


async def test_a_failure_of_the_service_is_not_metered_as_a_refusal(host: Host) -> None:
    host.act = _raising(ValueError("defect"))
    await host.error(RUN)
    assert host.refusals == []


async def test_a_service_sees_the_caller_of_its_certificate(host: Host) -> None:
    seen: list[Call] = []

    def act(call: Call) -> Any:
        seen.append(call)
        return catalogue_service_pb2.ListDatasetsResponse(next_page_token="x")

    host.act = act
    async with host.channel() as channel:
        reply = await channel.unary_unary(LIST)(b"", timeout=10, metadata=(("role", "operator"),))
    assert catalogue_service_pb2.ListDatasetsResponse.FromString(reply).next_page_token == "x"
    assert (seen[0].principal.name, seen[0].principal.role) == ("alice", "requester")


async def test_a_caller_beyond_its_seats_is_turned_away_and_gets_the_seat_back(narrow: Host) -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def slow() -> Any:
        entered.set()
        await release.wait()
        return catalogue_service_pb2.ListDatasetsResponse()

    narrow.act = lambda call: slow()
    async with narrow.channel() as channel:
        first = asyncio.ensure_future(channel.unary_unary(LIST)(b"", timeout=10))
        await entered.wait()
        error = await narrow.error()
        assert isinstance(error, errors.Overloaded)
        assert error.rule == "limits.max_in_flight_per_requester"
        release.set()
        await first
        await channel.unary_unary(LIST)(b"", timeout=10)
    assert narrow.refusals == []


async def test_a_cancelled_call_gives_its_seat_back(narrow: Host) -> None:
    entered = asyncio.Event()

    async def for_ever() -> Any:
        entered.set()
        await asyncio.Event().wait()

    narrow.act = lambda call: for_ever()
    async with narrow.channel() as channel:
        call = channel.unary_unary(LIST)(b"", timeout=10)
        waiting = asyncio.ensure_future(call.code())
        await entered.wait()
        call.cancel()
        await waiting
        narrow.act = lambda call: catalogue_service_pb2.ListDatasetsResponse()
        for _ in range(100):
            if 'reason="CANCELLED"' in _exposed(narrow.metrics):
                break
            await asyncio.sleep(0.02)
        await channel.unary_unary(LIST)(b"", timeout=10)
    assert "weir_calls_in_flight 0.0" in _exposed(narrow.metrics)


def _exposed(metrics: Metrics) -> str:
    from prometheus_client import generate_latest

    return generate_latest(metrics.registry).decode()


async def test_a_handler_that_takes_anothers_place_is_the_one_that_is_called() -> None:
    limits = Limits()

    def handler() -> Any:
        async def serve(request: Any, call: Call) -> Any:
            return request

        return grpc.unary_unary_rpc_method_handler(serve)

    class Details:
        method = LIST

    async def found(details: Any) -> Any:
        return handlers[-1]

    guard = Guard(
        listener=PUBLIC,
        authentication=Authentication(domain="test.weir", revoked=frozenset),
        limits=limits,
        admission=Admission(limits, clock=time.monotonic),
        metrics=Metrics(),
        now=lambda: datetime.now(UTC),
        refuse=_no_refusal,
    )
    handlers = [handler()]
    first = await guard.intercept_service(found, Details())
    assert await guard.intercept_service(found, Details()) is first
    handlers.append(handler())
    assert await guard.intercept_service(found, Details()) is not first


async def test_listeners_share_strangers_though_nobody_has_failed_yet() -> None:
    shared, limits = Strangers(clock=lambda: 0.0), Limits()
    guard = Guard(
        listener=PUBLIC,
        authentication=Authentication(domain="test.weir", revoked=frozenset),
        limits=limits,
        admission=Admission(limits, clock=time.monotonic),
        metrics=Metrics(),
        now=lambda: datetime.now(UTC),
        refuse=_no_refusal,
        strangers=shared,
    )

    class Nobody:
        def auth_context(self) -> Any:
            return {"x509_pem_cert": (b"no certificate",)}

        def peer(self) -> str:
            return "ipv4:10.0.0.1:1"

        def invocation_metadata(self) -> Any:
            return ()

    with pytest.raises(errors.Unauthenticated):
        guard._authenticate(guard._begin(LIST), Nobody())
    assert len(shared) == 1


async def _no_refusal(principal_name: str, role: str, call: str, error: errors.WeirError) -> None:
    """Refusals are not metered here."""


async def _silent(channel: grpc.aio.Channel, *, seconds: float | None) -> errors.WeirError:
    """What a call meets that announces a message and sends none."""

    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.sleep(60)
        yield b""

    call = channel.stream_unary(LIST)(nothing(), timeout=seconds)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(call, 10)
    error = typed(caught.value)
    assert isinstance(error, errors.WeirError)
    return error


async def test_a_call_is_held_against_every_rule_before_its_message_comes(host: Host) -> None:
    """Mutant: gRPC waits for the message first. Calls that send none are then in nobody's seat and under no deadline:
    one caller opens as many as the transport bears at all, and keeps everybody out for as long as it likes."""
    async with host.channel() as channel:
        assert isinstance(await _silent(channel, seconds=None), errors.DeadlineRequired)


async def test_a_message_that_does_not_come_is_not_waited_for_long(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weir_server.services.guard.MESSAGE_SECONDS", 0.2)
    async with host.channel() as channel:
        met = await _silent(channel, seconds=30)
    assert (type(met), met.rule) == (errors.InvalidRequest, "message.missing")


async def test_calls_that_send_nothing_take_their_callers_seats(narrow: Host) -> None:
    async with narrow.channel() as channel:
        silent = asyncio.create_task(_silent(channel, seconds=3))
        for _ in range(500):
            if "weir_calls_in_flight 1.0" in _exposed(narrow.metrics):
                break
            await asyncio.sleep(0.01)
        met = await narrow.error()
        silent.cancel()
    assert (type(met), met.rule) == (errors.Overloaded, "limits.max_in_flight_per_requester")


@pytest.mark.parametrize("rpc", [LIST, ENTRIES], ids=["one answer", "a stream"])
async def test_a_refused_call_leaves_nothing_in_memory(host: Host, rpc: str) -> None:
    """It did: a refusal held its call, and a flood of them grew by kilobytes each until the next full collection."""

    def act(call: Call) -> Any:
        raise errors.PolicyDenied("no")

    host.act = act
    host.identity = write_identity(
        host.identity.with_name("ann.weir"), host.identity.parent / "data", role="auditor", name="ann"
    )
    with left_behind(Call, errors.PolicyDenied) as left:
        async with host.channel() as channel:
            for _ in range(5):
                with pytest.raises(grpc.aio.AioRpcError):
                    async for _ in channel.unary_stream(rpc)(b"", timeout=10):
                        pass
        await asyncio.sleep(0.1)
        assert left() == {}


async def test_a_call_that_its_caller_gave_up_leaves_nothing_in_memory(host: Host) -> None:
    """Mutant: the error is raised again from where it is a local name; an upload that was cancelled stayed whole."""
    waiting = asyncio.Event()

    async def act(call: Call) -> None:
        waiting.set()
        await asyncio.sleep(60)

    host.act = act
    with left_behind(Call) as left:
        async with host.channel() as channel:
            for _ in range(3):
                waiting.clear()
                call = channel.unary_unary(LIST)(b"", timeout=30)
                sent = asyncio.ensure_future(call.wait_for_connection())
                await waiting.wait()
                call.cancel()
                await asyncio.gather(sent, return_exceptions=True)
        await asyncio.sleep(0.2)
        assert left() == {}
    assert host.metrics.in_flight._value.get() == 0
