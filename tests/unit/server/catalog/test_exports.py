# SPDX-License-Identifier: Apache-2.0
"""Exports read back by others' tools: DCAT by an RDF library, ODCS by the standard's own JSON schema."""

import json
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import open_data_contract_standard
import pytest
import rdflib
import yaml
from rdflib.namespace import DCAT as DCAT_2
from rdflib.namespace import DCTERMS, FOAF, RDF, RDFS

from tests.support.cards import clinic, parse, spending
from weir_server.catalog.card import DatasetCard, Grade
from weir_server.catalog.export_dcat import Domain, dcat_document
from weir_server.catalog.export_odcs import odcs_contract, odcs_document
from weir_server.catalog.snapshot import Snapshot

DOMAIN = Domain("test.weir", "127.0.0.1:7443")
DCAT = rdflib.Namespace(str(DCAT_2))
NEW_IN_DCAT_3 = {
    *("DatasetSeries", "first", "hasCurrentVersion", "hasVersion", "inSeries", "isVersionOf", "last", "prev"),
    *("previousVersion", "resource", "seriesMember", "version"),
}
"""What the library's own list, of DCAT 2, does not know."""
ODRL = rdflib.Namespace("http://www.w3.org/ns/odrl/2/")
DPV = rdflib.Namespace("https://w3id.org/dpv#")
EU = "http://publications.europa.eu/resource/authority/"
SAID: dict[str, Any] = {
    "title": "门诊 visits",
    "contact": "data@clinic.example",
    "licence": "https://creativecommons.org/licenses/by/4.0/",
    "quality": {"completeness": "Every visit is in it.", "care": "Entered by hand."},
    "update_frequency": "quarterly",
    "list_rates": {"currency": "CNY", "per_query": "0.5", "per_epsilon": "12"},
    "keywords": ["health", "健康"],
}


def node(*path: object) -> rdflib.URIRef:
    return rdflib.URIRef(DOMAIN.iri(*path))


def versions(card: DatasetCard, count: int = 2) -> tuple[Snapshot, ...]:
    return tuple(
        Snapshot(card, v, datetime(2026, v, 1, tzinfo=UTC), f"{v:064x}", Path("/domain/secret/path"), ("atoms.jsonl",))
        for v in range(count, 0, -1)
    )


def full() -> DatasetCard:
    card = parse(clinic() | SAID)
    first = replace(card.dimensions[0], grading_scheme="JR/T 0197-2020")
    return replace(
        card,
        dimensions=(first, *card.dimensions[1:]),
        unit_namespace="national-id",
        derived_from=("raw",),
        personal_information=True,
        legal_basis="consent register 7",
    )


def graph(*cards: DatasetCard, grade: Grade | None = None) -> rdflib.Graph:
    document = dcat_document([(versions(card), grade or card.grade) for card in cards], DOMAIN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the library's own
        return rdflib.Graph().parse(data=document, format="json-ld")


def test_the_catalogue_names_its_publisher_service_and_datasets() -> None:
    found = graph(full(), parse(spending()))
    catalogue = node("catalogue")
    assert (catalogue, RDF.type, DCAT.Catalog) in found
    assert set(found.objects(catalogue, DCAT.dataset)) == {node("dataset", "clinic"), node("dataset", "spending")}
    assert found.value(found.value(catalogue, DCTERMS.publisher), FOAF.name) == rdflib.Literal("test.weir")
    service = found.value(catalogue, DCAT.service)
    assert (service, RDF.type, DCAT.DataService) in found
    assert found.value(service, DCAT.endpointURL) == rdflib.URIRef("grpcs://127.0.0.1:7443")
    assert set(found.objects(service, DCAT.servesDataset)) == {node("dataset", "clinic"), node("dataset", "spending")}


@pytest.mark.parametrize(
    ("kind", "properties"),
    [
        (DCAT.Catalog, (DCTERMS.title, DCTERMS.description, DCTERMS.publisher, DCAT.dataset)),
        (DCAT.Dataset, (DCTERMS.title, DCTERMS.description, DCTERMS.publisher, DCAT.contactPoint)),
        (DCAT.DatasetSeries, (DCTERMS.title, DCTERMS.description)),
        (DCAT.Distribution, (DCAT.accessURL,)),
        (DCAT.DataService, (DCTERMS.title, DCAT.endpointURL)),
        (DCAT.CatalogRecord, (DCTERMS.modified, FOAF.primaryTopic)),
    ],
    ids=["catalogue", "dataset", "series", "distribution", "service", "record"],
)
def test_everything_has_what_dcat_ap_makes_mandatory(
    kind: rdflib.URIRef, properties: tuple[rdflib.URIRef, ...]
) -> None:
    found = graph(full(), parse(spending()))
    subjects = list(found.subjects(RDF.type, kind))
    assert subjects
    for subject in subjects:
        for wanted in properties:
            assert found.value(subject, wanted) is not None, (subject, wanted)


def test_every_term_used_of_dcat_and_dublin_core_exists_there() -> None:
    found = graph(full(), parse(spending()))
    used = {str(term) for triple in found for term in (triple[1], *(triple[2:] if triple[1] == RDF.type else ()))}
    for space, more in ((DCAT_2, NEW_IN_DCAT_3), (DCTERMS, set()), (FOAF, set())):
        names = {term.removeprefix(str(space)) for term in used if term.startswith(str(space))}
        assert names
        assert {name for name in names - more if rdflib.URIRef(str(space) + name) not in space} == set()


def test_versions_hang_together_newest_first() -> None:
    found = graph(full())
    own = node("dataset", "clinic")
    assert set(found.objects(own, DCAT.hasVersion)) == {node("dataset", "clinic", 1), node("dataset", "clinic", 2)}
    assert found.value(own, DCAT.hasCurrentVersion) == node("dataset", "clinic", 2)
    assert found.value(node("dataset", "clinic", 2), DCAT.previousVersion) == node("dataset", "clinic", 1)
    assert found.value(node("dataset", "clinic", 1), DCAT.previousVersion) is None
    assert str(found.value(node("dataset", "clinic", 1), DCAT.version)) == "1"
    issued = found.value(node("dataset", "clinic", 2), DCTERMS.issued)
    assert isinstance(issued, rdflib.Literal)
    assert issued.toPython() == datetime(2026, 2, 1, tzinfo=UTC)


def test_what_a_card_says_is_said_in_the_words_of_the_vocabularies() -> None:
    found, own = graph(full()), node("dataset", "clinic")
    assert found.value(own, DCTERMS.title) == rdflib.Literal("门诊 visits")
    assert set(found.objects(own, DCAT.keyword)) == {rdflib.Literal("health"), rdflib.Literal("健康")}
    assert found.value(own, DCTERMS.accrualPeriodicity) == rdflib.URIRef(f"{EU}frequency/QUARTERLY")
    assert found.value(own, DCTERMS.accessRights) == rdflib.URIRef(f"{EU}access-right/RESTRICTED")
    assert found.value(own, DCTERMS.source) == node("dataset", "raw")
    assert found.value(own, DCAT.inSeries) == node("lineage", "clinic")
    answers = found.value(own, DCAT.distribution)
    assert found.value(answers, DCTERMS.license) == rdflib.URIRef(SAID["licence"])
    labels = {str(found.value(right, RDFS.label)) for right in found.objects(own, DCTERMS.rights)}
    assert "Grade GENERAL under GB/T 43697-2024" in labels
    assert "region: grade GENERAL under JR/T 0197-2020" in labels
    assert str(found.value(found.value(own, DPV.hasLegalBasis), RDFS.label)) == "consent register 7"
    assert found.value(own, DPV.hasPersonalData) is not None
    assert len(list(found.subjects(RDF.type, rdflib.URIRef("http://www.w3.org/ns/dqv#QualityAnnotation")))) == 2


def test_the_offer_lets_nobody_copy_and_tracks_use() -> None:
    found, own = graph(full()), node("dataset", "clinic")
    offer = found.value(own, ODRL.hasPolicy)
    assert (offer, RDF.type, ODRL.Offer) in found
    forbidden = {found.value(rule, ODRL.action) for rule in found.objects(offer, ODRL.prohibition)}
    assert forbidden == {ODRL.reproduce, ODRL.distribute, ODRL.sell}
    duties = {
        found.value(duty, ODRL.action)
        for rule in found.objects(offer, ODRL.permission)
        for duty in found.objects(rule, ODRL.duty)
    }
    assert duties == {ODRL.acceptTracking, ODRL.compensate}


def test_core_data_is_catalogued_and_neither_served_nor_offered() -> None:
    found, own = graph(full(), grade=Grade.CORE), node("dataset", "clinic")
    assert found.value(own, DCTERMS.accessRights) == rdflib.URIRef(f"{EU}access-right/NON_PUBLIC")
    assert found.value(own, DCAT.distribution) is None
    assert found.value(found.value(own, ODRL.hasPolicy), ODRL.permission) is None
    assert list(found.objects(node("service"), DCAT.servesDataset)) == []


def test_what_is_not_declared_is_not_said() -> None:
    found, own = graph(parse(spending())), node("dataset", "spending")
    for absent in (DCTERMS.accrualPeriodicity, DCTERMS.source, DCTERMS.spatial, DCTERMS.temporal):
        assert found.value(own, absent) is None


@pytest.mark.parametrize("contact", ["data@clinic.example", "https://clinic.example/data", ""])
def test_a_contact_leads_to_a_mailbox_or_a_page(contact: str) -> None:
    found = graph(replace(full(), contact=contact))
    point = found.value(node("dataset", "clinic"), DCAT.contactPoint)
    vcard = rdflib.Namespace("http://www.w3.org/2006/vcard/ns#")
    reached = found.value(point, vcard.hasEmail) or found.value(point, vcard.hasURL)
    expected = {"": None, "data@clinic.example": rdflib.URIRef("mailto:data@clinic.example")}
    assert reached == expected.get(contact, rdflib.URIRef(contact))


def schema() -> dict[str, Any]:
    path = Path(open_data_contract_standard.__file__).with_name("schema.json")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def check(document: str) -> dict[str, Any]:
    """The contract in a YAML text, held against the standard's schema."""
    content: dict[str, Any] = yaml.safe_load(document)
    known = schema()
    jsonschema.validators.validator_for(known)(known, format_checker=jsonschema.FormatChecker()).validate(content)
    return content


@pytest.mark.parametrize("card", [full(), parse(clinic()), parse(spending())], ids=["full", "exact", "dp"])
@pytest.mark.parametrize("grade", list(Grade), ids=lambda grade: grade.name)
def test_a_contract_is_valid_by_the_standards_schema(card: DatasetCard, grade: Grade) -> None:
    content = check(odcs_document(versions(card), grade, DOMAIN))
    assert content["id"] == f"weir://test.weir/dataset/{card.name}"
    assert ("servers" in content) == (grade is not Grade.CORE and (card.name == "spending" or grade is Grade.GENERAL))


def test_the_schema_would_notice() -> None:
    content = yaml.safe_load(odcs_document(versions(full()), Grade.GENERAL, DOMAIN))
    with pytest.raises(jsonschema.ValidationError):
        check(yaml.safe_dump(content | {"responsible": "nobody"}))


def test_columns_carry_type_bounds_grade_and_scheme() -> None:
    content = check(odcs_document(versions(full()), Grade.GENERAL, DOMAIN))
    columns = {item["name"]: item for item in content["schema"][0]["properties"]}
    said = {item["property"]: item["value"] for item in columns["region"]["customProperties"]}
    assert (said["gradingScheme"], columns["region"]["classification"]) == ("JR/T 0197-2020", "GENERAL")
    assert [cell["value"] for cell in said["cells"]] == ["north", "east", "south", "west"]
    assert columns["spend"]["logicalType"] == "number"
    assert columns["spend"]["logicalTypeOptions"] == {"minimum": -10, "maximum": 90}
    buckets = next(item["value"] for item in columns["spend"]["customProperties"] if item["property"] == "buckets")
    assert buckets == [-10, 0, 5.5, 20, 90]
    assert (columns["member"]["required"], columns["region"]["required"]) == (False, True)


def test_the_contract_says_who_where_how_often_and_what_it_costs() -> None:
    content = check(odcs_document(versions(full()), Grade.GENERAL, DOMAIN))
    assert content["price"] == {"priceAmount": 0.5, "priceCurrency": "CNY", "priceUnit": "query"}
    assert content["support"] == [{"channel": "data office", "url": "mailto:data@clinic.example", "tool": "email"}]
    assert content["slaProperties"] == [{"property": "frequency", "value": "quarterly"}]
    assert content["schema"][0]["quality"][0] == {
        "name": "completeness",
        "type": "text",
        "description": "Every visit is in it.",
        "dimension": "completeness",
    }
    facts = {item["property"]: item["value"] for item in content["customProperties"]}
    assert [item["version"] for item in facts["snapshots"]] == [2, 1]
    assert facts["legalBasis"] == "consent register 7"
    assert facts["pricePerEpsilon"] == "12"


def test_prices_and_bounds_are_written_exactly() -> None:
    card = parse(spending())
    fine = replace(card.measures[0], scale=18, lower=1, upper=2**61)
    document = odcs_document(versions(replace(card, measures=(fine,))), Grade.IMPORTANT, DOMAIN)
    assert "minimum: 0.000000000000000001" in document
    assert "maximum: 2.305843009213693952" in document


@pytest.mark.parametrize("card", [full(), parse(spending())], ids=["exact", "dp"])
def test_no_export_says_where_the_data_is(card: DatasetCard) -> None:
    for document in (
        dcat_document([(versions(card), card.grade)], DOMAIN),
        odcs_document(versions(card), card.grade, DOMAIN),
    ):
        for private in ("/domain/secret/path", "clinic.csv", "atoms.jsonl", '"who"', ": who\n"):
            assert private not in document


def test_equal_catalogues_export_equal_texts() -> None:
    assert odcs_contract(versions(full()), Grade.GENERAL, DOMAIN) == odcs_contract(
        versions(full()), Grade.GENERAL, DOMAIN
    )
    assert dcat_document([(versions(full()), Grade.GENERAL)], DOMAIN) == dcat_document(
        [(versions(full()), Grade.GENERAL)], DOMAIN
    )
