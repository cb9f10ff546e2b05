# SPDX-License-Identifier: Apache-2.0
"""Counting again what a requester's standing rests on, from the log's entries alone. Pure, and used by no writer.

Each change of level states its counts, the thresholds, and up to where the log was counted. Refusals and disputes must
be those of the entries; duties past due depend on texts of contracts, which are not in the log: taken as stated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HONEST = frozenset({"price.limit", "contract.changed", "contract.state", "approval.revoked"})
"""Codes of denials that say nothing against who asked: a ceiling it set itself, and what others did meanwhile, who
could lower its standing by it: changed, stopped or ended the contract, or took an approval back."""
LIMITS = frozenset({"QUOTA_EXCEEDED", "BUDGET_EXHAUSTED"})
"""Reasons that are its own doing only where a limit of its own was among those that refused."""
_DISPUTED = frozenset({"accepted", "handled"})
_GOOD = "good"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal that counts."""

    index: int
    day: str
    """UTC."""
    certain: bool
    """False where it counts only if a limit was one's own when the refusal was counted, which may be a moment later."""


@dataclass(slots=True)
class Standings:
    """What the entries so far say of requesters' conduct."""

    own_limits: set[str] = field(default_factory=set)
    """Quotas that were ever of one requester or contract."""
    refusals: dict[str, list[Refusal]] = field(default_factory=dict)
    cases: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Case to requester it is about, and state."""
    levels: dict[str, str] = field(default_factory=dict)


def follow_standing(known: Standings, index: int, event: Mapping[str, Any]) -> str | None:
    """Adds one entry; gives what is wrong with it, or None.

    Raises:
        KeyError, TypeError, ValueError: it lacks what its type must say.
    """
    kind, data = event["type"], event["data"]
    if kind == "weir.query.refused":
        _refused(known, index, str(event["time"])[:10], data)
    elif kind == "weir.quota.set" and {"requester", "contract"} & data["scope"].keys():
        known.own_limits.add(data["id"])
    elif kind.startswith("weir.case."):
        known.cases[str(event["subject"])] = (data["against"], kind.removeprefix("weir.case."))
    elif kind == "weir.standing.changed":
        return _changed(known, str(event["subject"]).removeprefix("requester/"), data)
    return None


def _refused(known: Standings, index: int, day: str, data: Mapping[str, Any]) -> None:
    record, requester = data.get("record") or {}, data["subject"]["requester"]
    reason = record.get("reason")
    denied = reason == "POLICY_DENIED" and not (record.get("reasons") and HONEST.issuperset(record["reasons"]))
    limited = reason in LIMITS and bool(known.own_limits.intersection(record.get("limits", ())))
    if requester and (denied or limited):
        known.refusals.setdefault(requester, []).append(Refusal(index, day, denied))


def _changed(known: Standings, requester: str, data: Mapping[str, Any]) -> str | None:
    counted = [
        refusal
        for refusal in known.refusals.get(requester, ())
        if refusal.index < int(data["counted_to"]) and refusal.day >= data["since"]
    ]
    disputes = Counter(against for against, state in known.cases.values() if state in _DISPUTED)[requester]
    previous = known.levels.get(requester, _GOOD)
    known.levels[requester] = data["to"]
    if not sum(refusal.certain for refusal in counted) <= data["refusals"] <= len(counted):
        return f"the level of {requester} rests on refusals that the entries do not show"
    if disputes != data["disputes"]:
        return f"the level of {requester} rests on disputes that the entries do not show"
    if (data["from"], data["to"]) != (previous, _level(data)):
        return f"the level of {requester} does not follow from its counts"
    return None


def _level(data: Mapping[str, Any]) -> str:
    counts = (data["refusals"], data["disputes"], data["overdue_duties"])
    for level in ("restricted", "watched"):
        if any(count >= least for count, least in zip(counts, data["thresholds"][level], strict=True)):
            return level
    return _GOOD
