# SPDX-License-Identifier: Apache-2.0
"""Ready means: the books take durable writes, the clock is right, and the log is the one that was signed."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests.support.ledger import LEDGER_SERVER, ORIGIN, SIGNER, VKEY, Books, open_store, schema_of
from tests.support.time import Machine
from weir.checkpoint import Checkpoint, new_signer, sign
from weir.errors import Unavailable
from weir_server.health import readiness as healths
from weir_server.health.latch import Latch
from weir_server.health.readiness import CLOCK, LEDGER, LIVE, LOG, PARTS, SERVING, STOPPING, Health
from weir_server.ledger import start
from weir_server.log import sealer
from weir_server.store import Transaction
from weir_server.store.sqlite import FILE_NAME


class Server:
    """What health is made of, on books of the engine that the test runs on."""

    def __init__(self, directory: Path) -> None:
        self.machine = Machine.now()
        self.latch = Latch(self.machine.keeper())
        keeper = self.latch.keeper
        self.store = open_store(directory, seal=sealer((SIGNER,), now=keeper), admit=self.latch)
        start(self.store, origin=ORIGIN, now=keeper, entropy=os.urandom)
        self.books = Books(self.store, keeper, directory)  # type: ignore[arg-type]
        self.directory, self.stopping, self.seconds = directory, False, 0.0
        self.health = Health(
            self.store,
            self.latch,
            log_key=VKEY,
            stopping=lambda: self.stopping,
            clock=lambda: self.seconds,
        )

    def behind_its_back(self, statement: str, *values: object) -> None:
        """Somebody else changes the tables."""
        server = os.environ.get(LEDGER_SERVER)
        if server is None:
            with closing(sqlite3.connect(self.directory / FILE_NAME)) as connection, connection:
                connection.execute(statement, values)
        else:
            with psycopg.connect(server) as other:
                other.execute(f"SET search_path = {schema_of(self.directory)}")
                other.execute(statement.replace("?", "%s"), values)


@pytest.fixture
async def server(engine: str, tmp_path: Path) -> AsyncIterator[Server]:
    made = Server(tmp_path)
    made.books.quota("q", "cells", 50)
    await made.health.probe()
    assert made.health.state() == SERVING
    yield made
    made.store.close()


def parts(server: Server) -> dict[str, bool]:
    return {name: server.health.serves(name) for name in PARTS}


async def test_all_is_well_while_writes_become_durable(server: Server) -> None:
    for _ in range(5):
        server.seconds += 9
        await server.health.probe()
        assert server.health.ready()
    assert parts(server) == dict.fromkeys(PARTS, True)


async def test_a_write_that_does_not_come_back_is_no_ledger_until_it_does(server: Server) -> None:
    """Mutant: health that asks whether the store was stopped says SERVING while a disk hangs."""
    go_on = threading.Event()
    held = server.store.write(lambda tx: go_on.wait(30))
    server.seconds += healths.STALE_SECONDS + 1
    assert server.health.state() == LEDGER
    assert parts(server) == {"weir.ledger": False, "weir.clock": True, "weir.log": True, LIVE: True}
    go_on.set()
    await held
    await server.health.probe()
    assert server.health.state() == SERVING


async def test_a_store_that_stopped_is_no_ledger_for_good(server: Server) -> None:
    server.store.close()
    assert server.health.state() == LEDGER
    await server.health.probe()
    assert server.health.state() == LEDGER


async def test_a_clock_that_is_set_is_told_at_once_and_forgiven_when_right(server: Server) -> None:
    server.machine.set(minutes=5)
    assert server.health.state() == CLOCK, "without waiting for the probe"
    server.seconds += 60
    await server.health.probe()
    assert server.health.state() == CLOCK, "and it is not the ledger's fault"
    assert parts(server)["weir.ledger"]
    server.machine.set(minutes=-5)
    await server.health.probe()
    assert server.health.state() == SERVING


async def test_a_clock_other_than_the_database_s_is_told(
    ledger_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LEDGER_SERVER, ledger_server)
    made = Server(tmp_path)
    made.machine.passes(minutes=5)  # For this machine alone.
    await made.health.probe()
    assert made.health.state() == CLOCK
    with pytest.raises(Unavailable) as caught:
        made.books.quota("q", "cells", 50)
    assert caught.value.rule == "clock.skew"
    made.machine.passes(minutes=-5)
    await made.health.probe()
    assert made.health.state() == SERVING
    made.store.close()


def other_root(server: Server) -> None:
    server.behind_its_back("UPDATE log_head SET root = ? WHERE id = 1", bytes(32))


def shorter(server: Server) -> None:
    server.behind_its_back("UPDATE log_head SET size = size - 1, root = ? WHERE id = 1", bytes(32))


def foreign_note(server: Server) -> None:
    other = new_signer(ORIGIN, seed=bytes(range(64, 96)))
    note = sign(Checkpoint(ORIGIN, 10_000, bytes(32)), (other,), time=1)
    server.behind_its_back("INSERT INTO log_checkpoints (size, note) VALUES (10000, ?)", note)


def note_of_another_tree(server: Server) -> None:
    note = sign(Checkpoint(ORIGIN, 1, bytes(32)), (SIGNER,), time=1)
    server.behind_its_back("UPDATE log_checkpoints SET note = ?", note)


def no_log(server: Server) -> None:
    server.behind_its_back("DELETE FROM log_head")


@pytest.mark.parametrize("change", [other_root, shorter, foreign_note, note_of_another_tree, no_log])
async def test_a_log_that_is_not_the_one_that_was_signed_closes_the_books_for_good(
    server: Server, change: Callable[[Server], None]
) -> None:
    """Mutant: the seal's compare-and-swap alone goes on from whatever head it finds."""
    server.books.quota("r", "cells", 50)
    await server.health.probe()
    change(server)
    await server.health.probe()
    assert server.health.state() == LOG
    assert parts(server)["weir.ledger"]
    with pytest.raises(Unavailable) as caught:
        server.books.quota("s", "cells", 50)
    assert caught.value.rule == "log.foreign"
    await server.health.probe()
    assert server.health.state() == LOG


async def test_a_log_that_another_process_goes_on_with_is_well(
    ledger_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LEDGER_SERVER, ledger_server)
    first, second = Server(tmp_path), Server(tmp_path)
    for number in range(7):
        (first, second)[number % 2].books.quota(f"q{number}", "cells", 50)
        await first.health.probe()
        await second.health.probe()
    assert (first.health.state(), second.health.state()) == (SERVING, SERVING)
    assert first.health.entries() == 7
    first.store.close()
    second.store.close()


async def test_stopping_is_told_first(server: Server) -> None:
    server.stopping = True
    server.machine.set(minutes=5)
    assert server.health.state() == STOPPING
    assert server.health.serves(LIVE)


async def test_asking_for_health_writes_nothing(engine: str, tmp_path: Path) -> None:
    made = Server(tmp_path)
    before = made.store.read(lambda tx: tx.execute("SELECT * FROM pulse"))
    for _ in range(1000):
        made.health.state()
        made.health.serves("")
    await asyncio.sleep(0.05)
    assert made.store.read(lambda tx: tx.execute("SELECT * FROM pulse")) == before
    await made.health.probe()
    assert made.store.read(lambda tx: tx.execute("SELECT * FROM pulse")) != before
    made.store.close()


async def test_a_loop_that_does_not_turn_is_not_live(server: Server) -> None:
    server.seconds += healths.STALLED_SECONDS + 1
    assert not server.health.live()


async def test_a_server_whose_threads_are_all_busy_is_ready(server: Server) -> None:
    """Mutant: the probe waits in line behind the queries that it is to be sent."""
    release, busy = threading.Event(), []
    try:
        busy += [asyncio.create_task(asyncio.to_thread(release.wait, 30)) for _ in range(64)]
        await asyncio.sleep(0)
        await asyncio.wait_for(server.health.probe(), 10)
    finally:
        release.set()
        await asyncio.gather(*busy)
    assert server.health.state() == SERVING


async def test_what_fails_a_probe_does_not_end_those_to_come(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: one moment without file descriptors, and the server says for ever that it has no ledger."""

    def out_of_files(operation: Callable[[Transaction], object]) -> object:
        raise sqlite3.OperationalError("unable to open database file")

    with monkeypatch.context() as patch:
        patch.setattr(server.store, "read", out_of_files)
        await server.health.probe()
        server.seconds += healths.STALE_SECONDS + 1
        assert server.health.state() == LEDGER
    await server.health.probe()
    assert server.health.state() == SERVING
