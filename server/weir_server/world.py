# SPDX-License-Identifier: Apache-2.0
"""What the domain is at one moment: everything a decision depends on besides the query and the books. Frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from weir.errors import Suspended
from weir_server.catalog.card import DatasetCard, Grade, Mode, modes_under
from weir_server.catalog.catalogue import Catalogue
from weir_server.policy.documents import Policy
from weir_server.policy.gates import Gate, Level
from weir_server.policy.regrading import certificate_of, effective_grade
from weir_server.store import TryAgain


class WorldMoved(TryAgain):
    """Another process has acted since this world was loaded: load it anew and decide again."""


@dataclass(frozen=True, slots=True)
class _Graded:
    """The grade of a card, with the span of time that it holds for."""

    card: DatasetCard
    since: datetime
    until: datetime
    """End, exclusive."""
    grade: Grade
    modes: tuple[Mode, ...]


_MOST_GRADED = 256
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class World:
    """Everything a decision depends on besides the query and the books."""

    catalogue: Catalogue
    policy: Policy
    """What the files in force state."""
    suspensions: frozenset[tuple[str, str]]
    """(scope, name): scope is `requester`, `contract`, `dataset`, `blacklist` or `all`. Cases add what they freeze."""

    contract_states: Mapping[str, str] = field(default_factory=dict)
    """Contract id to `offered`, `accepted`, `active`, `suspended` or `terminated`, of the terms in force."""
    levels: Mapping[str, Level] = field(default_factory=dict)
    """Requester to level of standing; absent means good."""
    number: int = 0
    """How many acts it has seen; what is decided under it may be charged only while no other process has acted."""
    _graded: dict[int, _Graded] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What `_graded_now` found, by the card's identity. A grade is a function of catalogue and policy, which are this
    world's and frozen; of the card, which is kept here, so that no other one can have its identity; and of the time,
    of which nothing is asked but which certificates hold: between two ends of certificates it is the same."""

    def state_of(self, contract: str) -> str:
        """State of a contract's terms in force; validity in time is apart."""
        return self.contract_states.get(contract, "offered")

    def gate_of(self, requester: str, *, now: datetime) -> Gate:
        """What score and standing of the requester ask now; an assessment lapses by the time given here."""
        gates = self.policy.gates
        if gates is None:
            return Gate()
        tier = gates.tier(self.policy.assessments.get(requester), now=now)
        return gates.gate(tier, self.levels.get(requester, "good"))

    def region_of(self, requester: str) -> str:
        """Where the requester is registered; empty where the policy does not say."""
        party = self.policy.parties.get(f"requester/{requester}")
        return "" if party is None else party.region

    def grade_of(self, card: DatasetCard, *, now: datetime) -> Grade:
        """The grade that holds now: the strictest of its own and its sources', certificates considered."""
        return self._graded_now(card, now).grade

    def certified_until(self, card: DatasetCard, *, now: datetime) -> datetime | None:
        """Until when a certificate regrades it; None where none does."""
        certificate = certificate_of(self.catalogue, self.policy, card, now=now)
        return None if certificate is None else certificate.valid_until

    def modes_of(self, card: DatasetCard, *, now: datetime) -> tuple[Mode, ...]:
        """Modes in which the dataset is answered now, by the grade that holds."""
        return self._graded_now(card, now).modes

    def _graded_now(self, card: DatasetCard, now: datetime) -> _Graded:
        known = self._graded.get(id(card))
        if known is not None and known.since <= now < known.until:
            return known
        ends = [end for c in self.policy.certificates.values() for end in (c.valid_from, c.valid_until)]
        grade = effective_grade(self.catalogue, self.policy, card, now=now)
        found = _Graded(
            card,
            since=max((end for end in ends if end <= now), default=_FIRST),
            until=min((end for end in ends if end > now), default=_LAST),
            grade=grade,
            modes=modes_under(card, grade),
        )
        if len(self._graded) >= _MOST_GRADED:  # A version that was regraded has a new card at each look.
            self._graded.clear()
        self._graded[id(card)] = found
        return found

    def check_blacklist(self, requester: str) -> None:
        """Refuse a requester on the blacklist, whatever it calls.

        Raises:
            Suspended: it is on it.
        """
        if ("blacklist", requester) in self.suspensions:
            raise Suspended("this requester is on the blacklist", rule="blacklist", metadata={"scope": "blacklist"})

    def check_running(self, *, requester: str, contract: str, dataset: str) -> None:
        """Refuse what an operator has stopped. Called at every stage, so that a stop reaches running queries.

        Raises:
            Suspended: naming the scope.
        """
        self.check_blacklist(requester)
        for scope, name in (("all", ""), ("requester", requester), ("contract", contract), ("dataset", dataset)):
            if (scope, name) in self.suspensions:
                raise Suspended(f"an operator has stopped this {scope}", rule="suspended", metadata={"scope": scope})
