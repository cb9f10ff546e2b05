# SPDX-License-Identifier: Apache-2.0
"""What runs beside the calls goes on, whatever one round of it meets, and is done by a process that can do it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.ledger import LEDGER_SERVER, open_books
from tests.support.server import make_domain
from weir.errors import LogInconsistent, PublicationError, Unavailable
from weir_server import background, clock
from weir_server.identity.leaves import keep_logged
from weir_server.identity.revocation import Revoked, revoke, watch_revoked
from weir_server.state import State
from weir_server.store import Store
from weir_server.store.group import Closed


class Rounds:
    """A state and a store that count what they are asked and fail each first time."""

    shared = True

    def __init__(self, error: Exception) -> None:
        self.error, self.stopped = error, False
        self.asked: list[str] = []

    def _ask(self, name: str) -> None:
        self.asked.append(name)
        self.stopped = len(self.asked) > 20
        if self.asked.count(name) == 1:
            raise self.error

    async def catch_up(self) -> None:
        self._ask("catch_up")

    async def expire_contracts(self) -> int:
        self._ask("expire_contracts")
        return 0

    async def update_standings(self) -> None:
        self._ask("update_standings")

    async def write(self, operation: Callable[[Any], Any]) -> int:
        self._ask("write")
        return 0

    def look(self, operation: Callable[[Any], Any]) -> bool:
        self._ask(operation.__name__)
        return True


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("the ledger cannot be reached"),
        PublicationError("the snapshot was altered"),
        LogInconsistent("another history", older="", newer=""),
        sqlite3.OperationalError("unable to open database file"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    "work", [partial(background.follow, learn=lambda serials: None), background.sweep], ids=["follow", "sweep"]
)
async def test_a_round_that_fails_ends_neither_the_next_one_nor_what_comes_after_it(
    work: Callable[[Store, State], Any], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: the first error would end the task, and holds, stops and ends of contracts go unseen from then on."""
    monkeypatch.setattr(background, "_FOLLOW_SECONDS", 0.001)
    monkeypatch.setattr(background, "_SWEEP_SECONDS", 0.001)
    rounds = Rounds(error)
    await asyncio.wait_for(work(cast(Store, rounds), cast(State, rounds), now=clock.now), 30)
    assert all(rounds.asked.count(name) > 3 for name in set(rounds.asked))
    assert len(set(rounds.asked)) > 1


async def test_a_task_is_led_by_a_process_that_can_do_it(
    tmp_path: Path, ledger_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: one lock for all tasks; a worker without a console would lead, and nobody would count for the console."""
    monkeypatch.setenv(LEDGER_SERVER, ledger_server)
    monkeypatch.setattr(background, "_FOLLOW_SECONDS", 0.01)
    first, second = open_books(tmp_path), open_books(tmp_path)
    began = {name: asyncio.Event() for name in ("first", "second", "usage")}

    def noting(name: str) -> Callable[[], Any]:
        async def work() -> None:
            began[name].set()
            await asyncio.sleep(60)

        return work

    def lead(store: Store, task: str, name: str) -> asyncio.Task[None]:
        return asyncio.create_task(background.lead(store, task, [noting(name)]))

    leading = [lead(first.store, "background", "first")]
    await began["first"].wait()
    leading += [lead(second.store, "background", "second"), lead(second.store, "usage", "usage")]
    await began["usage"].wait()
    assert not began["second"].is_set()
    first.store.close()
    await began["second"].wait()
    for task in leading:
        await background.end(task)
    second.store.close()


async def test_a_process_that_may_not_write_leaves_its_tasks_to_another(
    tmp_path: Path, ledger_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: a machine whose clock was set wrong keeps the lead; nobody expires holds or exports the log from then on.
    Nor do two lead at once: whoever left comes back only when nobody else does it."""
    monkeypatch.setenv(LEDGER_SERVER, ledger_server)
    monkeypatch.setattr(background, "_FOLLOW_SECONDS", 0.01)
    shut: list[Closed] = []
    first, second = open_books(tmp_path, admit=lambda time: shut[0] if shut else None), open_books(tmp_path)
    changes: asyncio.Queue[str] = asyncio.Queue()

    def noting(name: str) -> Callable[[], Any]:
        async def work() -> None:
            changes.put_nowait(f"{name} begins")
            try:
                await asyncio.sleep(60)
            finally:
                changes.put_nowait(f"{name} ends")

        return work

    async def next_changes(number: int) -> set[str]:
        return {await asyncio.wait_for(changes.get(), 30) for _ in range(number)}

    leading = [asyncio.create_task(background.lead(first.store, "background", [noting("first")]))]
    assert await next_changes(1) == {"first begins"}
    leading.append(asyncio.create_task(background.lead(second.store, "background", [noting("second")])))
    shut.append(Closed("clock.jump", "the clock was set"))
    with pytest.raises(Unavailable):
        await first.store.write(lambda tx: None)
    assert await next_changes(2) == {"first ends", "second begins"}
    shut.clear()
    await first.store.write(lambda tx: None)
    second.store.close()
    assert await next_changes(1) == {"first begins"}
    for task in leading:
        await background.end(task)
    first.store.close()


async def test_a_certificate_that_one_machine_revoked_is_refused_by_the_others(
    tmp_path: Path, ledger_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LEDGER_SERVER, ledger_server)
    monkeypatch.setattr(background, "_FOLLOW_SECONDS", 0.01)
    here = make_domain(tmp_path)
    first, second = open_books(tmp_path), open_books(tmp_path)
    revoked = Revoked(watch_revoked(make_domain(tmp_path / "there")))
    heard = asyncio.Event()

    def learn(serials: frozenset[int]) -> None:
        revoked.learn(serials)
        if serials:
            heard.set()

    following = asyncio.create_task(
        background.follow(second.store, cast(State, Rounds(Unavailable(""))), learn, second.clock)
    )
    logging = asyncio.create_task(keep_logged(first.store, here, now=first.clock, entropy=os.urandom))
    revoke(here, [7], now=first.clock())
    await heard.wait()
    assert revoked() == {7}
    for task in (following, logging):
        await background.end(task)
    first.store.close()
    second.store.close()


async def test_work_that_has_failed_keeps_nothing_else_from_ending() -> None:
    """Mutant: what a background task died of is raised when the server stops, in place of letting calls finish."""

    async def dies() -> None:
        raise RuntimeError("of something")

    task = asyncio.create_task(dies())
    await asyncio.sleep(0)
    await background.end(task)
    assert task.done()
