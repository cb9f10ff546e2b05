# SPDX-License-Identifier: Apache-2.0
"""The overview: traffic, refusals, what waits, what runs out, and whether the domain is well."""

from __future__ import annotations

from starlette.responses import Response

from weir.checkpoint import parse
from weir_server import log
from weir_server.console import calls
from weir_server.console.charts import Series
from weir_server.console.reads import approvals as inbox
from weir_server.console.reads.traffic import OUTCOMES, traffic
from weir_server.console.screens.screen import Screen
from weir_server.console.visit import Visit
from weir_server.store import Transaction

_WAITING_SHOWN = 5


async def show(visit: Visit) -> Response:
    """The page. Who may not see a part of it gets the rest."""
    now = visit.now
    found = await visit.read(calls.GET_CHECKPOINT, lambda tx: traffic(tx, now=now))
    size, origin = await visit.read(calls.GET_CHECKPOINT, _head)
    waiting, more = (
        await visit.read(calls.LIST_APPROVALS, lambda tx: inbox.page(tx, "waiting", now=now, limit=_WAITING_SHOWN))
        if visit.may(calls.LIST_APPROVALS)
        else ([], "")
    )
    series = [Series(visit.words.say(f"overview.{outcome}"), found.outcomes[outcome]) for outcome in OUTCOMES]
    return visit.page(
        "overview.html",
        traffic=found,
        labels=[moment.strftime("%H") for moment in found.hours],
        series=series,
        size=size,
        origin=origin,
        healthy=visit.desk.healthy(),
        waiting=waiting,
        more_waiting=more,
        stops=sorted(visit.world.suspensions) if visit.may(calls.LIST_SUSPENSIONS) else None,
        budgets=await visit.desk.figures.nearly_used.get() if visit.may(calls.LIST_QUOTAS) else None,
    )


def _head(tx: Transaction) -> tuple[int, str]:
    newest = log.latest_checkpoint(tx)
    return (0, "") if newest is None else (newest[0], parse(newest[1])[0].origin)


SCREENS = (Screen("overview", "/overview", show, (calls.GET_CHECKPOINT, calls.LIST_DATASETS)),)
