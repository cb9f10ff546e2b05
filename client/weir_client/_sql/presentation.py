# SPDX-License-Identifier: Apache-2.0
"""How a requester wants to see an answer: column order, names, ORDER BY and LIMIT."""

from __future__ import annotations

from dataclasses import dataclass

from weir.query import Query


@dataclass(frozen=True, slots=True)
class Output:
    """One column of the result as the requester wants to see it."""

    name: str
    """Alias, or the canonical name."""
    dimension: str | None
    """Group key shown; None for an aggregate."""
    aggregate: str | None
    """Canonical name of the aggregate shown (`sum(visits)`); None for a group key."""


@dataclass(frozen=True, slots=True)
class Order:
    """One term of ORDER BY."""

    key: Output
    """What is compared; it need not be shown."""
    descending: bool


@dataclass(frozen=True, slots=True)
class Presentation:
    """Column order, names, ORDER BY and LIMIT: applied to a release by the client, never sent."""

    columns: tuple[Output, ...]
    order: tuple[Order, ...] = ()
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """What a statement asks, and how it wants to be shown."""

    query: Query
    """Canonical typed query."""
    presentation: Presentation
    unit: str | None = None
    """Name inside COUNT(DISTINCT …), to be compared with the dataset's unit; None where it does not occur."""
