# SPDX-License-Identifier: Apache-2.0
"""fsck: rebuilds tree, balances, meter, answers and files from the log's entries, and says what differs.

It reads the database with its own statements and hashes with its own code, and works the books out with
`weir.replay`: nothing of the code that writes them is used, so one defect cannot hide in both.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from weir_server.fsck.books import check_books
from weir_server.fsck.conduct import check_conduct
from weir_server.fsck.contracts import check_contracts
from weir_server.fsck.files import check_files, read_note
from weir_server.fsck.findings import Finding
from weir_server.fsck.rows import Rows, postgres_rows, sqlite_rows
from weir_server.fsck.tree import check_tree, read_leaves
from weir_server.fsck.unproven import check_unproven

__all__ = ["Finding", "Report", "check", "fsck", "postgres_rows"]


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
    """Checks a directory of embedded books; safe while a server runs on it: it reads one snapshot and writes nothing.

    `vkey`: the log's verifier keys, separated by white space; without them signatures are not checked. `files`: the
    exported log; by default `log` below the data directory.
    """
    try:
        with sqlite_rows(data_directory) as rows:
            return check(rows, vkey=vkey, files=files or data_directory / "log")
    except sqlite3.DatabaseError:
        return Report(0, (Finding(None, "fsck.database", "the database file is damaged"),))


def check(rows: Rows, *, vkey: str | None, files: Path) -> Report:
    """Checks books of either engine, and the exported log in `files` against them."""
    # The note first: entries only grow, so whatever it names must be there in the snapshot that is read next.
    note = read_note(files)
    findings = [Finding(None, "fsck.database", "the database file is damaged")] if rows.damage() else []
    if mistyped := rows.mistyped():
        what = "the table {} holds a value of another type than its column's: nothing else was checked"
        return Report(0, (*findings, *(Finding(None, "fsck.type", what.format(table)) for table in mistyped)))
    leaves = read_leaves(rows)
    findings += check_tree(rows, leaves, vkey=vkey)
    findings += check_books(rows, leaves)
    findings += check_contracts(rows, leaves)
    findings += check_conduct(rows, leaves)
    findings += check_unproven(rows, leaves)
    findings += check_files(files, leaves, note=note)
    return Report(len(leaves), tuple(sorted(set(findings), key=_order)))


def _order(finding: Finding) -> tuple[bool, int, str, str]:
    return (finding.index is None, finding.index or 0, finding.rule, finding.what)
