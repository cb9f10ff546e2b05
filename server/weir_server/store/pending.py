# SPDX-License-Identifier: Apache-2.0
"""What a group has decided but not written yet: one statement for many operations' rows, one read for many operations.

Each statement costs more than what it does, and lets another thread take the interpreter. So operations that run often
look at memory first, put their rows there, and the group writes them together, at the latest before it is sealed.
Nothing here outlives its group, and nothing is true before the group is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

from weir_server.store import Row, SqlValue

_MOST_ROWS = 64
"""Rows of one statement: engines limit its parameters."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Where rows are put or added: a table, and what happens to a row whose key is there already. One object for one
    table."""

    name: str
    columns: tuple[str, ...]
    conflict: str = ""
    """`ON CONFLICT …` clause; empty where a second row of one key is an error."""

    def insert(self, rows: int) -> str:
        """Statement that writes so many rows."""
        return _insert(self, rows)


@lru_cache(maxsize=256)
def _insert(table: Table, rows: int) -> str:
    row = f"({', '.join('?' * len(table.columns))})"
    values = ", ".join([row] * rows)
    return f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES {values} {table.conflict}".rstrip()  # noqa: S608


class Statements(Protocol):
    """A connection's transaction."""

    def execute(self, sql: str, parameters: Sequence[SqlValue] = ()) -> list[Row]:
        """Runs one statement and gives all its rows."""
        ...

    def execute_many(self, sql: str, rows: Sequence[Sequence[SqlValue]]) -> None:
        """Runs one statement once per row of parameters."""
        ...

    @property
    def owner(self) -> str:
        """Name of this process."""
        ...

    def is_gone(self, owner: str) -> bool:
        """Whether another process has ended."""
        ...

    def lead(self, task: str) -> bool:
        """Whether a task is this process's."""
        ...


class Savepoints(Protocol):
    """What takes back the statements of one operation."""

    def savepoint(self) -> None:
        """Opens it."""
        ...

    def release(self) -> None:
        """Keeps what was done since."""
        ...

    def undo(self) -> None:
        """Takes back what was done since."""
        ...


class _Missing:
    """No value."""


_MISSING: Final = _Missing()
_Undo = tuple[dict[Any, Any], Hashable, object]
"""A dictionary, one of its keys, and what stood there."""


class GroupTransaction:
    """The transaction of a group, as its operations see it one after the other. See the port for its methods.

    An operation that fails is undone as if it had not been: what it put and remembered by a journal, what it executed
    by a savepoint, which is opened at its first statement, after the rows of earlier operations were written.
    """

    def __init__(self, statements: Statements, savepoints: Savepoints) -> None:
        self._statements, self._savepoints = statements, savepoints
        self._rows: dict[Table, dict[Hashable, Row]] = {}
        self._added: dict[Table, list[SqlValue]] = {}
        """Values of added rows, one after the other, as statements take them."""
        self._marks: dict[Table, int] = {}
        """How many values there were when the running operation first added to a table."""
        self._facts: dict[Hashable, object] = {}
        self._journal: list[_Undo] = []
        self._inside = self._saved = False

    def execute(self, sql: str, parameters: Sequence[SqlValue] = ()) -> list[Row]:
        """Runs one statement, after everything that was put."""
        self.write_back()
        self._save()
        return self._statements.execute(sql, parameters)

    def execute_many(self, sql: str, rows: Sequence[Sequence[SqlValue]]) -> None:
        """Runs one statement once per row, after everything that was put."""
        self.write_back()
        self._save()
        self._statements.execute_many(sql, rows)

    def look_up(self, sql: str, parameters: Sequence[SqlValue] = ()) -> list[Row]:
        """Reads without writing first; see the port for when that is right."""
        return self._statements.execute(sql, parameters)

    def put(self, table: Table, key: Hashable, row: Row) -> None:
        """Has a row written with the group; one of the same key that was put before is replaced."""
        rows = self._rows.get(table)
        if rows is None:
            rows = self._rows[table] = {}
        self._journal.append((rows, key, rows.get(key, _MISSING)))
        rows[key] = row

    def add(self, table: Table, values: Sequence[SqlValue]) -> None:
        """Has whole rows written with the group, given by their values one after the other."""
        added = self._added.get(table)
        if added is None:
            added = self._added[table] = []
        self._marks.setdefault(table, len(added))
        added += values

    def pending(self, table: Table, key: Hashable) -> Row | None:
        """The row of this key, where it was put and is not written yet."""
        rows = self._rows.get(table)
        return None if rows is None else rows.get(key)

    def remember(self, key: Hashable, value: object) -> None:
        """Keeps a value for the rest of the group."""
        self._set(self._facts, key, value)

    def recall(self, key: Hashable) -> Any:
        """A value that was remembered in this group, or None."""
        return self._facts.get(key)

    def forget(self) -> None:
        """Writes what was put and forgets what was remembered: for operations that change what others remember."""
        self.write_back()
        for key in list(self._facts):
            self._journal.append((self._facts, key, self._facts.pop(key)))

    def write_back(self) -> None:
        """Writes what was put. Rows of earlier operations come before this one's savepoint: they stay if it fails."""
        if not (any(self._added.values()) or any(self._rows.values())):
            return
        if not self._inside or self._saved:
            self._write()
            return
        added = [(table, self._cut(table, mark)) for table, mark in self._marks.items()]
        own = [(rows, key, rows[key]) for rows, key, _ in self._journal if rows is not self._facts and key in rows]
        changed = [entry for entry in self._journal if entry[0] is not self._facts]
        _revert(changed)
        self._write()
        self._journal = [entry for entry in self._journal if entry[0] is self._facts]
        self._save()
        for table, values in added:
            self.add(table, values)
        for rows, key, row in own:
            self._set(rows, key, row)
        self._write()

    @property
    def owner(self) -> str:
        """Name of this process."""
        return self._statements.owner

    def is_gone(self, owner: str) -> bool:
        """Whether another process has ended."""
        return self._statements.is_gone(owner)

    def lead(self, task: str) -> bool:
        """Whether a task is this process's."""
        return self._statements.lead(task)

    # ── for the writer ─────────────────────────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        """A new group: nothing is remembered."""
        self._rows.clear()
        self._added.clear()
        self._marks.clear()
        self._facts.clear()
        self._journal.clear()
        self._inside = self._saved = False

    def run(self, operation: Callable[[GroupTransaction], Any]) -> Any:
        """Runs one operation. What it raises passes; the caller MUST then call `undo`, or give up the group."""
        self._journal.clear()
        self._marks.clear()
        self._inside, self._saved = True, False
        result = operation(self)
        if self._saved:
            self._savepoints.release()
        self._inside = False
        return result

    def undo(self) -> None:
        """Takes back the operation that failed."""
        _revert(self._journal)
        for table, mark in self._marks.items():
            self._cut(table, mark)
        if self._saved:
            self._savepoints.undo()
        self._inside = False

    def _save(self) -> None:
        if self._inside and not self._saved:
            self._savepoints.savepoint()
            self._saved = True

    def _set(self, target: dict[Any, Any], key: Hashable, value: object) -> None:
        self._journal.append((target, key, target.get(key, _MISSING)))
        target[key] = value

    def _cut(self, table: Table, mark: int) -> list[SqlValue]:
        """Takes back what was added behind a mark, and gives it."""
        added = self._added[table]
        values = added[mark:]
        del added[mark:]
        return values

    def _write(self) -> None:
        for table, added in self._added.items():
            self._insert(table, added)
            added.clear()
        for table, rows in self._rows.items():
            if rows:
                self._insert(table, [value for row in rows.values() for value in row])
                rows.clear()
        # What is written is taken back by the savepoint; putting it again would write it twice.
        self._journal = [entry for entry in self._journal if entry[0] is self._facts]
        self._marks.clear()

    def _insert(self, table: Table, values: Sequence[SqlValue]) -> None:
        """Statements of 64, 32, … rows: few, and few different ones, so that each is compiled once."""
        width, start = len(table.columns), 0
        while start < len(values):
            rows = min(_MOST_ROWS, 1 << ((len(values) - start) // width).bit_length() - 1)
            self._statements.execute(table.insert(rows), values[start : start + rows * width])
            start += rows * width


class PlainTransaction:
    """A transaction without a group: what is put cannot be, and nothing is remembered. For reading and migrations."""

    def execute(self, sql: str, parameters: Sequence[SqlValue] = ()) -> list[Row]:
        """Runs one statement and gives all its rows."""
        raise NotImplementedError

    def look_up(self, sql: str, parameters: Sequence[SqlValue] = ()) -> list[Row]:
        """As `execute`."""
        return self.execute(sql, parameters)

    def put(self, table: Table, key: Hashable, row: Row) -> None:
        """Refused.

        Raises:
            TypeError: always.
        """
        raise TypeError("rows are put in the writer's transactions only")

    def add(self, table: Table, values: Sequence[SqlValue]) -> None:
        """Refused.

        Raises:
            TypeError: always.
        """
        raise TypeError("rows are added in the writer's transactions only")

    def pending(self, table: Table, key: Hashable) -> Row | None:
        """None."""
        return None

    def remember(self, key: Hashable, value: object) -> None:
        """Nothing is kept."""

    def recall(self, key: Hashable) -> Any:
        """None."""
        return None

    def forget(self) -> None:
        """There is nothing to forget."""

    @property
    def owner(self) -> str:
        """None: whoever reads holds nothing, and the embedded store has one owner at a time."""
        return ""

    def is_gone(self, owner: str) -> bool:
        """True, as there is no other owner."""
        return True

    def lead(self, task: str) -> bool:
        """True, as there is nobody else to do it."""
        return True


def _revert(journal: Sequence[_Undo]) -> None:
    for target, key, old in reversed(journal):
        if old is _MISSING:
            target.pop(key, None)
        else:
            target[key] = old
