# SPDX-License-Identifier: Apache-2.0
"""fsck: rebuilds tree, balances, meter, answers and files from the log's entries, and says what differs.

It reads the database with its own statements and hashes with its own code, and works the books out with
`weir.replay`: nothing of the code that writes them is used, so one defect cannot hide in both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from weir_server.fsck.books import check_books
from weir_server.fsck.files import check_files, read_note
from weir_server.fsck.findings import Finding
from weir_server.fsck.tree import check_tree, read_leaves

__all__ = ["Finding", "Report", "fsck"]
_DATABASE = "ledger.db"


@dataclass(frozen=True, slots=True)
class Report:
    """What fsck found."""

    entries: int
    """Log entries read."""
    findings: tuple[Finding, ...]
    """Everything that differs; those that name an index first, by index."""

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.findings

    @property
    def first_bad_index(self) -> int | None:
        """Smallest index that a finding names; None where none does."""
        return min((f.index for f in self.findings if f.index is not None), default=None)


def fsck(data_directory: Path, *, vkey: str | None = None, files: Path | None = None) -> Report:
    """Checks a data directory; safe while a server runs on it, for it reads one snapshot and writes nothing.

    `vkey`: the log's verifier keys, separated by white space; without them signatures are not checked. `files`: the
    exported log; by default `log` below the data directory.
    """
    uri = f"file:{quote(str(data_directory / _DATABASE))}?mode=ro"
    exported = files or data_directory / "log"
    note = read_note(exported)
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        try:
            return _check(connection, exported, note, vkey)
        except sqlite3.DatabaseError:
            return Report(0, (Finding(None, "fsck.database", "the database file is damaged"),))


def _check(connection: sqlite3.Connection, files: Path, note: bytes | None, vkey: str | None) -> Report:
    findings = list(_check_pages(connection))
    leaves = read_leaves(connection)
    findings += check_tree(connection, leaves, vkey=vkey)
    findings += check_books(connection, leaves)
    findings += check_files(files, leaves, note=note)
    return Report(len(leaves), tuple(sorted(set(findings), key=_order)))


def _check_pages(connection: sqlite3.Connection) -> Iterator[Finding]:
    """SQLite's own check of pages and indexes: damage there can hide rows from every other statement."""
    rows = connection.execute("PRAGMA integrity_check(10)").fetchall()
    if rows != [("ok",)]:
        yield Finding(None, "fsck.database", "the database file is damaged")


def _order(finding: Finding) -> tuple[bool, int, str, str]:
    return (finding.index is None, finding.index or 0, finding.rule, finding.what)
