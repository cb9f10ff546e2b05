# SPDX-License-Identifier: Apache-2.0
"""Secret weights in the order of an answer's cells."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from weir.errors import InvalidRequest
from weir_client._catalogue import Dataset
from weir_client._sql import ParsedQuery
from weir_client._values import CellValue

Weights = Mapping[Any, int] | Sequence[int]
"""Integer weights by group key (a tuple in the order of the SELECT list, or the bare value of a single key; a missing
key is 0), or one per cell in the canonical order of cells: group keys by name, whatever the SELECT list's order, the
first slowest. A plain query without ORDER BY gives its rows in that order."""

DEFAULT_WEIGHT_BITS = 32
MAX_WEIGHT_BITS = 64


def declared_cells(card: Dataset, group_by: Sequence[str]) -> list[tuple[CellValue, ...]]:
    """Declared cells in canonical order: the product of the group dimensions' cells, the first key slowest."""
    by_name = {dimension.name: dimension.cells for dimension in card.dimensions}
    missing = [name for name in group_by if name not in by_name]
    if missing:
        raise InvalidRequest(f"{card.name} has no dimension {missing[0]}", field="sql", rule="name.dimension")
    return list(itertools.product(*(by_name[name] for name in group_by)))


def ordered_weights(
    weights: Weights, cells: Sequence[tuple[CellValue, ...]], parsed: ParsedQuery, weight_bits: int
) -> list[int]:
    if not 1 <= weight_bits <= MAX_WEIGHT_BITS:
        raise _bad_weights(f"weight_bits is 1 to {MAX_WEIGHT_BITS}", "weights.bits")
    if isinstance(weights, Mapping):
        values = _by_key(weights, cells, parsed)
    else:
        values = [_integer(weight) for weight in weights]
        if len(values) != len(cells):
            raise _bad_weights(f"{len(values)} weights for {len(cells)} cells", "weights.count")
    if any(abs(value) >> weight_bits for value in values):
        raise _bad_weights(f"a weight does not fit {weight_bits} bits; raise weight_bits", "weights.bits")
    return values


def _by_key(weights: Mapping[Any, int], cells: Sequence[tuple[CellValue, ...]], parsed: ParsedQuery) -> list[int]:
    """Weights by group keys as the caller wrote them, in the order of the SELECT list's dimensions."""
    canonical = parsed.query.group_by
    shown = [output.dimension for output in parsed.presentation.columns if output.dimension is not None]
    order = [*dict.fromkeys(shown), *(name for name in canonical if name not in shown)]
    positions = [order.index(name) for name in canonical]
    known = {tuple(_typed(value) for value in cell): at for at, cell in enumerate(cells)}
    values = [0] * len(cells)
    for key, weight in weights.items():
        given = key if isinstance(key, tuple) else (key,)
        if len(given) != len(order):
            raise _bad_weights(f"a group key has {len(order)} parts: {', '.join(order)}", "weights.key")
        at = known.get(tuple(_typed(given[position]) for position in positions))
        if at is None:
            raise _bad_weights("a group key is not a declared cell", "weights.key")
        values[at] = _integer(weight)
    return values


def _typed(value: Any) -> tuple[str, Any]:
    """A key that keeps True and 1 apart."""
    return ("boolean" if isinstance(value, bool) else "number" if isinstance(value, int | Decimal) else "text", value)


def _integer(weight: Any) -> int:
    try:
        return int(operator.index(weight))
    except TypeError:
        raise _bad_weights("weights are integers; scale decimals to whole numbers first", "weights.integer") from None


def _bad_weights(sentence: str, rule: str) -> InvalidRequest:
    return InvalidRequest(sentence, field="weights", rule=rule)
