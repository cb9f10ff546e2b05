# SPDX-License-Identifier: Apache-2.0
"""Disks that fill up or fail: the ledger stops, says so, and after a restart everything adds up, both ways."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.ledger import VKEY, open_books, request, reserving
from tests.support.ledger_story import CHARGE, CountingConnection, counting
from weir.errors import Unavailable
from weir_server import ledger
from weir_server.fsck import fsck
from weir_server.ledger import Replay, Reservation

ROOT = Path(__file__).resolve().parents[2]
CODES = {
    "disk full": sqlite3.SQLITE_FULL,
    "failed fsync": sqlite3.SQLITE_IOERR_FSYNC,
    "failed write": sqlite3.SQLITE_IOERR_WRITE,
}


def failure(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("injected")
    error.sqlite_errorcode = code
    return error


def breaking(words: str, side: str, code: int) -> tuple[list[bool], Callable[[int, str, str], None]]:
    """A hook that fails the first statement beginning with `words` once it is armed."""
    armed = [False]

    def hook(number: int, now: str, sql: str) -> None:
        if armed[0] and now == side and sql.lstrip().startswith(words):
            armed[0] = False
            raise failure(code)

    return armed, hook


@pytest.mark.parametrize("code", CODES.values(), ids=CODES.keys())
@pytest.mark.parametrize(("side", "persisted"), [("before", False), ("after", True)])
def test_a_failed_commit_stops_the_ledger_and_a_restart_tells_what_became_of_it(
    tmp_path: Path, code: int, side: str, persisted: bool
) -> None:
    made: list[CountingConnection] = []
    armed, hook = breaking("COMMIT", side, code)
    seen: list[BaseException] = []
    books = open_books(tmp_path, connect=counting(made, hook), on_failure=seen.append)
    books.answer(CHARGE, key="key-before-the-fault")
    reservation = books.reserve(CHARGE, key="key-of-the-fault")
    assert isinstance(reservation, Reservation)
    armed[0] = True
    with pytest.raises(Unavailable) as caught:
        books.store.write_sync(
            lambda tx: ledger.post(tx, reservation, answer=b"42", event={}, now=books.clock(), entropy=os.urandom)
        )
    assert caught.value.rule == "ledger.stopped"
    # Fail-stop: told once, and nothing is accepted or tried again, though the disk would work now.
    assert [type(error) for error in seen] == [sqlite3.OperationalError]
    assert books.store.stopped
    with pytest.raises(Unavailable):
        books.reserve(CHARGE, key="key-after-the-fault")
    books.store.close()
    assert fsck(tmp_path, vkey=VKEY).findings == ()
    again = open_books(tmp_path)
    outcome = again.reserve(CHARGE, key="key-of-the-fault")
    assert isinstance(outcome, Replay if persisted else Reservation)
    assert isinstance(again.reserve(CHARGE, key="key-before-the-fault"), Replay)
    assert isinstance(again.reserve(CHARGE, key="key-after-the-fault"), Reservation)
    again.store.close()
    assert fsck(tmp_path, vkey=VKEY).findings == ()


@pytest.mark.parametrize("code", CODES.values(), ids=CODES.keys())
@pytest.mark.parametrize(
    "words",
    ["BEGIN", "INSERT INTO log_leaves", "INSERT INTO log_salts", "INSERT INTO reservations", "INSERT INTO idempotency",
     "INSERT INTO log_nodes", "UPDATE log_head"],
)  # fmt: skip
def test_a_failing_disk_at_any_statement_of_a_group_stops_the_ledger_and_leaves_no_trace_of_the_group(
    tmp_path: Path, words: str, code: int
) -> None:
    made: list[CountingConnection] = []
    armed, hook = breaking(words, "before", code)
    books = open_books(tmp_path, connect=counting(made, hook))
    books.answer(CHARGE)
    armed[0] = True
    with pytest.raises(Unavailable):
        books.reserve(CHARGE, key="key-of-the-fault")
    assert not armed[0], "the fault was hit"
    assert books.store.stopped
    books.store.close()
    assert fsck(tmp_path, vkey=VKEY).findings == ()
    again = open_books(tmp_path)
    totals = {t.metric: t.used for t in again.store.read(ledger.meter_totals)}
    assert totals == CHARGE
    again.store.close()


@pytest.mark.parametrize("code", CODES.values(), ids=CODES.keys())
@pytest.mark.parametrize("words", ["SAVEPOINT", "INSERT INTO quotas", "INSERT INTO quota_use", "RELEASE"])
def test_a_failing_disk_at_any_statement_of_one_operation_stops_the_ledger_too(
    tmp_path: Path, words: str, code: int
) -> None:
    made: list[CountingConnection] = []
    armed, hook = breaking(words, "before", code)
    books = open_books(tmp_path, connect=counting(made, hook))
    books.answer(CHARGE)
    armed[0] = True
    with pytest.raises(Unavailable):
        books.quota("late", "queries", 5, requester="alice")
    assert not armed[0], "the fault was hit"
    assert books.store.stopped
    books.store.close()
    assert fsck(tmp_path, vkey=VKEY).findings == ()
    again = open_books(tmp_path)
    assert again.store.read(lambda tx: ledger.find_quota(tx, "late")) is None
    again.store.close()


def test_everybody_in_a_failed_group_and_behind_it_is_told(tmp_path: Path) -> None:
    made: list[CountingConnection] = []
    armed, hook = breaking("COMMIT", "before", sqlite3.SQLITE_FULL)
    books = open_books(tmp_path, connect=counting(made, hook), group_limit=4)
    armed[0] = True
    asked = [request(CHARGE, key=f"key-{n:012d}") for n in range(40)]
    futures = []
    for one in asked:
        try:
            futures.append(books.store._writer.submit(reserving(one, books.clock)))  # type: ignore[attr-defined]
        except Unavailable:
            break
    assert futures
    for future in futures:
        assert isinstance(future.exception(timeout=10), Unavailable)
    books.store.close()
    again = open_books(tmp_path)
    assert again.store.read(ledger.meter_totals) == []
    again.store.close()


def test_an_operation_s_own_mistake_does_not_stop_the_ledger(tmp_path: Path) -> None:
    books = open_books(tmp_path)
    with pytest.raises(sqlite3.OperationalError):
        books.store.write_sync(lambda tx: tx.execute("SELECT no_such_column FROM quotas"))
    assert not books.store.stopped
    books.answer(CHARGE)
    books.store.close()


CHILD = """
import os, resource, sys
from pathlib import Path
from tests.support.ledger import open_books
from weir.errors import Unavailable
books = open_books(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
for n in range(5000):
    try:
        books.answer({"queries": 1}, key=f"key-{n:012d}", answer=os.urandom(500))
    except Unavailable as error:
        assert error.rule == "ledger.stopped" and books.store.stopped
        sys.exit(3)
    print(f"key-{n:012d}", flush=True)
"""


@pytest.mark.parametrize("limit", [200_000, 500_000, 1_000_001])
def test_a_disk_that_is_really_full_loses_nothing_that_was_acknowledged(tmp_path: Path, limit: int) -> None:
    # A file-size limit of the kernel: writes fail half-way, as they do on a full disk.
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(limit)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (3, "")
    acknowledged = done.stdout.split()
    assert acknowledged
    assert fsck(tmp_path, vkey=VKEY).findings == ()
    books = open_books(tmp_path)
    for key in acknowledged:
        assert isinstance(books.reserve({"queries": 1}, key=key), Replay)
    (total,) = books.store.read(ledger.meter_totals)
    assert len(acknowledged) <= total.used <= len(acknowledged) + 1
    books.store.close()
