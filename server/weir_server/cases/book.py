# SPDX-License-Identifier: Apache-2.0
"""Cases in the store, on one transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence

from weir_server.cases.values import DISPUTED, KINDS, STATES, Case, Step
from weir_server.clock import from_micros, to_micros
from weir_server.store import Row, Transaction, integer, text

_CASE = "id, kind, contract, dataset, against, entries, statement"


def add(tx: Transaction, case: Case) -> None:
    """Files a case with its first step."""
    filing = case.steps[0]
    tx.execute(
        f"INSERT INTO cases ({_CASE}, opened_by, opened_role, opened, state, frozen) "  # noqa: S608
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            case.id,
            case.kind,
            case.contract,
            case.dataset,
            case.against,
            json.dumps(case.entries),
            case.statement,
            filing.actor,
            filing.role,
            filing.leaf_index,
            filing.state,
            0,
        ),
    )
    _add_step(tx, case.id, filing)


def add_step(tx: Transaction, case: str, step: Step) -> None:
    """Takes a case one step on."""
    tx.execute("UPDATE cases SET state = ?, frozen = ? WHERE id = ?", (step.state, int(step.frozen), case))
    _add_step(tx, case, step)


def _add_step(tx: Transaction, case: str, step: Step) -> None:
    tx.execute(
        "INSERT INTO case_steps (leaf_index, case_id, state, actor, role, at, note, frozen) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (step.leaf_index, case, step.state, step.actor, step.role, to_micros(step.at), step.note, int(step.frozen)),
    )


def find(tx: Transaction, case: str) -> Case | None:
    """The case of this id."""
    rows = tx.execute(f"SELECT {_CASE} FROM cases WHERE id = ?", (case,))  # noqa: S608
    return _case(tx, rows[0]) if rows else None


def page(tx: Transaction, *, owner: tuple[str, str] | None, before: int | None, limit: int) -> list[Case]:
    """Cases, newest first: all, or those that `owner` (role, name) filed; `before`: log index of a filing."""
    where, parameters = ("WHERE opened < ?", [2**62 if before is None else before])
    names: list[str] = []
    if owner is not None:
        where, names = f"{where} AND opened_role = ? AND opened_by = ?", list(owner)
    rows = tx.execute(
        f"SELECT {_CASE} FROM cases {where} ORDER BY opened DESC LIMIT ?",  # noqa: S608
        (*parameters, *names, limit),
    )
    return [_case(tx, row) for row in rows]


def open_of(tx: Transaction, *, role: str, name: str) -> int:
    """How many cases this caller has filed that are not closed."""
    rows = tx.execute(
        "SELECT count(*) FROM cases WHERE opened_role = ? AND opened_by = ? AND state <> 'closed'", (role, name)
    )
    return integer(rows[0][0])


def open_against(tx: Transaction) -> dict[str, int]:
    """Accepted and not closed cases, by the requester they are about."""
    rows = tx.execute(
        f"SELECT against, count(*) FROM cases WHERE against <> '' AND state IN ({', '.join('?' * len(DISPUTED))}) "  # noqa: S608
        "GROUP BY against",
        DISPUTED,
    )
    return {text(requester): integer(count) for requester, count in rows}


def frozen_contracts(tx: Transaction) -> Sequence[tuple[str, int]]:
    """Contracts that at least one case holds, with the time since when, in microseconds."""
    rows = tx.execute(
        """SELECT contract, MIN(case_steps.at) FROM cases JOIN case_steps ON case_steps.case_id = cases.id
           WHERE cases.frozen = 1 AND case_steps.frozen = 1 GROUP BY contract ORDER BY contract"""
    )
    return [(text(contract), integer(since)) for contract, since in rows]


def _case(tx: Transaction, row: Row) -> Case:
    case, kind, contract, dataset, against, entries, statement = row
    steps = tx.execute(
        "SELECT state, actor, role, at, note, frozen, leaf_index FROM case_steps WHERE case_id = ? ORDER BY leaf_index",
        (case,),
    )
    return Case(
        id=text(case),
        kind=KINDS[KINDS.index(kind)],
        contract=text(contract),
        dataset=text(dataset),
        against=text(against),
        entries=tuple(json.loads(text(entries))),
        statement=text(statement),
        steps=tuple(_step(step) for step in steps),
    )


def _step(row: Row) -> Step:
    state, actor, role, at, note, frozen, leaf_index = row
    return Step(
        STATES[STATES.index(state)],
        text(actor),
        text(role),
        from_micros(integer(at)),
        text(note),
        bool(frozen),
        integer(leaf_index),
    )
