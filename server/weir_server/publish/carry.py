# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""From one version to the next: which atoms may show new data, and which keep their old record.

All versions stay answerable, so what counts is everything ever released about an atom, not the last step alone. Units
are classed by their whole history over the atom's records (joined here, stayed, changed there, left, …). The new
record is released only when every class, the new step included, has 0 or at least k units; otherwise the old record is
carried forward. Then each unit shares its history with k - 1 others, and exchanging the whole histories of two of them
changes no record of any version: differences of versions single out nobody. Checking only the last step would not do:
of 11 units that joined, 10 might leave again, and the first and third record would differ by one unit.

The partition is inherited, since two partitions of one population could be subtracted. Cells that no atom holds may
form new atoms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from weir.errors import PublicationError, Violation
from weir_server.catalog.card import DatasetCard, Measure
from weir_server.catalog.card_rules import base_dimensions
from weir_server.catalog.codec import card_to_json
from weir_server.catalog.snapshot import Snapshot
from weir_server.engine.duckdb import Engine
from weir_server.engine.port import RowEngine
from weir_server.engine.relational import Statement, statement
from weir_server.exact.lattice import exact_measures, owners
from weir_server.exact.records import ATOMS, Atom, read_atoms
from weir_server.publish.atoms import CELLS, TAKEN, TAKEN_COLUMNS, read_statistics, statistics_columns
from weir_server.publish.gather import bring_groups, send
from weir_server.publish.members import KEY, MEMBERS, current, member_columns, newcomers, value_columns
from weir_server.publish.place import Place
from weir_server.publish.width import Spread, wide_enough

_CURRENT = "members_now"
_COMPARED = "members_compared"
_REFRESHED = "members_refreshed"
_CLASSES = "members_classes"
_KEY = ", ".join(KEY)
_KEY_COLUMNS = {"born": "INT", "level": "INT", "coarse": "BIGINT"}


@dataclass(frozen=True, slots=True)
class Carried:
    """The atoms of the previous version, as the new one shows them."""

    atoms: tuple[Atom, ...]
    held_back: int
    """Atoms that changed and keep their old record."""


def check_succession(card: DatasetCard, previous: Snapshot) -> list[Violation]:
    """What the new card changes of the exact part, which must stay as it is while versions are answered together."""
    old, new = _exact_part(previous.card), _exact_part(card)
    return [
        Violation(
            rule="snapshot.card_changed",
            subject=key,
            count=0,
            sentence="versions of one dataset share units, dimensions, exact measures and k: keep them as they were",
        )
        for key in new
        if old[key] != new[key]
    ]


def _exact_part(card: DatasetCard) -> dict[str, object]:
    content = card_to_json(card)
    bases = {dimension.name for dimension in base_dimensions(card)}
    used = bases | {coarser for _, coarser in card.coarsening if coarser is not None}
    skipped = ("title", "unit", "grade")
    return {
        "unit_column": content["unit_column"],
        "k": content["k"],
        "coalition": content["coalition"],
        "coarsening": content["coarsening"],
        "residual": content["residual"],
        "dimensions": [
            {key: value for key, value in item.items() if key not in skipped}
            for item in content["dimensions"]
            if item["name"] in used
        ],
        "measures": [
            {key: value for key, value in item.items() if key not in skipped}
            for item in content["measures"]
            if item["mode"] == "exact"
        ],
    }


def carry(card: DatasetCard, *, place: Place, previous: Snapshot, version: int) -> Carried:
    """Decide for every atom of `previous`, and fill `taken` with its cells.

    Needs `units` and `members`, as the previous publication left it, where rows are, and `cells` and an empty `taken`
    in the publisher's own database.
    """
    old, local = list(read_atoms(previous.directory / ATOMS)), place.local
    _inherit(card, local, old)
    send(TAKEN, TAKEN_COLUMNS, rows=place.rows, local=local)
    place.rows.keep(_CURRENT, statement(current(card, key=place.units_key)))
    _compare(card, place.rows)
    changed, unsafe = _judge(card, place)
    fresh = {key: atom for key, atom in _new_records(card, local, version) if key in changed - unsafe}
    place.rows.load(_REFRESHED, {**_KEY_COLUMNS, "fresh": "BOOLEAN"}, [(*key, True) for key in sorted(fresh)])
    atoms = tuple(fresh.get(atom.key, atom) for atom in old)
    return Carried(atoms, held_back=len(changed) - len(fresh))


def renewed_members(card: DatasetCard, *, place: Place, version: int, first: bool) -> Statement:
    """The members as this version leaves them: of atoms with a new record, of those that keep theirs, whatever the
    source says now, and of atoms that it makes, by `taken`. `first`: there is no previous version."""
    send(TAKEN, TAKEN_COLUMNS, rows=place.rows, local=place.local)
    new = newcomers(card, version=version, key=place.units_key)
    if first:
        return statement(new)
    on = " AND ".join(f"m.{column} = r.{column}" for column in KEY)
    columns = ", ".join(f"m.{column} AS {column}" for column in member_columns(card))
    kept = f"SELECT {columns} FROM {MEMBERS} AS m LEFT JOIN {_REFRESHED} AS r ON {on} WHERE r.fresh IS NULL"
    values = "".join(f", COALESCE(m.{column}, m.old_{column}) AS {column}" for column in value_columns(card))
    told = ", ".join(f"m.{column} AS {column}" for column in (*KEY, "unit", "history", "present"))
    refreshed = f"SELECT {told}{values} FROM {_COMPARED} AS m JOIN {_REFRESHED} AS r ON {on}"
    return statement(f"{kept} UNION ALL {refreshed} UNION ALL {new}")


def _inherit(card: DatasetCard, engine: Engine, old: list[Atom]) -> None:
    """Fill `taken`: which atom owns each occupied fine cell."""
    keys = np.array([atom.key for atom in old], dtype=np.int64).reshape(-1, 3)
    owner = owners(card, keys)
    codes = engine.arrays(f"SELECT code FROM {CELLS} ORDER BY code")["code"]
    codes = codes[owner[codes] >= 0]
    rows = keys[owner[codes]]
    for start in range(0, len(codes), 100_000):
        part = slice(start, start + 100_000)
        lists = [codes[part].tolist(), *(rows[part, i].tolist() for i in range(3))]
        engine.run(
            f"INSERT INTO {TAKEN} SELECT unnest(CAST(? AS BIGINT[])), unnest(CAST(? AS INTEGER[])), "
            "unnest(CAST(? AS INTEGER[])), unnest(CAST(? AS BIGINT[]))",
            lists,
        )


def _compare(card: DatasetCard, rows: RowEngine) -> None:
    """Create `members_compared`: for each atom and unit ever behind it, its history with the new step added."""
    columns = value_columns(card)
    same = " AND ".join(f"o.{column} = c.{column}" for column in columns) or "TRUE"
    values = "".join(f", c.{column} AS {column}, o.{column} AS old_{column}" for column in columns)
    names = ", ".join(f"COALESCE(o.{column}, c.{column}) AS {column}" for column in (*KEY, "unit"))
    on = " AND ".join(f"o.{column} = c.{column}" for column in (*KEY, "unit"))
    present = "COALESCE(o.present, FALSE)"
    step = (
        f"CASE WHEN {present} AND c.unit IS NOT NULL THEN CASE WHEN {same} THEN 's' ELSE 'c' END "
        f"WHEN {present} THEN 'l' WHEN c.unit IS NOT NULL THEN 'j' ELSE 'a' END"
    )
    rows.keep(
        _COMPARED,
        statement(
            f"SELECT {names}, COALESCE(o.history, '') || {step} AS history, c.unit IS NOT NULL AS present{values} "
            f"FROM {MEMBERS} AS o FULL OUTER JOIN {_CURRENT} AS c ON {on}"
        ),
    )


def _judge(card: DatasetCard, place: Place) -> tuple[set[tuple[int, int, int]], set[tuple[int, int, int]]]:
    """Atoms with any change, and atoms where a class is too small or too narrow to be told apart."""
    widths = [(i, measure) for i, measure in enumerate(exact_measures(card)) if measure.width]
    # A class that joined or left may be all that differs between two records, so its own sum is checked too.
    values = "".join(f", COALESCE(m_{i}, old_m_{i}) AS v_{i}" for i, _ in widths)
    bring_groups(
        _CLASSES,
        f"(SELECT {_KEY}, history{values} FROM {_COMPARED}) AS compared",
        keys={**_KEY_COLUMNS, "history": "TEXT"},
        sums={"n": ("COUNT(*)", "BIGINT"), **{f"s_{i}": (f"EXACT_SUM(v_{i})", "HUGEINT") for i, _ in widths}},
        values={i: f"v_{i}" for i, _ in widths},
        most=card.coalition + 1,
        rows=place.rows,
        local=place.local,
    )
    changed, unsafe = set(), set()
    spreads = "".join(f", s_{i}, t_{i}, u_{i}" for i, _ in widths)
    for batch in place.local.batches(f"SELECT {_KEY}, right(history, 1), n{spreads} FROM {_CLASSES}"):
        for born, level, coarse, step, count, *rest in batch:
            key = (int(born), int(level), int(coarse))
            if step in "jlc":
                changed.add(key)
            if count < card.k or (step in "jl" and not _class_is_wide(count, rest, widths)):
                unsafe.add(key)
    return changed, unsafe


def _class_is_wide(count: int, rest: list[object], widths: list[tuple[int, Measure]]) -> bool:
    cells = iter(rest)
    for _, measure in widths:
        total, largest, smallest = next(cells), next(cells), next(cells)
        if not isinstance(total, int) or not isinstance(largest, list) or not isinstance(smallest, list):
            return False
        if not wide_enough(Spread(count, total, tuple(largest), tuple(smallest)), measure):
            return False
    return True


def _new_records(card: DatasetCard, engine: Engine, version: int) -> Iterator[tuple[tuple[int, int, int], Atom]]:
    """New records of inherited atoms, of those that have k units and keep their width."""
    for batch in engine.batches(
        f"SELECT born, level, coarse, {statistics_columns(card)} FROM {CELLS} JOIN {TAKEN} USING (code) "
        f"GROUP BY {_KEY} HAVING sum(n) >= {card.k}"
    ):
        for born, level, *row in batch:
            code, n, totals, wide = read_statistics(row, card)
            if wide:
                yield (int(born), int(level), code), Atom(int(born), int(level), code, n, version, totals)


def refuse_changed_card(card: DatasetCard, previous: Snapshot) -> None:
    """Refuse a card whose exact part differs from the previous version's.

    Raises:
        PublicationError: it does.
    """
    violations = check_succession(card, previous)
    if violations:
        raise PublicationError(
            "a new version keeps the exact part of its card: " + ", ".join(item.subject for item in violations),
            violations=violations,
            rule="snapshot.card_changed",
        )
