# SPDX-License-Identifier: Apache-2.0
import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from tests.support.domain import (
    ALICE,
    BOB,
    COUNT,
    DOCUMENTS,
    NANO,
    VISITS,
    Domain,
    by_site,
    check_receipt,
    contract_document,
    dp_contract_document,
    numbers,
    quota_document,
    running_domain,
    submit,
    submit_dp,
)
from tests.support.paillier import real_keypair
from weir.errors import (
    ApprovalRequired,
    BudgetExhausted,
    HeadroomExceeded,
    IdempotencyConflict,
    InvalidCiphertext,
    InvalidKey,
    InvalidQuery,
    InvalidRequest,
    PolicyDenied,
    QuotaExceeded,
    Suspended,
    Unavailable,
    UnknownName,
    WeirError,
)
from weir.paillier import Packing, PublicKey, add_all, decode_ciphertexts, encode_ciphertexts, matrix_dot, unpack
from weir.query import Aggregate, Function
from weir.v1 import answer_pb2, encrypted_service_pb2
from weir_client._keys import KeyPair
from weir_server.encrypted.flow import EncryptedAnswered, EncryptedQueries, key_context
from weir_server.encrypted.pool import KernelPool
from weir_server.encrypted.reducers import Reducers
from weir_server.plan.values import EncryptedTerms, Principal, Submission
from weir_server.policy import approvals, approving, book
from weir_server.store import Transaction

OWN, OTHER = real_keypair(), real_keypair(seed="other")
WEIGHTS = (3, -2, 0, 2**20 - 1)
CELLS = (7, 11, 13, 17)
KEY = "key-0123456789abcdef"


@dataclass(slots=True)
class Encrypted:
    """A domain with encrypted queries, and what a requester holds."""

    domain: Domain
    flow: EncryptedQueries

    async def register(self, keys: KeyPair, who: Principal) -> str:
        proof = keys.prove(key_context(who))
        return await self.flow.register_key(who, keys.public.to_bytes(), proof)

    async def run(self, submission: Submission, weights: bytes | None = None) -> EncryptedAnswered:
        opened = await self.flow.open(submission)
        return await self.flow.finish(opened, encrypt(WEIGHTS) if weights is None else weights)

    async def refused(self, submission: Submission, weights: bytes | None = None) -> WeirError:
        before = len(self.domain.events())
        with pytest.raises(WeirError) as caught:
            await self.run(submission, weights)
        assert self.domain.kinds(since=before) == ["weir.query.refused"], "one leaf for one refusal"
        check_receipt(caught.value.receipt)
        return caught.value


@pytest.fixture
async def encrypted(tmp_path: Path) -> AsyncIterator[Encrypted]:
    pool = KernelPool(1)  # Not started: its process comes with the first call, which most refusals never make.
    async with running_domain(tmp_path) as domain:
        flow = EncryptedQueries(
            pipeline=domain.pipeline, store=domain.store, kernels=pool, clock=domain.clock, entropy=os.urandom
        )
        own, name, moment = OWN.public, ALICE.name, domain.clock()
        domain.store.write_sync(
            lambda tx: book.add_public_key(tx, key_id=own.key_id, owner=name, modulus=own.to_bytes(), now=moment)
        )
        yield Encrypted(domain, flow)
        await domain.pipeline.turns.drain(seconds=10)
        await pool.close()


@cache
def encrypt(weights: tuple[int, ...], keys: KeyPair = OWN) -> bytes:
    return encode_ciphertexts(keys.public, keys.encrypt_many(weights))


def terms(**changes: object) -> EncryptedTerms:
    return replace(EncryptedTerms("weights", OWN.public.key_id, weights=4, weight_bits=20), **changes)  # type: ignore[arg-type]


def sealed(keys: KeyPair = OWN, addends: int = 3) -> EncryptedTerms:
    return EncryptedTerms("sealed", keys.public.key_id, max_addends=addends)


def opened(answered: EncryptedAnswered) -> list[int]:
    answer = encrypted_service_pb2.EncryptedAnswer.FromString(answered.answer)
    found = decode_ciphertexts(OWN.public, answered.results)
    return OWN.decrypt_many(found, bits=answer.reply_bits)


def oracle(cells: list[int]) -> int:
    return sum(weight * cell for weight, cell in zip(WEIGHTS, cells, strict=True))


# ── secret weights ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_secret_weights_decrypt_to_the_weighted_sum_of_every_column(encrypted: Encrypted) -> None:
    answered = await encrypted.run(submit(by_site(COUNT, VISITS), encrypted=terms()))
    assert opened(answered) == [oracle(list(CELLS))] * 2
    check_receipt(answered.receipt, answer=answered.answer)


async def test_the_reply_names_the_table_and_shows_no_number_of_it(encrypted: Encrypted) -> None:
    answered = await encrypted.run(submit(encrypted=terms()))
    answer = encrypted_service_pb2.EncryptedAnswer.FromString(answered.answer)
    table = answer_pb2.Answer.FromString(answer.table)
    assert [len(column.cells) for column in table.keys] == [4]
    assert [list(column.numerators) for column in table.values] == [[]]
    assert not table.HasField("coverage")


async def test_the_release_underneath_is_drawn_and_paid_for_once(encrypted: Encrypted) -> None:
    domain = encrypted.domain
    first = await encrypted.run(submit_dp(encrypted=terms()))
    second = await encrypted.run(submit_dp(encrypted=terms()))
    plain = await domain.pipeline.run(submit_dp())
    assert domain.dp.touches == domain.dp.draws == 1
    assert domain.used("lineage-money-epsilon") == NANO // 2
    assert opened(first) == opened(second) == [oracle(numbers(plain))]
    assert answer_pb2.Answer.FromString(plain.answer).sticky


async def test_a_release_made_in_the_open_serves_encrypted_queries_for_nothing(encrypted: Encrypted) -> None:
    plain = await encrypted.domain.pipeline.run(submit_dp(who=BOB, contract="e-1"))
    answered = await encrypted.run(submit_dp(encrypted=terms()))
    assert opened(answered) == [oracle(numbers(plain))]
    assert encrypted.domain.used("contract-d-1-epsilon") == 0


async def test_a_release_that_another_version_wrote_serves_encrypted_queries(encrypted: Encrypted) -> None:
    """Mutant: written anew its bytes would differ from those that are stored, and the reply be made again for ever."""
    await encrypted.domain.pipeline.run(submit())
    same = answer_pb2.Answer(dataset="census").SerializeToString()

    def rewrite(tx: Transaction) -> None:
        for key, content in tx.execute("SELECT release_key, release_bytes FROM releases"):
            assert isinstance(content, bytes)
            tx.execute("UPDATE releases SET release_bytes = ? WHERE release_key = ?", (content + same, key))

    await encrypted.domain.store.write(rewrite)
    answered = await asyncio.wait_for(encrypted.run(submit(encrypted=terms())), 60)
    assert opened(answered) == [oracle(list(CELLS))]


async def test_equal_queries_at_once_share_one_draw(encrypted: Encrypted) -> None:
    answers = await asyncio.gather(*(encrypted.run(submit_dp(encrypted=terms())) for _ in range(5)))
    assert len({tuple(opened(answer)) for answer in answers}) == 1
    assert len({answer.results for answer in answers}) == 5
    assert encrypted.domain.dp.draws == 1
    assert encrypted.domain.used("lineage-money-epsilon") == NANO // 2


async def test_a_reply_is_metered_as_the_table_its_arithmetic_and_its_ciphertexts(encrypted: Encrypted) -> None:
    await encrypted.run(submit(encrypted=terms()))
    metered = {m: encrypted.domain.metered(m, "c-1") for m in ("queries", "cells", "encrypted_operations", "bytes")}
    size = OWN.public.ciphertext_bytes
    assert metered == {"queries": 1, "cells": 4, "encrypted_operations": 4, "bytes": (4 + 1) * size}


SEALING: dict[str, tuple[list[str], bool]] = {
    "to nobody": ([], False),
    "to somebody else": (["carol"], False),
    "to one of two holders": (["bob"], False),
    "to all holders": (["alice", "bob"], True),
}


@pytest.mark.parametrize(("allowed", "answered"), SEALING.values(), ids=SEALING)
async def test_a_release_is_sealed_only_to_keys_whose_every_holder_the_contract_names(
    encrypted: Encrypted, allowed: list[str], answered: bool
) -> None:
    await encrypted.register(OWN, BOB)
    await encrypted.domain.apply(contract_document(seal_to=allowed))
    if answered:
        await encrypted.flow.run_sealed(submit(encrypted=sealed()))
        return
    with pytest.raises(PolicyDenied) as caught:
        await encrypted.flow.run_sealed(submit(encrypted=sealed()))
    assert caught.value.rule == "contract.seal_to"


async def test_a_replay_gives_the_same_ciphertexts_and_charges_nothing(encrypted: Encrypted) -> None:
    first = await encrypted.run(submit_dp(encrypted=terms(), key=KEY))
    before = len(encrypted.domain.events())
    assert await encrypted.run(submit_dp(encrypted=terms(), key=KEY)) == first
    assert len(encrypted.domain.events()) == before


async def test_a_replay_is_given_though_limits_are_used_up(encrypted: Encrypted) -> None:
    await encrypted.domain.apply(*DOCUMENTS, quota_document(limit=1))
    first = await encrypted.run(submit(encrypted=terms(), key=KEY))
    assert await encrypted.run(submit(encrypted=terms(), key=KEY)) == first
    assert isinstance(await encrypted.refused(submit(encrypted=terms())), QuotaExceeded)


async def test_the_same_key_with_other_weights_is_a_conflict(encrypted: Encrypted) -> None:
    await encrypted.run(submit(encrypted=terms(), key=KEY))
    other = encrypt((1, 1, 1, 1))
    assert isinstance(await encrypted.refused(submit(encrypted=terms(), key=KEY), other), IdempotencyConflict)


async def test_one_key_does_not_serve_a_plain_and_an_encrypted_query(encrypted: Encrypted) -> None:
    await encrypted.domain.pipeline.run(submit(key=KEY))
    assert isinstance(await encrypted.refused(submit(encrypted=terms(), key=KEY)), IdempotencyConflict)


# ── refusals before the upload ─────────────────────────────────────────────────────────────────────────────────────

BEFORE_UPLOAD = {
    "key not registered": (submit(encrypted=terms(key_id=OTHER.public.key_id)), InvalidKey),
    "key of another": (submit(who=BOB, contract="b-1", encrypted=terms()), InvalidKey),
    "too few weights": (submit(encrypted=terms(weights=3)), InvalidRequest),
    "too many weights": (submit(encrypted=terms(weights=5)), InvalidRequest),
    "no headroom": (submit(encrypted=terms(weight_bits=3000)), HeadroomExceeded),
    "an average": (submit(by_site(Aggregate(Function.AVG, "visits")), encrypted=terms()), InvalidQuery),
    "unknown contract": (submit(contract="z-1", encrypted=terms()), UnknownName),
    "purpose": (submit(purpose="sale", encrypted=terms()), PolicyDenied),
    "epsilon": (submit_dp(epsilon=2 * NANO, encrypted=terms()), PolicyDenied),
}


@pytest.mark.parametrize("case", BEFORE_UPLOAD)
async def test_what_can_be_refused_is_refused_before_the_upload_and_charged_nothing(
    encrypted: Encrypted, case: str
) -> None:
    submission, kind = BEFORE_UPLOAD[case]
    assert type(await encrypted.refused(submission)) is kind
    assert encrypted.domain.exact.touches == encrypted.domain.dp.touches == 0
    assert all(encrypted.domain.used(quota) == 0 for quota in encrypted.domain.quotas())


async def test_limits_are_looked_at_before_the_upload(encrypted: Encrypted) -> None:
    await encrypted.domain.pipeline.run(submit_dp(epsilon=NANO))
    await encrypted.domain.pipeline.run(submit_dp(epsilon=NANO - 1))
    with pytest.raises(BudgetExhausted):
        await encrypted.flow.open(submit_dp(epsilon=2, encrypted=terms()))


async def test_a_denial_is_told_before_the_state_of_the_budget(encrypted: Encrypted) -> None:
    for epsilon in (NANO, NANO - 1):
        await encrypted.domain.pipeline.run(submit_dp(epsilon=epsilon))
    denied = submit_dp(epsilon=2, purpose="sale", encrypted=terms())
    assert isinstance(await encrypted.refused(denied), PolicyDenied)


# ── refusals after it ──────────────────────────────────────────────────────────────────────────────────────────────

SIZE = OWN.public.ciphertext_bytes
GOOD = encrypt(WEIGHTS)


def with_first(value: int) -> bytes:
    return value.to_bytes(SIZE, "big") + GOOD[SIZE:]


BAD_CIPHERTEXTS = {
    "zero": with_first(0),
    "one": with_first(1),
    "n": with_first(int(OWN.public.n)),
    "n squared less one": with_first(int(OWN.public.n) ** 2 - 1),
    "n squared": with_first(int(OWN.public.n) ** 2),
    "all ones": with_first(2 ** (8 * SIZE) - 1),
    "a multiple of a factor": with_first(OWN.p * 3),
}


async def test_every_bad_ciphertext_is_one_and_the_same_error(encrypted: Encrypted) -> None:
    shown = set()
    for weights in BAD_CIPHERTEXTS.values():
        error = await encrypted.refused(submit(encrypted=terms()), weights)
        assert isinstance(error, InvalidCiphertext)
        shown.add((error.message, error.field, error.rule, tuple(error.metadata.items())))
    assert len(shown) == 1
    assert encrypted.domain.exact.touches == 0
    assert encrypted.domain.metered("queries", "c-1") == 0


@pytest.mark.parametrize("cut", [-1, 1, SIZE, -SIZE])
async def test_an_upload_of_another_length_is_refused(encrypted: Encrypted, cut: int) -> None:
    weights = GOOD[:cut] if cut < 0 else GOOD + b"\1" * cut
    assert (await encrypted.refused(submit(encrypted=terms()), weights)).rule == "encrypted.upload_length"


async def test_a_stop_during_the_upload_is_noticed(encrypted: Encrypted) -> None:
    header = await encrypted.flow.open(submit(encrypted=terms()))
    await encrypted.domain.suspend("requester", "alice")
    with pytest.raises(Suspended):
        await encrypted.flow.finish(header, GOOD)
    assert encrypted.domain.metered("queries", "c-1") == 0


async def test_a_contract_that_lapses_during_the_upload_is_not_served(encrypted: Encrypted) -> None:
    header = await encrypted.flow.open(submit(encrypted=terms()))
    encrypted.domain.clock.forward(days=40)
    with pytest.raises(PolicyDenied) as caught:
        await encrypted.flow.finish(header, GOOD)
    assert caught.value.rule == "contract.expired"


async def test_a_contract_changed_during_the_upload_is_not_served(encrypted: Encrypted) -> None:
    header = await encrypted.flow.open(submit(encrypted=terms()))
    await encrypted.domain.apply(contract_document(modes=["exact"]))
    with pytest.raises(PolicyDenied):
        await encrypted.flow.finish(header, GOOD)


# ── approvals ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_approval_serves_one_encrypted_query_and_its_replay(encrypted: Encrypted) -> None:
    await encrypted.domain.apply(contract_document(approval="per_query"), dp_contract_document())
    with pytest.raises(ApprovalRequired) as asked:
        await encrypted.flow.open(submit(encrypted=terms(), key=KEY))
    await encrypted.domain.settle(asked.value.metadata["approval"])
    first = await encrypted.run(submit(encrypted=terms(), key=KEY))
    assert await encrypted.run(submit(encrypted=terms(), key=KEY)) == first
    with pytest.raises(ApprovalRequired):
        await encrypted.flow.open(submit(encrypted=terms()))


async def test_an_approved_plain_query_does_not_run_encrypted(encrypted: Encrypted) -> None:
    await encrypted.domain.apply(contract_document(approval="per_query"))
    error = await encrypted.domain.refused(submit())
    await encrypted.domain.settle(error.metadata["approval"])
    with pytest.raises(ApprovalRequired):
        await encrypted.flow.open(submit(encrypted=terms()))


async def test_whoever_approves_sees_purpose_and_terms_of_what_would_leave(encrypted: Encrypted) -> None:
    own = encrypted.domain
    await own.apply(contract_document(approval="per_query", purposes=["research", "planning"]))
    await encrypted.register(OTHER, BOB)
    questions = (
        own.pipeline.run(submit(purpose="planning")),
        encrypted.flow.open(submit(encrypted=terms(), purpose="research")),
        encrypted.flow.run_sealed(submit(encrypted=sealed(OTHER), purpose="planning")),
    )
    shown = []
    for question in questions:
        with pytest.raises(ApprovalRequired):
            await question
        own.clock.forward(seconds=1)
        newest = own.store.read(lambda tx: approvals.page(tx, requester=None, before="", limit=1))[0]
        message = approving.approval_to_proto(newest, now=own.clock())
        keys = (message.key_id, list(message.key_owners), message.weight_bits)
        shown.append((message.purpose, message.mode, message.snapshot, *keys))
    assert shown == [
        ("planning", "exact", 1, "", [], 0),
        ("research", "encrypted", 1, OWN.public.key_id, ["alice"], 20),
        ("planning", "sealed", 1, OTHER.public.key_id, ["bob"], 0),
    ]


# ── long vectors on a cluster ──────────────────────────────────────────────────────────────────────────────────────


class Far:
    """Stands for a cluster: keeps score, and is away or fails when told to."""

    def __init__(self) -> None:
        self.vectors: list[int] = []
        self.away = self.failing = False

    async def check(self) -> None:
        if self.away:
            raise Unavailable("the cluster cannot be reached", rule="engine.unreachable")

    async def matrix_dot(self, key: PublicKey, ciphertexts: bytes, columns: Sequence[Sequence[int]]) -> bytes:
        self.vectors.append(len(ciphertexts) // key.ciphertext_bytes)
        if self.failing:
            raise Unavailable("the cluster that works on long vectors failed", rule="cluster.failed")
        return encode_ciphertexts(key, matrix_dot(key, decode_ciphertexts(key, ciphertexts), columns))


@pytest.fixture
async def far(encrypted: Encrypted) -> Far:
    """A cluster for vectors of more than three, in place of the pool alone."""
    found, pool = Far(), encrypted.flow._kernels
    encrypted.flow._reducers = Reducers(pool, found, far_above=3)
    return found


async def test_long_vectors_are_reduced_far_away_and_masked_here(encrypted: Encrypted, far: Far) -> None:
    replies = [await encrypted.run(submit(by_site(COUNT, VISITS), encrypted=terms())) for _ in range(2)]
    assert [opened(reply) for reply in replies] == [[oracle(list(CELLS))] * 2] * 2
    assert replies[0].results != replies[1].results
    assert far.vectors == [4, 4]


async def test_vectors_up_to_the_stated_length_stay_near(encrypted: Encrypted, far: Far) -> None:
    encrypted.flow._reducers = replace(encrypted.flow._reducers, far_above=4)
    far.away = True
    assert opened(await encrypted.run(submit(encrypted=terms()))) == [oracle(list(CELLS))]
    assert far.vectors == []


async def test_a_cluster_that_is_away_is_said_before_the_upload_and_charged_nothing(
    encrypted: Encrypted, far: Far
) -> None:
    far.away, before = True, len(encrypted.domain.events())
    with pytest.raises(Unavailable):
        await encrypted.flow.open(submit_dp(encrypted=terms()))
    assert len(encrypted.domain.events()) == before
    assert encrypted.domain.used("lineage-money-epsilon") == 0
    assert encrypted.domain.dp.touches == 0


async def test_an_answer_that_exists_is_fetched_while_the_cluster_is_away(encrypted: Encrypted, far: Far) -> None:
    first = await encrypted.run(submit(encrypted=terms(), key=KEY))
    far.away = True
    assert await encrypted.run(submit(encrypted=terms(), key=KEY)) == first


async def test_a_cluster_that_fails_after_the_charge_gives_money_back_and_the_same_request_may_come_again(
    encrypted: Encrypted, far: Far
) -> None:
    far.failing = True
    with pytest.raises(Unavailable):
        await encrypted.run(submit(encrypted=terms(), key=KEY))
    assert encrypted.domain.kinds()[-1] == "weir.query.voided"
    assert encrypted.domain.metered("price_micro", "c-1") == 0
    far.failing = False
    assert opened(await encrypted.run(submit(encrypted=terms(), key=KEY))) == [oracle(list(CELLS))]
    assert encrypted.domain.kinds()[-1] == "weir.query.released"
    assert encrypted.domain.metered("cells", "c-1") == 4


@pytest.mark.parametrize("bad", [0, 1, OWN.public.n, OWN.public.n_squared - 1])
async def test_no_hostile_ciphertext_reaches_the_cluster(encrypted: Encrypted, far: Far, bad: int) -> None:
    weights = encrypt(WEIGHTS)[: 3 * OWN.public.ciphertext_bytes] + encode_ciphertexts(OWN.public, [bad])
    assert isinstance(await encrypted.refused(submit(encrypted=terms()), weights), InvalidCiphertext)
    assert far.vectors == []


# ── sealed releases ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_sealed_releases_of_two_queries_add_up_under_the_key_holders_key(encrypted: Encrypted) -> None:
    await encrypted.register(OTHER, BOB)
    tables = [await encrypted.flow.run_sealed(submit(encrypted=sealed(OTHER))) for _ in range(3)]
    answer = encrypted_service_pb2.EncryptedAnswer.FromString(tables[0].answer)
    layout = Packing.for_key(OTHER.public, value_bits=(10**6).bit_length(), parties=3)
    assert (answer.slots, answer.slot_bits, answer.max_addends) == (layout.slots, layout.slot_bits, 3)
    parts = [decode_ciphertexts(OTHER.public, table.results) for table in tables]
    total = [add_all(OTHER.public, column) for column in zip(*parts, strict=True)]
    assert unpack(layout, OTHER.decrypt_many(total), 4) == [3 * cell for cell in CELLS]


async def test_a_sealed_release_is_charged_as_its_table_and_replayed_as_it_was(encrypted: Encrypted) -> None:
    first = await encrypted.flow.run_sealed(submit_dp(encrypted=sealed(), key=KEY))
    assert await encrypted.flow.run_sealed(submit_dp(encrypted=sealed(), key=KEY)) == first
    assert encrypted.domain.metered("cells", "d-1") == 4
    assert encrypted.domain.used("lineage-money-epsilon") == NANO // 2
    assert encrypted.domain.dp.draws == 1


async def test_a_stop_holds_back_a_sealed_release_that_exists(encrypted: Encrypted) -> None:
    await encrypted.domain.pipeline.run(submit())
    await encrypted.domain.suspend("dataset", "census")
    with pytest.raises(Suspended):
        await encrypted.flow.run_sealed(submit(encrypted=sealed()))


async def test_sealing_to_an_unknown_key_is_refused(encrypted: Encrypted) -> None:
    with pytest.raises(InvalidKey):
        await encrypted.flow.run_sealed(submit(encrypted=sealed(OTHER)))


# ── keys ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_key_registered_twice_is_one_key_and_one_leaf(encrypted: Encrypted) -> None:
    for _ in range(2):
        assert await encrypted.register(OTHER, BOB) == OTHER.public.key_id
    assert len(encrypted.domain.events("weir.key.registered")) == 1


async def test_a_proof_made_for_another_name_registers_nothing(encrypted: Encrypted) -> None:
    proof = OTHER.prove(key_context(ALICE))
    with pytest.raises(InvalidKey):
        await encrypted.flow.register_key(BOB, OTHER.public.to_bytes(), proof)
    with pytest.raises(InvalidKey):
        await encrypted.flow.run_sealed(submit(encrypted=sealed(OTHER)))


async def test_a_failure_after_the_reservation_gives_money_back(encrypted: Encrypted) -> None:
    def fail(bound: object) -> None:
        raise ValueError("cell 424242")

    encrypted.domain.dp.on_execute = fail
    with pytest.raises(ValueError, match="424242"):
        await encrypted.run(submit_dp(encrypted=terms()))
    assert encrypted.domain.kinds()[-1] == "weir.query.voided"
    assert encrypted.domain.used("lineage-money-epsilon") == NANO // 2
    assert encrypted.domain.metered("price_micro", "d-1") == 0
