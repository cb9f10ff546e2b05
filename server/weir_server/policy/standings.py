# SPDX-License-Identifier: Apache-2.0
"""How requesters stand, as they and their overseers see it."""

from __future__ import annotations

from datetime import datetime

from weir.v1 import policy_service_pb2
from weir_server.ledger.windows import ledger_time
from weir_server.policy.standing import Counts, counts_now
from weir_server.store import Transaction
from weir_server.world import World


def standings(
    tx: Transaction, world: World, *, now: datetime, requester: str | None = None
) -> list[policy_service_pb2.Standing]:
    """Standings by requester, of one or of everybody whom the policy or the books name."""
    moment = ledger_time(tx, now)
    counts = counts_now(tx, world.policy, now=moment)
    names = {requester} if requester is not None else _known(world) | counts.keys()
    return [_standing(name, counts.get(name, Counts()), world, moment) for name in sorted(names)]


def _known(world: World) -> set[str]:
    policy = world.policy
    listed = {name for scope, name in world.suspensions if scope in ("requester", "blacklist")}
    parties = {party.name for party in policy.parties.values() if party.role == "requester"}
    contracted = {contract.requester for contract in policy.contracts.values()}
    return listed | parties | contracted | policy.assessments.keys() | world.levels.keys()


def _standing(requester: str, counts: Counts, world: World, now: datetime) -> policy_service_pb2.Standing:
    gates, assessment = world.policy.gates, world.policy.assessments.get(requester)
    gate = world.gate_of(requester, now=now)
    message = policy_service_pb2.Standing(
        requester=requester,
        score=0 if assessment is None else assessment.score,
        tier="" if gates is None else gates.tier(assessment, now=now).name,
        level=world.levels.get(requester, "good"),
        refusals=counts.refusals,
        disputes=counts.disputes,
        overdue_duties=counts.overdue_duties,
        blacklisted=("blacklist", requester) in world.suspensions,
        k=gate.k,
        epsilon_cap_nano=gate.epsilon_nano,
        approvers=gate.approvers,
    )
    if assessment is not None:
        message.assessed_until.FromDatetime(assessment.valid_until)
    return message
