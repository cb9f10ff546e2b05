# SPDX-License-Identifier: Apache-2.0
"""Stops between any two stages, and a ledger that fails under the pipeline."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.domain import NANO, Domain, open_domain, populate, running_domain, submit, submit_dp
from tests.support.ledger import Clock
from weir.errors import PolicyDenied, Suspended, Unavailable


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    async with running_domain(tmp_path) as running:
        yield running


def stop_after(domain: Domain, stage: str) -> None:
    """Make an operator stop everything right after a stage of the pipeline."""
    honest = getattr(domain.pipeline, stage)

    async def stopping(*arguments: Any, **more: Any) -> Any:
        result = await honest(*arguments, **more)
        await domain.suspend("all")
        return result

    setattr(domain.pipeline, stage, stopping)


async def test_a_stop_after_the_decision_charges_nothing(domain: Domain) -> None:
    stop_after(domain, "require_allowed")
    assert isinstance(await domain.refused(submit_dp()), Suspended)
    assert domain.used("lineage-money-epsilon") == 0
    assert domain.dp.touches == 0
    assert domain.kinds()[-1] == "weir.query.refused"


async def test_a_stop_after_the_reservation_touches_nothing_and_keeps_the_loss(domain: Domain) -> None:
    stop_after(domain, "reserve")
    assert isinstance(await domain.refused(submit_dp()), Suspended)
    assert domain.dp.touches == 0
    assert domain.used("lineage-money-epsilon") == NANO // 2
    assert domain.kinds()[-2:] == ["weir.query.voided", "weir.query.refused"]


async def test_a_stop_after_the_noise_was_drawn_stores_no_answer(domain: Domain) -> None:
    stop_after(domain, "execute_and_release")
    submission = submit_dp()
    assert isinstance(await domain.refused(submission), Suspended)
    assert not domain.events("weir.query.released")
    await domain.suspend("all", suspended=False)
    del domain.pipeline.execute_and_release
    await domain.pipeline.run(submission)
    assert (domain.dp.draws, domain.used("lineage-money-epsilon")) == (2, NANO), "the second draw is charged too"


async def test_a_stop_while_a_query_waits_for_an_equal_one_holds_back_the_sticky_answer(domain: Domain) -> None:
    loop = asyncio.get_running_loop()

    def stop(bound: object) -> None:
        asyncio.run_coroutine_threadsafe(domain.suspend("requester", "alice"), loop).result(10)

    domain.dp.on_execute = stop
    outcomes = await asyncio.gather(*(domain.pipeline.run(submit_dp()) for _ in range(4)), return_exceptions=True)
    assert all(isinstance(outcome, Suspended) for outcome in outcomes)
    assert domain.dp.touches == 1


async def test_a_ledger_that_has_stopped_lets_nothing_be_touched(tmp_path: Path) -> None:
    domain = open_domain(tmp_path)
    await populate(domain)
    domain.store.close()
    with pytest.raises(Unavailable):
        await domain.pipeline.run(submit())
    assert domain.exact.touches == 0


async def test_a_ledger_that_fails_while_posting_tells_nobody_the_answer(tmp_path: Path) -> None:
    clock = Clock()
    domain = open_domain(tmp_path, clock=clock)
    await populate(domain)

    async def failing(*_: Any, **__: Any) -> Any:
        def operation(tx: object) -> None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

        return await domain.store.write(operation)

    domain.pipeline.post = failing  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await domain.pipeline.run(submit_dp(key="key-0123456789abcdef"))
    assert domain.store.stopped
    domain.store.close()
    again = open_domain(tmp_path, clock=clock)
    try:
        assert again.kinds()[-1] == "weir.query.expired"
        assert not again.events("weir.query.released")
        assert again.used("lineage-money-epsilon") == NANO // 2
        await again.pipeline.run(submit_dp(key="key-0123456789abcdef"))
        assert again.used("lineage-money-epsilon") == NANO
    finally:
        again.store.close()


async def test_a_reservation_that_lapsed_while_running_gives_no_answer(domain: Domain) -> None:
    domain.exact.on_execute = lambda bound: domain.clock.forward(hours=1)
    with pytest.raises(Unavailable) as caught:
        await domain.pipeline.run(submit())
    assert caught.value.rule == "reservation.resolved"
    assert not domain.events("weir.query.released")


async def test_an_act_that_could_not_be_shown_does_not_keep_the_next_one_waiting(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: an act that waits for others to show what only this process can would never come to its turn."""
    load = domain.state._load

    def fails(*_: Any) -> None:
        monkeypatch.setattr(domain.state, "_load", load)
        raise Unavailable("the books cannot be read")

    monkeypatch.setattr(domain.state, "_load", fails)
    with pytest.raises(Unavailable):
        await domain.suspend("contract", "c-1")
    await asyncio.wait_for(domain.suspend("all"), timeout=5)
    assert {("contract", "c-1"), ("all", "")} <= domain.state.world.suspensions
    with pytest.raises(Suspended):
        await domain.pipeline.run(submit())


async def test_a_contract_that_ends_between_decision_and_charge_charges_nothing(domain: Domain) -> None:
    """Mutant: a decision of a moment ago that stands although its contract has ended meanwhile."""
    domain.clock.moment = datetime(2026, 12, 31, 23, 59, 59, 950_000, tzinfo=UTC)
    honest = domain.pipeline.require_allowed

    async def then_it_ends(*arguments: Any, **more: Any) -> Any:
        judged = await honest(*arguments, **more)
        domain.clock.forward(milliseconds=100)
        return judged

    domain.pipeline.require_allowed = then_it_ends  # type: ignore[method-assign]
    error = await domain.refused(submit())
    assert isinstance(error, PolicyDenied)
    assert [reason.code for reason in error.reasons] == ["contract.expired"]
    assert domain.exact.touches == 0
