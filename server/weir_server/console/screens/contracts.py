# SPDX-License-Identifier: Apache-2.0
"""Contracts: terms, signatures, duties, and the states of their life."""

from __future__ import annotations

import json

from starlette.responses import Response

from weir.errors import InvalidRequest, UnknownName
from weir.v1 import policy_service_pb2
from weir_server import ledger
from weir_server.console import calls
from weir_server.console.screens.screen import Screen
from weir_server.console.visit import Visit
from weir_server.ledger import Balance, Subject
from weir_server.policy import lifecycle
from weir_server.policy.contract import Contract
from weir_server.policy.lifecycle import ContractLife
from weir_server.services.paging import page_after
from weir_server.store import Transaction

PAGE = 50
MOVES = ("active", "suspended", "terminated")
"""States that an operator may move a contract to."""


async def show(visit: Visit) -> Response:
    """Contracts by id; of one requester or dataset where asked."""
    requester, dataset, after, now = visit.query("requester"), visit.query("dataset"), visit.query("after"), visit.now
    known = visit.world.policy.contracts
    ids = sorted(
        name
        for name, item in known.items()
        if (not requester or item.requester == requester) and (not dataset or item.dataset == dataset)
    )
    page, following = page_after(ids, key=str, token=after, size=PAGE)
    contracts = [known[name] for name in page]
    states = visit.world.contract_states
    return visit.page(
        "contracts.html",
        contracts=[(item, _state(item, states.get(item.id, "offered"), visit)) for item in contracts],
        requester=requester,
        dataset=dataset,
        now=now,
        first=visit.link(after=None) if after else "",
        following=visit.link(after=following) if following else "",
    )


async def show_contract(visit: Visit) -> Response:
    """One contract."""
    contract, now = _find(visit), visit.now
    lineage = visit.world.catalogue.datasets.get(contract.dataset)
    subject = Subject(contract.requester, contract.id, contract.dataset, lineage[0].card.lineage if lineage else "")

    def read(tx: Transaction) -> tuple[ContractLife, list[Balance]]:
        return lifecycle.lives(tx, [contract])[contract.id], ledger.balances(tx, [subject], now=now)

    life, balances = await visit.read(calls.LIST_CONTRACTS, read)
    return visit.page(
        "contract.html",
        contract=contract,
        life=life,
        state=lifecycle.state_at(contract, life, now=now),
        stopped=("contract", contract.id) in visit.world.suspensions,
        balances=balances if visit.may(calls.LIST_QUOTAS) else [],
        terms=json.loads(contract.canonical),
        moves=MOVES,
        now=now,
        can_move=visit.may(calls.SET_CONTRACT_STATE),
    )


async def move(visit: Visit) -> Response:
    """Activates, suspends or terminates."""
    contract, state = visit.path("contract"), visit.field("state")
    if state not in MOVES:
        raise InvalidRequest("state the state to reach", field="state", rule="contract.state")
    request = policy_service_pb2.SetContractStateRequest(
        contract=contract,
        state=f"CONTRACT_STATE_{state.upper()}",
        reason=visit.reason(),
        idempotency_key=visit.key(),
    )
    await visit.call(calls.SET_CONTRACT_STATE, request)
    return visit.go(f"/contracts/{contract}", "contract.moved", state=visit.words.name("contract_state", state))


def _state(contract: Contract, stored: str, visit: Visit) -> str:
    """The stored state, and expired where the validity has passed."""
    if stored not in lifecycle.ENDED and visit.now >= contract.valid_until:
        return lifecycle.EXPIRED
    return stored


def _find(visit: Visit) -> Contract:
    contract = visit.world.policy.contracts.get(visit.path("contract"))
    if contract is None:
        raise UnknownName("no contract of this id", field="contract", rule="name.contract")
    return contract


SCREENS = (
    Screen("contracts", "/contracts", show, (calls.LIST_CONTRACTS,)),
    Screen("contract", "/contracts/{contract}", show_contract, (calls.LIST_CONTRACTS,)),
    Screen("move_contract", "/contracts/{contract}/move", move, (calls.SET_CONTRACT_STATE,), "POST", proof=True),
)
