# SPDX-License-Identifier: Apache-2.0
"""Who waits for which release, and what follows a failure."""

from __future__ import annotations

import asyncio

import pytest

from weir_server.turns import OnError, Turns


async def test_equal_releases_are_drawn_one_after_the_other_and_others_beside_them() -> None:
    turns, running, most, waited = Turns(), 0, 0, list[bool]()

    async def draw(key: str) -> None:
        nonlocal running, most
        async with turns.one_release_at_a_time(key) as late:
            running += 1
            most = max(most, running)
            waited.append(late)
            await asyncio.sleep(0)
            running -= 1

    await asyncio.gather(*(draw("a") for _ in range(3)))
    assert (most, waited) == (1, [False, True, True])
    await asyncio.gather(draw("a"), draw("b"))
    assert (most, waited[3:]) == (2, [False, False])


async def test_whoever_gives_up_waiting_or_fails_keeps_nobody_out() -> None:
    turns = Turns()

    async def draw(seconds: float) -> bool:
        async with turns.one_release_at_a_time("a") as late:
            await asyncio.sleep(seconds)
            if seconds:
                raise LookupError
            return late

    first, second = asyncio.create_task(draw(0.01)), asyncio.create_task(draw(0))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(LookupError):
        await first
    with pytest.raises(asyncio.CancelledError):
        await second
    assert await draw(0) is False, "nobody is left in the queue"


@pytest.mark.parametrize("error", [ValueError("x"), asyncio.CancelledError()], ids=["failure", "cancellation"])
async def test_a_failure_goes_on_once_it_was_acted_on(error: BaseException) -> None:
    told: list[BaseException] = []

    async def act(failure: BaseException) -> None:
        told.append(failure)

    async with OnError(act):
        pass
    assert told == []
    with pytest.raises(type(error)):
        async with OnError(act):
            raise error
    assert told == [error]


async def test_what_the_act_raises_takes_the_failures_place() -> None:
    async def act(failure: BaseException) -> None:
        raise KeyError from failure

    with pytest.raises(KeyError):
        async with OnError(act):
            raise ValueError
