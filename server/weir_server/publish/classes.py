# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""Which units no record tells apart, over all atoms and versions together.

All versions stay answerable, and records of several atoms can be subtracted as well as those of several versions. So
units are classed by their *trace*: for each atom that ever held them, their history over its records. Atom by atom
would not do: of ten units that leave one atom, nine may join another, and the difference of both differences is the
tenth.

If a version showed all that has changed, units of one trace before would fall apart into classes of one trace after.
Where each has at least k units and its width, everything is shown. Otherwise some atoms keep their old record, which
joins classes again: first those that a class too small has joined, then those in which it took another step than others
of its trace, then all in which its trace divides, then all that its trace ever touched. A trace of which nothing is
shown is one class, as it was before, so this ends with every class large. What decides is the partition, not the order:
fewer atoms shown never make a smaller class.

Then each unit shares its trace with k - 1 others, and if two of them swapped all that they ever contributed, no record
of any atom in any version would change: whose something is, no sequence of questions tells.

Whether values changed is asked against the same atom's last record, of each measure, and where a unit moves against the
atom it leaves, of all measures together; not further back. Of eleven that change, ten may change back, and what differs
then is the change of one of eleven: whoever knows that the ten are as they were knows whose.

A unit that was never behind a record needs no company, since no record depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from weir.errors import InternalError
from weir_server.catalog.card import DatasetCard
from weir_server.engine.duckdb import Engine
from weir_server.engine.relational import statement
from weir_server.exact.lattice import exact_measures
from weir_server.publish.atoms import TAKEN
from weir_server.publish.gather import bring, bring_groups
from weir_server.publish.members import KEY, MEMBERS, current, hashed_unit, value_columns
from weir_server.publish.place import Place
from weir_server.publish.units import UNITS
from weir_server.publish.width import Spread, wide_enough

COMPARED = "members_compared"
"""For each atom and unit ever behind it: history with the new step, values behind the last record and now, and the
unit's traces `before` and `after`."""
STRAYS = "members_strays"
"""Units in cells that no atom holds yet, counted by cell and class."""
AtomKey = tuple[int, int, int]

_CURRENT = "members_now"
_STEPPED = "members_stepped"
_SEVERAL = "members_several"
_CLASSES = "members_classes"
_CHANGED = "members_changed"
_FROZEN = "members_frozen"
_SHOWN = "members_shown"
_BAD = "members_bad"
_KEY = ", ".join(KEY)
_KEY_COLUMNS = {"born": "INT", "level": "INT", "coarse": "BIGINT"}
_WORDS = 3
"""32-bit words of the sums that stand for a trace of several histories. Nobody chooses what is hashed."""
_OWN, _TRACE = "USING (before, shown)", "USING (before)"
_FREEZES = (
    (_OWN, "step IN ('i', 'j')"),
    (_OWN, "step <> 'a' AND NOT uniform"),
    (_OWN, "step <> 'a' AND NOT uniform"),  # those that the first freezing has made
    (_TRACE, "NOT uniform"),
    (_TRACE, "step <> 'a'"),
)
"""Which rows of classes that are too small name the atoms to freeze: of themselves, or of their whole trace."""


# ── where rows are ────────────────────────────────────────────────────────────────────────────────────────────────


def compare(card: DatasetCard, *, place: Place) -> None:
    """Create `members_compared`. Needs `units`, `members` as the previous publication left it, and `taken`."""
    rows = place.rows
    rows.keep(_CURRENT, statement(current(card, key=place.units_key)))
    rows.keep(_STEPPED, statement(_stepped(card)))
    rows.keep(_SEVERAL, statement(_several()))
    told = ", ".join(f"c.{column} AS {column}" for column in (*KEY, "unit", "present", *_values(card)))
    history = f"c.earlier || {_letter('s.kept', of='c')}"
    before = f"COALESCE(s.before, CASE WHEN c.earlier = '' THEN '' ELSE {_text('c.earlier', of='c')} END)"
    after = f"COALESCE(s.after, {_text(history, of='c')})"
    rows.keep(
        COMPARED,
        statement(
            f"SELECT {told}, {history} AS history, {_letter('s.kept', of='c')} AS step, {before} AS before, "
            f"{after} AS after FROM {_STEPPED} AS c LEFT JOIN {_SEVERAL} AS s ON c.unit = s.unit"
        ),
    )
    for name in (_SEVERAL, _STEPPED, _CURRENT):
        rows.drop(name)


def _values(card: DatasetCard) -> Iterator[str]:
    for column in value_columns(card):
        yield from (column, f"old_{column}")


def _stepped(card: DatasetCard) -> str:
    """Query: atoms and units with the history so far and the new step, where `m` is a unit that left and lies in
    another atom with the values it had."""
    columns = value_columns(card)
    values = "".join(f", c.{column} AS {column}, o.{column} AS old_{column}" for column in columns)
    names = ", ".join(f"COALESCE(o.{column}, c.{column}) AS {column}" for column in (*KEY, "unit"))
    on = " AND ".join(f"o.{column} = c.{column}" for column in (*KEY, "unit"))
    present = "COALESCE(o.present, FALSE)"
    stayed = f"CASE WHEN {_same(columns, 'c')} THEN 's' ELSE {_changed(columns)} END"
    step = (
        f"CASE WHEN {present} AND c.unit IS NOT NULL THEN {stayed} "
        f"WHEN {present} THEN CASE WHEN e.unit IS NOT NULL AND {_same(columns, 'e')} THEN 'm' ELSE 'l' END "
        "WHEN c.unit IS NOT NULL THEN 'j' ELSE 'a' END"
    )
    return (
        f"SELECT {names}, COALESCE(o.history, '') AS earlier, {step} AS step, c.unit IS NOT NULL AS present{values} "
        f"FROM {MEMBERS} AS o FULL OUTER JOIN {_CURRENT} AS c ON {on} LEFT JOIN {_CURRENT} AS e ON o.unit = e.unit"
    )


def _letter(kept: str, *, of: str) -> str:
    """Expression: the step as histories have it. Who joins is `i` where its values are those of the atom it left: of
    ten who move, the changes of a few would be what is missing in one record and more in the other."""
    joined = f"CASE WHEN COALESCE({kept}, FALSE) THEN 'i' ELSE 'j' END"
    return f"CASE WHEN {of}.step = 'm' THEN 'l' WHEN {of}.step = 'j' THEN {joined} ELSE {of}.step END"


def _same(columns: Sequence[str], now: str) -> str:
    return " AND ".join(f"o.{column} = {now}.{column}" for column in columns) or "TRUE"


def _changed(columns: Sequence[str]) -> str:
    """Expression: the step of a unit whose values changed, which says of several measures which ones."""
    which = (f"CASE WHEN o.{column} = c.{column} THEN '0' ELSE '1' END" for column in columns)
    return "'c'" if len(columns) < 2 else f"TEXT_JOIN('', {', '.join(which)}, 'c')"


def _text(history: str, *, of: str) -> str:
    """Expression: an atom and a history over its records."""
    return f"TEXT_JOIN('.', {', '.join(f'CAST({of}.{column} AS TEXT)' for column in KEY)}, {history})"


def _several() -> str:
    """Query: the traces of units with several histories, whatever their order: sums of hashes (`fingerprint`). A trace
    of one history is that history, for them as for everybody."""
    many = f"SELECT unit FROM (SELECT unit, COUNT(*) AS n FROM {_STEPPED} GROUP BY unit) AS counted WHERE n > 1"
    kept = " AND ".join(
        f"MAX(CASE WHEN c.step = '{letter}' THEN 1 ELSE 0 END) OVER (PARTITION BY c.unit) = {found}"
        for letter, found in (("m", 1), ("l", 0))
    )
    told = ", ".join(f"c.{column} AS {column}" for column in (*KEY, "unit", "earlier", "step"))
    listed = f"SELECT {told}, {kept} AS kept FROM {_STEPPED} AS c JOIN ({many}) AS s ON c.unit = s.unit"
    was = f"CASE WHEN c.earlier <> '' THEN {_text('c.earlier', of='c')} END"
    now = _text(f"c.earlier || {_letter('c.kept', of='c')}", of="c")
    each = (
        f"SELECT c.unit AS unit, c.kept AS kept, {was} AS was, SHA256_HEX({was}) AS g, SHA256_HEX({now}) AS h "
        f"FROM ({listed}) AS c"
    )
    before = f"CASE WHEN COUNT(g) = 1 THEN MIN(was) ELSE {_sums('g')} END"
    return f"SELECT unit, kept, {before} AS before, {_sums('h')} AS after FROM ({each}) AS each_one GROUP BY unit, kept"


def _sums(column: str) -> str:
    words = (f"EXACT_SUM(HEX_INT(SUBSTRING({column}, {8 * word + 1}, 8)))" for word in range(_WORDS))
    return f"TEXT_JOIN('+', {', '.join(f'CAST({word} AS TEXT)' for word in words)})"


def bring_classes(card: DatasetCard, *, place: Place) -> None:
    """Count classes by atom and step, with the spread of each measure that has a width: of the values now (2i) and of
    those behind the last record (2i + 1)."""
    values, sums = {}, {"n": ("COUNT(*)", "BIGINT")}
    columns = ""
    for i, _ in _widths(card):
        for index, chosen in ((2 * i, f"m_{i}, old_m_{i}"), (2 * i + 1, f"old_m_{i}, m_{i}")):
            values[index] = f"v_{index}"
            columns += f", COALESCE({chosen}) AS v_{index}"
            sums[f"s_{index}"] = (f"EXACT_SUM(v_{index})", "HUGEINT")
    # What a unit brings to an atom that it joins is behind no record as long as that atom keeps its old one.
    bring_groups(
        _CLASSES,
        f"(SELECT {_KEY}, step, LENGTH(history) = 1 AS newly, before, after{columns} FROM {COMPARED}) AS compared",
        keys={**_KEY_COLUMNS, "step": "TEXT", "newly": "BOOLEAN", "before": "TEXT", "after": "TEXT"},
        sums=sums,
        values=values,
        most=card.coalition + 1,
        rows=place.rows,
        local=place.local,
    )


def bring_strays(card: DatasetCard, *, place: Place) -> None:
    """Count units in cells of no atom by cell, class, and whether their values are those of the atom they left."""
    columns = value_columns(card)
    changed = " OR ".join(f"x.{column} <> c.old_{column}" for column in columns) or "FALSE"
    values = "".join(f", u.{column} AS {column}" for column in columns)
    stray = (
        f"SELECT u.code AS code, {hashed_unit('u.unit', key=place.units_key)} AS unit{values} FROM {UNITS} AS u "
        f"LEFT JOIN {TAKEN} AS t ON u.code = t.code WHERE t.code IS NULL"
    )
    each = (
        "SELECT x.unit AS unit, x.code AS code, MIN(c.before) AS before, MIN(c.after) AS after, "
        f"MAX(CASE WHEN c.step = 'l' AND ({changed}) THEN 1 ELSE 0 END) AS changed "
        f"FROM ({stray}) AS x JOIN {COMPARED} AS c ON x.unit = c.unit GROUP BY x.unit, x.code"
    )
    keys = {"code": "BIGINT", "before": "TEXT", "after": "TEXT", "changed": "INT"}
    listed = ", ".join(keys)
    counted = statement(f"SELECT {listed}, COUNT(*) AS n FROM ({each}) AS each_one GROUP BY {listed}")
    bring(STRAYS, {**keys, "n": "BIGINT"}, counted, rows=place.rows, local=place.local)


# ── in the publisher's own database ───────────────────────────────────────────────────────────────────────────────


def judge(card: DatasetCard, local: Engine, *, possible: Iterable[AtomKey]) -> tuple[set[AtomKey], set[AtomKey]]:
    """Atoms with any change, and those of them that keep their old record. `possible`: atoms that could have a new one,
    having k units and their widths."""
    local.run(f"CREATE TABLE {_CHANGED} AS SELECT DISTINCT {_KEY} FROM {_CLASSES} WHERE step NOT IN ('s', 'a')")
    changed = _keys(local, _CHANGED)
    local.load(_FROZEN, _KEY_COLUMNS, sorted(changed - set(possible)))
    for rows, condition in _FREEZES:
        if not _small_classes(card, local):
            break
        local.run(f"INSERT INTO {_FROZEN} {_to_freeze(rows, condition)}")
    if _small_classes(card, local):
        raise InternalError("a class of units is too small whatever is held back", rule="snapshot.classes")
    return changed, _keys(local, _FROZEN)


def _small_classes(card: DatasetCard, local: Engine) -> int:
    """Join classes that what is shown does not tell apart, and list those that are too small or too narrow."""
    shown = f"({_KEY}) IN (FROM {_CHANGED}) AND ({_KEY}) NOT IN (FROM {_FROZEN})"
    told = "concat_ws('.', born, level, coarse, step)"
    local.run(
        f"CREATE OR REPLACE TABLE {_SHOWN} AS SELECT before, after, min(n) AS n, "
        f"coalesce(string_agg({told}, ' ' ORDER BY {_KEY}) FILTER (WHERE step <> 'a' AND {shown}), '') AS shown "
        f"FROM {_CLASSES} GROUP BY before, after"
    )
    # Absence is no step to show: within a trace all have a row there, or none has.
    # A class of which nothing is shown is told apart where something of others of its trace is. Those whose trace was
    # empty never were behind a record, and are not.
    merged = (
        f"SELECT before, shown, sum(n) AS n, count(*) OVER (PARTITION BY before) AS parts FROM {_SHOWN} GROUP BY 1, 2"
    )
    apart = f"SELECT before, shown, n FROM ({merged}) WHERE shown <> '' OR (before <> '' AND parts > 1)"
    local.run(f"CREATE OR REPLACE TABLE {_BAD} AS SELECT before, shown FROM ({apart}) WHERE n < {card.k}")
    narrow = list(_narrow_classes(card, local, apart))
    for start in range(0, len(narrow), 10_000):
        part = narrow[start : start + 10_000]
        local.run(
            f"INSERT INTO {_BAD} SELECT unnest(CAST(? AS VARCHAR[])), unnest(CAST(? AS VARCHAR[]))",
            [[before for before, _ in part], [shown for _, shown in part]],
        )
    return int(local.one(f"SELECT count(*) FROM {_BAD}"))


def _narrow_classes(card: DatasetCard, local: Engine, apart: str) -> Iterator[tuple[str, str]]:
    """Classes that a width does not hold for, in any atom: of the values behind its last record, which what others do
    may lay open, and of those that it would show now."""
    widths = [measure for _, measure in _widths(card) for _ in ("now", "then")]
    if not widths:
        return
    most = card.coalition + 1
    columns = ", ".join(
        f"sum(s_{index}), list_slice(list_reverse_sort(flatten(list(t_{index}))), 1, {most}), "
        f"list_slice(list_sort(flatten(list(u_{index}))), 1, {most})"
        for i, _ in _widths(card)
        for index in (2 * i, 2 * i + 1)
    )
    for batch in local.batches(
        f"SELECT before, shown, ({_KEY}) IN (FROM {_FROZEN}) AS frozen, sum(c.n), {columns} FROM {_CLASSES} AS c "
        f"JOIN {_SHOWN} USING (before, after) SEMI JOIN ({apart}) USING (before, shown) "
        f"WHERE NOT (c.newly AND ({_KEY}) IN (FROM {_FROZEN})) GROUP BY before, shown, {_KEY}"
    ):
        for before, shown, frozen, count, *cells in batch:
            spreads = (
                Spread(int(count), int(total), tuple(largest), tuple(smallest))
                for total, largest, smallest in zip(cells[::3], cells[1::3], cells[2::3], strict=True)
            )
            for place, (spread, measure) in enumerate(zip(spreads, widths, strict=True)):
                now = place % 2 == 0
                if not (now and frozen) and not wide_enough(spread, measure):
                    yield before, shown
                    break


def _to_freeze(rows: str, condition: str) -> str:
    """Query: atoms with a change that is not held back yet, in which rows of classes that are too small are of this
    kind. `uniform`: every unit of the trace took the same step there."""
    total = f"SELECT before, sum(n) AS total FROM {_SHOWN} GROUP BY before"
    step = f"SELECT {_KEY}, before, step, sum(n) AS taking FROM {_CLASSES} GROUP BY ALL"
    judged = (
        f"SELECT {_KEY}, before, shown, step, taking = total AS uniform FROM {_CLASSES} "
        f"JOIN {_SHOWN} USING (before, after) JOIN ({step}) USING ({_KEY}, before, step) JOIN ({total}) USING (before)"
    )
    return (
        f"SELECT DISTINCT {_KEY} FROM ({judged}) SEMI JOIN {_BAD} {rows} SEMI JOIN {_CHANGED} USING ({_KEY}) "
        f"ANTI JOIN {_FROZEN} USING ({_KEY}) WHERE {condition}"
    )


def _keys(local: Engine, table: str) -> set[AtomKey]:
    return {(int(born), int(level), int(coarse)) for born, level, coarse in local.query(f"SELECT {_KEY} FROM {table}")}


def _widths(card: DatasetCard) -> list[tuple[int, Any]]:
    return [(i, measure) for i, measure in enumerate(exact_measures(card)) if measure.width]


# ── new atoms ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Newcomers:
    """Which cells may become atoms beside all earlier records. The first version has none, and needs no such thing.

    A new atom divides each class that it takes a part of. Cells are asked one after the other, so that what a class
    keeps is what the cells before have left of it.
    """

    k: int
    widths: bool
    _left: dict[tuple[str, str], int]

    @classmethod
    def of(cls, card: DatasetCard, local: Engine) -> Newcomers:
        """After `judge` and `bring_strays`."""
        counted = f"SELECT before, shown, sum(n) FROM {_SHOWN} GROUP BY before, shown"
        strays = f"SELECT before, shown FROM {STRAYS} JOIN {_SHOWN} USING (before, after)"
        left = local.query(f"SELECT * FROM ({counted}) SEMI JOIN ({strays}) USING (before, shown)")
        return cls(card.k, bool(_widths(card)), {(before, shown): int(n) for before, shown, n in left})

    def in_cells(self, local: Engine, *, coarse: str) -> dict[int, list[tuple[tuple[str, str], bool, int]]]:
        """By cell, of units that were behind a record before: class, whether their values changed since, and number.
        `coarse`: SQL of the cell."""
        found: dict[int, list[tuple[tuple[str, str], bool, int]]] = {}
        for cell, before, shown, changed, n in local.query(
            f"SELECT {coarse} AS cell, before, shown, changed, sum({STRAYS}.n) FROM {STRAYS} ANTI JOIN {TAKEN} "
            f"USING (code) JOIN {_SHOWN} USING (before, after) GROUP BY ALL"
        ):
            found.setdefault(int(cell), []).append(((before, shown), bool(changed), int(n)))
        return found

    def admit(self, units: int, known: Sequence[tuple[tuple[str, str], bool, int]]) -> bool:
        """Whether a cell of so many units, of which these were behind records before, may become an atom; it has become
        one, if so."""
        taken: dict[tuple[str, str], int] = {}
        for kind, _, n in known:
            taken[kind] = taken.get(kind, 0) + n
        new = units - sum(taken.values())
        left = {kind: self._left[kind] - n for kind, n in taken.items()}
        if not all(self._enough(n) for n in (new, *left.values(), *(n for _, _, n in known))):
            return False
        # The new record's width is that of its cell, so where widths count it is of one class alone, and of all of it.
        if self.widths and taken and (new or len(known) > 1 or any(left.values())):
            return False
        self._left |= left
        return True

    def _enough(self, n: int) -> bool:
        return n == 0 or n >= self.k
