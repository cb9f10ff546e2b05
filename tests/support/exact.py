# SPDX-License-Identifier: Apache-2.0
"""Exact datasets for tests: publish rows, ask queries, and an oracle of both in plain Python integers.

The oracle shares no code with what it checks beyond the card's values: no engine, no numpy, no lattice.
"""

from __future__ import annotations

import csv
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from weir.query import Aggregate, Function, Predicate, Query, canonicalise
from weir.v1 import answer_pb2
from weir_server.catalog.card import DatasetCard, Dimension, Measure, Mode, Reduction
from weir_server.catalog.catalogue import Catalogue
from weir_server.catalog.snapshot import Snapshot, open_snapshot
from weir_server.exact.records import ATOMS, Atom, read_atoms
from weir_server.exact.technique import ExactTechnique
from weir_server.plan.bind import bind
from weir_server.plan.values import CellTest, Condition, Every, Principal, Some, Submission
from weir_server.publish.publisher import Published, publish

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SALT = bytes(range(32))
Row = dict[str, str | None]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows as a CSV file; None becomes an empty field."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({column: row.get(column) for column in columns} for row in rows)
    return path


@dataclass
class Bench:
    """A data directory to publish into and ask."""

    directory: Path
    technique: ExactTechnique = field(default_factory=ExactTechnique)
    snapshots: list[Snapshot] = field(default_factory=list)
    entropy: Callable[[int], bytes] = secrets.token_bytes
    """Gives salts of manifests: `bytes`, all zeros, where digests are to be compared."""

    def publish(
        self, card: DatasetCard, rows: Sequence[Mapping[str, Any]], *, register: Sequence[Mapping[str, Any]] = (),
        accept_shrink: bool = True,
    ) -> Published:  # fmt: skip
        """Publish the next version of these rows, under this register of consents where the card has one."""
        version = len(self.snapshots) + 1
        source = write_csv(self.directory / f"source-{version}.csv", rows)
        published = publish(
            card,
            card_directory=self.directory,
            data_dir=self.directory / "data",
            version=version,
            previous=self.snapshots[-1] if self.snapshots else None,
            now=NOW,
            salt=SALT,
            entropy=self.entropy,
            source_override=source,
            register_override=write_csv(self.directory / f"register-{version}.csv", register) if register else None,
            accept_shrink=accept_shrink,
            threads=1,
        )
        self.snapshots.append(open_snapshot(published.directory, expected_digest=published.manifest_digest))
        return published

    def atoms(self, version: int = 0) -> list[Atom]:
        """Atoms of a version, the newest for 0."""
        return list(read_atoms(self.snapshots[version - 1].directory / ATOMS))

    def ask(self, query: Query, *, name: str = "alice") -> answer_pb2.Answer:
        """Answer of a query through bind, analyse, execute and release."""
        return ask(self.technique, self.snapshots, query, name=name)


def ask(
    technique: ExactTechnique, snapshots: Iterable[Snapshot], query: Query, *, name: str = "alice"
) -> answer_pb2.Answer:
    """Answer of a query over these snapshots."""
    catalogue = Catalogue()
    for snapshot in snapshots:
        catalogue = catalogue.with_snapshot(snapshot)
    bound = bind(submission(query, name=name), catalogue)
    analysis = technique.analyse(bound)
    return technique.release(bound, analysis, technique.execute(bound, analysis))


def submission(query: Query, *, name: str = "alice") -> Submission:
    """A well-formed request for an exact answer."""
    return Submission(
        principal=Principal(name, "requester", "test"),
        query=canonicalise(query),
        contract="c",
        purpose="",
        mode=Mode.EXACT,
        epsilon_nano=None,
        within=None,
        max_price_micro=None,
        idempotency_key="key",
        request_digest="",
    )


def query(
    card: DatasetCard,
    *aggregates: tuple[Function, str] | Function,
    group_by: Sequence[str] = (),
    where: Predicate | None = None,
    snapshot: int = 0,
) -> Query:
    """A query; an aggregate is a function or a pair of function and measure. Count alone when none is given."""
    listed = [Aggregate(item) if isinstance(item, Function) else Aggregate(item[0], item[1]) for item in aggregates]
    return canonicalise(
        Query(card.name, tuple(listed) or (Aggregate(Function.COUNT),), tuple(group_by), where, snapshot)
    )


def table(answer: answer_pb2.Answer) -> dict[str, list[tuple[str, str]]]:
    """Columns of an answer as pairs of numerator and denominator text."""
    return {
        column.name: list(zip(column.numerators, column.denominators or ["1"] * len(column.numerators), strict=True))
        for column in answer.values
    }


# ── the oracle ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Record:
    """One unit as the card reduces it."""

    unit: str
    cell: tuple[int, ...]
    values: tuple[int, ...]


@dataclass(frozen=True)
class OracleAtom:
    """Units of an atom, and the fine cells it owns."""

    level: int
    extent: frozenset[tuple[int, ...]]
    members: tuple[Record, ...]


def bases(card: DatasetCard) -> list[Dimension]:
    """Base unit-level dimensions."""
    return [item for item in card.dimensions if item.coarsens is None and not item.row_level]


def measures(card: DatasetCard) -> list[Measure]:
    """Exact measures."""
    return [item for item in card.measures if item.mode is Mode.EXACT]


def records(card: DatasetCard, rows: Iterable[Mapping[str, Any]]) -> list[Record]:
    """One record a unit."""
    by_unit: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_unit[str(row[card.unit_column])].append(row)
    return [
        Record(
            unit,
            tuple(_cell(dimension, own) for dimension in bases(card)),
            tuple(_value(measure, own) for measure in measures(card)),
        )
        for unit, own in sorted(by_unit.items())
    ]


def _first(rows: list[Mapping[str, Any]], order: str) -> Mapping[str, Any]:
    return min(rows, key=lambda row: Decimal(str(row[order])))


def _cell(dimension: Dimension, rows: list[Mapping[str, Any]]) -> int:
    row = _first(rows, dimension.per_unit.order) if dimension.per_unit.order else rows[0]
    raw = row[dimension.column]
    if raw is None:
        return len(dimension.cells) - 1
    if dimension.edges:
        inside = [i for i, (low, high) in enumerate(pairwise(dimension.edges)) if low <= Decimal(str(raw)) < high]
        return inside[0] if inside else (0 if Decimal(str(raw)) < dimension.edges[0] else len(dimension.edges) - 2)
    word = str(raw).lower()
    if dimension.type == "boolean":
        word = {"1": "true", "0": "false"}.get(word, word)
    return [str(cell.value).lower() for cell in dimension.cells].index(word)


def _steps(measure: Measure, raw: Any) -> int | None:
    if raw is None:
        return measure.missing
    exact = Decimal(str(raw)).scaleb(measure.scale)
    return int(exact.to_integral_value(rounding=ROUND_HALF_EVEN))


def _value(measure: Measure, rows: list[Mapping[str, Any]]) -> int:
    if measure.level is not None:
        column, level = measure.level
        rows = [row for row in rows if row[column] is not None and Decimal(str(row[column])) == level]
    match measure.per_unit.reduction:
        case Reduction.COUNT:
            value: int | None = sum(row[measure.column] is not None for row in rows)
        case Reduction.SUM:
            value = sum(_steps(measure, row[measure.column]) or 0 for row in rows)
        case Reduction.MAX:
            value = max((s for row in rows if (s := _steps(measure, row[measure.column])) is not None), default=None)
        case _:
            value = _steps(measure, _first(rows, measure.per_unit.order or "")[measure.column]) if rows else None
    if value is None:
        assert measure.missing is not None
        value = measure.missing
    return max(measure.lower, min(measure.upper, value))


def coarsenings(card: DatasetCard) -> list[list[tuple[int, ...]]]:
    """For each level and base dimension: fine cell to coarse cell."""
    current = [tuple(range(len(dimension.cells))) for dimension in bases(card)]
    found = [list(current)]
    names = [dimension.name for dimension in bases(card)]
    for base, coarser in card.coarsening:
        target = None if coarser is None else card.dimension(coarser)
        index = names.index(base)
        current[index] = (0,) * len(current[index]) if target is None else target.mapping
        found.append(list(current))
    if card.residual == "atom":
        found.append([(0,) * len(mapping) for mapping in current])
    return found


def oracle_atoms(card: DatasetCard, units: Sequence[Record]) -> list[OracleAtom]:
    """The partition, by definition: level by level, cell by cell."""
    free = set(product(*(range(len(dimension.cells)) for dimension in bases(card))))
    atoms = []
    for level, mappings in enumerate(coarsenings(card)):
        cells: dict[tuple[int, ...], list[tuple[int, ...]]] = defaultdict(list)
        for fine in sorted(free):
            cells[tuple(mapping[i] for mapping, i in zip(mappings, fine, strict=True))].append(fine)
        for _, fines in sorted(cells.items()):
            extent = frozenset(fines)
            members = tuple(unit for unit in units if unit.cell in extent)
            if len(members) >= card.k and _wide(card, members):
                atoms.append(OracleAtom(level, extent, members))
                free -= extent
    return atoms


def _wide(card: DatasetCard, members: Sequence[Record]) -> bool:
    """Every coalition of the card's size faces the width, tried by its extreme members."""
    for i, measure in enumerate(measures(card)):
        values = sorted(member.values[i] for member in members)
        only_sum = measure.statistics <= {Function.SUM, Function.AVG}
        for largest in range(card.coalition + 1):
            unknown = values[card.coalition - largest : len(values) - largest]
            low = sum(unknown) - len(unknown) * measure.lower
            high = len(unknown) * measure.upper - sum(unknown)
            if min(measure.upper - measure.lower, low, high) < measure.width:
                return False
            if not only_sum and unknown[-1] - unknown[0] < measure.width:
                return False
    return True


def holds(condition: Condition, cell: tuple[int, ...], names: list[str]) -> bool:
    """Whether a fine cell satisfies a condition."""
    match condition:
        case CellTest(dimension, cells):
            return cell[names.index(dimension)] in cells
        case Every(operands):
            return all(holds(operand, cell, names) for operand in operands)
        case Some(operands):
            return any(holds(operand, cell, names) for operand in operands)
    raise AssertionError("exact conditions are over cells")


def group_of(groups: Sequence[Dimension], cell: tuple[int, ...], names: list[str]) -> tuple[int, ...]:
    """Cell of the answer that a fine cell lies in."""
    found = []
    for dimension in groups:
        if dimension.coarsens is None:
            found.append(cell[names.index(dimension.name)])
        else:
            found.append(dimension.mapping[cell[names.index(dimension.coarsens)]])
    return tuple(found)


def oracle_answer(
    card: DatasetCard, atoms: Sequence[OracleAtom], asked: Query, condition: Condition
) -> tuple[dict[str, list[tuple[str, str]]], list[int], list[int], int]:
    """Columns as `table` gives them, units covered and left out for each cell, units left out in all."""
    names = [dimension.name for dimension in bases(card)]
    groups = [dimension for name in asked.group_by if (dimension := card.dimension(name)) is not None]
    grid = list(product(*(range(len(dimension.cells)) for dimension in groups)))
    members: dict[tuple[int, ...], list[Record]] = {cell: [] for cell in grid}
    partly: Counter[tuple[int, ...]] = Counter()
    left_total = 0
    for atom in atoms:
        inside = [cell for cell in atom.extent if holds(condition, cell, names)]
        reached = {group_of(groups, cell, names) for cell in inside}
        everywhere = {group_of(groups, cell, names) for cell in atom.extent}
        if len(inside) == len(atom.extent) and len(everywhere) == 1:
            members[reached.pop()] += atom.members
        elif inside:
            left_total += len(atom.members)
            partly.update({cell: len(atom.members) for cell in reached})
    columns: dict[str, list[tuple[str, str]]] = {}
    for aggregate in asked.aggregates:
        columns |= _oracle_columns(card, aggregate, [members[cell] for cell in grid])
    return columns, [len(members[cell]) for cell in grid], [partly[cell] for cell in grid], left_total


def _oracle_columns(
    card: DatasetCard, aggregate: Aggregate, cells: list[list[Record]]
) -> dict[str, list[tuple[str, str]]]:
    if aggregate.measure is None:
        return {aggregate.name: [(str(len(cell)) if cell else "", "1") for cell in cells]}
    measure = card.measure(aggregate.measure)
    assert measure is not None
    index = measures(card).index(measure)
    values = [[member.values[index] for member in cell] for cell in cells]
    if aggregate.function is Function.HISTOGRAM:
        last = len(measure.buckets) - 2
        return {
            f"{aggregate.name}[{b}]": [
                (str(sum(low <= v < high or (b == last and v == high) for v in cell)) if cell else "", "1")
                for cell in values
            ]
            for b, (low, high) in enumerate(pairwise(measure.buckets))
        }
    return {aggregate.name: [_ratio(aggregate.function, cell) for cell in values]}


def _ratio(function: Function, values: list[int]) -> tuple[str, str]:
    n = len(values)
    if not n:
        return "", "1"
    if function is Function.SUM:
        return str(sum(values)), "1"
    if function is Function.AVG:
        return str(sum(values)), str(n)
    return str(n * sum(v * v for v in values) - sum(values) ** 2), str(n * n)


def clinic_rows(
    units: Iterable[tuple[str, Mapping[str, Any], Sequence[Mapping[str, Any]]]],
) -> Iterator[dict[str, Any]]:
    """Rows of units, each with what is constant and its own rows."""
    for unit, constant, own in units:
        for day, row in enumerate(own):
            yield {"who": unit, **constant, "day": day + 1, **row}
