# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.ledger import open_books
from weir_server.console.cached import Cached
from weir_server.store import Transaction


@dataclass
class Seconds:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


async def test_a_sum_is_made_once_in_a_while_and_no_page_waits_for_the_next(tmp_path: Path) -> None:
    books, clock, made = open_books(tmp_path), Seconds(), 0

    def count(tx: Transaction) -> int:
        nonlocal made
        made += 1
        return made

    try:
        cached = Cached(books.store, count, seconds=10, clock=clock)
        assert await asyncio.gather(*(cached.get() for _ in range(5))) == [1] * 5
        clock.now += 9
        assert await cached.get() == 1
        clock.now += 2
        assert await cached.get() == 1, "the old one is shown while the new one is made"
        for _ in range(500):
            if await cached.get() == 2:
                break
            await asyncio.sleep(0.01)
        assert await cached.get() == 2
        clock.now += 31
        assert await cached.get() == 3, "what nobody looked at for long is made anew"
        cached.forget()
        assert await cached.get() == 4
    finally:
        books.store.close()


async def test_a_sum_that_fails_fails_the_page_and_is_tried_again(tmp_path: Path) -> None:
    books, clock, tried = open_books(tmp_path), Seconds(), 0

    def fail_once(tx: Transaction) -> str:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise RuntimeError("once")
        return "made"

    try:
        cached = Cached(books.store, fail_once, seconds=10, clock=clock)
        with pytest.raises(RuntimeError):
            await cached.get()
        assert await cached.get() == "made"
    finally:
        books.store.close()
