# SPDX-License-Identifier: Apache-2.0
"""A requester on the blacklist tries every call of the access table, on both listeners, through a real server."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from tests.support.server import RunningServer, running_server
from tests.support.wire import raw_call, typed
from weir.errors import Suspended, WeirError
from weir_client import connect
from weir_server.services.access import ACCESS, ADMIN, PUBLIC

CALLS = [
    (rpc, listener)
    for rpc, row in ACCESS.items()
    for listener in (PUBLIC, ADMIN)
    if listener in row.listeners and not rpc.endswith("/List")
]
METERED = sorted(rpc for rpc, row in ACCESS.items() if row.metered)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("blacklist")) as running:
        for name in ("mallory", "metered"):
            _set(running, name, blacklisted=True)
        yield running


def _set(server: RunningServer, name: str, *, blacklisted: bool) -> None:
    with connect(server.admin, identity=server.identity("operator", "olga"), state_dir=server.data_dir) as olga:
        olga.set_suspension("blacklist", name, suspended=blacklisted, reason="test")


def _refusal(channel: grpc.Channel, rpc: str) -> WeirError | None:
    """What an empty request meets, as unary call or as stream."""
    try:
        raw_call(channel, rpc, b"")
    except Exception as error:
        return _error(error)
    return None


def _error(error: BaseException) -> WeirError:
    found = error if isinstance(error, WeirError) else typed(error)  # type: ignore[arg-type]
    assert isinstance(found, WeirError)
    return found


@pytest.mark.parametrize(("rpc", "listener"), CALLS, ids=[f"{rpc.rpartition('.')[2]} {at}" for rpc, at in CALLS])
def test_every_call_meets_the_same_refusal(server: RunningServer, rpc: str, listener: str) -> None:
    channel = server.channel(server.identity("requester", "mallory"), admin=listener == ADMIN)
    error = _refusal(channel, rpc)
    assert isinstance(error, Suspended)
    assert (error.rule, error.message, error.metadata) == (
        "blacklist",
        "this requester is on the blacklist",
        {"scope": "blacklist"},
    )


@pytest.mark.parametrize("rpc", METERED)
def test_a_metered_call_leaves_one_leaf(server: RunningServer, rpc: str) -> None:
    with connect(server.admin, identity=server.identity("auditor", "ada"), state_dir=server.data_dir) as auditor:
        before = len([entry for entry in auditor.entries() if entry.event.get("type") == "weir.query.refused"])
        error = _refusal(server.channel(server.identity("requester", "metered")), rpc)
        after = [entry for entry in auditor.entries() if entry.event.get("type") == "weir.query.refused"]
    assert isinstance(error, Suspended)
    assert len(after) == before + 1
    assert error.receipt is not None
    assert after[-1].event["data"]["record"]["rule"] == "blacklist"  # type: ignore[index]


def test_others_of_the_same_name_in_other_roles_are_answered(server: RunningServer) -> None:
    for role in ("provider", "auditor", "operator", "approver"):
        channel = server.channel(server.identity(role, "mallory"))
        assert _refusal(channel, "/weir.v1.CatalogueService/ListDatasets") is None


def test_who_is_lifted_is_answered_again(server: RunningServer) -> None:
    identity = server.identity("requester", "penitent")
    with connect(identity=identity, state_dir=server.data_dir) as client:
        assert client.datasets() == []
        _set(server, "penitent", blacklisted=True)
        with pytest.raises(Suspended, match="blacklist"):
            client.datasets()
        _set(server, "penitent", blacklisted=False)
        assert client.datasets() == []
