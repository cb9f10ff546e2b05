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
from weir_server.ledger import Subject
from weir_server.services.paging import page_after

PAGE = 50


async def show(visit: Visit) -> Response:
    """Standings by requester, at most some seconds old: they are sums over all that requesters did."""
    after = visit.query("after")
    found = await visit.desk.figures.standings.get()
    page, following = page_after(found, key=lambda item: item.requester, token=after, size=PAGE)
    return visit.page(
        "requesters.html",
        standings=page,
        stops=visit.world.suspensions,
        first=visit.link(after=None) if after else "",
        following=visit.link(after=following) if following else "",
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

    subjects = [Subject(name, item.id, item.dataset, _lineage(visit, item.dataset)) for item in contracts[:PAGE]]
    balances = await visit.read(calls.LIST_STANDINGS, lambda tx: ledger.balances(tx, subjects, now=now))
    known_standings = {item.requester: item for item in await visit.desk.figures.standings.get()}
    standing = known_standings.get(name) or policy_service_pb2.Standing(requester=name, level="good")
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
        blacklisted=("blacklist", name) in world.suspensions,
        can_stop=visit.may(calls.SET_SUSPENSION),
    )


def _lineage(visit: Visit, dataset: str) -> str:
    snapshots = visit.world.catalogue.datasets.get(dataset)
    return snapshots[0].card.lineage if snapshots else ""


SCREENS = (
    Screen("requesters", "/requesters", show, (calls.LIST_STANDINGS,)),
    Screen("requester", "/requesters/{requester}", show_requester, (calls.LIST_STANDINGS,)),
)
