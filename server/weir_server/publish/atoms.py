# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""The partition of units into atoms, and the statistics of each.

Cells are tried level by level, finest first. A cell becomes an atom when at least k units lie in it that no earlier
atom holds, and every measure keeps its declared width; otherwise its units climb with the next step of the public
order. What is left after the last level is dropped. The same data and card give the same atoms, whatever the order of
rows.

Cells are aggregates: their statistics are summed where the units are, as integers of 38 digits, and all else happens in
the publisher's own database. Squares of values near 2**62 would pass even 38 digits at 10**9 units, so a value that may
be that large is split into x = high·2**31 + low; the three sums of products join again here, in Python integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from weir.query import Function
from weir_server.catalog.card import DatasetCard, Measure
from weir_server.engine.duckdb import Engine
from weir_server.engine.port import RowEngine
from weir_server.exact.lattice import Level, exact_measures, levels
from weir_server.exact.records import Atom, Totals
from weir_server.publish.gather import bring_groups
from weir_server.publish.units import UNITS, strides
from weir_server.publish.width import Spread, wide_enough

CELLS = "cells"
TAKEN = "taken"
TAKEN_COLUMNS = {"code": "BIGINT", "born": "INT", "level": "INT", "coarse": "BIGINT"}
_HALF = 2**31


@dataclass(frozen=True, slots=True)
class Partition:
    """Atoms of one publication."""

    atoms: tuple[Atom, ...]
    """Ordered by level and code."""
    too_narrow: int
    """Cells that had k units and failed the width."""
    held_back: int
    """Cells that had k units and would have told some apart beside earlier records."""


class Admits(Protocol):
    """What decides whether a cell may become an atom beside earlier records."""

    def in_cells(self, local: Engine, *, coarse: str) -> Mapping[int, Sequence[Any]]:
        """What to know of the cells of a level, of those where anything is to be known. `coarse`: SQL of the cell."""

    def admit(self, units: int, known: Sequence[Any]) -> bool:
        """Whether a cell of so many units becomes an atom."""


def needs_squares(measure: Measure) -> bool:
    """Whether the sum of squares is kept."""
    return bool(measure.statistics & {Function.VARIANCE, Function.STDDEV})


def needs_buckets(measure: Measure) -> bool:
    """Whether units are counted by bucket."""
    return Function.HISTOGRAM in measure.statistics


def build_cells(card: DatasetCard, *, rows: RowEngine, local: Engine) -> None:
    """Create `cells` (statistics of every occupied fine cell of `units`) and an empty `taken` (fine cells that atoms
    hold), both in the publisher's own database."""
    measures = exact_measures(card)
    sums = {"n": ("COUNT(*)", "BIGINT")}
    for index, measure in enumerate(measures):
        sums |= _cell_sums(index, measure)
    values = {index: f"m_{index}" for index, measure in enumerate(measures) if measure.width}
    most = card.coalition + 1
    bring_groups(CELLS, UNITS, keys={"code": "BIGINT"}, sums=sums, values=values, most=most, rows=rows, local=local)
    local.run(f"CREATE TABLE {TAKEN} ({', '.join(f'{name} {kind}' for name, kind in TAKEN_COLUMNS.items())})")


def climb(card: DatasetCard, *, engine: Engine, version: int, admits: Admits | None = None) -> Partition:
    """Make atoms of the fine cells that `taken` does not hold yet, adding theirs to it. `admits`: None where there are
    no earlier records."""
    atoms: list[Atom] = []
    narrow = held_back = 0
    for number, level in enumerate(levels(card)):
        passed = []
        known = {} if admits is None else admits.in_cells(engine, coarse=coarse_code(card, level))
        for row in _candidates(card, engine, level):
            code, n, totals, wide = read_statistics(row, card)
            if not wide:
                narrow += 1
            elif admits is None or admits.admit(n, known.get(code, ())):
                passed.append(Atom(version, number, code, n, version, totals))
            else:
                held_back += 1
        _take(engine, card, level, (version, number), [atom.code for atom in passed])
        atoms += passed
    return Partition(tuple(atoms), narrow, held_back)


def _cell_sums(index: int, measure: Measure) -> dict[str, tuple[str, str]]:
    value = f"m_{index}"
    found = {f"s_{index}": (f"EXACT_SUM({value})", "HUGEINT")}
    if needs_squares(measure):
        high, low = _split(value, measure)
        products = {"hh": f"{high} * {high}", "hl": f"{high} * {low}", "ll": f"{low} * {low}"}
        found |= {f"{name}_{index}": (f"EXACT_SUM({product})", "HUGEINT") for name, product in products.items()}
    if needs_buckets(measure):
        inner = zip(measure.buckets, measure.buckets[1:], strict=False)
        for bucket, (first, last) in enumerate(inner):
            upper = f"{value} <= {last}" if last == measure.upper else f"{value} < {last}"
            counted = f"COUNT(CASE WHEN {value} >= {first} AND {upper} THEN 1 END)"
            found[f"b_{index}_{bucket}"] = (counted, "BIGINT")
    return found


def _split(value: str, measure: Measure) -> tuple[str, str]:
    if max(abs(measure.lower), abs(measure.upper)) < _HALF:
        return "0", value
    low = f"((({value} % {_HALF}) + {_HALF}) % {_HALF})"
    # Divided where it cannot be negative: 2**62 more is _HALF times _HALF.
    return f"(INT_DIV({value} - {low} + {_HALF**2}, {_HALF}) - {_HALF})", low


def statistics_columns(card: DatasetCard) -> str:
    """SQL: what `read_statistics` reads after a code, over rows of `cells` grouped together."""
    columns = [column for i, m in enumerate(exact_measures(card)) for column in _candidate_columns(i, m, card)]
    return ", ".join(["sum(n)", *columns])


def _candidate_columns(index: int, measure: Measure, card: DatasetCard) -> Iterator[str]:
    yield f"sum(s_{index})"
    if needs_squares(measure):
        yield f"sum(hh_{index}), sum(hl_{index}), sum(ll_{index})"
    if needs_buckets(measure):
        for bucket in range(len(measure.buckets) - 1):
            yield f"sum(b_{index}_{bucket})"
    if measure.width:
        yield f"list_slice(list_reverse_sort(flatten(list(t_{index}))), 1, {card.coalition + 1})"
        yield f"list_slice(list_sort(flatten(list(u_{index}))), 1, {card.coalition + 1})"


def coarse_code(card: DatasetCard, level: Level) -> str:
    """SQL: code at `level` of the fine cell `code`."""
    terms = []
    for axis, fine, coarse in zip(level.axes, strides(card), level.strides, strict=True):
        if axis.size == 1:
            continue
        index = f"((code // {fine}) % {len(axis.mapping)})"
        if axis.mapping == tuple(range(axis.size)):
            terms.append(f"{index} * {coarse}")
        else:
            terms.append(f"CAST({list(axis.mapping)}[{index} + 1] AS BIGINT) * {coarse}")
    return " + ".join(terms) or "CAST(0 AS BIGINT)"


def _candidates(card: DatasetCard, engine: Engine, level: Level) -> Iterator[tuple[Any, ...]]:
    for batch in engine.batches(
        f"SELECT {coarse_code(card, level)} AS coarse, {statistics_columns(card)}"
        f" FROM {CELLS} ANTI JOIN {TAKEN} USING (code) GROUP BY coarse HAVING sum(n) >= {card.k} ORDER BY coarse"
    ):
        yield from batch


def read_statistics(row: Sequence[Any], card: DatasetCard) -> tuple[int, int, tuple[Totals, ...], bool]:
    """Code, number of units, totals, and whether every width holds, of a row of code and `statistics_columns`."""
    cells = iter(row)
    code, n = int(next(cells)), int(next(cells))
    totals, wide = [], True
    for measure in exact_measures(card):
        total = int(next(cells))
        squares = buckets = None
        if needs_squares(measure):
            high, middle, low = int(next(cells)), int(next(cells)), int(next(cells))
            squares = high * _HALF**2 + 2 * middle * _HALF + low
        if needs_buckets(measure):
            buckets = tuple(int(next(cells)) for _ in measure.buckets[1:])
        if measure.width:
            wide &= wide_enough(Spread(n, total, tuple(next(cells)), tuple(next(cells))), measure)
        totals.append(Totals(total, squares, buckets))
    return code, n, tuple(totals), wide


def _take(engine: Engine, card: DatasetCard, level: Level, key: tuple[int, int], codes: list[int]) -> None:
    coarse, (born, number) = coarse_code(card, level), key
    for start in range(0, len(codes), 100_000):
        engine.run(
            f"INSERT INTO {TAKEN} SELECT code, {born}, {number}, {coarse} FROM {CELLS} ANTI JOIN {TAKEN} USING (code) "
            f"WHERE {coarse} IN (SELECT unnest(CAST(? AS BIGINT[])))",
            [codes[start : start + 100_000]],
        )
