# SPDX-License-Identifier: Apache-2.0
"""Stops, levels and cases as the entries say: nobody comes off a blacklist by a restore.

What was stated in cases that are newer than the copy is lost, as the log has commitments to it only.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from weir_server.cases import book as cases
from weir_server.cases.values import KINDS, STATES, Case, Step
from weir_server.fsck.conduct import LoggedCase, LoggedStep, conduct_of
from weir_server.policy import book
from weir_server.store import Transaction, text


def rebuild(tx: Transaction, leaves: Sequence[bytes]) -> None:
    """Puts in the tables what follows from these entries, in place of what was there."""
    logged = conduct_of(leaves)
    statements = {text(case): text(said) for case, said in tx.execute("SELECT id, statement FROM cases")}
    for table in ("suspensions", "standings", "cases", "case_steps"):
        tx.execute(f"DELETE FROM {table}")  # noqa: S608
    for (scope, name), since in logged.stops.items():
        book.set_suspension(tx, scope, name, suspended=True, now=datetime.fromisoformat(since))
    tx.execute_many("INSERT INTO standings (requester, level) VALUES (?, ?)", list(logged.levels.items()))
    for name, case in logged.cases.items():
        _restore(tx, name, case, statement=statements.get(name, ""))


def _restore(tx: Transaction, name: str, logged: LoggedCase, *, statement: str) -> None:
    first, *later = (_step(step) for step in logged.steps)
    told = logged.told
    kind = KINDS[KINDS.index(told["kind"])]
    about = (told["contract"], told["dataset"], told["against"])
    cases.add(tx, Case(name, kind, *about, tuple(logged.entries), statement, (first,)))
    for step in later:
        cases.add_step(tx, name, step)


def _step(step: LoggedStep) -> Step:
    state, at = STATES[STATES.index(step.state)], datetime.fromisoformat(step.at)
    return Step(state, step.actor, step.role, at, step.note, step.frozen, step.index)
