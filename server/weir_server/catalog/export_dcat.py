# SPDX-License-Identifier: Apache-2.0
"""The catalogue as DCAT-3 in JSON-LD, for other catalogues. Public facts of cards only; nothing of the data.

    Catalog ── dataset ──► Dataset ── hasVersion ──► Dataset (one snapshot: version, issued, checksum)
       │                      ├── inSeries ──► DatasetSeries (the lineage: one origin, one privacy budget)
       │                      ├── distribution ──► Distribution ── accessService ──► DataService
       │                      └── hasPolicy ──► odrl:Offer (no copy, use is tracked)
       └── service ──► DataService (gRPC)

IRIs are those of the domain: `weir://<domain>/dataset/<name>`, `…/<name>/<version>`, `…/lineage/<name>`.

Source: W3C DCAT 3; DCAT-AP 3.0 for what is mandatory; EU authority tables for frequency and access right; ODRL 2.2;
DPV 2; DQV for quality.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from weir.amounts import format_price
from weir_server.catalog.card import DatasetCard, Dimension, Grade, Measure, modes_under
from weir_server.catalog.snapshot import Snapshot

Node = dict[str, Any]
Graded = tuple[tuple[Snapshot, ...], Grade]
"""Snapshots of a dataset, newest first, at least one; and the grade that holds now."""

_CONTEXT = {
    "adms": "http://www.w3.org/ns/adms#",
    "dcat": "http://www.w3.org/ns/dcat#",
    "dcterms": "http://purl.org/dc/terms/",
    "dpv": "https://w3id.org/dpv#",
    "dqv": "http://www.w3.org/ns/dqv#",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "oa": "http://www.w3.org/ns/oa#",
    "odrl": "http://www.w3.org/ns/odrl/2/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "vcard": "http://www.w3.org/2006/vcard/ns#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
_EU = "http://publications.europa.eu/resource/authority/"
_FREQUENCIES = {
    "daily": "DAILY",
    "weekly": "WEEKLY",
    "monthly": "MONTHLY",
    "quarterly": "QUARTERLY",
    "yearly": "ANNUAL",
    "irregular": "IRREG",
}
_ACCESS = {Grade.GENERAL: "RESTRICTED", Grade.IMPORTANT: "RESTRICTED", Grade.CORE: "NON_PUBLIC"}
_SERVICE_TITLE = "Weir: aggregate, differentially private and encrypted queries"


@dataclass(frozen=True, slots=True)
class Domain:
    """Whose catalogue it is."""

    name: str
    """Of the domain, as in its certificates."""
    address: str
    """`host:port` of the public listener."""

    def iri(self, *path: object) -> str:
        """IRI of something in the domain."""
        return "/".join((f"weir://{self.name}", *(str(part) for part in path)))


def dcat_document(datasets: Sequence[Graded], domain: Domain) -> str:
    """The JSON-LD text of a catalogue of these datasets."""
    return json.dumps(dcat_catalogue(datasets, domain), ensure_ascii=False, indent=2) + "\n"


def dcat_catalogue(datasets: Sequence[Graded], domain: Domain) -> Node:
    """The same as a JSON object."""
    served = [snapshots[0].card.name for snapshots, grade in datasets if modes_under(snapshots[0].card, grade)]
    return {
        "@context": _CONTEXT,
        "@id": domain.iri("catalogue"),
        "@type": "dcat:Catalog",
        "dcterms:title": f"Catalogue of {domain.name}",
        "dcterms:description": f"Datasets that {domain.name} answers questions about; the data itself stays inside.",
        "dcterms:publisher": _publisher(domain),
        "dcat:dataset": [_dataset(snapshots, grade, domain) for snapshots, grade in datasets],
        "dcat:service": [_service(served, domain)],
        "dcat:record": [_record(snapshots, domain) for snapshots, _ in datasets],
    }


def _publisher(domain: Domain) -> Node:
    return {"@id": domain.iri(), "@type": "foaf:Agent", "foaf:name": domain.name}


def _service(served: Sequence[str], domain: Domain) -> Node:
    return {
        "@id": domain.iri("service"),
        "@type": "dcat:DataService",
        "dcterms:title": _SERVICE_TITLE,
        "dcterms:description": "gRPC over mutual TLS, package weir.v1. A contract says who may ask what.",
        "dcterms:publisher": {"@id": domain.iri()},
        "dcat:endpointURL": {"@id": f"grpcs://{domain.address}"},
        "dcterms:conformsTo": {
            "@id": "https://grpc.io/",
            "@type": "dcterms:Standard",
            "dcterms:title": "gRPC, services of package weir.v1",
        },
        "dcat:servesDataset": [{"@id": domain.iri("dataset", name)} for name in served],
    }


def _series(lineage: str, domain: Domain) -> Node:
    return {
        "@id": domain.iri("lineage", lineage),
        "@type": "dcat:DatasetSeries",
        "dcterms:title": f"Lineage {lineage}",
        "dcterms:description": "Datasets of one origin, which share one lifetime privacy budget.",
    }


def _record(snapshots: tuple[Snapshot, ...], domain: Domain) -> Node:
    newest, name = snapshots[0], snapshots[0].card.name
    return {
        "@id": domain.iri("record", name),
        "@type": "dcat:CatalogRecord",
        "foaf:primaryTopic": {"@id": domain.iri("dataset", name)},
        "dcterms:issued": _time(snapshots[-1]),
        "dcterms:modified": _time(newest),
    }


def _dataset(snapshots: tuple[Snapshot, ...], grade: Grade, domain: Domain) -> Node:
    card, newest = snapshots[0].card, snapshots[0]
    own = domain.iri("dataset", card.name)
    node: Node = {
        "@id": own,
        "@type": "dcat:Dataset",
        **_described(card, domain),
        "dcterms:identifier": card.name,
        "dcterms:issued": _time(snapshots[-1]),
        "dcterms:modified": _time(newest),
        "dcterms:accessRights": {"@id": f"{_EU}access-right/{_ACCESS[grade]}", "@type": "dcterms:RightsStatement"},
        "dcterms:rights": [_rights(line) for line in _grades(card, grade)],
        "dcat:inSeries": _series(card.lineage, domain),
        "dcat:hasVersion": [_version(snapshots, place, domain) for place in range(len(snapshots))],
        "dcat:hasCurrentVersion": {"@id": f"{own}/{newest.version}"},
        "odrl:hasPolicy": _offer(card, grade, domain),
    }
    if modes_under(card, grade):
        node["dcat:distribution"] = [_distribution(card, grade, domain)]
    node |= dict(_optional(card, domain))
    return node


def _described(card: DatasetCard, domain: Domain) -> Node:
    """What a dataset and each of its versions say alike."""
    return {
        "dcterms:title": card.title,
        "dcterms:description": card.description,
        "dcterms:publisher": {"@id": domain.iri()},
        "dcat:contactPoint": _contact(card),
        "dcterms:provenance": {"@type": "dcterms:ProvenanceStatement", "rdfs:label": card.provenance},
    }


def _contact(card: DatasetCard) -> Node:
    node: Node = {"@type": "vcard:Kind", "vcard:fn": card.responsible}
    if card.contact.startswith("http"):
        node["vcard:hasURL"] = {"@id": card.contact}
    elif card.contact:
        node["vcard:hasEmail"] = {"@id": f"mailto:{card.contact}"}
    return node


def _grades(card: DatasetCard, grade: Grade) -> Iterator[str]:
    yield f"Grade {grade.name} under {card.grading_scheme}"
    columns: tuple[Dimension | Measure, ...] = (*card.dimensions, *card.measures)
    for column in columns:
        yield f"{column.name}: grade {column.grade.name} under {column.grading_scheme or card.grading_scheme}"


def _rights(sentence: str) -> Node:
    return {"@type": "dcterms:RightsStatement", "rdfs:label": sentence}


def _version(snapshots: tuple[Snapshot, ...], place: int, domain: Domain) -> Node:
    snapshot, name = snapshots[place], snapshots[place].card.name
    node = {
        "@id": domain.iri("dataset", name, snapshot.version),
        "@type": "dcat:Dataset",
        **_described(snapshot.card, domain),
        "dcterms:issued": _time(snapshot),
        "dcat:version": str(snapshot.version),
        "dcat:isVersionOf": {"@id": domain.iri("dataset", name)},
        "adms:identifier": {
            "@type": "adms:Identifier",
            "skos:notation": f"sha256:{snapshot.manifest_digest}",
        },
    }
    if place + 1 < len(snapshots):
        node["dcat:previousVersion"] = {"@id": domain.iri("dataset", name, snapshots[place + 1].version)}
    return node


def _distribution(card: DatasetCard, grade: Grade, domain: Domain) -> Node:
    words = ", ".join(mode.value for mode in modes_under(card, grade))
    node: Node = {
        "@id": domain.iri("dataset", card.name, "answers"),
        "@type": "dcat:Distribution",
        "dcterms:title": "Answers to queries",
        "dcterms:description": f"Released aggregates, never rows. Modes: {words}.",
        "dcat:accessURL": {"@id": f"grpcs://{domain.address}"},
        "dcat:accessService": {"@id": domain.iri("service")},
    }
    if card.licence:
        node["dcterms:license"] = {"@id": card.licence, "@type": "dcterms:LicenseDocument"}
    return node


def _offer(card: DatasetCard, grade: Grade, domain: Domain) -> Node:
    """What holds for everybody; what a contract allows is an agreement of its own."""
    target = {"@id": domain.iri("dataset", card.name)}
    duties: list[Node] = [{"@type": "odrl:Duty", "odrl:action": {"@id": "odrl:acceptTracking"}}]
    if card.list_rates is not None:
        duties.append({"@type": "odrl:Duty", "odrl:action": {"@id": "odrl:compensate"}, "rdfs:label": _prices(card)})
    prohibited = ("odrl:reproduce", "odrl:distribute", "odrl:sell")
    node: Node = {
        "@id": domain.iri("dataset", card.name, "policy"),
        "@type": "odrl:Offer",
        "odrl:uid": {"@id": domain.iri("dataset", card.name, "policy")},
        "odrl:target": target,
        "odrl:assigner": {"@id": domain.iri()},
        "odrl:prohibition": [
            {"@type": "odrl:Prohibition", "odrl:target": target, "odrl:action": {"@id": action}}
            for action in prohibited
        ],
    }
    if grade is not Grade.CORE:
        node["odrl:permission"] = [
            {"@type": "odrl:Permission", "odrl:target": target, "odrl:action": {"@id": "odrl:use"}, "odrl:duty": duties}
        ]
    return node


def _prices(card: DatasetCard) -> str:
    rates = card.list_rates
    if rates is None:
        return ""
    parts = (
        ("query", rates.per_query_micro),
        ("cell", rates.per_cell_micro),
        ("unit of epsilon", rates.per_epsilon_micro),
        ("encrypted operation", rates.per_encrypted_operation_micro),
    )
    listed = "; ".join(f"{rates.currency} {format_price(amount)} a {what}" for what, amount in parts if amount)
    return f"List prices: {listed or 'none'}. A contract states what is charged."


def _optional(card: DatasetCard, domain: Domain) -> Iterator[tuple[str, Any]]:
    if card.keywords:
        yield "dcat:keyword", list(card.keywords)
    if card.update_frequency:
        frequency = f"{_EU}frequency/{_FREQUENCIES[card.update_frequency]}"
        yield "dcterms:accrualPeriodicity", {"@id": frequency, "@type": "dcterms:Frequency"}
    if card.derived_from:
        yield "dcterms:source", [{"@id": domain.iri("dataset", name)} for name in card.derived_from]
    if card.quality:
        yield "dqv:hasQualityAnnotation", [_quality(card, name, domain) for name in card.quality]
    if card.personal_information:
        yield "dpv:hasPersonalData", {"@type": "dpv:PersonalData", "rdfs:label": f"Data about each {card.unit_name}"}
        yield "dpv:hasLegalBasis", {"@type": "dpv:LegalBasis", "rdfs:label": card.legal_basis}


def _quality(card: DatasetCard, name: str, domain: Domain) -> Node:
    return {
        "@type": "dqv:QualityAnnotation",
        "dcterms:title": name,
        "oa:motivatedBy": {"@id": "dqv:qualityAssessment"},
        "oa:hasTarget": {"@id": domain.iri("dataset", card.name)},
        "oa:hasBody": {"@type": "oa:TextualBody", "rdf:value": card.quality[name]},
    }


def _time(snapshot: Snapshot) -> Node:
    return {"@type": "xsd:dateTime", "@value": snapshot.published.isoformat()}
