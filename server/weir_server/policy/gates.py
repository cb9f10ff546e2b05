# SPDX-License-Identifier: Apache-2.0
"""Gates: what a requester's score and standing ask of each of its queries, beside its contracts.

Tiers go by least score. Below every tier are those whose score reaches none, whose assessment has lapsed, and who were
never assessed: one gate, the strictest. A level of standing tightens whatever the tier says. A lower tier or a worse
level that would be looser in anything is refused when the document is read, so nobody gains by losing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal

from weir.amounts import format_epsilon, parse_epsilon
from weir_server.policy.assessment import Assessment
from weir_server.policy.kinds import Kind
from weir_server.policy.reader import Reader, duplicates

Level = Literal["good", "watched", "restricted"]
LEVELS: tuple[Level, ...] = ("good", "watched", "restricted")
"""From best to worst."""
NAME = "default"
"""A policy has at most one set of gates, so all are called alike, and a second one is a fault."""
UNASSESSED = "unassessed"
"""Tier of those whom no assessment in force puts into another."""
_MOST_APPROVERS = 2
_TOP = 100


@dataclass(frozen=True, slots=True)
class Gate:
    """What is asked of each query of a requester."""

    k: int = 0
    """Least k in exact mode; 0 for none beyond the contract's."""
    epsilon_nano: int | None = None
    """Most epsilon of one query; None for no cap."""
    approvers: int = 0
    """Persons who must approve, 0 to 2."""

    def tightened(self, other: Gate) -> Gate:
        """The stricter of both in each respect."""
        caps = [cap for cap in (self.epsilon_nano, other.epsilon_nano) if cap is not None]
        return Gate(max(self.k, other.k), min(caps, default=None), max(self.approvers, other.approvers))

    def covers(self, other: Gate) -> bool:
        """Whether it is at least as strict as `other` in every respect."""
        return self.tightened(other) == self


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier of scores."""

    name: str
    least_score: int
    """0 to 100."""
    gate: Gate


@dataclass(frozen=True, slots=True)
class Threshold:
    """From where a requester stands at a level: any one of the counts reached is enough."""

    refusals: int
    """Refusals of 30 days, at least 1."""
    disputes: int
    """Cases accepted against it and not closed, at least 1."""
    overdue_duties: int
    """Duties past due, at least 1."""
    gate: Gate
    """What the level asks beside the tier."""

    def reached(self, *, refusals: int, disputes: int, overdue_duties: int) -> bool:
        """Whether any count is as high."""
        return refusals >= self.refusals or disputes >= self.disputes or overdue_duties >= self.overdue_duties

    def counts(self) -> tuple[int, int, int]:
        """Its three counts."""
        return self.refusals, self.disputes, self.overdue_duties


WATCHED = Threshold(refusals=50, disputes=1, overdue_duties=1, gate=Gate(approvers=1))
"""Where the document says nothing of it."""
RESTRICTED = Threshold(refusals=500, disputes=3, overdue_duties=3, gate=Gate(epsilon_nano=10**8, approvers=2))
"""Where the document says nothing of it: epsilon 0.1 a query and two persons."""


@dataclass(frozen=True, slots=True)
class Gates:
    """The whole document."""

    tiers: tuple[Tier, ...]
    """By least score, highest first."""
    unassessed: Gate
    """For whom no assessment in force reaches a tier."""
    watched: Threshold = WATCHED
    restricted: Threshold = RESTRICTED

    def level(self, *, refusals: int, disputes: int, overdue_duties: int) -> Level:
        """Level of standing by these counts."""
        for level, threshold in (("restricted", self.restricted), ("watched", self.watched)):
            if threshold.reached(refusals=refusals, disputes=disputes, overdue_duties=overdue_duties):
                return "restricted" if level == "restricted" else "watched"
        return "good"

    def tier(self, assessment: Assessment | None, *, now: datetime) -> Tier:
        """Tier that applies at `now`."""
        return self.tier_of_score(None if assessment is None or not assessment.holds(now) else assessment.score)

    def tier_of_score(self, score: int | None) -> Tier:
        """Tier of a score; None for who has none that counts."""
        found = next((tier for tier in self.tiers if score is not None and score >= tier.least_score), None)
        return found or Tier(UNASSESSED, 0, self.unassessed)

    def gate(self, tier: Tier, level: Level) -> Gate:
        """What tier and level ask together."""
        extra = {"good": Gate(), "watched": self.watched.gate, "restricted": self.restricted.gate}
        return tier.gate.tightened(extra[level])


NO_GATES = Gates(tiers=(), unassessed=Gate(), watched=WATCHED, restricted=RESTRICTED)
"""Thresholds by which levels are told where the policy has no gates; nothing follows from them then."""


def read_gates(reader: Reader) -> Gates | None:
    """Gates as operators write them."""
    reader.word("gates", (NAME,), default=NAME)
    tiers = []
    for inner in reader.items("tiers"):
        tiers.append(Tier(inner.identifier("tier"), _at_most(inner, "least_score", _TOP), _read_gate(inner)))
        inner.finish()
    standing = reader.nested("standing")
    gates = Gates(
        tiers=tuple(sorted(tiers, key=lambda tier: -tier.least_score)),
        unassessed=_read_unassessed(reader),
        watched=_read_threshold(standing, "watched", WATCHED),
        restricted=_read_threshold(standing, "restricted", RESTRICTED),
    )
    standing.finish()
    reader.faults += duplicates([tier.name for tier in tiers], "tier")
    reader.faults += duplicates([str(tier.least_score) for tier in tiers], "least_score")
    for key, sentence in _slopes(gates):
        reader.fault(key, sentence)
    return gates if not reader.faults else None


def _read_unassessed(reader: Reader) -> Gate:
    if reader.get(UNASSESSED) is None:
        reader.fault(UNASSESSED, "must say what is asked of who is not, or no longer, assessed")
    inner = reader.nested(UNASSESSED)
    gate = _read_gate(inner)
    inner.finish()
    return gate


def _read_threshold(standing: Reader, key: str, default: Threshold) -> Threshold:
    if standing.get(key) is None:
        return default
    inner = standing.nested(key)
    threshold = Threshold(
        refusals=inner.count("refusals", default=default.refusals),
        disputes=inner.count("disputes", default=default.disputes),
        overdue_duties=inner.count("overdue_duties", default=default.overdue_duties),
        gate=_read_gate(inner, default.gate),
    )
    inner.finish()
    if 0 in threshold.counts():
        standing.fault(key, "counts must be at least 1: nobody would stand well")
    return threshold


def _read_gate(reader: Reader, default: Gate | None = None) -> Gate:
    given = default or Gate()
    # An amount of 0 stands for none given: parse_epsilon refuses 0 itself.
    cap = reader.amount("epsilon_per_query", parse_epsilon, given.epsilon_nano or 0)
    return Gate(
        k=reader.count("k", default=given.k),
        epsilon_nano=cap or None,
        approvers=_at_most(reader, "approvers", _MOST_APPROVERS, given.approvers),
    )


def _at_most(reader: Reader, key: str, most: int, default: int = 0) -> int:
    value = reader.count(key, default=default)
    if value > most:
        reader.fault(key, f"must be at most {most}")
    return value


def _slopes(gates: Gates) -> Iterator[tuple[str, str]]:
    """Faults where losing a tier or a level would gain something."""
    steps = [*gates.tiers, Tier(UNASSESSED, 0, gates.unassessed)]
    for higher, lower in pairwise(steps):
        if not lower.gate.covers(higher.gate):
            yield "tiers", f"must not be looser below: {lower.name} is looser than {higher.name}"
    if not gates.restricted.gate.covers(gates.watched.gate):
        yield "standing", "must not be looser when restricted than when watched"
    if any(worse < better for better, worse in zip(gates.watched.counts(), gates.restricted.counts(), strict=True)):
        yield "standing", "must not restrict before it watches"


def gates_json(gates: Gates) -> Mapping[str, object]:
    """JSON form."""
    return {
        "gates": NAME,
        "tiers": [
            {"tier": tier.name, "least_score": tier.least_score, **_gate_json(tier.gate)} for tier in gates.tiers
        ],
        UNASSESSED: _gate_json(gates.unassessed),
        "standing": {"watched": _threshold_json(gates.watched), "restricted": _threshold_json(gates.restricted)},
    }


def _threshold_json(threshold: Threshold) -> dict[str, object]:
    refusals, disputes, overdue = threshold.counts()
    counts: dict[str, object] = {"refusals": refusals, "disputes": disputes, "overdue_duties": overdue}
    return {**counts, **_gate_json(threshold.gate)}


def _gate_json(gate: Gate) -> dict[str, object]:
    cap = None if gate.epsilon_nano is None else format_epsilon(gate.epsilon_nano)
    return {"k": gate.k, "epsilon_per_query": cap, "approvers": gate.approvers}


def loosens(old: Gates | None, new: Gates | None) -> bool:
    """Whether any requester, of whatever score and facts, would have less asked of it."""
    if old is None or new is None:
        return old is not None
    scores: list[int | None] = [None, *range(_TOP + 1)]
    eased = any(
        not new.gate(new.tier_of_score(score), level).covers(old.gate(old.tier_of_score(score), level))
        for score in scores
        for level in LEVELS
    )
    pairs = ((old.watched, new.watched), (old.restricted, new.restricted))
    later = any(after > before for was, now in pairs for before, after in zip(was.counts(), now.counts(), strict=True))
    return eased or later


GATES = Kind("gates", read_gates, lambda gates: NAME, gates_json, loosens)
"""Gates among the policy's documents."""
