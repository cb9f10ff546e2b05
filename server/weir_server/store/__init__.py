# SPDX-License-Identifier: Apache-2.0
"""Where the books are kept: one port, and a store behind it (SQLite embedded).

Statements are portable: positional `?` parameters, `INSERT … ON CONFLICT`, `RETURNING`, no engine's own functions.
Integers are signed 64-bit, times are integers of microseconds since 1970 in UTC, the rest is text and bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from weir.errors import InternalError

if TYPE_CHECKING:
    from weir_server.store.pending import Table

T = TypeVar("T")
SqlValue = int | str | bytes | None
Row = tuple[SqlValue, ...]


def integer(value: SqlValue) -> int:
    """The integer a column holds; anything else means damaged data."""
    if not isinstance(value, int):
        raise InternalError("a column does not hold an integer: run fsck", rule="store.type")
    return value


def text(value: SqlValue) -> str:
    """The text a column holds."""
    if not isinstance(value, str):
        raise InternalError("a column does not hold text: run fsck", rule="store.type")
    return value


def blob(value: SqlValue) -> bytes:
    """The bytes a column holds."""
    if not isinstance(value, bytes):
        raise InternalError("a column does not hold bytes: run fsck", rule="store.type")
    return value


class Transaction(Protocol):
    """One open transaction. It ends with the function it was given to and MUST NOT be kept.

    `execute` and `execute_many` see everything that came before. The rest is for what runs in every query: rows are put
    and written together with those of the group's other operations, and what was read is remembered for them.
    """

    def execute(self, sql: str, parameters: Sequence[SqlValue] = ()) -> list[Row]:
        """Runs one statement and gives all its rows; none for statements that return nothing."""
        ...

    def execute_many(self, sql: str, rows: Sequence[Sequence[SqlValue]]) -> None:
        """Runs one statement once per row of parameters."""
        ...

    def look_up(self, sql: str, parameters: Sequence[SqlValue] = ()) -> list[Row]:
        """Reads what is written. Rows that were put are not seen: callers MUST ask `pending` or `recall` first."""
        ...

    def put(self, table: Table, key: Hashable, row: Row) -> None:
        """Has a row written with the group, by its key; one that was put before and is not written yet is replaced."""
        ...

    def add(self, table: Table, values: Sequence[SqlValue]) -> None:
        """Has new rows written with the group, given by their values one after the other. Cheaper than `put`, for rows
        that no later operation of the group asks for or replaces."""
        ...

    def pending(self, table: Table, key: Hashable) -> Row | None:
        """The row of this key, where it was put and is not written yet."""
        ...

    def remember(self, key: Hashable, value: object) -> None:
        """Keeps a value for the operations of this group; whoever changes what it stands for MUST remember anew."""
        ...

    def recall(self, key: Hashable) -> Any:
        """A value that was remembered in this group, or None."""
        ...

    def forget(self) -> None:
        """Writes what was put and forgets what was remembered."""
        ...

    @property
    def owner(self) -> str:
        """Name of this process among those that share the books; empty where one process owns them."""
        ...

    def is_gone(self, owner: str) -> bool:
        """Whether the process of that name has ended. Where one process owns the books, every other one has."""
        ...

    def lead(self, task: str) -> bool:
        """Take a task that one process does for all; True once it is this process's, until it ends or until a group of
        its is not admitted (`Store.refused`)."""
        ...


class TryAgain(Exception):
    """What an operation raises that is to be made anew and sent again: no refusal and no failure."""


class Store(Protocol):
    """A durable store with one writer and many readers.

    Writes are grouped: operations that arrive together become ONE durable transaction, each in a savepoint of its own,
    in order of arrival. A caller hears of its operation only after the group is durable. When making a group durable
    fails, nobody can know what is on disk, so the store stops for good (fail-stop) and every caller is told
    `Unavailable`; after a restart the idempotency key tells what happened.
    """

    async def write(self, operation: Callable[[Transaction], T]) -> T:
        """Runs `operation` in the next group and gives its result once that is durable.

        `operation` runs in another thread, MUST NOT block, and MAY run together with others in one transaction. What
        it raises undoes its own changes only and is raised here.

        Raises:
            Unavailable: the store has stopped; the operation may or may not have become durable.
        """
        ...

    def write_sync(self, operation: Callable[[Transaction], T]) -> T:
        """As `write`, for callers outside an event loop."""
        ...

    def read(self, operation: Callable[[Transaction], T]) -> T:
        """Runs `operation` on a consistent snapshot of what is durable, from any thread; it cannot change anything."""
        ...

    def look(self, operation: Callable[[Transaction], T]) -> T:
        """As `read`, for an operation of one statement, or of several of which each may see a later state."""
        ...

    @property
    def stopped(self) -> bool:
        """Whether the store has failed or been closed; a service that sees it MUST end."""
        ...

    @property
    def refused(self) -> int:
        """Groups that were not admitted so far. After each of them this process leads no task any more."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other processes may write to the same books."""
        ...

    def close(self) -> None:
        """Makes durable what was accepted, and frees the directory."""
        ...
