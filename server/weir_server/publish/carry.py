# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""From one version to the next: which atoms may show new data, and which keep their old record.

All versions stay answerable, so what counts is everything ever released, not the last step alone: of 11 units that
joined, 10 might leave again, and the first and third record would differ by one unit. And it counts over all atoms
together. So new records are shown only where every class of units that all records together tell apart has 0 or at
least k units (`classes`); otherwise the old record is carried forward.

The partition is inherited, since two partitions of one population could be subtracted. Cells that no atom holds may
form new atoms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from weir.errors import PublicationError, Violation
from weir_server.catalog.card import DatasetCard
from weir_server.catalog.card_rules import base_dimensions
from weir_server.catalog.codec import card_to_json
from weir_server.catalog.snapshot import Snapshot
from weir_server.engine.duckdb import Engine
from weir_server.engine.relational import Statement, statement
from weir_server.exact.lattice import owners
from weir_server.exact.records import ATOMS, Atom, read_atoms
from weir_server.publish.atoms import CELLS, TAKEN, TAKEN_COLUMNS, read_statistics, statistics_columns
from weir_server.publish.classes import COMPARED, AtomKey, Newcomers, bring_classes, bring_strays, compare, judge
from weir_server.publish.gather import send
from weir_server.publish.members import KEY, MEMBERS, member_columns, newcomers, value_columns
from weir_server.publish.place import Place

_REFRESHED = "members_refreshed"
_KEY = ", ".join(KEY)
_KEY_COLUMNS = {"born": "INT", "level": "INT", "coarse": "BIGINT"}


@dataclass(frozen=True, slots=True)
class Carried:
    """The atoms of the previous version, as the new one shows them."""

    atoms: tuple[Atom, ...]
    held_back: int
    """Atoms that changed and keep their old record."""
    newcomers: Newcomers | None
    """What new atoms have to pass; None where there is no previous version."""


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
    compare(card, place=place)
    bring_classes(card, place=place)
    renewed = dict(_new_records(card, local, version))
    changed, frozen = judge(card, local, possible=renewed)
    fresh = {key: renewed[key] for key in changed - frozen}
    place.rows.load(_REFRESHED, {**_KEY_COLUMNS, "fresh": "BOOLEAN"}, [(*key, True) for key in sorted(fresh)])
    bring_strays(card, place=place)
    atoms = tuple(fresh.get(atom.key, atom) for atom in old)
    return Carried(atoms, held_back=len(changed) - len(fresh), newcomers=Newcomers.of(card, local))


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
    refreshed = f"SELECT {told}{values} FROM {COMPARED} AS m JOIN {_REFRESHED} AS r ON {on}"
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


def _new_records(card: DatasetCard, engine: Engine, version: int) -> Iterator[tuple[AtomKey, Atom]]:
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
