# SPDX-License-Identifier: Apache-2.0
"""What an engine cannot store is the fault of whoever sent it: typed, told to nobody else, and no end of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.ledger import open_books
from weir.errors import InvalidRequest
from weir_server.store import SqlValue, Transaction

INSERT = "INSERT INTO suspensions (scope, name, since) VALUES (?, ?, ?)"
LOOK = "SELECT 1 FROM suspensions WHERE name = ? AND since = ?"


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, 10**30])
@pytest.mark.parametrize("where", ["written", "written as one of many", "looked up"])
def test_a_number_that_is_too_large_is_refused(engine: str, tmp_path: Path, number: int, where: str) -> None:
    refused(tmp_path, "name", number, where)


@pytest.mark.parametrize("where", ["written", "written as one of many", "looked up"])
def test_the_character_nul_stops_no_store(ledger_server: str, tmp_path: Path, where: str) -> None:
    """Mutant: what the driver refuses looks like a lost connection, and one caller's text ends the server."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WEIR_TEST_LEDGER", ledger_server)
        refused(tmp_path, "a\0b", 1, where)


def refused(directory: Path, name: str, number: int, where: str) -> None:
    books = open_books(directory)
    values: tuple[SqlValue, ...] = ("contract", name, number)

    def operation(tx: Transaction) -> None:
        if where == "written":
            tx.execute(INSERT, values)
        elif where == "looked up":
            tx.look_up(LOOK, values[1:])
        else:
            tx.execute_many(INSERT, [("contract", "other", 1), values])

    with pytest.raises(InvalidRequest) as caught:
        books.store.write_sync(operation)
    assert caught.value.rule == "store.value"
    if where == "looked up":
        with pytest.raises(InvalidRequest):
            books.store.read(operation)
    assert not books.store.stopped
    books.quota("after", "cells", 5)
    assert books.store.read(lambda tx: tx.execute("SELECT name FROM suspensions")) == []
    books.store.close()
