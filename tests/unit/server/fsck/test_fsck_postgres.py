# SPDX-License-Identifier: Apache-2.0
"""The same checks over books in PostgreSQL: nothing is found after business of every kind, and damage is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ledger import LEDGER_SERVER, VKEY, Books, fill, open_books, schema_of
from weir_server.fsck import Report, check, postgres_rows
from weir_server.log.tiles import export_tiles


@pytest.fixture
def books(tmp_path: Path, ledger_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Books]:
    monkeypatch.setenv(LEDGER_SERVER, ledger_server)
    opened = open_books(tmp_path)
    fill(opened)
    yield opened
    opened.store.close()


def checked(books: Books, server: str) -> Report:
    with postgres_rows(server, schema_of(books.directory)) as rows:
        return check(rows, vkey=VKEY, files=books.directory / "log")


def test_books_in_postgresql_follow_from_their_entries(books: Books, ledger_server: str) -> None:
    export_tiles(books.store, books.directory / "log")
    report = checked(books, ledger_server)
    assert report.findings == ()
    assert report.entries > 20


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("UPDATE quota_use SET spent = spent - 1 WHERE quota = 'epsilon'", "fsck.balance"),
        ("UPDATE meter SET used = used + 1 WHERE metric = 'price_micro'", "fsck.meter"),
        ("UPDATE answers SET answer = 'forged' WHERE reservation = 2", "fsck.answer"),
        ("UPDATE reservations SET state = 'held' WHERE id = 2", "fsck.reservation"),
        ("DELETE FROM log_checkpoints WHERE size = (SELECT MAX(size) FROM log_checkpoints)", "fsck.checkpoint"),
        ("UPDATE log_nodes SET hash = 'x' WHERE level = 4 AND idx = 0", "fsck.node"),
    ],
    ids=lambda value: value if value.startswith("fsck") else "",
)
def test_damage_is_found(books: Books, ledger_server: str, statement: str, rule: str) -> None:
    books.store.close()
    from weir_server.store.postgres import open_connection

    with open_connection(ledger_server, schema_of(books.directory)) as connection:
        connection.execute(statement)
    assert rule in {finding.rule for finding in checked(books, ledger_server).findings}
