# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.properties.test_exact_oracle import random_units
from tests.support.cards import clinic, parse
from tests.support.exact import Bench, clinic_rows
from weir_server.catalog.catalogue import Catalogue
from weir_server.catalog.snapshot import Snapshot
from weir_server.exact import warming
from weir_server.exact.records import ATOMS
from weir_server.exact.store import Stores
from weir_server.exact.warming import keep_warm, newest


@pytest.fixture
def snapshots(tmp_path: Path) -> list[Snapshot]:
    """Two versions of one dataset, newest first."""
    bench = Bench(tmp_path)
    for seed in (1, 2):
        bench.publish(parse(clinic()), list(clinic_rows(random_units(random.Random(seed), 400))))
    return bench.snapshots[::-1]


@asynccontextmanager
async def warmed(stores: Stores, catalogue: Callable[[], Catalogue]) -> AsyncIterator[None]:
    task = asyncio.create_task(keep_warm(stores, catalogue))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(reached: Callable[[], bool]) -> None:
    for _ in range(300):
        if reached():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not reached")


def of(*snapshots: Snapshot) -> Catalogue:
    return Catalogue({snapshots[0].card.name: snapshots})


async def test_the_newest_snapshot_is_open_before_anybody_asks(snapshots: list[Snapshot]) -> None:
    stores, catalogue = Stores(), of(*snapshots)
    async with warmed(stores, lambda: catalogue):
        await until(lambda: stores.is_open(snapshots[0]))
    assert not stores.is_open(snapshots[1]), "older ones wait for whoever asks"


async def test_a_snapshot_that_is_activated_later_is_opened_then(
    snapshots: list[Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warming, "_LOOK_SECONDS", 0.01)
    stores, world = Stores(), [of(snapshots[1])]
    async with warmed(stores, lambda: world[0]):
        await until(lambda: stores.is_open(snapshots[1]))
        world[0] = of(*snapshots)
        await until(lambda: stores.is_open(snapshots[0]))


async def test_one_that_cannot_be_opened_holds_up_no_other(
    snapshots: list[Snapshot], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost = replace(snapshots[1], directory=tmp_path / "nowhere")
    stores, catalogue = Stores(), Catalogue({"lost": (lost,), "visits": (snapshots[0],)})
    async with warmed(stores, lambda: catalogue):
        await until(lambda: stores.is_open(snapshots[0]))
    assert not stores.is_open(lost)
    assert [record.message for record in caplog.records] == ["store_not_opened"]


def test_snapshots_without_atoms_are_left_alone(snapshots: list[Snapshot]) -> None:
    bounded = replace(snapshots[0], files=tuple(name for name in snapshots[0].files if name != ATOMS))
    assert list(newest(of(bounded))) == []
    assert list(newest(of(*snapshots))) == [snapshots[0]]
