# SPDX-License-Identifier: Apache-2.0
"""An operator's connection breaks while a stop is written: the stop is durable, so it must hold at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.cases import file_case
from tests.support.domain import ALICE, Domain, running_domain, submit
from weir.errors import Suspended
from weir.v1 import case_service_pb2
from weir_server.cases import transitions
from weir_server.state import State


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    async with running_domain(tmp_path) as running:
        yield running


@pytest.mark.parametrize("turns", range(6))
async def test_a_stop_whose_caller_went_away_holds_if_it_is_in_the_log(domain: Domain, turns: int) -> None:
    acting = asyncio.create_task(domain.suspend("all"))
    for _ in range(turns):
        await asyncio.sleep(0)
    acting.cancel()
    await asyncio.gather(acting, return_exceptions=True)
    await domain.suspend("requester", "nobody")  # Acts run one at a time: this one comes behind.
    logged = any(event["subject"] == "all/" for event in domain.events("weir.suspension.set"))
    assert (("all", "") in domain.state.world.suspensions) is logged
    if logged:
        assert isinstance(await domain.refused(submit()), Suspended)


async def test_the_world_follows_without_any_further_act(domain: Domain) -> None:
    acting = asyncio.create_task(domain.suspend("all"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    acting.cancel()
    await asyncio.gather(acting, return_exceptions=True)
    for _ in range(200):
        if ("all", "") in domain.state.world.suspensions:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the stop is in the log and nobody sees it")


async def test_repeating_an_act_does_not_read_the_policy_again(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = 0
    real = State._load

    async def counted(self: State, *arguments: object) -> None:
        nonlocal loads
        loads += 1
        await real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(State, "_load", counted)
    request = case_service_pb2.OpenCaseRequest(
        kind=case_service_pb2.CASE_KIND_COMPLAINT, contract="c-1", statement="x", idempotency_key="always-the-same"
    )
    for _ in range(5):
        await domain.state.mutate(ALICE, request, lambda acting: transitions.file(acting, request).id.encode())
    assert loads == 1
    await file_case(domain)
    assert loads == 2
