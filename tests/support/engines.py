# SPDX-License-Identifier: Apache-2.0
"""The same tests on both stores: ask for the fixture `engine`; `open_books` of `tests.support.ledger` follows it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.ledger import LEDGER_SERVER
from tests.support.postgres import find_binaries, running_postgres


@pytest.fixture(scope="session")
def ledger_server() -> Iterator[str]:
    """A PostgreSQL for ledgers; its connection string."""
    binaries = find_binaries()
    if binaries is None:
        assert "CI" not in os.environ, "CI must have PostgreSQL"
        pytest.skip("PostgreSQL is not installed")
    with running_postgres(binaries, durable=True) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of the engine that keeps the books in this test."""
    name = str(request.param)
    if name == "postgres":
        monkeypatch.setenv(LEDGER_SERVER, request.getfixturevalue("ledger_server"))
    return name
