# SPDX-License-Identifier: Apache-2.0
"""Books that are opened are the newest there are, as far as anything at hand can tell."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.server import make_domain
from weir.errors import InvalidRequest, Unavailable
from weir_server import ledger, log
from weir_server.books import DIRECTORY, open_books
from weir_server.cli import backup_command
from weir_server.identity import pki
from weir_server.log.tiles import export_tiles
from weir_server.store import Store


def reopened(data: Path) -> Store:
    return open_books(data, pki.load_domain(data))


def note(store: Store, times: int = 1) -> None:
    for _ in range(times):
        store.write_sync(lambda tx: log.append(tx, "weir.test.note", {}, now=datetime.now(UTC), entropy=os.urandom))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_domain(tmp_path)


@pytest.mark.parametrize("put_back", ["older books", "no books"])
def test_books_older_than_the_exported_log_are_not_served(data: Path, tmp_path: Path, put_back: str) -> None:
    """Mutant: who copies yesterday's file back, or forgets the PostgreSQL of the settings, has a full budget again."""
    store = reopened(data)
    note(store, 2)
    store.close()
    if put_back == "older books":
        shutil.copytree(data / DIRECTORY, tmp_path / "yesterday")
    store = reopened(data)
    note(store, 2)
    export_tiles(store, data / "log")
    store.close()
    shutil.move(data / DIRECTORY, tmp_path / "newest")
    if put_back == "older books":
        shutil.copytree(tmp_path / "yesterday", data / DIRECTORY)
    with pytest.raises(Unavailable) as caught:
        reopened(data)
    assert caught.value.rule == "ledger.behind"
    shutil.rmtree(data / DIRECTORY)
    shutil.move(tmp_path / "newest", data / DIRECTORY)
    reopened(data).close()


@pytest.mark.parametrize("damage", ["", "no note\n", "weir.local\n99\n"])
def test_an_export_that_proves_nothing_holds_nothing_up(data: Path, damage: str) -> None:
    store = reopened(data)
    note(store)
    export_tiles(store, data / "log")
    note(store)
    assert store.read(ledger.meter_totals) == []
    store.close()
    reopened(data).close()
    (data / "log" / "checkpoint").write_text(damage)
    reopened(data).close()


def test_a_backup_of_books_that_are_elsewhere_is_refused(data: Path, tmp_path: Path) -> None:
    """Mutant: it would copy whatever books the directory held before they were moved to PostgreSQL."""
    reopened(data).close()
    (data / "weir.toml").write_text('[ledger]\npostgres = "host=nowhere"\n')
    result = CliRunner().invoke(backup_command, ["--data", str(data), str(tmp_path / "copy")])
    assert isinstance(result.exception, InvalidRequest)
    assert result.exception.rule == "backup.engine"
    assert not (tmp_path / "copy").exists()
