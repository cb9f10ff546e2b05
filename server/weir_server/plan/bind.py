# SPDX-License-Identifier: Apache-2.0
"""Stage 1: settle every name and type of a query against one snapshot's card. Pure.

After binding there is no text of the requester left: dimensions are objects of the card, conditions are sets of cell
indexes or integers on a measure's grid, and nulls are settled (a comparison with a null is not true). Whatever cannot
be decided from declared cells alone is refused here, naming the rule and the nearest thing that is allowed.
"""

from __future__ import annotations

from dataclasses import replace

from weir.errors import InvalidQuery, UnknownName
from weir.query import Aggregate, Function
from weir_server.catalog.card import DatasetCard, Dimension, Measure, Mode
from weir_server.catalog.catalogue import Catalogue
from weir_server.plan.conditions import bind_condition
from weir_server.plan.values import BoundQuery, Every, Submission

MAX_NUMBERS = 200_000
"""Most numbers that one query may compute: cells times aggregates, and for each aggregate over buckets times those."""
_BUCKETED = frozenset({Function.HISTOGRAM, Function.QUANTILE})


def bind(submission: Submission, catalogue: Catalogue) -> BoundQuery:
    """The submission's query against the catalogue.

    Raises:
        UnknownName: dataset, snapshot, dimension or measure does not exist.
        InvalidQuery: a name is used as what it is not, types do not fit, or the answer would be too large.
    """
    snapshot = catalogue.resolve(submission.query.dataset, submission.query.snapshot)
    card, query = snapshot.card, submission.query
    if query.snapshot != snapshot.version:
        query = replace(query, snapshot=snapshot.version)
    aggregates = tuple((aggregate, _bind_measure(aggregate, card)) for aggregate in query.aggregates)
    mode = _release_mode(submission.mode, aggregates, card)
    bound = BoundQuery(
        submission=submission,
        query=query,
        snapshot=snapshot,
        mode=mode,
        groups=tuple(_bind_group(name, card) for name in query.group_by),
        aggregates=aggregates,
        condition=Every(()) if query.where is None else bind_condition(query.where, card),
    )
    _check_size(bound)
    return bound


def _bind_group(name: str, card: DatasetCard) -> Dimension:
    dimension = card.dimension(name)
    if dimension is not None:
        return dimension
    if card.measure(name) is not None:
        raise InvalidQuery(
            f"{name} is a measure; GROUP BY takes dimensions: {_names(card.dimensions)}",
            field="query.group_by",
            rule="group.dimension",
        )
    raise UnknownName(
        f"no dimension {name}; declared are {_names(card.dimensions)}", field="query.group_by", rule="name.dimension"
    )


def _bind_measure(aggregate: Aggregate, card: DatasetCard) -> Measure | None:
    if aggregate.measure is None:
        return None
    measure = card.measure(aggregate.measure)
    if measure is None:
        raise UnknownName(
            f"no measure {aggregate.measure}; declared are {_names(card.measures)}",
            field="query.aggregates",
            rule="name.measure",
        )
    if aggregate.function not in measure.statistics:
        allowed = ", ".join(sorted(function.value for function in measure.statistics))
        raise InvalidQuery(
            f"{aggregate.name} is not declared; {measure.name} offers {allowed}",
            field="query.aggregates",
            rule="aggregate.undeclared",
        )
    return measure


def _release_mode(
    asked: Mode | None, aggregates: tuple[tuple[Aggregate, Measure | None], ...], card: DatasetCard
) -> Mode:
    """Mode of the release: each measure has one; a query of counts alone must say which, where both are offered."""
    modes = {measure.mode for _, measure in aggregates if measure is not None}
    if asked is not None:
        modes.add(asked)
    if not modes:
        # Where nothing is offered (CORE) any mode will do: the red line that refuses it comes next.
        modes = {mode for mode in card.modes if mode is not Mode.ENCRYPTED} or {Mode.EXACT}
    if len(modes) == 1:
        return modes.pop()
    raise InvalidQuery(
        "one query is answered in one mode; " + "; ".join(f"{m.name}: {m.mode.value}" for m in card.measures[:20]),
        field="mode",
        rule="mode.one",
    )


def _check_size(bound: BoundQuery) -> None:
    columns = sum(
        max(1, len(measure.buckets) - 1) if aggregate.function in _BUCKETED and measure is not None else 1
        for aggregate, measure in bound.aggregates
    )
    # Of a table for secret weights only the keys travel; how many weights there may be is the operator's limit.
    terms = bound.submission.encrypted
    most = MAX_NUMBERS if terms is None else max(MAX_NUMBERS, 2 * terms.weights)
    if bound.cells * columns > most:
        raise InvalidQuery(
            f"the answer would hold {bound.cells} cells in {columns} columns; at most {most} numbers "
            "are allowed: group by fewer or coarser dimensions",
            field="query.group_by",
            rule="answer.size",
        )


def _names(items: tuple[Dimension, ...] | tuple[Measure, ...]) -> str:
    names = [item.name for item in items]
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
