# SPDX-License-Identifier: Apache-2.0
"""Every kind of stop reaches what runs already: between header and upload, while data is touched, before a replay."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.cases import advance_case, file_case
from tests.support.domain import ALICE, BOB, Domain, running_domain, submit, submit_dp
from tests.support.paillier import real_keypair
from weir.errors import Suspended
from weir.paillier import encode_ciphertexts
from weir_server.encrypted.flow import EncryptedQueries
from weir_server.encrypted.pool import KernelPool
from weir_server.plan.values import EncryptedTerms
from weir_server.policy import book

OWN = real_keypair()
Stop = Callable[[Domain], Awaitable[object]]


async def _freeze(domain: Domain) -> None:
    case = await file_case(domain, contract="c-1")
    await advance_case(domain, case.id, "accepted", freeze=True)


STOPS: dict[str, Stop] = {
    "requester": lambda domain: domain.suspend("requester", "alice"),
    "contract": lambda domain: domain.suspend("contract", "c-1"),
    "dataset": lambda domain: domain.suspend("dataset", "census"),
    "everything": lambda domain: domain.suspend("all"),
    "blacklist": lambda domain: domain.suspend("blacklist", "alice"),
    "case": _freeze,
}


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    async with running_domain(tmp_path) as running:
        yield running


@pytest.mark.parametrize("what", STOPS)
async def test_an_upload_under_way_is_stopped_and_charges_nothing(domain: Domain, what: str) -> None:
    pool = KernelPool(1)
    flow = EncryptedQueries(
        pipeline=domain.pipeline, store=domain.store, kernels=pool, clock=domain.clock, entropy=os.urandom
    )
    key, moment = OWN.public, domain.clock()
    await domain.store.write(
        lambda tx: book.add_public_key(tx, key_id=key.key_id, owner=ALICE.name, modulus=key.to_bytes(), now=moment)
    )
    try:
        header = await flow.open(submit(encrypted=EncryptedTerms("weights", key.key_id, weights=4, weight_bits=20)))
        await STOPS[what](domain)
        before = len(domain.events())
        with pytest.raises(Suspended):
            await flow.finish(header, encode_ciphertexts(key, OWN.encrypt_many([1, 2, 3, 4])))
        assert domain.kinds(since=before) == ["weir.query.refused"]
        assert (domain.exact.touches, domain.metered("price_micro", "c-1")) == (0, 0)
    finally:
        await pool.close()


@pytest.mark.parametrize("what", STOPS)
async def test_an_answer_that_was_stored_is_held_back(domain: Domain, what: str) -> None:
    key = domain.new_key()
    await domain.pipeline.run(submit(key=key))
    await STOPS[what](domain)
    assert isinstance(await domain.refused(submit(key=key)), Suspended)


@pytest.mark.parametrize("scope", ["requester", "contract", "dataset", "all", "blacklist"])
async def test_a_stop_while_data_is_touched_keeps_the_answer_back(domain: Domain, scope: str) -> None:
    names = {"requester": "alice", "contract": "d-1", "dataset": "spending", "all": "", "blacklist": "alice"}
    loop = asyncio.get_running_loop()

    def stop(bound: object) -> None:
        asyncio.run_coroutine_threadsafe(domain.suspend(scope, names[scope]), loop).result(timeout=10)

    domain.dp.on_execute = stop
    assert isinstance(await domain.refused(submit_dp()), Suspended)
    assert "weir.query.voided" in domain.kinds()
    assert "weir.query.released" not in domain.kinds()


async def test_a_stop_of_one_stops_nobody_else(domain: Domain) -> None:
    for scope, name in (("requester", "alice"), ("contract", "c-1"), ("blacklist", "alice")):
        await domain.suspend(scope, name)
    await domain.pipeline.run(submit(who=BOB, contract="b-1"))


async def test_everything_that_was_stopped_runs_again_once_it_is_lifted(domain: Domain) -> None:
    await domain.suspend("all")
    assert isinstance(await domain.refused(submit()), Suspended)
    await domain.suspend("all", suspended=False)
    await domain.pipeline.run(submit())
    reasons = [event["data"]["reason"] for event in domain.events("weir.suspension.set", "weir.suspension.lifted")]
    assert reasons == ["test", "test"]
