# SPDX-License-Identifier: Apache-2.0
"""The whole path over really published data: answers are right, and swapping people within atoms changes no byte that
a coalition hears."""

import os
import random
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tests.support.domain import (
    ALICE,
    BOB,
    COUNT,
    DOLLARS,
    NANO,
    VISITS,
    Domain,
    by_site,
    census_card,
    contract_document,
    dp_contract_document,
    equals,
    open_domain,
    spending_card,
    submit,
    submit_dp,
)
from tests.support.ledger import Clock
from tests.support.paillier import real_keypair
from weir.errors import WeirError
from weir.paillier import decode_ciphertexts, encode_ciphertexts
from weir.query import Aggregate, Function, Query, canonicalise
from weir.v1 import answer_pb2, encrypted_service_pb2
from weir.wire import error_to_status
from weir_server.catalog.card import Bounds, Mode, Source
from weir_server.dp.technique import DpTechnique
from weir_server.encrypted.flow import EncryptedQueries
from weir_server.encrypted.pool import KernelPool
from weir_server.exact.technique import ExactTechnique
from weir_server.plan.values import EncryptedTerms, Submission
from weir_server.policy import book
from weir_server.publish.publisher import publish

SITES, AGES = ("north", "south", "west", "east"), (5, 30, 70)
CANARY = 97
"""A number of visits that one person alone has; it must be in no file but the source and the sealed snapshot."""
Person = tuple[str, str, int, int]
"""Person, site, age, visits."""


def people(seed: int = 1) -> list[Person]:
    rng = random.Random(seed)
    rows = [(f"p{at}", SITES[at % 4], AGES[at % 3], rng.randint(0, 20)) for at in range(600)]
    return [*rows[:-1], (*rows[-1][:3], CANARY)]


def swapped(rows: list[Person], seed: int) -> list[Person]:
    """The same people; within each site and age their records change hands."""
    rng, groups = random.Random(seed), defaultdict(list)
    for person, site, age, visits in rows:
        groups[site, age].append((person, visits))
    result = []
    for (site, age), members in groups.items():
        records = [visits for _, visits in members]
        rng.shuffle(records)
        result += [(person, site, age, visits) for (person, _), visits in zip(members, records, strict=True)]
    return result


def write(path: Path, rows: list[Person]) -> Path:
    path.write_text("person,site,age,visits,dollars\n" + "".join(f"{p},{s},{a},{v},{v}.25\n" for p, s, a, v in rows))
    return path


@asynccontextmanager
async def published(directory: Path, rows: list[Person]) -> AsyncIterator[Domain]:
    """A domain with real techniques over both datasets, published from `rows`."""
    directory.mkdir()  # noqa: ASYNC240
    source = write(directory / "people.csv", rows)
    data = directory / "data"
    data.mkdir()
    dp = DpTechnique()
    domain = open_domain(data, techniques={Mode.EXACT: ExactTechnique(), Mode.DP: dp}, clock=Clock())
    try:
        for card in (census_card(), spending_card(bounds=Bounds(rows_per_unit=1))):
            sealed = publish(
                replace(card, source=Source("csv", "people.csv")),
                card_directory=directory,
                data_dir=data,
                version=1,
                previous=None,
                now=domain.clock(),
                salt=bytes(32),
                source_override=source,
                entropy=bytes,  # the salt of manifests: what is told of them would differ by it alone
            )
            await domain.activate(card, digest=sealed.manifest_digest)
        await domain.apply(
            contract_document(), contract_document("b-1", requester="bob"), dp_contract_document(),
            dp_contract_document("e-1", requester="bob"),
        )  # fmt: skip
        yield domain
        await domain.pipeline.turns.drain(seconds=10)
    finally:
        domain.store.close()
        dp.close()


async def test_exact_answers_are_those_of_plain_integers(tmp_path: Path) -> None:
    rows = people()
    async with published(tmp_path / "one", rows) as domain:
        answered = await domain.pipeline.run(submit(by_site(COUNT, VISITS)))
    columns = {column.name: column for column in answer_pb2.Answer.FromString(answered.answer).values}
    for name, of in (("count", lambda visits: 1), ("sum(visits)", lambda visits: visits)):
        expected = [sum(of(visits) for _, at, _, visits in rows if at == site) for site in SITES]
        assert [int(text) for text in columns[name].numerators] == expected


async def test_a_dp_answer_is_near_the_truth_and_drawn_once(tmp_path: Path) -> None:
    rows = people()
    async with published(tmp_path / "one", rows) as domain:
        first = await domain.pipeline.run(submit_dp(epsilon=NANO))
        again = await domain.pipeline.run(submit_dp(epsilon=NANO, who=BOB, contract="e-1"))
        assert domain.used("lineage-money-epsilon") == NANO
    column = answer_pb2.Answer.FromString(first.answer).values[0]
    assert column.numerators == answer_pb2.Answer.FromString(again.answer).values[0].numerators
    # Laplace noise of scale 100,000 grid steps: beyond 40 scales with probability e**-40.
    for site, text in zip(SITES, column.numerators, strict=True):
        truth = sum(100 * visits + 25 for _, at, _, visits in rows if at == site)
        assert abs(int(text) - truth) < 40 * 100_000


async def test_secret_weights_over_real_releases_decrypt_to_the_weighted_release(tmp_path: Path) -> None:
    keys, weights = real_keypair(), [3, -2, 0, 1000]
    terms = EncryptedTerms("weights", keys.public.key_id, weights=4, weight_bits=10)
    upload = encode_ciphertexts(keys.public, keys.encrypt_many(weights))
    pool = KernelPool(1)
    async with published(tmp_path / "one", people()) as domain:
        flow = EncryptedQueries(
            pipeline=domain.pipeline, store=domain.store, kernels=pool, clock=domain.clock, entropy=os.urandom
        )
        own = keys.public
        domain.store.write_sync(
            lambda tx: book.add_public_key(
                tx, key_id=own.key_id, owner="alice", modulus=own.to_bytes(), now=domain.clock()
            )
        )
        for plain in (submit(by_site(COUNT, VISITS)), submit_dp(by_site(DOLLARS, dataset="spending"))):
            secret = replace(plain, encrypted=terms, idempotency_key=secrets.token_hex(12), request_digest="e" * 64)
            answered = await flow.finish(await flow.open(secret), upload)
            release = answer_pb2.Answer.FromString((await domain.pipeline.run(plain)).answer)
            bits = encrypted_service_pb2.EncryptedAnswer.FromString(answered.answer).reply_bits
            expected = [
                sum(w * int(text) for w, text in zip(weights, column.numerators, strict=True))
                for column in release.values
            ]
            assert keys.decrypt_many(decode_ciphertexts(keys.public, answered.results), bits=bits) == expected
    await pool.close()


def questions() -> list[Submission]:
    """What Alice and Bob ask together: overlaps, complements, coarser and finer, refusals."""
    mean = Aggregate(Function.AVG, "visits")
    queries = [
        by_site(COUNT, VISITS),
        by_site(VISITS, where=equals("age", 0)),
        by_site(VISITS, where=equals("coast", "sea")),
        canonicalise(Query("census", (COUNT, VISITS, mean), ("age", "site"))),
        canonicalise(Query("census", (VISITS,), (), equals("site", "north"))),
        canonicalise(Query("census", (mean,), ("coast",))),
        by_site(VISITS, where=equals("visits", CANARY)),
        by_site(VISITS, where=equals("age", 19)),
    ]
    return [submit(query, who=who, contract=c) for query in queries for who, c in ((ALICE, "c-1"), (BOB, "b-1"))]


async def heard(domain: Domain) -> list[bytes]:
    found = []
    for question in questions():
        found.append(await estimated(domain, question))
        try:
            found.append((await domain.pipeline.run(question)).answer)
        except WeirError as error:
            error.receipt = None
            found.append(error_to_status(error).SerializeToString(deterministic=True))
    return found


async def estimated(domain: Domain, question: Submission) -> bytes:
    try:
        estimate = await domain.pipeline.estimate(question)
    except WeirError as error:
        refusal: bytes = error_to_status(error).SerializeToString(deterministic=True)
        return refusal
    told: bytes = estimate.SerializeToString(deterministic=True)
    return told


async def test_swapping_people_within_atoms_changes_nothing_that_a_coalition_hears(tmp_path: Path) -> None:
    transcripts = []
    for at, rows in enumerate((people(), swapped(people(), 2), swapped(people(), 3))):
        async with published(tmp_path / str(at), rows) as domain:
            transcripts.append(await heard(domain))
    assert transcripts[0] == transcripts[1] == transcripts[2]


async def test_no_single_record_reaches_the_books(tmp_path: Path) -> None:
    rows = [(person, site, age, visits) for person, site, age, visits in people() if visits != CANARY]
    rows.append(("person-8675309", "north", 5, CANARY))
    async with published(tmp_path / "one", rows) as domain:
        await heard(domain)
        for epsilon in (NANO, NANO - 1):
            await domain.pipeline.run(submit_dp(epsilon=epsilon))
    for path in (tmp_path / "one" / "data").glob("ledger*"):
        assert b"8675309" not in path.read_bytes()
