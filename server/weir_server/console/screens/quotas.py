# SPDX-License-Identifier: Apache-2.0
"""Limits: how they stand, and how they are set. What a change would do is shown before it is done."""

from __future__ import annotations

from dataclasses import replace

from starlette.responses import Response

from weir.amounts import parse_epsilon, parse_price, parse_rho
from weir.errors import InvalidRequest, UnknownName
from weir.v1 import quota_service_pb2
from weir_server import ledger
from weir_server.console import calls
from weir_server.console.screens.screen import Screen
from weir_server.console.visit import Visit, whole_number
from weir_server.ledger import Balance, Quota
from weir_server.policy.encode import quota_to_proto
from weir_server.policy.quota import loosens

PAGE = 50
_PARSERS = {"epsilon_nano": parse_epsilon, "rho_micro": parse_rho, "price_micro": parse_price}


async def show(visit: Visit) -> Response:
    """Every limit by id."""
    after, now = visit.query("after"), visit.now
    found = await visit.read(calls.LIST_QUOTAS, lambda tx: ledger.list_quotas(tx, now=now, after=after, limit=PAGE + 1))
    return visit.page(
        "quotas.html",
        balances=found[:PAGE],
        first=visit.link(after=None) if after else "",
        following=visit.link(after=found[PAGE - 1].quota.id) if len(found) > PAGE else "",
    )


async def show_quota(visit: Visit) -> Response:
    """One limit; with `limit`, also what setting it would change."""
    balance = await _find(visit)
    wanted = visit.query("limit")
    proposed = None if not wanted else _proposed(balance.quota, wanted)
    return visit.page(
        "quota.html",
        balance=balance,
        proposed=proposed,
        loosens=proposed is not None and loosens(balance.quota, proposed),
        by_policy=balance.quota.id in visit.world.policy.quotas,
    )


async def set_quota(visit: Visit) -> Response:
    """Sets the limit that was looked at."""
    balance = await _find(visit)
    proposed = _proposed(balance.quota, visit.field("limit"))
    if visit.field("seen") != str(balance.quota.limit):
        raise InvalidRequest("the limit moved since it was looked at; look again", field="limit", rule="policy.moved")
    request = quota_service_pb2.SetQuotaRequest(
        quota=quota_to_proto(proposed), reason=visit.reason(), idempotency_key=visit.key()
    )
    await visit.call(calls.SET_QUOTA, request)
    visit.desk.figures.nearly_used.forget()
    return visit.go(f"/quotas/{proposed.id}", "quota.set", quota=proposed.id)


async def _find(visit: Visit) -> Balance:
    name, now = visit.path("quota"), visit.now
    found = await visit.read(calls.LIST_QUOTAS, lambda tx: ledger.find_balance(tx, name, now=now))
    if found is None:
        raise UnknownName("no such quota", field="quota", rule="quota.unknown")
    return found


def _proposed(quota: Quota, text: str) -> Quota:
    """The quota with another limit, written as people write amounts of its metric.

    Raises:
        InvalidRequest: not such an amount.
    """
    parse = _PARSERS.get(quota.metric)
    limit = whole_number(text, field="limit") if parse is None else parse(text, field="limit")
    if limit is None:
        raise InvalidRequest("state a limit", field="limit", rule="quota.limit")
    return replace(quota, limit=limit)


SCREENS = (
    Screen("quotas", "/quotas", show, (calls.LIST_QUOTAS,)),
    Screen("quota", "/quotas/{quota}", show_quota, (calls.LIST_QUOTAS,)),
    Screen("set_quota", "/quotas/{quota}/set", set_quota, (calls.LIST_QUOTAS, calls.SET_QUOTA), "POST", proof=True),
)
