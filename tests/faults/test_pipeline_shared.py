# SPDX-License-Identifier: Apache-2.0
"""Two servers on one PostgreSQL ledger, as two pipelines with stores and worlds of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.domain import (
    DOCUMENTS,
    NANO,
    Domain,
    by_site,
    census_card,
    contract_document,
    dp_contract_document,
    open_domain,
    populate,
    quota_document,
    submit,
    submit_dp,
)
from tests.support.ledger import LEDGER_SERVER, SIGNER, fsck_of
from weir.errors import PolicyDenied, QuotaExceeded, Suspended, Unavailable
from weir_server.log.background import keep_signed
from weir_server.log.receipts import GroupedReceipts, Receipts
from weir_server.pipeline import Answered


@pytest.fixture
async def two(
    tmp_path: Path, ledger_server: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Domain, Domain]]:
    monkeypatch.setenv(LEDGER_SERVER, ledger_server)
    first = open_domain(tmp_path)
    await populate(first, documents=(*DOCUMENTS, quota_document("fifty", limit=50)))
    second = open_domain(tmp_path)
    try:
        yield first, second
        await first.pipeline.turns.drain(seconds=10)
        await second.pipeline.turns.drain(seconds=10)
    finally:
        first.store.close()
        second.store.close()
    assert fsck_of(tmp_path).findings == ()


async def test_a_stop_by_one_server_binds_the_next_charge_of_the_other(two: tuple[Domain, Domain]) -> None:
    """Mutant: a reservation that does not compare the number of the world is made under the old one."""
    first, second = two
    await second.pipeline.run(submit())
    await first.suspend("contract", "c-1")
    with pytest.raises(Suspended):
        await second.pipeline.run(submit(by_site()))
    assert second.exact.touches == 1


async def test_a_narrower_contract_by_one_server_binds_the_other(two: tuple[Domain, Domain]) -> None:
    first, second = two
    await first.apply(contract_document(measures=[]), dp_contract_document())
    with pytest.raises(PolicyDenied):
        await second.pipeline.run(submit(by_site()))
    assert second.exact.touches == 0


async def test_a_stop_between_charge_and_answer_holds_the_answer_back(two: tuple[Domain, Domain]) -> None:
    first, second = two
    touched = second.pipeline.execute_and_release

    async def then_stopped(plan: Any) -> Any:
        answer = await touched(plan)
        await first.suspend("all")
        return answer

    second.pipeline.execute_and_release = then_stopped  # type: ignore[method-assign]
    with pytest.raises(Suspended):
        await second.pipeline.run(submit_dp())
    assert second.metered("epsilon_nano", "d-1") == NANO // 2
    assert second.metered("queries", "d-1") == 0


async def test_acts_of_both_servers_build_on_each_other(two: tuple[Domain, Domain]) -> None:
    first, second = two
    await first.suspend("dataset", "census")
    await second.suspend("dataset", "spending")
    await first.state.catch_up()
    stopped = {("dataset", "census"), ("dataset", "spending")}
    assert first.state.world.suspensions == second.state.world.suspensions == stopped


async def test_a_quota_is_exact_over_both(two: tuple[Domain, Domain]) -> None:
    first, second = two

    async def one(n: int) -> bool:
        try:
            await (first, second)[n % 2].pipeline.run(submit())
        except QuotaExceeded:
            return False
        return True

    answered = await asyncio.gather(*(one(n) for n in range(80)))
    assert sum(answered) == 50


async def test_equal_private_queries_at_both_draw_noise_once(two: tuple[Domain, Domain]) -> None:
    """Mutant: without the turn both would draw, and the lineage would pay twice."""
    first, second = two
    answers = await asyncio.gather(*(domain.pipeline.run(submit_dp()) for domain in (first, second) for _ in range(5)))
    assert first.dp.touches + second.dp.touches == 1
    assert first.metered("epsilon_nano", "d-1") == NANO // 2
    assert first.metered("queries", "d-1") == 10
    assert len({answer.answer for answer in answers}) <= 2  # The first, and the same marked as returned again.


async def test_a_release_made_since_it_was_looked_for_is_not_drawn_again(two: tuple[Domain, Domain]) -> None:
    """Mutant: a reservation that looks at holds alone charges and draws what the other has just released."""
    first, second = two
    reserve = second.pipeline.reserve

    async def late(judged: Any, **more: Any) -> Any:
        await first.pipeline.run(submit_dp())
        return await reserve(judged, **more)

    second.pipeline.reserve = late  # type: ignore[method-assign]
    assert (await second.pipeline.run(submit_dp())).answer
    assert (first.dp.touches, second.dp.touches) == (1, 0)
    assert first.metered("epsilon_nano", "d-1") == NANO // 2
    assert first.metered("queries", "d-1") == 2


async def test_one_reading_of_the_policy_does_for_all_queries_that_wait_for_it(two: tuple[Domain, Domain]) -> None:
    """Mutant: each of them would read and parse the whole policy, one after the other, in the event loop."""
    first, second = two
    loaded, readings = second.state._loaded, []

    def counted(*arguments: Any) -> Any:
        readings.append(threading.current_thread() is threading.main_thread())
        return loaded(*arguments)

    second.state._loaded = counted  # type: ignore[method-assign, assignment]
    await first.suspend("dataset", "spending")
    await asyncio.gather(*(second.pipeline.run(submit()) for _ in range(20)))
    assert readings == [False], "once, and not in the event loop"


async def test_a_query_that_waits_for_another_server_s_release_is_decided_again(two: tuple[Domain, Domain]) -> None:
    """Mutant: its contract would end while it waits, and it would be charged all the same."""
    first, second = two
    soon = first.clock() + timedelta(minutes=5)
    await first.apply(contract_document(), dp_contract_document(valid_until=soon.isoformat()))
    await second.state.catch_up()
    touched, drawing, go_on = first.pipeline.execute_and_release, asyncio.Event(), asyncio.Event()

    async def slowly(plan: Any) -> Any:
        drawing.set()
        await go_on.wait()
        return await touched(plan)

    first.pipeline.execute_and_release = slowly  # type: ignore[method-assign]
    drawn = asyncio.create_task(first.pipeline.run(submit_dp()))
    await drawing.wait()
    waits = asyncio.create_task(second.pipeline.run(submit_dp()))
    await asyncio.sleep(0.3)
    second.clock.forward(minutes=6)
    with pytest.raises(PolicyDenied):
        await asyncio.wait_for(waits, 5)
    go_on.set()
    assert (await drawn).answer, "what was charged in time is answered"


async def test_a_snapshot_that_has_not_arrived_yet_is_waited_for(two: tuple[Domain, Domain]) -> None:
    first, second = two
    await first.activate(census_card(), 2)
    here, away = second.directory / "snapshots" / "census" / "2", second.directory / "elsewhere"
    here.rename(away)
    with pytest.raises(Unavailable) as caught:
        await second.pipeline.run(submit())
    assert caught.value.rule == "snapshot.missing"
    away.rename(here)
    await second.pipeline.run(submit())


async def test_what_has_ended_by_one_server_s_clock_has_ended_for_the_other(two: tuple[Domain, Domain]) -> None:
    """Mutant: a server whose clock is behind would go on answering under a contract that is over."""
    first, second = two
    soon = first.clock() + timedelta(minutes=5)
    await first.apply(contract_document(valid_until=soon.isoformat()), dp_contract_document())
    await second.state.catch_up()
    second.clock.moment = first.clock() - timedelta(minutes=5)
    await second.pipeline.run(submit())
    first.clock.forward(minutes=6)
    assert isinstance(await first.refused(submit()), PolicyDenied)
    with pytest.raises(PolicyDenied):
        await second.pipeline.run(submit())
    assert second.metered("queries", "c-1") == 1


async def test_acts_do_not_hold_up_the_event_loop_while_they_read(
    two: tuple[Domain, Domain], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: a read in the loop itself, so that one slow way to the database delays everybody's calls."""
    first, _ = two
    read, in_loop = first.store.read, []

    def noticed(operation: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            in_loop.append(operation)
        return read(operation)

    answered = await first.pipeline.run(submit())
    monkeypatch.setattr(first.store, "read", noticed)
    await first.suspend("contract", "c-1")
    await first.apply(*DOCUMENTS, dry_run=True)
    await first.apply(*DOCUMENTS, quota_document("fifty", limit=51))
    await first.state.expire_contracts()
    await first.state.update_standings()
    await first.state.catch_up()
    assert isinstance(answered, Answered)
    await GroupedReceipts(first.store, Receipts((SIGNER,))).of(answered.receipt.leaf_index)
    signing = asyncio.create_task(keep_signed(first.store))
    await asyncio.sleep(0.1)
    signing.cancel()
    assert in_loop == []
