# SPDX-License-Identifier: Apache-2.0
"""Forged, borrowed and replayed signatures on contracts. What each defence prevents is shown by taking it away."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.agreements import (
    CLINIC,
    HOSPITAL,
    PARTIES,
    SEEDS,
    SIGNED_POLICY,
    agree,
    as_provider,
    attest,
    move,
    party_document,
    sign,
    signed_document,
    signing,
    stored_state,
    terms_of,
)
from tests.support.domain import ALICE, BOB, OLGA, Domain, open_domain, running_domain, submit
from weir.agreements import format_signing_key, public_key_of
from weir.errors import InvalidRequest, PolicyDenied, UnknownName, WeirError
from weir_server.plan.values import Principal
from weir_server.policy import agreeing, lifecycle
from weir_server.policy.documents import parse_documents

Bend = Callable[[Domain], dict[str, Any]]


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    async with running_domain(tmp_path, documents=SIGNED_POLICY) as running:
        yield running


async def refusal(domain: Domain, who: Principal, **bent: Any) -> tuple[type[WeirError], str | None]:
    with pytest.raises(WeirError) as caught:
        await sign(domain, who, **bent)
    return type(caught.value), caught.value.rule


def with_another_k(domain: Domain) -> bytes:
    return terms_of(domain).canonical.replace(b'"k":10', b'"k":11')


def hospitals_own(domain: Domain) -> dict[str, Any]:
    """The hospital's genuine signature, as anybody finds it in the log."""
    return {"seed": SEEDS["hospital"]}


FORGERIES: dict[str, tuple[Principal, Bend, str]] = {
    "other terms": (ALICE, lambda domain: {"canonical": with_another_k(domain)}, "contract.signature"),
    "bare terms, without the prefix": (
        ALICE, lambda domain: {"canonical": b"", "digest": terms_of(domain).digest}, "contract.signature"
    ),
    "a stranger's key": (ALICE, lambda domain: {"seed": SEEDS["stranger"]}, "contract.key"),
    "a stranger's signature under her key": (
        ALICE, lambda _: {"seed": SEEDS["stranger"], "public_key": public_key_of(SEEDS["alice"])}, "contract.signature"
    ),
    "the hospital's signature as hers": (ALICE, hospitals_own, "contract.key"),
    "the hospital's key, her signature": (
        ALICE, lambda _: {"public_key": public_key_of(SEEDS["hospital"])}, "contract.key"
    ),
    "no key": (ALICE, lambda _: {"public_key": b""}, "contract.key"),
    "another digest": (ALICE, lambda _: {"digest": "0" * 64}, "contract.terms"),
    "no digest": (ALICE, lambda _: {"digest": ""}, "contract.terms"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_signature_is_refused_and_leaves_nothing(domain: Domain, name: str) -> None:
    who, bend, rule = FORGERIES[name]
    leaves = len(domain.events())
    assert await refusal(domain, who, **bend(domain)) == (InvalidRequest, rule)
    assert len(domain.events()) == leaves
    life = domain.store.read(lambda tx: lifecycle.lives(tx, [terms_of(domain)]))["s-1"]
    assert life == lifecycle.ContractLife()


@pytest.mark.parametrize(
    "who",
    [BOB, CLINIC, as_provider(ALICE), replace(HOSPITAL, role="requester"), OLGA, replace(OLGA, role="auditor")],
    ids=str,
)
async def test_nobody_but_the_two_parties_in_their_roles_can_sign(domain: Domain, who: Principal) -> None:
    assert await refusal(domain, who, seed=SEEDS["alice"]) == (UnknownName, "name.contract")
    assert await refusal(domain, who, seed=SEEDS["hospital"]) == (UnknownName, "name.contract")


async def test_one_party_alone_cannot_make_it_accepted(domain: Domain) -> None:
    await sign(domain, ALICE)
    assert await refusal(domain, ALICE) == (InvalidRequest, "contract.state")
    assert stored_state(domain) == "offered"
    with pytest.raises(InvalidRequest):
        await move(domain, "active")
    assert isinstance(await domain.refused(submit(contract="s-1")), PolicyDenied)


# ── replay ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_signature_is_worth_nothing_under_changed_terms(domain: Domain) -> None:
    old, request = terms_of(domain), signing(domain, ALICE)
    await sign(domain, ALICE, request)
    await domain.apply(signed_document(k=20), *PARTIES)
    # The very same request gives its old reply again, and signs nothing.
    await sign(domain, ALICE, request)
    assert [signature.role for signature in (await sign(domain, HOSPITAL)).signatures] == ["provider"]
    # Under a new key, with the old digest, and with the new one.
    for digest in (old.digest, terms_of(domain).digest):
        expected = "contract.terms" if digest == old.digest else "contract.signature"
        assert await refusal(domain, ALICE, canonical=old.canonical, digest=digest) == (InvalidRequest, expected)
    assert stored_state(domain) == "offered"


async def test_a_signature_from_the_log_does_not_sign_the_same_text_for_another_contract(domain: Domain) -> None:
    old = terms_of(domain).canonical
    await domain.apply(signed_document("s-2"), *PARTIES)
    assert (await refusal(domain, ALICE, contract="s-2", canonical=old))[1] == "contract.signature"


async def test_signatures_are_gone_when_terms_return(domain: Domain) -> None:
    await agree(domain)
    await domain.apply(signed_document(k=20), *PARTIES)
    await domain.apply(*SIGNED_POLICY)
    assert stored_state(domain) == "offered"
    with pytest.raises(InvalidRequest):
        await move(domain, "active")


# ── keys ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_key_struck_from_the_policy_signs_no_more_and_what_it_signed_is_not_activated(domain: Domain) -> None:
    await sign(domain, HOSPITAL)
    await sign(domain, ALICE)
    fresh = format_signing_key(public_key_of(SEEDS["stranger"]))
    await domain.apply(signed_document(), party_document(signing_keys=[fresh]), *PARTIES[1:])
    assert domain.state.world.state_of("s-1") == "accepted"
    with pytest.raises(InvalidRequest) as caught:
        await move(domain, "active")
    assert caught.value.rule == "contract.signature"


async def test_a_key_that_is_replaced_later_does_not_end_what_it_signed(domain: Domain) -> None:
    await agree(domain)
    fresh = format_signing_key(public_key_of(SEEDS["stranger"]))
    await domain.apply(signed_document(), party_document(signing_keys=[fresh]), *PARTIES[1:])
    await domain.pipeline.run(submit(contract="s-1"))


def test_a_key_under_which_everything_is_signed_is_refused_in_the_policy() -> None:
    neutral = format_signing_key((1).to_bytes(32, "little"))
    with pytest.raises(InvalidRequest, match="prove something"):
        parse_documents([party_document(signing_keys=[neutral])])


async def test_one_key_for_both_parties_is_refused(domain: Domain) -> None:
    alices = format_signing_key(public_key_of(SEEDS["alice"]))
    with pytest.raises(InvalidRequest, match="signing key that provider/hospital has too"):
        await domain.apply(signed_document(), PARTIES[0], party_document("hospital", "provider", signing_keys=[alices]))


# ── the store under the server's feet ──────────────────────────────────────────────────────────────────────────────


def tamper(domain: Domain, statement: str) -> None:
    domain.store.write_sync(lambda tx: tx.execute(statement))


@pytest.mark.parametrize("defended", [True, False], ids=["defended", "mutant"])
async def test_a_state_without_signatures_counts_for_nothing_after_a_restart(
    domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, defended: bool
) -> None:
    if not defended:
        monkeypatch.setattr(lifecycle, "holds", lambda contract, life: True)
    tamper(domain, "UPDATE contract_states SET state = 'active'")
    domain.store.close()
    again = open_domain(tmp_path)
    try:
        assert again.state.world.state_of("s-1") == ("offered" if defended else "active")
    finally:
        again.store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE contract_signatures SET signature = zeroblob(64) WHERE role = 'requester'",
        "UPDATE contract_signatures SET public_key = zeroblob(32) WHERE role = 'requester'",
        "UPDATE contract_signatures SET party = 'bob' WHERE role = 'requester'",
        "DELETE FROM contract_signatures WHERE role = 'provider'",
        "UPDATE contract_signatures SET role = 'witness' WHERE role = 'provider'",
    ],
)
async def test_a_signature_altered_in_the_store_ends_the_contract_at_the_next_start(
    domain: Domain, tmp_path: Path, statement: str
) -> None:
    await agree(domain)
    tamper(domain, statement)
    domain.store.close()
    again = open_domain(tmp_path)
    try:
        assert again.state.world.state_of("s-1") == "offered"
    finally:
        again.store.close()


# ── mutants: each defence is what stops its attack ─────────────────────────────────────────────────────────────────


def always(*_: object, **__: object) -> bool:
    return True


async def test_the_mutant_that_takes_any_key_is_caught_at_activation(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as mutated:
        mutated.setattr(agreeing, "_names_key", always)
        await sign(domain, ALICE, seed=SEEDS["stranger"])
        await sign(domain, HOSPITAL)
    assert stored_state(domain) == "accepted"
    with pytest.raises(InvalidRequest) as caught:
        await move(domain, "active")
    assert caught.value.rule == "contract.signature"


async def test_the_mutant_that_verifies_nothing_when_signing_accepts_nothing(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreeing, "is_signed", always)
    await sign(domain, ALICE, canonical=b"something else")
    await sign(domain, HOSPITAL)
    assert stored_state(domain) == "offered"


async def test_the_mutant_without_any_verification_is_what_the_tests_would_see(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreeing, "is_signed", always)
    monkeypatch.setattr(lifecycle, "is_signed", always)
    await sign(domain, ALICE, canonical=b"something else")
    await sign(domain, HOSPITAL)
    assert stored_state(domain) == "accepted"


async def test_only_the_requester_attests_its_duties(domain: Domain) -> None:
    duty = [{"duty": "delete", "sentence": "Delete.", "due": "2026-12-01T00:00:00+00:00"}]
    await domain.apply(signed_document(duties=duty), *PARTIES)
    await agree(domain)
    for who in (HOSPITAL, OLGA, BOB, as_provider(ALICE)):
        with pytest.raises(UnknownName):
            await attest(domain, "delete", who=who)
