# SPDX-License-Identifier: Apache-2.0
"""Where the books are kept: one port, and a store behind it (SQLite embedded).

Statements are portable: positional `?` parameters, `INSERT … ON CONFLICT`, `RETURNING`, no engine's own functions.
Integers are signed 64-bit, times are integers of microseconds since 1970 in UTC, the rest is text and bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from weir.errors import InternalError

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
    """One open transaction. It ends with the function it was given to and MUST NOT be kept."""

    def execute(self, sql: str, parameters: Sequence[SqlValue] = ()) -> list[Row]:
        """Runs one statement and gives all its rows; none for statements that return nothing."""
        ...

    def execute_many(self, sql: str, rows: Sequence[Sequence[SqlValue]]) -> None:
        """Runs one statement once per row of parameters."""
        ...


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

    @property
    def stopped(self) -> bool:
        """Whether the store has failed or been closed; a service that sees it MUST end."""
        ...

    def close(self) -> None:
        """Makes durable what was accepted, and frees the directory."""
        ...
