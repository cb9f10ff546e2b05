# SPDX-License-Identifier: Apache-2.0
"""Kill −9 of a real process at every durable step, before and after it; then the same business is run again."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.ledger import VKEY, Books, fsck_of, open_books
from tests.support.ledger_story import ANSWERS, counting, run
from weir.receipts import verify_progress, verify_receipt
from weir.replay import follow_all
from weir.statement import statement
from weir_server import ledger, log

POINTS = 80
"""Of the story's statements, evenly spread, after which a process is killed: about every third."""
_RAN: dict[str, list[str]] = {}
"""What the writer runs in the story, by engine."""
ROOT = Path(__file__).resolve().parents[2]


def child(directory: Path, statement: int, side: str) -> tuple[int, list[str]]:
    """Exit status and acknowledged steps of one run in a process of its own."""
    command = [sys.executable, "-m", "tests.support.ledger_story", str(directory), str(statement), side]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def statements(directory: Path) -> list[str]:
    """What the writer runs in the whole story, in order."""
    ran: list[str] = []
    made: list[Any] = []

    def hook(number: int, side: str, sql: str) -> None:
        if side == "before":
            assert number == len(ran)
            ran.append(sql)

    books = open_books(directory, connect=counting(made, hook))
    run(books, lambda line: None)
    books.store.close()
    return ran


def metered(books: Books) -> Counter[str]:
    """The meter's totals over everybody."""
    totals: Counter[str] = Counter()
    for total in books.store.read(ledger.meter_totals):
        totals[total.metric] += total.used
    return totals


def receipted(books: Books) -> int:
    """Price over everybody's verified receipts."""
    receipts = [
        receipt
        for requester in ("alice", "bob")
        for receipt in books.store.read(partial(log.receipts_of, requester=requester))
    ]
    events = [verify_receipt(receipt, vkey=VKEY, commitments={}).event for receipt in receipts]
    return sum(int(event["data"]["charge"]["price_micro"]) for event in events)  # type: ignore[index, misc]


def check_after_crash(directory: Path, acknowledged: list[str]) -> None:
    """Nothing that was acknowledged is lost, nothing is there by halves, and business goes on exactly once."""
    assert fsck_of(directory).findings == ()
    books = open_books(directory)
    before = books.store.read(log.latest_checkpoint)
    spent_before = metered(books)
    answered = [line.removeprefix("answered ") for line in acknowledged if line.startswith("answered")]
    for key in answered:
        requester = "alice" if key < "key-000000000003" else "bob"
        found = books.store.read(
            lambda tx, r=requester, k=key: ledger.find_answer(tx, r, k, request_digest="d" * 64)  # type: ignore[misc]
        )
        assert found is not None, f"{key} was acknowledged and is lost"
        receipt = books.store.read(lambda tx, i=found.leaf_index: log.receipt(tx, i))  # type: ignore[misc]
        verify_receipt(receipt, vkey=VKEY, commitments={"answer": key.encode()})
    reserved = sum(line.startswith("reserved") for line in acknowledged)
    assert spent_before["epsilon_nano"] >= 10 * reserved, "privacy that was reserved is spent, crash or not"
    run(books, lambda line: None)
    after = books.store.read(log.latest_checkpoint)
    assert after is not None
    if before is not None:
        proof = books.store.read(lambda tx: log.consistency(tx, before[0], after[0]))
        verify_progress(before[1], after[1], proof, VKEY)
    totals = metered(books)
    assert totals["queries"] == ANSWERS, "each key was answered and billed once"
    assert totals["price_micro"] == 3 * ANSWERS
    assert receipted(books) == totals["price_micro"], "receipts add up to the meter"
    leaves = books.store.read(lambda tx: list(log.entries(tx)))
    assert sum(line.price_micro for line in statement(leaf for _, leaf in leaves)) == totals["price_micro"]
    replayed = follow_all(leaves)
    assert sum(state == "posted" for state in replayed.states.values()) == ANSWERS
    assert replayed.holds == {}
    books.store.close()
    assert fsck_of(directory).findings == ()


def course(factory: pytest.TempPathFactory, engine: str) -> list[str]:
    """The story's statements on an engine, found out once."""
    if engine not in _RAN:
        _RAN[engine] = statements(factory.mktemp("count"))
    return _RAN[engine]


@pytest.fixture
def steps(tmp_path_factory: pytest.TempPathFactory, engine: str) -> list[int]:
    """Numbers of the statements that make something durable."""
    found = [number for number, sql in enumerate(course(tmp_path_factory, engine)) if sql == "COMMIT"]
    assert len(found) >= 10
    return found


@pytest.mark.usefixtures("engine")
def test_the_story_runs_to_its_end_in_a_process_of_its_own(tmp_path: Path) -> None:
    status, acknowledged = child(tmp_path, -1, "never")
    assert status == 0
    check_after_crash(tmp_path, acknowledged)


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("step", range(10))
def test_a_kill_around_a_commit_loses_nothing_and_repeats_nothing(
    tmp_path: Path, steps: list[int], step: int, side: str
) -> None:
    status, acknowledged = child(tmp_path, steps[step], side)
    assert status == -9
    check_after_crash(tmp_path, acknowledged)


@pytest.mark.slow
@pytest.mark.parametrize("point", range(POINTS))
def test_a_kill_at_any_statement_loses_nothing_and_repeats_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, point: int
) -> None:
    ran = len(course(tmp_path_factory, "sqlite"))
    assert ran > 2 * POINTS
    status, acknowledged = child(tmp_path, point * ran // POINTS, "after")
    assert status == -9
    check_after_crash(tmp_path, acknowledged)


def test_a_second_kill_while_recovering_from_the_first_is_survived(tmp_path: Path, steps: list[int]) -> None:
    first, acknowledged = child(tmp_path, steps[3], "after")
    assert first == -9
    for number in (2, 6, 10, 14):
        again, _ = child(tmp_path, number, "before")
        assert again == -9
        assert fsck_of(tmp_path).ok
    check_after_crash(tmp_path, acknowledged)
