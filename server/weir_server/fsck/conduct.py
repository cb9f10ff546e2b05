# SPDX-License-Identifier: Apache-2.0
"""Checks of stops, standing and cases against the entries: nobody comes off a blacklist but by an entry."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from weir_server.fsck.findings import Finding
from weir_server.fsck.rows import Rows

_TABLES = ("suspensions", "standings", "cases", "case_steps")
_CASE = ("kind", "contract", "dataset", "against")


@dataclass(frozen=True, slots=True)
class LoggedStep:
    """A step of a case as its entry has it."""

    index: int
    state: str
    actor: str
    role: str
    at: str
    """RFC 3339."""
    note: str
    frozen: bool


@dataclass(slots=True)
class LoggedCase:
    """A case as its entries have it."""

    told: dict[str, str]
    """Kind, contract, dataset, against."""
    entries: list[int]
    commitment: str
    """To the statement."""
    steps: list[LoggedStep] = field(default_factory=list)


@dataclass(slots=True)
class Conduct:
    """What the entries say of stops, levels and cases."""

    stops: dict[tuple[str, str], str] = field(default_factory=dict)
    """Scope and name, to the time since when."""
    levels: dict[str, str] = field(default_factory=dict)
    """Requester to level, of those that ever changed."""
    cases: dict[str, LoggedCase] = field(default_factory=dict)


def conduct_of(leaves: Sequence[bytes]) -> Conduct:
    """What follows from these entries. An entry that lacks what its type must say is passed over."""
    conduct = Conduct()
    for index, leaf in enumerate(leaves):
        try:
            _follow(conduct, index, json.loads(leaf))
        except (KeyError, TypeError, ValueError):
            continue
    return conduct


def check_conduct(rows: Rows, leaves: Sequence[bytes]) -> Iterator[Finding]:
    """Compares the tables of stops, levels and cases with what the leaves give."""
    if not all(rows.has_table(table) for table in _TABLES):
        return
    logged = conduct_of(leaves)
    stored = {(scope, name) for scope, name in rows.execute("SELECT scope, name FROM suspensions")}
    for scope, name in sorted(stored ^ logged.stops.keys()):
        yield Finding(
            None, "fsck.suspension", f"the stop of {scope} {name} differs from its entries".replace("  ", " ")
        )
    levels = dict(rows.execute("SELECT requester, level FROM standings"))
    for requester in sorted(levels.keys() | logged.levels.keys()):
        if levels.get(requester) != logged.levels.get(requester):
            yield Finding(None, "fsck.standing", f"the level of {requester} differs from its entries")
    yield from _check_cases(rows, logged)


def _follow(conduct: Conduct, index: int, event: dict[str, Any]) -> None:
    kind, (word, _, name), data = event["type"], event["subject"].partition("/"), event["data"]
    if kind == "weir.suspension.set":
        conduct.stops.setdefault((word, name), event["time"])
    elif kind == "weir.suspension.lifted":
        conduct.stops.pop((word, name), None)
    elif kind == "weir.standing.changed":
        conduct.levels[name] = data["to"]
    elif kind.startswith("weir.case."):
        if kind == "weir.case.received":
            told = {key: str(data[key]) for key in _CASE}
            conduct.cases[name] = LoggedCase(told, list(data["entries"]), str(data["commitments"]["statement"]))
        state, note = kind.removeprefix("weir.case."), str(data.get("reason", ""))
        step = LoggedStep(index, state, data["actor"], data["role"], event["time"], note, data["frozen"])
        conduct.cases[name].steps.append(step)


def _check_cases(rows: Rows, logged: Conduct) -> Iterator[Finding]:
    salts = {index: bytes(salt) for index, salt in rows.execute("SELECT idx, salt FROM log_salts")}
    columns = "id, kind, contract, dataset, against, entries, statement, opened, state, frozen"
    stored = {row[0]: row[1:] for row in rows.execute(f"SELECT {columns} FROM cases")}  # noqa: S608
    steps: dict[str, list[tuple[Any, ...]]] = {}
    read = "SELECT case_id, leaf_index, state, actor, role, note, frozen FROM case_steps ORDER BY leaf_index"
    for case, *step in rows.execute(read):
        steps.setdefault(case, []).append(tuple(step))
    for case in sorted(stored.keys() | logged.cases.keys() | steps.keys()):
        if case not in stored or case not in logged.cases:
            yield Finding(None, "fsck.case", f"{case} and its entries are not both there")
        elif _expected(logged.cases[case]) != (_without_statement(stored[case]), steps.get(case)):
            yield Finding(logged.cases[case].steps[0].index, "fsck.case", f"{case} differs from its entries")
        elif not _opens(logged.cases[case], salts, str(stored[case][5])):
            yield Finding(logged.cases[case].steps[0].index, "fsck.case", f"the statement of {case} is another one")


def _expected(case: LoggedCase) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
    first, last = case.steps[0], case.steps[-1]
    row = (*(case.told[key] for key in _CASE), json.dumps(case.entries), first.index, last.state, int(last.frozen))
    return row, [(s.index, s.state, s.actor, s.role, s.note, int(s.frozen)) for s in case.steps]


def _without_statement(row: Sequence[Any]) -> tuple[Any, ...]:
    return (*row[:5], *row[6:])


def _opens(case: LoggedCase, salts: dict[int, bytes], statement: str) -> bool:
    """Whether the commitment opens; hashed here, not by the code that made it. Where the salt was erased, so was it."""
    salt = salts.get(case.steps[0].index)
    if salt is None:
        return statement == ""
    return sha256(salt + b"statement\x00" + statement.encode()).hexdigest() == case.commitment
