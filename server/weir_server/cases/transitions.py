# SPDX-License-Identifier: Apache-2.0
"""What people do with cases: file one, take it a step on, hold the contract meanwhile. Each step leaves a leaf.

The statement is committed to, not written into the log: it may name persons, and what is committed to can be erased.
A case that freezes a contract holds it by itself: letting go of it lifts nobody else's stop, and nobody else's resume
lets go of what a case holds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from weir.errors import InvalidRequest, QuotaExceeded, UnknownName
from weir.v1 import case_service_pb2
from weir_server.cases import book
from weir_server.cases.values import KINDS, Case, CaseState, Kind, Step, may_follow
from weir_server.identity.holder import NAME, OPERATOR, PROVIDER, REQUESTER
from weir_server.ledger.windows import ledger_time
from weir_server.policy.acting import Acting
from weir_server.policy.contract import Contract
from weir_server.store import Transaction, blob, text

MAX_OPEN = 20
"""Cases of one requester or provider that are not closed: each is a person's work."""
MAX_ENTRIES = 1_000
MAX_STATEMENT = 4_000
_ID_BYTES = 8


def file(acting: Acting, request: case_service_pb2.OpenCaseRequest) -> Case:
    """Files a case.

    Raises:
        InvalidRequest: malformed, about nothing, or about what the caller may not name.
        UnknownName: a contract or dataset the caller has none of.
        QuotaExceeded: as many cases of the caller are open as may be.
    """
    kind, statement = _kind(request.kind), _statement(request.statement)
    contract = _contract(acting, request.contract)
    against = _against(acting, request.against, contract)
    entries = _entries(acting, request.entries, contract)
    dataset = _dataset(acting, request.dataset, contract)
    if contract is None and not request.contract and not dataset and not entries:
        raise InvalidRequest("name a contract, a dataset or entries of the log", field="contract", rule="case.about")
    _check_open(acting)
    case = f"case-{acting.entropy(_ID_BYTES).hex()}"
    told = {"kind": kind, "contract": request.contract, "dataset": dataset, "against": against, "entries": entries}
    filing = _step(acting, case, "received", "", frozen=False, told=told, statement=statement)
    filed = Case(case, kind, request.contract, dataset, against, tuple(entries), statement, (filing,))
    book.add(acting.tx, filed)
    return filed


def advance(acting: Acting, case: str, *, state: CaseState, note: str, freeze: bool) -> Case:
    """Takes a case to its next state, or closes it; `freeze` says whether it holds the contract from here on.

    Raises:
        UnknownName: no such case.
        InvalidRequest: it cannot go there, or there is no contract to hold.
    """
    known = book.find(acting.tx, case)
    if known is None:
        raise UnknownName("no case of this id", field="case", rule="case.unknown")
    if not may_follow(known.state, state):
        raise InvalidRequest(f"a case that is {known.state} does not become {state}", field="state", rule="case.state")
    if freeze and (state == "closed" or not known.contract):
        raise InvalidRequest("only an open case about a contract holds one", field="freeze", rule="case.freeze")
    # The step before is named, so that evidence cannot leave one out in between.
    previous = known.steps[-1].leaf_index
    told = {"contract": known.contract, "against": known.against, "reason": note, "previous": previous}
    step = _step(acting, case, state, note, frozen=freeze, told=told)
    book.add_step(acting.tx, case, step)
    found = book.find(acting.tx, case)
    if found is None:
        raise UnknownName("no case of this id", field="case", rule="case.unknown")
    return found


def _step(
    acting: Acting,
    case: str,
    state: CaseState,
    note: str,
    *,
    frozen: bool,
    told: dict[str, Any],
    statement: str | None = None,
) -> Step:
    commitments = None if statement is None else {"statement": statement.encode()}
    leaf = acting.record(f"weir.case.{state}", f"case/{case}", {**told, "frozen": frozen}, commitments=commitments)
    at = ledger_time(acting.tx, acting.now)  # As the leaf says, also where the clock went back.
    return Step(state, acting.principal.name, acting.principal.role, at, note, frozen, leaf)


def _kind(number: int) -> Kind:
    if not 1 <= number <= len(KINDS):
        raise InvalidRequest("state what kind of case it is", field="kind", rule="case.kind")
    return KINDS[number - 1]


def _statement(statement: str) -> str:
    readable = all(character.isprintable() or character == "\n" for character in statement)
    if not 1 <= len(statement) <= MAX_STATEMENT or not statement.strip() or not readable:
        raise InvalidRequest(
            f"say what happened in 1 to {MAX_STATEMENT} printable characters", field="statement", rule="case.statement"
        )
    return statement


def _contract(acting: Acting, name: str) -> Contract | None:
    """The contract that the caller may name; None for one that left the policy, named by who once queried under it."""
    if not name:
        return None
    known, who = acting.world.policy.contracts.get(name), acting.principal
    party = {REQUESTER: None if known is None else known.requester, PROVIDER: None if known is None else known.provider}
    if known is not None and (who.role not in party or party[who.role] == who.name):
        return known
    if known is None and who.role == REQUESTER and _asked_under(acting.tx, who.name, name):
        return None
    # One answer for contracts of others and contracts that do not exist.
    raise UnknownName("you have no contract of this id", field="contract", rule="name.contract")


def _asked_under(tx: Transaction, requester: str, contract: str) -> bool:
    return bool(
        tx.execute("SELECT id FROM reservations WHERE requester = ? AND contract = ? LIMIT 1", (requester, contract))
    )


def _against(acting: Acting, against: str, contract: Contract | None) -> str:
    if not against:
        return ""
    role = acting.principal.role
    if not NAME.fullmatch(against):
        raise InvalidRequest("not a requester's name", field="against", rule="name.form")
    if role == OPERATOR or (role == PROVIDER and contract is not None and against == contract.requester):
        return against
    raise InvalidRequest(
        "only operators say whom a case is about, and providers for the requester of their own contract",
        field="against",
        rule="case.against",
    )


def _dataset(acting: Acting, name: str, contract: Contract | None) -> str:
    dataset = contract.dataset if contract is not None and not name else name
    if contract is not None and dataset != contract.dataset:
        raise InvalidRequest("the contract is about another dataset", field="dataset", rule="case.dataset")
    if name and name not in acting.world.catalogue.datasets:
        raise UnknownName("no dataset of this name", field="dataset", rule="name.dataset")
    return dataset


def _entries(acting: Acting, indexes: Sequence[int], contract: Contract | None) -> list[int]:
    """Entries ascending, each once, that exist and that the caller may name."""
    if len(indexes) > MAX_ENTRIES:
        raise InvalidRequest(f"at most {MAX_ENTRIES} entries", field="entries", rule="case.entries")
    entries = sorted(set(indexes))
    for index in entries:
        if index >= 2**62 or not _may_name(acting, index, contract):
            raise InvalidRequest(f"entry {index} is none of yours", field="entries", rule="case.entry")
    return entries


def _may_name(acting: Acting, index: int, contract: Contract | None) -> bool:
    rows = acting.tx.execute("SELECT requester FROM log_leaves WHERE idx = ?", (index,))
    if not rows or acting.principal.role == OPERATOR:
        return bool(rows)
    if acting.principal.role == REQUESTER:
        return text(rows[0][0]) == acting.principal.name
    # A provider names what happened under the contract it names.
    leaf = acting.tx.execute("SELECT leaf FROM log_leaves WHERE idx = ?", (index,))[0][0]
    return contract is not None and json.loads(blob(leaf))["subject"] == f"contract/{contract.id}"


def _check_open(acting: Acting) -> None:
    who = acting.principal
    if who.role != OPERATOR and book.open_of(acting.tx, role=who.role, name=who.name) >= MAX_OPEN:
        raise QuotaExceeded(f"{MAX_OPEN} of your cases are open; wait for one to be closed", rule="case.open_limit")
