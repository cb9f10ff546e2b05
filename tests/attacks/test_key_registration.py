# SPDX-License-Identifier: Apache-2.0
"""Registering keys to keep the workers busy: a proof costs half a second of one, a request next to nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.domain import ALICE, BOB, Domain, running_domain
from tests.support.paillier import real_keypair
from weir.errors import QuotaExceeded, Suspended
from weir.paillier import PublicKey
from weir_server.encrypted.flow import MAX_KEYS, EncryptedQueries
from weir_server.plan.values import Principal
from weir_server.policy import book

KEY, OTHER = real_keypair().public, real_keypair(seed="other").public


class Verifier:
    """Stands in for the worker processes: believes every proof once it is let go, and counts."""

    def __init__(self) -> None:
        self.started = self.ended = self.at_once = self.most_at_once = 0
        self.go = asyncio.Event()

    async def verify_key(self, n: bytes, proof: bytes, *, context: bytes) -> None:
        self.started += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.go.wait()
        self.at_once -= 1
        self.ended += 1


@dataclass
class Registry:
    domain: Domain
    verifier: Verifier
    flow: EncryptedQueries

    async def register(self, key: PublicKey, who: Principal = ALICE) -> str:
        return await self.flow.register_key(who, key.to_bytes(), b"proof")

    def start(self, key: PublicKey, who: Principal = ALICE) -> asyncio.Task[str]:
        return asyncio.create_task(self.register(key, who))


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_domain(tmp_path) as domain:
        verifier = Verifier()
        kernels: Any = verifier
        flow = EncryptedQueries(
            pipeline=domain.pipeline, store=domain.store, kernels=kernels, clock=domain.clock, entropy=os.urandom
        )
        yield Registry(domain, verifier, flow)
        verifier.go.set()
        await domain.pipeline.turns.drain(seconds=10)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_key_that_is_registered_is_not_proved_again(registry: Registry) -> None:
    registry.verifier.go.set()
    for _ in range(5):
        assert await registry.register(KEY) == KEY.key_id
    assert registry.verifier.started == 1
    await registry.register(KEY, BOB)
    assert registry.verifier.started == 2, "another holder proves it for themselves"


async def test_one_caller_has_one_proof_looked_at_and_holds_up_nobody_else(registry: Registry) -> None:
    flood = [registry.start(key) for key in (KEY, OTHER) * 4]
    await turns()
    assert registry.verifier.started == 1
    other = registry.start(KEY, BOB)
    await turns()
    assert registry.verifier.started == 2
    registry.verifier.go.set()
    assert set(await asyncio.gather(*flood, other)) == {KEY.key_id, OTHER.key_id}
    assert registry.verifier.started == 3, "who waited for the same key finds it registered"


async def test_callers_who_go_away_cut_off_no_worker_and_start_no_second(registry: Registry) -> None:
    for _ in range(5):
        gone = registry.start(KEY)
        await turns()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    assert (registry.verifier.started, registry.verifier.at_once) == (1, 1)
    registry.verifier.go.set()
    assert await registry.register(KEY) == KEY.key_id
    assert (registry.verifier.started, registry.verifier.ended) == (1, 1)


async def test_a_caller_who_is_stopped_registers_nothing(registry: Registry) -> None:
    registry.verifier.go.set()
    await registry.register(KEY)
    await registry.domain.suspend("requester", "alice")
    for key in (KEY, OTHER):
        with pytest.raises(Suspended):
            await registry.register(key)
    assert registry.verifier.started == 1


async def test_nobody_registers_more_keys_than_may_be(registry: Registry) -> None:
    registry.verifier.go.set()
    moment = registry.domain.clock()
    for number in range(MAX_KEYS - 1):
        name = f"sha256:{number:064x}"
        registry.domain.store.write_sync(
            lambda tx, k=name: book.add_public_key(tx, key_id=k, owner="alice", modulus=b"m", now=moment)  # type: ignore[misc]
        )
    await registry.register(KEY)
    with pytest.raises(QuotaExceeded) as caught:
        await registry.register(OTHER)
    assert caught.value.rule == "key.limit"
    assert registry.verifier.started == 1, "refused before the proof"
    assert await registry.register(KEY) == KEY.key_id
    await registry.register(OTHER, BOB)
