# SPDX-License-Identifier: Apache-2.0
"""Agreements hold to the ODRL 2.2 information model and to the profile that docs/odrl-profile.md publishes."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from rdflib import RDF, Graph, Namespace, URIRef

from weir.canonical import canonical_json, parse_canonical
from weir.odrl import CONTEXT, PROFILE, agreement

PAGE = Path(__file__).parents[3] / "docs" / "odrl-profile.md"
ODRL, WP = Namespace("http://www.w3.org/ns/odrl/2/"), Namespace(f"{PROFILE}#")
OPERATORS = {"eq", "gt", "gteq", "lt", "lteq", "neq", "isA", "hasPart", "isPartOf", "isAllOf", "isAnyOf", "isNoneOf"}
CORE_OPERANDS = {"purpose", "dateTime", "spatial", "count", "payAmount"}
NO_SHARE = {"total": "0", "per_query": "0"}
TERMS: dict[str, Any] = {
    "contract": "visits-1",
    "title": "Use of care under cost sharing",
    "provider": "hospital",
    "requester": "alice",
    "dataset": "rand_hie",
    "purposes": ["health-services-research"],
    "modes": ["dp", "exact"],
    "dimensions": ["plan", "site"],
    "measures": ["visits"],
    "aggregates": ["avg", "count"],
    "epsilon": {"total": "4", "per_query": "0.5"},
    "rho": NO_SHARE,
    "valid_from": "2026-01-01T00:00:00+00:00",
    "valid_until": "2027-01-01T00:00:00+00:00",
    "approval": "per_query",
    "approvers": 2,
    "k": 20,
    "regions": ["CN-31", "CN-32"],
    "duties": [{"duty": "delete", "sentence": "Delete the results.", "due": "2027-03-01T00:00:00+00:00"}],
    "signatures": "required",
    "rates": {
        "currency": "CNY",
        "per_query": "1",
        "per_cell": "0.02",
        "per_epsilon": "0",
        "per_encrypted_operation": "0",
    },
    "seal_to": [],
    "quotas": [
        {"metric": "epsilon_nano", "window": "lifetime", "zone": "UTC", "limit": "4000000000"},
        {"metric": "price_micro", "window": "month", "zone": "Asia/Shanghai", "limit": "200000000"},
        {"metric": "queries", "window": "lifetime", "zone": "UTC", "limit": "600"},
    ],
}
SEALED = TERMS | {
    "modes": ["encrypted"],
    "seal_to": ["alice", "bob"],
    "regions": ["CN"],
    "approval": "none",
    "duties": [],
}
DOMAIN = "hospital.example"
DOCUMENT = agreement(TERMS, domain=DOMAIN)


def rules(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for permission in document["permission"]:
        yield "permission", permission
        for duty in permission.get("duty", []):
            yield "duty", duty
    for duty in document.get("obligation", []):
        yield "obligation", duty


def constraints(node: object) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "leftOperand" in node:
            yield node
        for inner in node.values():
            yield from constraints(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from constraints(inner)


def found(document: Mapping[str, Any], operand: str) -> list[tuple[str, Any]]:
    return [
        (item["operator"], item["rightOperand"]) for item in constraints(document) if item["leftOperand"] == operand
    ]


# ── the information model ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("terms", [TERMS, SEALED], ids=["full", "sealed"])
def test_an_agreement_has_what_the_information_model_demands(terms: dict[str, Any]) -> None:
    document = agreement(terms, domain=DOMAIN)
    # §2.1: a policy has one uid, an IRI, names its profiles, and has at least one rule. §2.1.3: an agreement has one
    # assigner and one assignee. JSON-LD: the context is ODRL's, first.
    assert document["@context"][0] == CONTEXT
    assert document["@type"] == "Agreement"
    assert (document["profile"], document["conflict"]) == (PROFILE, "prohibit")
    for party in ("assigner", "assignee"):
        assert document[party]["@type"] == "Party"
    uids = [document["uid"], *(document[key]["uid"] for key in ("assigner", "assignee", "target"))]
    uids += [rule["uid"] for kind, rule in rules(document) if kind != "duty"]
    assert all(re.fullmatch(r"weir://[a-z.]+/\S+", uid) for uid in uids)
    assert len(set(uids)) == len(uids)
    assert document["permission"]
    for _, rule in rules(document):
        # §2.6: a rule has one action; §2.6.4: a permission has a target, here the policy's.
        assert isinstance(rule["action"], str) or len(rule["action"]) == 1
    for item in constraints(document):
        # §2.5.1: one left operand, one operator, one right operand.
        assert set(item) <= {"leftOperand", "operator", "rightOperand", "unit", "wp:window", "wp:zone", "wp:per"}
        assert item["operator"] in OPERATORS


def test_every_term_that_is_not_odrl_s_own_is_in_the_published_profile() -> None:
    page = PAGE.read_text(encoding="utf-8")
    used = set()
    for document in (DOCUMENT, agreement(SEALED, domain=DOMAIN)):
        operands = {item["leftOperand"] for item in constraints(document)}
        assert {operand for operand in operands if ":" not in operand} <= CORE_OPERANDS
        used |= set(
            re.findall(r"wp:[A-Za-z]+", json.dumps(document["permission"]) + json.dumps(document.get("obligation", [])))
        )
    assert used >= {"wp:query", "wp:mode", "wp:k", "wp:epsilon", "wp:epsilonPerQuery", "wp:fulfil", "wp:sealedTo"}
    assert {term for term in used if term not in page and term != "wp:currency"} == set()
    assert PROFILE in page


def test_the_example_beside_the_profile_is_what_the_code_makes() -> None:
    assert json.loads(PAGE.with_name("odrl-example.jsonld").read_text(encoding="utf-8")) == DOCUMENT


# ── what it says ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_agreement_names_the_very_terms() -> None:
    digest = hashlib.sha256(canonical_json(TERMS)).hexdigest()
    assert DOCUMENT["dcterms:identifier"] == f"sha256:{digest}"
    assert DOCUMENT["uid"].endswith(f"/visits-1/{digest}")
    assert agreement(TERMS | {"k": 21}, domain=DOMAIN)["uid"] != DOCUMENT["uid"]
    # From the canonical bytes themselves, as a party has them.
    again = parse_canonical(canonical_json(TERMS))
    assert isinstance(again, dict)
    assert agreement(again, domain=DOMAIN) == DOCUMENT


def test_scope_circumstances_and_limits_are_constraints() -> None:
    exact = next(item for item in DOCUMENT["permission"] if item["uid"].endswith("-exact"))
    dp = next(item for item in DOCUMENT["permission"] if item["uid"].endswith("-dp"))
    assert found(exact, "wp:mode") == [("eq", "exact")]
    assert found(exact, "wp:dimension") == [("isAnyOf", ["plan", "site"])]
    assert found(exact, "purpose") == [("isAnyOf", ["health-services-research"])]
    assert [(o, v["@value"]) for o, v in found(exact, "dateTime")] == [
        ("gteq", "2026-01-01T00:00:00+00:00"), ("lt", "2027-01-01T00:00:00+00:00"),
    ]  # fmt: skip
    assert found(exact, "wp:k") == [("gteq", {"@value": "20", "@type": "xsd:integer"})]
    assert found(dp, "wp:k") == []
    assert found(dp, "wp:epsilonPerQuery") == [("lteq", {"@value": "0.5", "@type": "xsd:decimal"})]
    assert found(exact, "wp:epsilonPerQuery") == found(dp, "wp:rhoPerQuery") == []
    assert found(dp, "wp:epsilon") == [("lteq", {"@value": "4", "@type": "xsd:decimal"})]
    assert found(dp, "count") == [("lteq", {"@value": "600", "@type": "xsd:integer"})]
    monthly = next(item for item in constraints(dp) if item["leftOperand"] == "wp:price")
    assert (monthly["rightOperand"]["@value"], monthly["wp:window"], monthly["wp:zone"]) == (
        "200", {"@id": "wp:month"}, "Asia/Shanghai",
    )  # fmt: skip


def test_several_regions_are_alternatives_and_one_stands_alone() -> None:
    either = [item["or"]["@list"] for item in DOCUMENT["permission"][0]["constraint"] if "or" in item]
    assert [[part["rightOperand"] for part in parts] for parts in either] == [["CN-31", "CN-32"]]
    assert found(agreement(SEALED, domain=DOMAIN), "spatial") == [("isPartOf", "CN")]
    assert found(agreement(TERMS | {"regions": []}, domain=DOMAIN), "spatial") == []


def test_payment_and_approval_are_duties_and_onward_use_an_obligation() -> None:
    kinds = [(kind, json.dumps(rule["action"])) for kind, rule in rules(DOCUMENT)]
    assert sum("odrl:compensate" in action for _, action in kinds) == 4  # two prices, in either mode
    assert found(DOCUMENT, "wp:approvers") == [("gteq", {"@value": "2", "@type": "xsd:integer"})] * 2
    (duty,) = DOCUMENT["obligation"]
    assert (duty["action"], duty["dcterms:description"]) == ("wp:fulfil", "Delete the results.")
    assert "obligation" not in agreement(SEALED, domain=DOMAIN)
    assert "wp:approvers" not in json.dumps(agreement(SEALED, domain=DOMAIN))


def test_holders_of_keys_are_parties() -> None:
    ((operator, holders),) = found(agreement(SEALED, domain=DOMAIN), "wp:sealedTo")
    assert operator == "isAnyOf"
    assert [holder["@id"] for holder in holders] == [f"weir://{DOMAIN}/requester/{name}" for name in ("alice", "bob")]


# ── as linked data ─────────────────────────────────────────────────────────────────────────────────────────────────

_CONTEXT = {
    "odrl": str(ODRL), "rdf": str(RDF), "uid": "@id", "type": "@type", "@vocab": str(ODRL),
    **{name: {"@id": f"odrl:{name}", "@type": "@vocab"} for name in ("action", "leftOperand", "operator", "conflict")},
    **{name: {"@id": f"odrl:{name}", "@type": "@id"} for name in ("profile", "assigner", "assignee", "target", "unit")},
}  # fmt: skip
"""The part of ODRL's context that agreements use, so that no test needs the network."""


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated")  # rdflib's own parser uses it
@pytest.mark.parametrize("terms", [TERMS, SEALED], ids=["full", "sealed"])
def test_it_reads_as_rdf(terms: dict[str, Any]) -> None:
    document = agreement(terms, domain=DOMAIN)
    local = document | {"@context": [_CONTEXT, *document["@context"][1:]]}
    graph = Graph().parse(data=json.dumps(local), format="json-ld")
    (policy,) = graph.subjects(RDF.type, ODRL.Agreement)
    assert str(policy) == document["uid"]
    assert set(graph.objects(policy, ODRL.profile)) == {URIRef(PROFILE)}
    assert set(graph.objects(policy, ODRL.assignee)) == {URIRef(f"weir://{DOMAIN}/requester/alice")}
    permissions = list(graph.objects(policy, ODRL.permission))
    assert len(permissions) == len(terms["modes"])
    for permission in permissions:
        (action,) = graph.objects(permission, ODRL.action)
        assert graph.value(action, RDF.value) == WP.query
        operands = {graph.value(item, ODRL.leftOperand) for item in graph.objects(permission, ODRL.constraint)}
        assert {ODRL.purpose, ODRL.dateTime, ODRL["count"], WP.epsilon} <= operands
