# SPDX-License-Identifier: Apache-2.0
import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.domain import ALICE, Domain, census_card, open_domain, spending_card
from weir.errors import InvalidRequest, UnknownName
from weir.v1 import catalogue_service_pb2 as pb
from weir_server.catalog.card import Grade
from weir_server.catalog.export_dcat import Domain as Whose
from weir_server.catalog.rates import Rates
from weir_server.services import exports
from weir_server.services.catalogue import CatalogueService
from weir_server.services.guard import Call


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[Domain]:
    opened = open_domain(tmp_path)
    yield opened
    opened.store.close()


@pytest.fixture
def service(domain: Domain) -> CatalogueService:
    return CatalogueService(domain.state, Whose("test.weir", "127.0.0.1:7443"))


def call(domain: Domain) -> Call:
    return Call(ALICE, "/weir.v1.CatalogueService/ListDatasets", domain.clock())


async def names(service: CatalogueService, domain: Domain, **asked: object) -> list[str]:
    reply = await service.ListDatasets(pb.ListDatasetsRequest(**asked), call(domain))  # type: ignore[arg-type]
    return [item.name for item in reply.datasets]


async def test_a_search_finds_words_of_whole_cards_and_pages_by_name(domain: Domain, service: CatalogueService) -> None:
    await domain.activate(census_card(description="人口普查 by site"))
    await domain.activate(spending_card())
    assert await names(service, domain) == ["census", "spending"]
    assert await names(service, domain, search="普查 site") == ["census"]
    assert await names(service, domain, search="dollars") == ["spending"]
    assert await names(service, domain, search="普查 dollars") == []
    first = await service.ListDatasets(pb.ListDatasetsRequest(page_size=1), call(domain))
    assert first.next_page_token == "census"
    assert await names(service, domain, page_size=1, page_token="census") == ["spending"]
    with pytest.raises(InvalidRequest) as refused:
        await names(service, domain, search="x" * 101)
    assert refused.value.rule == "search.length"


async def test_a_card_travels_with_all_that_it_says(domain: Domain, service: CatalogueService) -> None:
    await domain.activate(
        census_card(
            unit_namespace="national-id",
            quality={"completeness": "Everybody."},
            update_frequency="yearly",
            list_rates=Rates(per_query_micro=7),
        )
    )
    shown = (await service.GetDataset(pb.GetDatasetRequest(dataset="census"), call(domain))).dataset
    assert (shown.unit_namespace, shown.update_frequency, dict(shown.quality)) == (
        "national-id",
        "yearly",
        {"completeness": "Everybody."},
    )
    assert (shown.list_rates.currency, shown.list_rates.per_query_micro) == ("CNY", 7)
    assert shown.snapshots[0].published.seconds > 0


async def test_the_grade_that_holds_is_shown_beside_the_cards_own(domain: Domain, service: CatalogueService) -> None:
    await domain.activate(census_card())
    catalogue = domain.state.world.catalogue
    (snapshot,) = catalogue.datasets["census"]
    older = replace(snapshot, card=replace(snapshot.card, grade=Grade.CORE), version=0)
    regraded = replace(catalogue, datasets={"census": (snapshot, older)})
    domain.state.world = replace(domain.state.world, catalogue=regraded)
    shown = (await service.GetDataset(pb.GetDatasetRequest(dataset="census"), call(domain))).dataset
    assert (shown.grade, shown.effective_grade) == (pb.GRADE_GENERAL, pb.GRADE_CORE)
    assert list(shown.modes) == []


async def test_exports_are_of_all_datasets_or_of_one(domain: Domain, service: CatalogueService) -> None:
    await domain.activate(census_card())
    await domain.activate(spending_card())
    whole = await service.ExportCatalogue(pb.ExportCatalogueRequest(format="dcat"), call(domain))
    assert [item["dcterms:identifier"] for item in json.loads(whole.document)["dcat:dataset"]] == ["census", "spending"]
    one = await service.ExportCatalogue(pb.ExportCatalogueRequest(format="dcat", dataset="census"), call(domain))
    assert [item["dcterms:identifier"] for item in json.loads(one.document)["dcat:dataset"]] == ["census"]
    contract = await service.ExportCatalogue(pb.ExportCatalogueRequest(format="odcs", dataset="spending"), call(domain))
    assert contract.document.startswith("apiVersion: v3.1.0\n")


@pytest.mark.parametrize(
    ("asked", "kind", "rule"),
    [
        ({"format": "rdf"}, InvalidRequest, "export.format"),
        ({}, InvalidRequest, "export.format"),
        ({"format": "odcs"}, InvalidRequest, "export.dataset"),
        ({"format": "dcat", "dataset": "nothing"}, UnknownName, "name.dataset"),
    ],
    ids=["unknown format", "no format", "odcs of all", "unknown dataset"],
)
async def test_an_export_that_cannot_be_is_refused(
    domain: Domain, service: CatalogueService, asked: dict[str, str], kind: type[Exception], rule: str
) -> None:
    with pytest.raises(kind) as refused:
        await service.ExportCatalogue(pb.ExportCatalogueRequest(**asked), call(domain))
    assert refused.value.rule == rule  # type: ignore[attr-defined]


async def test_a_regrading_certificate_shows_until_when_it_holds(
    domain: Domain, service: CatalogueService, monkeypatch: pytest.MonkeyPatch
) -> None:
    await domain.activate(census_card())
    until = datetime(2031, 5, 1, tzinfo=UTC)
    monkeypatch.setattr(type(domain.state.world), "certified_until", lambda self, card, *, now: until)
    shown = (await service.GetDataset(pb.GetDatasetRequest(dataset="census"), call(domain))).dataset
    assert shown.certified_until.ToDatetime(tzinfo=UTC) == until


async def test_an_export_is_made_once_until_something_changes(
    domain: Domain, service: CatalogueService, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counted(graded: object, whose: object) -> str:
        made.append(graded)
        return f"document {len(made)}"

    monkeypatch.setattr(exports, "dcat_document", counted)
    await domain.activate(census_card())
    asked = pb.ExportCatalogueRequest(format="dcat")
    replies = await asyncio.gather(*(service.ExportCatalogue(asked, call(domain)) for _ in range(5)))
    assert {reply.document for reply in replies} == {"document 1"}
    await domain.activate(spending_card())
    assert (await service.ExportCatalogue(asked, call(domain))).document == "document 2"


async def test_a_search_sees_a_newer_card(domain: Domain, service: CatalogueService) -> None:
    await domain.activate(census_card(description="first words"))
    assert await names(service, domain, search="first words") == ["census"]
    await domain.activate(census_card(description="other words"), 2)
    assert await names(service, domain, search="first words") == []
    assert await names(service, domain, search="other words") == ["census"]
