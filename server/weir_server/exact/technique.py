# SPDX-License-Identifier: Apache-2.0
"""The exact technique: answers that are sums over whole atoms, and nothing else.

Why no sequence of questions breaks it: every number released is a function of the query, the card, the public
partition and symmetric statistics of whole atoms. Exchange the records of two units of one atom and no reply changes,
so none can tell them apart (DESIGN §5, swap invariance). There is no threshold, no noise and no memory of
earlier questions here, since the promise needs none.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weir.errors import InternalError, InvalidQuery, WeirError
from weir.query import Aggregate, Function, Literal
from weir.v1 import answer_pb2, query_pb2
from weir.wire import literal_to_proto
from weir_server.catalog.card import Cell, DatasetCard, Dimension, Measure
from weir_server.exact.lattice import MAX_UNITS, fine_cells
from weir_server.exact.resolve import Resolution, resolve
from weir_server.exact.store import AtomStore, Stores
from weir_server.plan.values import (
    Analysis,
    BoundQuery,
    CellTest,
    Condition,
    Every,
    Loss,
    NullTest,
    Raw,
    Some,
    ValueTest,
    open_raw,
)

_MAX_SCALE = 18
MAX_KEPT = 8_000_000
"""Most array entries (64 MB) of resolutions kept for filters asked before."""
_ENTRY_BYTES = 8
_TEXT_WEIGHT = 4
"""Array entries that take as much memory as a cell's key or count in an answer."""
_LEAST_WEIGHT, _TEST_WEIGHT = 256, 64
"""The same of what is kept for any question, and of any test in its condition: neither needs an atom that answers."""
MAX_BRIEF = 20_000
"""Most fine cells times columns that are summed on the event loop, as one vector operation each."""


@dataclass(frozen=True, slots=True)
class Found:
    """Which atoms answer a filter and groups, and what every such answer says of them."""

    resolution: Resolution
    shape: answer_pb2.Answer
    """Keys and coverage; never changed."""
    condition: Condition

    @property
    def weight(self) -> int:
        """Array entries held, or as much."""
        texts = (len(self.shape.keys) + 2) * _TEXT_WEIGHT * len(self.resolution.covered)
        return _LEAST_WEIGHT + _weight(self.condition) + self.resolution.weight + texts


@dataclass(frozen=True, slots=True)
class ExactRaw:
    """Payload of Raw: per value column of the answer, the integers of the covered cells."""

    found: Found
    numerators: tuple[list[int], ...]
    denominators: tuple[list[int] | None, ...]


class ExactTechnique:
    """Technique of mode `exact`. Keeps opened stores and resolved filters, rebuilt at will; safe from any thread."""

    def __init__(self, *, stores: Stores | None = None) -> None:
        self._stores = Stores() if stores is None else stores
        self._lock = threading.Lock()
        self._resolutions: OrderedDict[tuple[str, Condition, tuple[str, ...]], Found] = OrderedDict()
        self._weight = 0

    def analyse(self, bound: BoundQuery) -> Analysis:
        """Columns and work, from the card alone.

        Raises:
            InvalidQuery: an aggregate, filter or group that whole atoms cannot answer.
        """
        for dimension in bound.groups:
            _refuse_row_level(dimension, field="query.group_by")
        _refuse_conditions(bound.condition, bound.card)
        columns, magnitudes = [], []
        for aggregate, measure in bound.aggregates:
            made = _columns(aggregate, measure)
            columns += made
            magnitudes += [_magnitude(aggregate, measure)] * len(made)
        work = fine_cells(bound.card) * len(columns)
        return Analysis(
            mechanism={"technique": "exact", "k": str(bound.card.k)},
            loss=Loss(),
            columns=tuple(columns),
            magnitudes=tuple(magnitudes),
            work=work,
            body=None,
            # The first question after a start opens the store, which the event loop must not wait for.
            brief=work <= MAX_BRIEF and self._stores.is_open(bound.snapshot),
        )

    def execute(self, bound: BoundQuery, analysis: Analysis) -> Raw:
        """Sums over the atoms inside each cell.

        Raises:
            InternalError: the snapshot's atoms cannot be read.
        """
        failure: str | None = None
        try:
            store = self._stores.get(bound.snapshot)
        except WeirError as error:
            failure = error.rule
        if failure is not None:
            raise InternalError("the snapshot's atoms cannot be read", rule=failure)
        found = self._resolved(bound, store)
        results = [
            part
            for aggregate, measure in bound.aggregates
            for part in _compute(store, found.resolution, aggregate, measure)
        ]
        return Raw(ExactRaw(found, tuple(n for n, _ in results), tuple(d for _, d in results)))

    def _resolved(self, bound: BoundQuery, store: AtomStore) -> Found:
        """Which atoms answer: kept for the filters and groups asked last, since it depends on nothing else. The digest
        stands for the snapshot with its card, and so for what the names of groups mean."""
        key = bound.snapshot.manifest_digest, bound.condition, tuple(dimension.name for dimension in bound.groups)
        with self._lock:
            found = self._resolutions.get(key)
            if found is not None:
                self._resolutions.move_to_end(key)
                return found
        resolution = resolve(store, bound.condition, bound.groups)
        shape = answer_pb2.Answer(keys=_keys(bound), coverage=_coverage(resolution))
        made = Found(resolution, shape, bound.condition)
        with self._lock:
            if key not in self._resolutions:
                self._resolutions[key] = made
                self._weight += made.weight
            while self._weight > MAX_KEPT and len(self._resolutions) > 1:
                self._weight -= self._resolutions.popitem(last=False)[1].weight
        return made

    def release(self, bound: BoundQuery, analysis: Analysis, raw: Raw) -> answer_pb2.Answer:
        """The answer over every declared cell; cells that no atom covers have no value."""
        found = open_raw(raw)
        if not isinstance(found, ExactRaw):
            raise InternalError("a raw value of another technique", rule="exact.raw")
        answer = answer_pb2.Answer()
        answer.CopyFrom(found.found.shape)
        resolution = found.found.resolution
        size, cells = len(resolution.covered), resolution.cells.tolist()
        for column, numerators, denominators in zip(
            analysis.columns, found.numerators, found.denominators, strict=True
        ):
            value = answer.values.add()
            value.CopyFrom(column)
            value.numerators.extend(_spread(numerators, cells, size, ""))
            if denominators is not None:
                value.denominators.extend(_spread(denominators, cells, size, "1"))
        return answer


def _weight(condition: Condition) -> int:
    match condition:
        case Every(operands) | Some(operands):
            return _TEST_WEIGHT + sum(_weight(operand) for operand in operands)
        case CellTest(_, cells):
            return _TEST_WEIGHT + sys.getsizeof(cells) // _ENTRY_BYTES
        case ValueTest() | NullTest():
            return _TEST_WEIGHT


def _refuse_row_level(dimension: Dimension | None, *, field: str) -> None:
    if dimension is None or dimension.row_level:
        raise InvalidQuery(
            "exact answers use only dimensions that are constant within a unit; nearest: a measure per level, or dp",
            field=field,
            rule="exact.row_level",
        )


def _refuse_conditions(condition: Condition, card: DatasetCard) -> None:
    match condition:
        case Every(operands) | Some(operands):
            for operand in operands:
                _refuse_conditions(operand, card)
        case CellTest(dimension):
            _refuse_row_level(card.dimension(dimension), field="query.where")
        case ValueTest(measure) | NullTest(measure):
            raise InvalidQuery(
                f"exact answers filter by dimensions, and {measure} is a measure; nearest: its histogram or average",
                field="query.where",
                rule="exact.condition",
            )


def _columns(aggregate: Aggregate, measure: Measure | None) -> list[answer_pb2.ValueColumn]:
    if measure is None:
        return [answer_pb2.ValueColumn(name=aggregate.name)]
    match aggregate.function:
        case Function.SUM | Function.AVG:
            return [answer_pb2.ValueColumn(name=aggregate.name, unit=measure.unit, scale=measure.scale)]
        case Function.VARIANCE | Function.STDDEV:
            root = aggregate.function is Function.STDDEV
            unit = measure.unit if root or not measure.unit else f"{measure.unit}^2"
            scale = min(_MAX_SCALE, 2 * measure.scale)
            return [answer_pb2.ValueColumn(name=aggregate.name, unit=unit, scale=scale, square_root=root)]
        case Function.HISTOGRAM:
            return [_bucket(aggregate, measure, i) for i in range(len(measure.buckets) - 1)]
        case _:
            raise InvalidQuery(
                f"{aggregate.function.value} is not answered exactly; nearest: histogram, avg",
                field="query.aggregates",
                rule="exact.aggregate",
            )


def _bucket(aggregate: Aggregate, measure: Measure, index: int) -> answer_pb2.ValueColumn:
    column = answer_pb2.ValueColumn(name=f"{aggregate.name}[{index}]")
    column.bucket.lower = decimal_text(measure.buckets[index], measure.scale)
    column.bucket.upper = decimal_text(measure.buckets[index + 1], measure.scale)
    return column


def decimal_text(steps: int, scale: int) -> str:
    """Grid steps as decimal text in the measure's unit."""
    whole, rest = divmod(abs(steps), int(10**scale))
    digits = str(rest).zfill(scale).rstrip("0") if scale else ""
    return f"{'-' if steps < 0 else ''}{whole}{'.' + digits if digits else ''}"


def _magnitude(aggregate: Aggregate, measure: Measure | None) -> int:
    if measure is None or aggregate.function is Function.HISTOGRAM:
        return MAX_UNITS
    if aggregate.function is Function.SUM:
        return MAX_UNITS * max(abs(measure.lower), abs(measure.upper))
    return 0


_Part = tuple[list[int], list[int] | None]


def _compute(store: AtomStore, resolution: Resolution, aggregate: Aggregate, measure: Measure | None) -> list[_Part]:
    """Numerators and denominators of the covered cells; one pair for each column of the aggregate."""
    counts: list[int] = resolution.covered[resolution.cells].tolist()
    if measure is None:
        return [(counts, None)]
    if aggregate.function is Function.HISTOGRAM:
        buckets = range(len(measure.buckets) - 1)
        return [(_sums(store, resolution, measure, f"bucket {bucket}"), None) for bucket in buckets]
    sums = _sums(store, resolution, measure, "sum")
    if aggregate.function is Function.SUM:
        return [(sums, None)]
    if aggregate.function is Function.AVG:
        return [(sums, counts)]
    squares = _sums(store, resolution, measure, "squares")
    surplus = int(10 ** max(0, 2 * measure.scale - _MAX_SCALE))  # digits that the column's scale cannot hold
    numerators = [n * square - total * total for n, total, square in zip(counts, sums, squares, strict=True)]
    return [(numerators, [n * n * surplus for n in counts])]


def _sums(store: AtomStore, resolution: Resolution, measure: Measure, statistic: str) -> list[int]:
    values: NDArray[Any] = store.columns[measure.name, statistic][resolution.atoms]
    if not len(resolution.starts):
        return []
    return [int(value) for value in np.add.reduceat(values, resolution.starts).tolist()]


def _spread(values: Sequence[int], cells: list[int], size: int, empty: str) -> list[str]:
    texts = [empty] * size
    for cell, value in zip(cells, values, strict=True):
        texts[cell] = str(value)
    return texts


def _coverage(resolution: Resolution) -> answer_pb2.Coverage:
    return answer_pb2.Coverage(
        covered=[str(n) for n in resolution.covered.tolist()],
        left_out=[str(n) for n in resolution.left_out.tolist()],
        covered_total=str(resolution.covered_total),
        left_out_total=str(resolution.left_out_total),
    )


def _keys(bound: BoundQuery) -> list[answer_pb2.KeyColumn]:
    """Cells of the answer in the order of their index: the last group varies fastest."""
    cells = list(product(*(dimension.cells for dimension in bound.groups)))
    return [
        answer_pb2.KeyColumn(name=dimension.name, cells=[_key(cell[position]) for cell in cells])
        for position, dimension in enumerate(bound.groups)
    ]


def _key(cell: Cell) -> query_pb2.Literal:
    return query_pb2.Literal() if cell.value is None else literal_to_proto(Literal(cell.value))
