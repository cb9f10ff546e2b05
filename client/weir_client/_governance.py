# SPDX-License-Identifier: Apache-2.0
"""How requesters stand, what is stopped, and cases, as generators that yield calls (see `_calls`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from weir.errors import InvalidRequest
from weir.v1 import case_service_pb2, policy_service_pb2
from weir_client._calls import Operation
from weir_client._operations import Context, invoke, invoke_stream, pages

KINDS = ("complaint", "incident", "dispute")
STATES = ("received", "accepted", "handled", "closed")


@dataclass(frozen=True, slots=True)
class Standing:
    """How a requester stands, and what follows from it."""

    requester: str
    score: int
    """Of the newest assessment, 0 to 100; 0 without one."""
    tier: str
    """Tier of the policy's gates that applies now; empty where the policy has no gates."""
    assessed_until: datetime | None
    level: str
    """`good`, `watched` or `restricted`."""
    refusals: int
    """Of the last 30 days, caused by the policy, a red line or a limit of its own."""
    disputes: int
    overdue_duties: int
    blacklisted: bool
    k: int
    """Least k that exact answers need for it; 0 for the floor."""
    epsilon_cap_nano: int | None
    """Most epsilon of one of its queries; None for no cap but the contract's."""
    approvers: int
    """Persons who must approve each of its queries, beside what the contract asks."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """One stop."""

    scope: str
    """`requester`, `contract`, `dataset`, `all` or `blacklist`."""
    name: str
    since: datetime


@dataclass(frozen=True, slots=True)
class CaseStep:
    """One step of a case."""

    state: str
    actor: str
    at: datetime
    note: str
    leaf_index: int


@dataclass(frozen=True, slots=True)
class Case:
    """A complaint, an incident or a dispute."""

    id: str
    kind: str
    """`complaint`, `incident` or `dispute`."""
    state: str
    """`received`, `accepted`, `handled` or `closed`."""
    opened_by: str
    opened_role: str
    contract: str
    dataset: str
    against: str
    """Requester it is about; empty where none is."""
    entries: tuple[int, ...]
    """Log entries concerned."""
    statement: str
    opened: datetime
    frozen: bool
    """Whether it holds the contract."""
    steps: tuple[CaseStep, ...]


def standings(context: Context) -> Operation[list[Standing]]:
    """Every standing that the caller may see."""
    found = yield from pages(context, "ContractService", "ListStandings", "standings")
    return [_standing(item) for item in found]


def suspensions(context: Context) -> Operation[list[Suspension]]:
    """What is stopped now."""
    request = policy_service_pb2.ListSuspensionsRequest()
    reply = yield from invoke(context, "PolicyService", "ListSuspensions", request)
    name = policy_service_pb2.SuspensionScope.Name
    return [
        Suspension(name(stop.scope).removeprefix("SUSPENSION_SCOPE_").lower(), stop.name, _utc(stop.since))
        for stop in reply.suspensions
    ]


def cases(context: Context) -> Operation[list[Case]]:
    """Every case that the caller may see, newest first."""
    return [case_of(item) for item in (yield from pages(context, "CaseService", "ListCases", "cases"))]


def open_case(
    context: Context,
    kind: str,
    statement: str,
    about: tuple[str, str, str],
    entries: Sequence[int],
    idempotency_key: str,
) -> Operation[Case]:
    """File a case. `about`: contract, dataset and requester concerned, each of which may be empty."""
    contract, dataset, against = about
    request = case_service_pb2.OpenCaseRequest(
        kind=cast(Any, _number(kind, KINDS, "kind")),
        contract=contract,
        dataset=dataset,
        against=against,
        entries=entries,
        statement=statement,
        idempotency_key=idempotency_key,
    )
    reply = yield from invoke(context, "CaseService", "OpenCase", request)
    return case_of(reply.case)


def advance_case(
    context: Context, case: str, state: str, note: str, freeze: bool, idempotency_key: str
) -> Operation[Case]:
    """Take a case a step on."""
    request = case_service_pb2.AdvanceCaseRequest(
        case=case,
        state=cast(Any, _number(state, STATES, "state")),
        note=note,
        freeze=freeze,
        idempotency_key=idempotency_key,
    )
    reply = yield from invoke(context, "CaseAdminService", "AdvanceCase", request)
    return case_of(reply.case)


def evidence(context: Context, case: str) -> Operation[bytes]:
    """The evidence of a case, one file; `weir.evidence.verify_evidence` checks it."""
    parts = yield from invoke_stream(
        context, "CaseService", "GetEvidence", case_service_pb2.GetEvidenceRequest(case=case)
    )
    return b"".join(part.chunk for part in parts)


def case_of(message: case_service_pb2.Case) -> Case:
    """A case as a plain value."""
    return Case(
        id=message.id,
        kind=_word(message.kind, KINDS),
        state=_word(message.state, STATES),
        opened_by=message.opened_by,
        opened_role=message.opened_role,
        contract=message.contract,
        dataset=message.dataset,
        against=message.against,
        entries=tuple(message.entries),
        statement=message.statement,
        opened=_utc(message.opened),
        frozen=message.frozen,
        steps=tuple(
            CaseStep(_word(step.state, STATES), step.actor, _utc(step.at), step.note, step.leaf_index)
            for step in message.steps
        ),
    )


def _standing(message: policy_service_pb2.Standing) -> Standing:
    return Standing(
        requester=message.requester,
        score=message.score,
        tier=message.tier,
        assessed_until=_utc(message.assessed_until) if message.HasField("assessed_until") else None,
        level=message.level,
        refusals=message.refusals,
        disputes=message.disputes,
        overdue_duties=message.overdue_duties,
        blacklisted=message.blacklisted,
        k=message.k,
        epsilon_cap_nano=message.epsilon_cap_nano if message.HasField("epsilon_cap_nano") else None,
        approvers=message.approvers,
    )


def _number(word: str, known: Sequence[str], field: str) -> int:
    if word not in known:
        raise InvalidRequest(f"{field} is one of {', '.join(known)}", field=field, rule=f"case.{field}")
    return known.index(word) + 1


def _word(number: int, known: Sequence[str]) -> str:
    """The word of a number on the wire; empty for one that this client does not know."""
    return known[number - 1] if 1 <= number <= len(known) else ""


def _utc(message: Any) -> datetime:
    moment: datetime = message.ToDatetime(UTC)
    return moment
