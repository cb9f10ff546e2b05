# SPDX-License-Identifier: Apache-2.0
"""Stops: of a requester, a contract, a dataset, or of everything at once."""

from __future__ import annotations

from starlette.responses import Response

from weir.errors import InvalidRequest
from weir.v1 import policy_service_pb2
from weir_server.console import calls
from weir_server.console.screens.screen import Screen
from weir_server.console.visit import Visit

SCOPES = ("requester", "contract", "dataset", "all", "blacklist")
NAMED = tuple(scope for scope in SCOPES if scope != "all")


async def show(visit: Visit) -> Response:
    """What is stopped, and the forms that stop."""
    listed = await visit.call(calls.LIST_SUSPENSIONS, policy_service_pb2.ListSuspensionsRequest())
    stops = [(_word(stop.scope), stop.name, stop.since.ToDatetime()) for stop in listed.suspensions]
    return visit.page(
        "stops.html",
        stops=stops,
        everything=any(scope == "all" for scope, _, _ in stops),
        scopes=NAMED,
        scope=visit.query("scope"),
        name=visit.query("name"),
        can_stop=visit.may(calls.SET_SUSPENSION),
    )


async def set_stop(visit: Visit) -> Response:
    """Stops or resumes one thing. Everything at once asks for the domain's name in writing."""
    scope, name, stop = visit.field("scope"), visit.field("name"), visit.field("act") == "stop"
    if scope not in SCOPES:
        raise InvalidRequest("not a known scope", field="scope", rule="suspension.scope")
    if scope == "all" and stop and visit.field("typed") != visit.desk.domain:
        raise InvalidRequest("type the domain's name to stop everything", field="typed", rule="console.typed")
    request = policy_service_pb2.SetSuspensionRequest(
        scope=f"SUSPENSION_SCOPE_{scope.upper()}",
        name="" if scope == "all" else name,
        suspended=stop,
        reason=visit.reason(),
        idempotency_key=visit.key(),
    )
    await visit.call(calls.SET_SUSPENSION, request)
    said = "stops.stopped" if stop else "stops.resumed"
    return visit.go("/stops", said, what=visit.words.name("scope", scope), name=name)


def _word(number: int) -> str:
    return policy_service_pb2.SuspensionScope.Name(number).removeprefix("SUSPENSION_SCOPE_").lower()


SCREENS = (
    Screen("stops", "/stops", show, (calls.LIST_SUSPENSIONS,)),
    Screen("set_stop", "/stops/set", set_stop, (calls.SET_SUSPENSION,), "POST", proof=True),
)
