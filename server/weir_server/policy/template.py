# SPDX-License-Identifier: Apache-2.0
"""Standing approvals: one query approved as a template, in which the literals of named columns are free.

A query fits a template where both are the same once those literals are blanked: same dataset, groups, aggregates and
weights, same operators on the same columns in the same structure, literals of the same kind, lists of IN of the same
length (a longer one would ask for more), and everything else that the plan binds but its snapshot, its loss and its
price. The snapshot may be newer, never older than what was looked at; loss and price have ceilings.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from weir.canonical import canonical_json, digest
from weir.errors import InvalidRequest
from weir.v1 import policy_service_pb2
from weir_server.plan.values import Plan
from weir_server.policy.contract import Contract
from weir_server.policy.decide import purpose_of

MAX_USES, MAX_DAYS = 10_000, 366
_CONNECTIVES, _LISTS, _NULLS = ("and", "or", "not"), ("in", "not in"), ("is null", "is not null")


@dataclass(frozen=True, slots=True)
class StandingTerms:
    """What makes an approval stand for more than one very query."""

    free_columns: tuple[str, ...]
    """Columns whose literals in conditions are free; ordered, at least one."""
    uses: int
    """Queries it may allow, 1 to 10,000."""
    days: int
    """Days it stands, 1 to 366."""
    epsilon_nano: int
    """Most that one query may spend; at most what the template's own query asks for."""
    price_micro: int
    """Most that one query may cost."""


def terms_from_proto(message: policy_service_pb2.StandingTerms, *, query: str, epsilon_nano: int) -> StandingTerms:
    """Terms that fit the template's own query, given as its canonical JSON and what it would spend.

    Raises:
        InvalidRequest: a column without literals in the query, or a number out of range.
    """
    free = tuple(sorted(set(message.free_columns)))
    unknown = set(free) - set(_with_literals(json.loads(query)["where"]))
    if not free or unknown:
        raise _refused("free", "name columns that the query compares with literals, at least one", "free_columns")
    if not 1 <= message.uses <= MAX_USES:
        raise _refused("uses", f"uses are 1 to {MAX_USES}", "uses")
    if not 1 <= message.days <= MAX_DAYS:
        raise _refused("days", f"days are 1 to {MAX_DAYS}", "days")
    if message.epsilon_nano > epsilon_nano or (epsilon_nano and not message.epsilon_nano):
        raise _refused("epsilon", "the ceiling of loss is at most what the query itself asks for", "epsilon_nano")
    return StandingTerms(free, message.uses, message.days, message.epsilon_nano, message.price_micro)


def terms_to_proto(terms: StandingTerms) -> policy_service_pb2.StandingTerms:
    """Wire form."""
    return policy_service_pb2.StandingTerms(**asdict(terms))


def terms_text(terms: StandingTerms) -> str:
    """Canonical JSON, as it is stored, compared and committed to."""
    amounts = {"epsilon_nano": str(terms.epsilon_nano), "price_micro": str(terms.price_micro)}
    return canonical_json({**asdict(terms), **amounts}).decode()


def terms_of_text(text: str) -> StandingTerms:
    """Terms of their stored form."""
    content = json.loads(text)
    return StandingTerms(
        tuple(content["free_columns"]),
        content["uses"],
        content["days"],
        int(content["epsilon_nano"]),
        int(content["price_micro"]),
    )


def fixed_of(plan: Plan, contract: Contract) -> str:
    """Digest of all that a template keeps beside its query: who asks, under which terms, for what, in which form."""
    submission = plan.bound.submission
    terms = submission.encrypted
    return digest(
        canonical_json({
            "requester": submission.principal.name,
            "contract": contract.id,
            "contract_digest": contract.digest,
            "purpose": purpose_of(submission.purpose, contract),
            "mode": plan.bound.mode.value,
            "encrypted": None
            if terms is None
            else [terms.kind, terms.key_id, terms.weight_bits, terms.max_addends, sorted(terms.key_owners)],
        })
    )  # fmt: skip


def fits(plan: Plan, query: Mapping[str, Any], *, template: str, snapshot: int, rho_micro: int, terms: str) -> bool:
    """Whether a plan whose `fixed_of` is the template's fits the rest of it.

    `query`: the plan's, as JSON. `template`, `snapshot`, `rho_micro`: canonical JSON, version and loss of the query
    that was looked at. `terms`: as stored.
    """
    stated, loss = terms_of_text(terms), plan.analysis.loss
    return (
        blanked(query, stated.free_columns) == blanked(json.loads(template), stated.free_columns)
        and plan.bound.snapshot.version >= snapshot
        and loss.epsilon_nano <= stated.epsilon_nano
        and loss.rho_micro <= rho_micro
        and plan.charge["price_micro"] <= stated.price_micro
    )


def blanked(query: Mapping[str, Any], free: Collection[str]) -> bytes:
    """Canonical form of a query's JSON without its snapshot, the literals of free columns blanked to their kind."""
    where = query["where"]
    content = {key: value for key, value in query.items() if key not in ("where", "snapshot")}
    return canonical_json({**content, "where": None if where is None else _blanked(where, free)})


def _blanked(node: list[Any], free: Collection[str]) -> list[Any]:
    word = node[0]
    if word in _CONNECTIVES:
        # Operands are ordered by their literals, too, which are gone now.
        return [word, *sorted((_blanked(operand, free) for operand in node[1:]), key=canonical_json)]
    if word in _NULLS or node[1] not in free:
        return node
    if word in _LISTS:
        return [word, node[1], sorted([literal[0]] for literal in node[2])]
    return [word, node[1], [node[2][0]]]


def _with_literals(node: list[Any] | None) -> Iterator[str]:
    """Columns that are compared with literals."""
    if node is None:
        return
    if node[0] in _CONNECTIVES:
        for operand in node[1:]:
            yield from _with_literals(operand)
    elif node[0] not in _NULLS:
        yield cast(str, node[1])


def _refused(rule: str, sentence: str, field: str) -> InvalidRequest:
    return InvalidRequest(sentence, field=f"standing.{field}", rule=f"approval.{rule}")
