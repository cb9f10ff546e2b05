# SPDX-License-Identifier: Apache-2.0
"""Values of cases, and how they go on: received → accepted → handled → closed, or closed from anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Kind = Literal["complaint", "incident", "dispute"]
KINDS: tuple[Kind, ...] = ("complaint", "incident", "dispute")
CaseState = Literal["received", "accepted", "handled", "closed"]
STATES: tuple[CaseState, ...] = ("received", "accepted", "handled", "closed")
"""In the order in which a case goes through them."""
DISPUTED: tuple[CaseState, ...] = ("accepted", "handled")
"""States in which a case counts against the requester it is about."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a case."""

    state: CaseState
    """State reached."""
    actor: str
    role: str
    at: datetime
    """Time of its leaf."""
    note: str
    """What was found or done; empty for the filing, whose words are the statement."""
    frozen: bool
    """Whether the case holds its contract from here on."""
    leaf_index: int


@dataclass(frozen=True, slots=True)
class Case:
    """One case with every step so far."""

    id: str
    kind: Kind
    contract: str
    """Contract concerned; empty for none."""
    dataset: str
    """Dataset concerned; empty for none."""
    against: str
    """Requester it is about; empty for none."""
    entries: tuple[int, ...]
    """Log entries concerned, ascending."""
    statement: str
    """What happened, as filed."""
    steps: tuple[Step, ...]
    """At least the filing."""

    @property
    def state(self) -> CaseState:
        """Where it stands."""
        return self.steps[-1].state

    @property
    def frozen(self) -> bool:
        """Whether it holds its contract."""
        return self.steps[-1].frozen


def may_follow(state: CaseState, wanted: CaseState) -> bool:
    """Whether a case goes from one state to the other: to the next one, or to its end."""
    if state == "closed":
        return False
    return wanted == "closed" or STATES.index(wanted) == STATES.index(state) + 1
