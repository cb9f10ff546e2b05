# SPDX-License-Identifier: Apache-2.0
"""States that an attacker would like a contract to be in: races, clocks set back, ends undone."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.agreements import (
    HOSPITAL,
    PARTIES,
    SIGNED_POLICY,
    agree,
    move,
    sign,
    signed_document,
    signing,
    stored_state,
    terms_of,
)
from tests.support.domain import ALICE, Domain, open_domain, running_domain, submit
from weir.errors import InvalidRequest, PolicyDenied, WeirError
from weir_server.policy import lifecycle

CHANGED = (signed_document(k=20), *PARTIES)


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    async with running_domain(tmp_path, documents=SIGNED_POLICY) as running:
        yield running


async def codes(domain: Domain) -> list[str]:
    error = await domain.refused(submit(contract="s-1"))
    assert isinstance(error, PolicyDenied)
    return [reason.code for reason in error.reasons]


# ── what is ended stays ended ──────────────────────────────────────────────────────────────────────────────────────


async def test_nothing_brings_a_terminated_contract_back(domain: Domain, tmp_path: Path) -> None:
    await agree(domain)
    await move(domain, "terminated", who=ALICE)
    for state in ("active", "suspended", "terminated"):
        with pytest.raises(InvalidRequest):
            await move(domain, state)
    with pytest.raises(InvalidRequest):
        await sign(domain, ALICE)
    await domain.apply(*CHANGED)
    await domain.apply(*SIGNED_POLICY)
    assert await codes(domain) == ["contract.state"]
    domain.store.close()
    again = open_domain(tmp_path)
    try:
        assert again.state.world.state_of("s-1") == "terminated"
    finally:
        again.store.close()


@pytest.mark.parametrize("defended", [True, False], ids=["defended", "mutant"])
async def test_applying_again_revives_only_where_the_end_is_forgotten(
    domain: Domain, monkeypatch: pytest.MonkeyPatch, *, defended: bool
) -> None:
    if not defended:
        monkeypatch.setattr(lifecycle, "state_when_offered", lambda tx, contract: lifecycle.initial_state(contract))
    await agree(domain)
    await move(domain, "terminated")
    await domain.apply(*PARTIES)
    await domain.apply(*SIGNED_POLICY)
    assert domain.state.world.state_of("s-1") == ("terminated" if defended else "offered")


# ── time ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("swept", [True, False], ids=["after a sweep", "before any sweep"])
async def test_a_clock_set_back_does_not_revive_what_expired(domain: Domain, tmp_path: Path, *, swept: bool) -> None:
    await agree(domain)
    end = terms_of(domain).valid_until
    domain.clock.moment = end
    assert "contract.expired" in await codes(domain)
    if swept:
        await domain.state.expire_contracts()
    domain.clock.moment = end - timedelta(days=300)
    assert "contract.expired" in await codes(domain)
    with pytest.raises(InvalidRequest):
        await move(domain, "suspended")
    domain.store.close()
    again = open_domain(tmp_path, clock=domain.clock)
    try:
        assert "contract.expired" in await codes(again)
    finally:
        again.store.close()


async def test_a_longer_validity_is_a_new_offer_and_not_a_revival(domain: Domain) -> None:
    await agree(domain)
    domain.clock.moment = terms_of(domain).valid_until
    await domain.state.expire_contracts()
    await domain.apply(signed_document(valid_until="2028-01-01T00:00:00+00:00"), *PARTIES)
    assert await codes(domain) == ["contract.state"]
    assert stored_state(domain) == "offered"


async def test_an_offer_cannot_be_signed_or_activated_past_its_validity(domain: Domain) -> None:
    await sign(domain, HOSPITAL)
    request = signing(domain, ALICE)
    domain.clock.moment = terms_of(domain).valid_until
    with pytest.raises(InvalidRequest, match="expired"):
        await sign(domain, ALICE, request)


# ── races ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("order", [0, 1], ids=["apply first", "sign first"])
async def test_a_signature_that_races_a_change_of_terms_never_lands_on_the_new_ones(domain: Domain, order: int) -> None:
    await sign(domain, HOSPITAL)
    for round_ in range(10):
        documents = CHANGED if round_ % 2 == 0 else SIGNED_POLICY
        racing = [domain.apply(*documents), sign(domain, ALICE, signing(domain, ALICE))]
        results = await asyncio.gather(*(racing[::-1] if order else racing), return_exceptions=True)
        assert all(not isinstance(r, BaseException) or isinstance(r, WeirError) for r in results)
        life = domain.store.read(lambda tx: lifecycle.lives(tx, [terms_of(domain)]))["s-1"]
        assert life.signatures == ()
        assert domain.state.world.state_of("s-1") == "offered"


async def test_two_signatures_at_once_are_both_taken_and_accepted_once(domain: Domain) -> None:
    await asyncio.gather(sign(domain, ALICE), sign(domain, HOSPITAL))
    assert stored_state(domain) == "accepted"
    assert len(domain.events("weir.contract.accepted")) == 1


async def test_one_party_s_two_signatures_at_once_count_once(domain: Domain) -> None:
    results = await asyncio.gather(sign(domain, ALICE), sign(domain, ALICE), return_exceptions=True)
    assert sum(isinstance(result, InvalidRequest) for result in results) == 1
    assert len(domain.events("weir.contract.signed")) == 1
    assert stored_state(domain) == "offered"


async def test_a_query_that_waits_is_held_against_the_state_again_before_it_is_charged(domain: Domain) -> None:
    await agree(domain)
    loop = asyncio.get_running_loop()

    def end_it(bound: object) -> None:
        asyncio.run_coroutine_threadsafe(move(domain, "suspended"), loop).result(10)

    # The second waits for the release that the first is making; meanwhile the contract is suspended.
    domain.exact.on_execute = end_it
    first, second = await asyncio.gather(
        domain.pipeline.run(submit(contract="s-1")),
        domain.pipeline.run(submit(contract="s-1")),
        return_exceptions=True,
    )
    assert not isinstance(first, BaseException), "what was charged before is answered"
    assert isinstance(second, PolicyDenied)
    assert [reason.code for reason in second.reasons] == ["contract.state"]
    assert len(domain.events("weir.query.reserved")) == 1


async def test_no_query_that_is_asked_after_a_termination_is_answered(domain: Domain) -> None:
    await agree(domain)
    asked = [domain.pipeline.run(submit(contract="s-1")) for _ in range(10)]
    results = await asyncio.gather(*asked, move(domain, "terminated"), return_exceptions=True)
    assert all(not isinstance(r, BaseException) or isinstance(r, PolicyDenied) for r in results)
    leaves = len(domain.events())
    for _ in range(3):
        assert await codes(domain) == ["contract.state"]
    assert set(domain.kinds(since=leaves)) == {"weir.query.refused"}


@pytest.mark.parametrize("stop", ["terminated", "suspended requester"])
async def test_nothing_is_charged_behind_the_entry_that_stops_it(domain: Domain, stop: str) -> None:
    """Kills: comparing the world only between processes. An act is durable a moment before queries see it."""
    await agree(domain)

    async def asked(turns: int) -> object:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await domain.pipeline.run(submit(contract="s-1"))

    act = move(domain, "terminated") if stop == "terminated" else domain.suspend("requester", "alice")
    await asyncio.gather(act, *(asked(turns) for turns in range(30)), return_exceptions=True)
    kinds = domain.kinds()
    entry = "weir.contract.terminated" if stop == "terminated" else "weir.suspension.set"
    behind = set(kinds[kinds.index(entry) :])
    assert behind == {entry, "weir.query.refused"}
