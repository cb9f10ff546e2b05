# SPDX-License-Identifier: Apache-2.0
"""Every field of every request, with values that an engine may choke on: a typed refusal, on both engines."""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tests.support.sample import apply_contracts, publish_sample
from tests.support.server import RunningServer, make_domain, start_server
from tests.support.wire import WireFailure, key, typed
from weir.errors import InternalError, InvalidRequest, WeirError
from weir_server.services.access import ACCESS, PUBLIC

WIDE = {
    FieldDescriptor.CPPTYPE_UINT64: (2**64 - 1, 2**63),
    FieldDescriptor.CPPTYPE_INT64: (2**63 - 1, -(2**63)),
    FieldDescriptor.CPPTYPE_UINT32: (2**32 - 1,),
    FieldDescriptor.CPPTYPE_INT32: (2**31 - 1, -(2**31)),
    FieldDescriptor.CPPTYPE_STRING: ("a\0b", "\0", "9" * 40),
}
MODULES = ("audit", "case", "catalogue", "encrypted", "policy", "query", "quota")
CALLS = sorted(rpc for rpc in ACCESS if rpc.startswith("/weir."))
Place = tuple[FieldDescriptor, ...]


def request_of(rpc: str) -> Descriptor:
    service, name = rpc.removeprefix("/").split("/")
    for module in MODULES:
        importlib.import_module(f"weir.v1.{module}_service_pb2")
    return descriptor_pool.Default().FindServiceByName(service).FindMethodByName(name).input_type


def places(kind: Descriptor, *, depth: int = 4) -> Iterator[Place]:
    """Paths to every scalar field, through messages, each kind of message once on a path."""
    for field in kind.fields:
        if field.message_type is None:
            yield (field,)
        elif depth:
            yield from ((field, *rest) for rest in places(field.message_type, depth=depth - 1))


def put(message: Message, path: Place, value: Any) -> None:
    field, *rest = path
    current = getattr(message, field.name)
    repeated = not isinstance(current, str | bytes | int | float | bool | Message)
    if rest:
        put(current.add() if repeated else current, tuple(rest), value)
    elif repeated:
        current.append(value)
    else:
        setattr(message, field.name, value)


def plausible(message: Message) -> None:
    """What most calls ask for, so that they get further than its absence."""
    for field in message.DESCRIPTOR.fields:
        if field.name == "idempotency_key":
            setattr(message, field.name, key())
        elif field.name == "reason":
            setattr(message, field.name, "test")
        elif field.name in {"contract", "name", "id", "approval", "case_id"} and field.type == field.TYPE_STRING:
            setattr(message, field.name, "c-clinic")


def bad_requests(rpc: str) -> Iterator[tuple[str, Message]]:
    kind = request_of(rpc)
    for path in places(kind):
        for value in WIDE.get(path[-1].cpp_type, ()):
            if isinstance(value, str) and path[-1].type != FieldDescriptor.TYPE_STRING:
                continue
            message = message_factory.GetMessageClass(kind)()
            plausible(message)
            put(message, path, value)
            yield f"{'.'.join(part.name for part in path)}={value!r:.20}", message


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    data_dir = make_domain(tmp_path_factory.mktemp("values"))
    settings = "[encrypted]\nworkers = 0\n"
    if request.param == "postgres":
        conninfo = request.getfixturevalue("ledger_server")
        settings += f'[ledger]\npostgres = "{conninfo}"\nschema = "values_{secrets.token_hex(4)}"\n'
    (data_dir / "weir.toml").write_text(settings, encoding="utf-8")
    publish_sample(data_dir)
    running = start_server(data_dir, settings=settings)
    try:
        apply_contracts(running)
        yield running
    finally:
        assert running.stop() == 0


def met(channel: grpc.Channel, rpc: str, message: Message) -> WeirError | WireFailure | None:
    """What ends a call; None where it is answered."""
    try:
        list(channel.unary_stream(rpc)(message.SerializeToString(), timeout=30))
    except grpc.RpcError as error:
        return typed(error)
    return None


@pytest.mark.parametrize("rpc", [rpc for rpc in CALLS if "Encrypted" not in rpc])
def test_no_value_is_a_failure_of_the_service(server: RunningServer, rpc: str) -> None:
    access = ACCESS[rpc]
    role = sorted(access.roles)[0] if "requester" not in access.roles else "requester"
    channel = server.channel(server.identity(role, "alice"), admin=PUBLIC not in access.listeners)
    tried = 0
    for name, message in bad_requests(rpc):
        outcome = met(channel, rpc, message)
        assert not isinstance(outcome, InternalError | WireFailure), (name, outcome)
        if "\\x00" in name:
            assert isinstance(outcome, InvalidRequest), (name, outcome)
        tried += 1
    assert tried or not request_of(rpc).fields
    assert not [line for line in server.log_lines() if line["event"] in {"incident", "ledger_stopped"}]


def test_the_calls_have_fields_to_try() -> None:
    tried = {rpc: sum(1 for _ in bad_requests(rpc)) for rpc in CALLS}
    assert sum(tried.values()) > 150
