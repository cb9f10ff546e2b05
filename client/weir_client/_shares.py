# SPDX-License-Identifier: Apache-2.0
"""How the aggregates of one dp question share its budget, said by the names of the SELECT list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import gcd

from weir.errors import InvalidRequest
from weir.query import canonicalise
from weir_client._sql import ParsedQuery

Shares = Mapping[str, int]
"""Parts of the budget by output column of the SELECT list, whole numbers from 1 to 1000; a column that is not named
has one part. {"usd": 3, "years": 1} gives three quarters of the loss to `usd`."""
MAX_SHARE = 1000


def with_shares(parsed: ParsedQuery, shares: Shares) -> ParsedQuery:
    """The question with these weights on its aggregates, in lowest terms: equal ratios are one canonical query, and so
    share one release. Columns that show the same aggregate are one aggregate, of one weight.

    Raises:
        InvalidRequest: a name that is no aggregate's column, a share out of range, or two shares for one aggregate.
    """
    stated = _by_aggregate(parsed, shares)
    weights = {aggregate.name: stated.get(aggregate.name, 1) for aggregate in parsed.query.aggregates}
    common = gcd(*weights.values())
    aggregates = tuple(replace(a, weight=weights[a.name] // common) for a in parsed.query.aggregates)
    return replace(parsed, query=canonicalise(replace(parsed.query, aggregates=aggregates)))


def _by_aggregate(parsed: ParsedQuery, shares: Shares) -> dict[str, int]:
    outputs = {output.name: output.aggregate for output in parsed.presentation.columns}
    stated: dict[str, int] = {}
    for name, share in shares.items():
        aggregate = outputs.get(name)
        if aggregate is None:
            known = ", ".join(output for output, shown in outputs.items() if shown is not None)
            raise _refusal(f"{str(name)[:64]} is no aggregate's column; there are {known}", "shares.column")
        if isinstance(share, bool) or not isinstance(share, int) or not 1 <= share <= MAX_SHARE:
            raise _refusal(f"the share of {name} is a whole number from 1 to {MAX_SHARE}", "shares.range")
        if stated.setdefault(aggregate, share) != share:
            raise _refusal(f"{name} shows {aggregate}, which has another share already", "shares.conflict")
    return stated


def _refusal(sentence: str, rule: str) -> InvalidRequest:
    return InvalidRequest(sentence, field="shares", rule=rule)
