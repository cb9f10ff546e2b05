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
from weir_server.exact.lattice import exact_measures, owners
from weir_server.exact.records import ATOMS, Atom, read_atoms
from weir_server.publish.atoms import CELLS, TAKEN, read_statistics, statistics_columns
from weir_server.publish.members import CURRENT, MEMBERS, create_current, value_columns
from weir_server.publish.width import Spread, wide_enough

_COMPARED = "members_compared"
_REFRESHED = "members_refreshed"
_KEY = "born, level, coarse"


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


def carry(card: DatasetCard, *, engine: Engine, previous: Snapshot, version: int, salt: bytes) -> Carried:
    """Decide for every atom of `previous`, fill `taken` with its cells and bring `members` up to date.

    Needs `units`, `cells`, an empty `taken`, and `members` as the previous publication left it.
    """
    old = list(read_atoms(previous.directory / ATOMS))
    _inherit(card, engine, old)
    create_current(card, engine=engine, salt=salt)
    _compare(card, engine)
    changed, unsafe = _judge(card, engine)
    fresh = {key: atom for key, atom in _new_records(card, engine, version) if key in changed - unsafe}
    _update_members(card, engine, sorted(fresh))
    atoms = tuple(fresh.get(atom.key, atom) for atom in old)
    return Carried(atoms, held_back=len(changed) - len(fresh))


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


def _compare(card: DatasetCard, engine: Engine) -> None:
    """Create `members_compared`: for each atom and unit ever behind it, its history with the new step added."""
    columns = value_columns(card)
    same = " AND ".join(f"o.{column} = c.{column}" for column in columns) or "TRUE"
    values = "".join(f", c.{column} AS {column}, o.{column} AS old_{column}" for column in columns)
    present = "coalesce(o.present, FALSE)"
    engine.run(
        f"CREATE TABLE {_COMPARED} AS SELECT {_KEY}, unit, coalesce(o.history, '') || CASE "
        f"WHEN {present} AND c.unit IS NOT NULL THEN CASE WHEN {same} THEN 's' ELSE 'c' END "
        f"WHEN {present} THEN 'l' WHEN c.unit IS NOT NULL THEN 'j' ELSE 'a' END AS history, "
        f"c.unit IS NOT NULL AS present{values} "
        f"FROM {MEMBERS} o FULL OUTER JOIN (SELECT * FROM {CURRENT}) c USING ({_KEY}, unit)"
    )


def _judge(card: DatasetCard, engine: Engine) -> tuple[set[tuple[int, int, int]], set[tuple[int, int, int]]]:
    """Atoms with any change, and atoms where a class is too small or too narrow to be told apart."""
    widths = [(i, measure) for i, measure in enumerate(exact_measures(card)) if measure.width]
    changed, unsafe = set(), set()
    for batch in engine.batches(
        f"SELECT {_KEY}, right(history, 1), count(*)"
        + "".join(f", {column}" for i, _ in widths for column in _class_columns(i, card.coalition))
        + f" FROM {_COMPARED} GROUP BY {_KEY}, history"
    ):
        for born, level, coarse, step, count, *rest in batch:
            key = (int(born), int(level), int(coarse))
            if step in "jlc":
                changed.add(key)
            if count < card.k or (step in "jl" and not _class_is_wide(count, rest, widths)):
                unsafe.add(key)
    return changed, unsafe


def _class_columns(index: int, coalition: int) -> Iterator[str]:
    """A class that joined or left may be all that differs between two records, so its own sum is checked too."""
    value = f"coalesce(m_{index}, old_m_{index})"
    yield f"sum({value})"
    yield f"list_reverse_sort(max({value}, {coalition + 1}))"
    yield f"list_sort(min({value}, {coalition + 1}))"


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


def _update_members(card: DatasetCard, engine: Engine, fresh: list[tuple[int, int, int]]) -> None:
    """Replace the members of atoms with a new record; the others keep theirs, whatever the source says now."""
    engine.run(f"CREATE TABLE {_REFRESHED} (born INTEGER, level INTEGER, coarse BIGINT)")
    for start in range(0, len(fresh), 100_000):
        part = fresh[start : start + 100_000]
        engine.run(
            f"INSERT INTO {_REFRESHED} SELECT unnest(CAST(? AS INTEGER[])), unnest(CAST(? AS INTEGER[])), "
            "unnest(CAST(? AS BIGINT[]))",
            [[key[i] for key in part] for i in range(3)],
        )
    engine.run(f"DELETE FROM {MEMBERS} WHERE ({_KEY}) IN (SELECT ({_KEY}) FROM {_REFRESHED})")
    values = "".join(f", coalesce({column}, old_{column})" for column in value_columns(card))
    engine.run(
        f"INSERT INTO {MEMBERS} SELECT {_KEY}, unit, history, present{values} FROM {_COMPARED} "
        f"SEMI JOIN {_REFRESHED} USING ({_KEY})"
    )


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
