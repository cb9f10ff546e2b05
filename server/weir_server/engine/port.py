# SPDX-License-Identifier: Apache-2.0
"""Where rows lie and are worked on: DuckDB in the publisher's own process, or a Spark cluster. Only aggregates and
counts come back over this port, never rows of people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from weir_server.engine.relational import Statement


class RowEngine(Protocol):
    """Runs statements of the language (`relational`) where the rows are. Integers come exact, whatever their size."""

    def select(self, statement: Statement, *, seconds: float | None = None) -> list[tuple[Any, ...]]:
        """All rows of a statement: aggregates, few. `seconds`: stop it after this long.

        Raises:
            InternalError: the engine failed; the text says nothing of the data.
            Unavailable: stopped, or the engine cannot be reached.
        """
        ...

    def stream(self, statement: Statement, *, rows: int = 10_000) -> Iterator[list[tuple[Any, ...]]]:
        """Rows in lists of at most `rows`, for aggregates that are many.

        Raises: as `select`.
        """
        ...

    def keep(self, name: str, statement: Statement) -> None:
        """Work a statement out once and name what it gave; the name must be new.

        Raises: as `select`.
        """
        ...

    def load(self, name: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> None:
        """Name a table of our own (columns and their types in the language) and bring `rows` there.

        Raises: as `select`.
        """
        ...

    def drop(self, name: str) -> None:
        """Forget a name of `keep` or `load`, and what it names.

        Raises: as `select`.
        """
        ...
