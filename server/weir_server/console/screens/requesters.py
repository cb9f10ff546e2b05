# SPDX-License-Identifier: Apache-2.0
"""Requesters: how they stand, what binds them, what they may do."""

from __future__ import annotations

from starlette.responses import Response

from weir.errors import UnknownName
from weir.v1 import policy_service_pb2
from weir_server import ledger
from weir_server.console import calls
from weir_server.console.screens.screen import Screen
from weir_server.console.visit import Visit
from weir_server.ledger import Balance, Subject
from weir_server.policy.standings import standings
from weir_server.store import Transaction

PAGE = 50


async def show(visit: Visit) -> Response:
    """Standings by requester."""
    after = visit.query("after")
    request = policy_service_pb2.ListStandingsRequest(page_size=PAGE, page_token=after)
    listed = await visit.call(calls.LIST_STANDINGS, request)
    return visit.page(
        "requesters.html",
        standings=listed.standings,
        first=visit.link(after=None) if after else "",
        following=visit.link(after=listed.next_page_token) if listed.next_page_token else "",
    )


async def show_requester(visit: Visit) -> Response:
    """One requester."""
    name, world, now = visit.path("requester"), visit.world, visit.now
    contracts = sorted(
        (item for item in world.policy.contracts.values() if item.requester == name), key=lambda item: item.id
    )
    party = world.policy.parties.get(f"requester/{name}")
    known = bool(contracts) or party is not None or any(stopped == name for _, stopped in world.suspensions)
    if not known:
        raise UnknownName("no requester of this name is known", field="requester", rule="name.requester")

    def read(tx: Transaction) -> tuple[policy_service_pb2.Standing, list[Balance]]:
        subjects = [Subject(name, item.id, item.dataset, _lineage(visit, item.dataset)) for item in contracts[:PAGE]]
        return standings(tx, world, now=now, requester=name)[0], ledger.balances(tx, subjects, now=now)

    standing, balances = await visit.read(calls.LIST_STANDINGS, read)
    return visit.page(
        "requester.html",
        name=name,
        party=party,
        standing=standing,
        assessed_until=standing.assessed_until.ToDatetime() if standing.HasField("assessed_until") else None,
        contracts=contracts[:PAGE],
        states=world.contract_states,
        balances=balances if visit.may(calls.LIST_QUOTAS) else [],
        stopped=("requester", name) in world.suspensions,
        can_stop=visit.may(calls.SET_SUSPENSION),
    )


def _lineage(visit: Visit, dataset: str) -> str:
    snapshots = visit.world.catalogue.datasets.get(dataset)
    return snapshots[0].card.lineage if snapshots else ""


SCREENS = (
    Screen("requesters", "/requesters", show, (calls.LIST_STANDINGS,)),
    Screen("requester", "/requesters/{requester}", show_requester, (calls.LIST_STANDINGS,)),
)
