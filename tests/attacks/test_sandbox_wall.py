# SPDX-License-Identifier: Apache-2.0
"""The sandbox over a domain with really published data: nothing that it says depends on the data, and it writes nothing
that the books know of."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.domain import (
    ALICE,
    COUNT,
    DOLLARS,
    NANO,
    VISITS,
    Domain,
    by_site,
    census_card,
    equals,
    open_domain,
    spending_card,
)
from tests.support.ledger import SIGNER, Clock
from weir.errors import InvalidQuery, PolicyDenied, Suspended, UnknownName, WeirError
from weir.query import Aggregate, Function, Query
from weir.v1 import answer_pb2, query_service_pb2
from weir.wire import error_to_status, query_to_proto
from weir_server.catalog.card import Bounds, Grade, Mode, Source
from weir_server.dp import technique
from weir_server.dp.technique import DpTechnique
from weir_server.exact.technique import ExactTechnique
from weir_server.log.receipts import Receipts
from weir_server.observe import Metrics
from weir_server.publish.publisher import publish
from weir_server.sandbox.answers import Sandbox
from weir_server.sandbox.builds import Bounds as BuildBounds
from weir_server.sandbox.builds import Builds
from weir_server.services.guard import Call
from weir_server.services.query import QueryService
from weir_server.store import Transaction, integer

CANARY = "canary-of-the-source"
SITES, AGES = ("north", "south", "west", "east"), (5, 30, 70)
QUERIES = (
    by_site(COUNT, VISITS),
    by_site(COUNT, where=equals("coast", "sea")),
    by_site(Aggregate(Function.AVG, "visits")),
    by_site(DOLLARS, COUNT, dataset="spending"),
    by_site(Aggregate(Function.AVG, "dollars"), dataset="spending"),
    by_site(Aggregate(Function.SUM, "height")),
    by_site(COUNT, where=equals("site", "nowhere")),
    by_site(COUNT, dataset="secrets"),
)


@asynccontextmanager
async def playground(directory: Path, visits: Sequence[int]) -> AsyncIterator[tuple[Domain, QueryService]]:
    """A domain with really published data, and its query service with a sandbox."""
    directory.mkdir()  # noqa: ASYNC240
    rows = [f"{CANARY}-{at},{SITES[at % 4]},{AGES[at % 3]},{number},{number}.25" for at, number in enumerate(visits)]
    source = directory / "people.csv"
    source.write_text("\n".join(["person,site,age,visits,dollars", *rows]) + "\n")
    data = directory / "data"
    data.mkdir()
    dp = DpTechnique()
    domain = open_domain(data, techniques={Mode.EXACT: ExactTechnique(), Mode.DP: dp}, clock=Clock())
    builds = Builds(data / "sandbox", clock=lambda: 0.0, bounds=BuildBounds(pause_seconds=0))
    sandbox = Sandbox(builds, clock=lambda: 0.0)
    try:
        for card in (
            census_card(),
            spending_card(bounds=Bounds(rows_per_unit=1)),
            census_card(name="secrets", lineage="secrets"),
        ):
            sealed = publish(
                replace(card, source=Source("csv", "people.csv")),
                card_directory=directory,
                data_dir=data,
                version=1,
                previous=None,
                now=domain.clock(),
                salt=os.urandom(32),
                source_override=source,
            )
            await domain.activate(card, digest=sealed.manifest_digest)
        receipts = Receipts([SIGNER])
        service = QueryService(domain.pipeline, domain.store, receipts, Metrics(), state=domain.state, sandbox=sandbox)
        yield domain, service
    finally:
        await sandbox.close()
        domain.store.close()
        dp.close()


def request(query: Query, *, mode: int = 0) -> query_service_pb2.RunSandboxQueryRequest:
    envelope = query_service_pb2.QueryEnvelope(query=query_to_proto(query), mode=mode)
    if query.dataset == "spending":
        envelope.epsilon_nano = NANO
    return query_service_pb2.RunSandboxQueryRequest(envelope=envelope)


async def hear(domain: Domain, service: QueryService, query: Query, *, mode: int = 0) -> bytes:
    """Every byte that a requester hears: the reply, or the error as it would travel."""
    call = Call(ALICE, "/weir.v1.QueryService/RunSandboxQuery", domain.clock())
    try:
        reply = await service.RunSandboxQuery(request(query, mode=mode), call)
    except WeirError as error:
        return error_to_status(error).SerializeToString()
    return reply.answer


def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(technique, "add_laplace", lambda values, scale: list(values))


async def test_the_replies_of_two_domains_with_equal_cards_are_equal_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_noise(monkeypatch)
    heard = []
    for name, visits in (("one", [at % 20 for at in range(600)]), ("two", [99] * 480)):
        async with playground(tmp_path / name, visits) as (domain, service):
            heard.append([await hear(domain, service, query) for query in QUERIES])
    assert heard[0] == heard[1]
    answers = [answer_pb2.Answer.FromString(reply) for reply in heard[0][:5]]
    assert all(answer.sandbox and len(answer.values[0].numerators) == 4 for answer in answers)


async def test_replies_are_the_same_when_the_data_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_noise(monkeypatch)
    async with playground(tmp_path / "one", [at % 20 for at in range(600)]) as (domain, service):
        before = [await hear(domain, service, query) for query in QUERIES[:5]]
    async with playground(tmp_path / "two", [at % 20 for at in range(600)]) as (domain, service):
        for place in ("snapshots", "private"):
            shutil.rmtree(domain.directory / place)
        (tmp_path / "two" / "people.csv").unlink()
        assert [await hear(domain, service, query) for query in QUERIES[:5]] == before


async def test_no_synthetic_file_holds_anything_of_the_source(tmp_path: Path) -> None:
    async with playground(tmp_path / "one", [at % 20 for at in range(600)]) as (domain, service):
        for query in QUERIES[:5]:
            await hear(domain, service, query)
        assert len(list((domain.directory / "sandbox").iterdir())) == 2
        kept = [path.read_bytes() for path in (domain.directory / "sandbox").rglob("*") if path.is_file()]
        assert kept
        assert all(CANARY.encode() not in content and b"people.csv" not in content for content in kept)


async def test_noise_is_drawn_for_real(tmp_path: Path) -> None:
    async with playground(tmp_path / "one", [1] * 600) as (domain, service):
        replies = {await hear(domain, service, QUERIES[3]) for _ in range(3)}
        assert len(replies) == 3


async def test_nothing_is_charged_and_no_leaf_is_left(tmp_path: Path) -> None:
    async with playground(tmp_path / "one", [1] * 600) as (domain, service):
        before = books(domain)
        for query in QUERIES:
            await hear(domain, service, query)
        assert books(domain) == before


def books(domain: Domain) -> dict[str, int]:
    """Rows of every table of the books."""

    def count(tx: Transaction) -> dict[str, int]:
        names = [str(row[0]) for row in tx.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: integer(tx.execute(f"SELECT count(*) FROM {name}")[0][0]) for name in names}

    return domain.store.read(count)


@pytest.mark.parametrize("grade", [Grade.CORE, Grade.IMPORTANT])
async def test_what_the_grade_forbids_is_forbidden_here_with_the_same_words(tmp_path: Path, grade: Grade) -> None:
    async with playground(tmp_path / "one", [1] * 600) as (domain, service):
        stricter = replace(census_card(), grade=grade, measures=())
        catalogue = domain.state.world.catalogue
        (known,) = catalogue.datasets["census"]
        domain.state.world = replace(
            domain.state.world, catalogue=catalogue.with_snapshot(replace(known, card=stricter, version=2))
        )
        call = Call(ALICE, "/weir.v1.QueryService/RunSandboxQuery", domain.clock())
        for version in (1, 2):
            asked = replace(by_site(COUNT), snapshot=version)
            with pytest.raises(PolicyDenied) as refused:
                await service.RunSandboxQuery(request(asked, mode=answer_pb2.MODE_EXACT), call)
            assert [reason.code for reason in refused.value.reasons] == ["grade.technique"]
        assert not (domain.directory / "sandbox").exists()


@pytest.mark.parametrize(("scope", "name"), [("requester", "alice"), ("dataset", "census"), ("all", "")])
async def test_whoever_is_stopped_does_not_play(tmp_path: Path, scope: str, name: str) -> None:
    async with playground(tmp_path / "one", [1] * 600) as (domain, service):
        domain.state.world = replace(domain.state.world, suspensions=frozenset({(scope, name)}))
        call = Call(ALICE, "/weir.v1.QueryService/RunSandboxQuery", domain.clock())
        with pytest.raises(Suspended):
            await service.RunSandboxQuery(request(by_site(COUNT)), call)


async def test_refusals_are_those_of_a_real_query(tmp_path: Path) -> None:
    async with playground(tmp_path / "one", [1] * 600) as (domain, service):
        call = Call(ALICE, "/weir.v1.QueryService/RunSandboxQuery", domain.clock())
        for query, kind, rule in (
            (QUERIES[5], UnknownName, "name.measure"),
            (QUERIES[6], InvalidQuery, "literal.domain"),
            (replace(by_site(COUNT), dataset="elsewhere"), UnknownName, "name.dataset"),
        ):
            with pytest.raises(kind) as refused:
                await service.RunSandboxQuery(request(query), call)
            assert refused.value.rule == rule
