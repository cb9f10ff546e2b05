# SPDX-License-Identifier: Apache-2.0
"""A contract as an ODRL 2.2 Agreement in JSON-LD, under Weir's profile (docs/odrl-profile.md). Pure.

    Agreement ── permission ──► one a mode ── action: query, refined by scope
        │                            ├── constraint: purpose, validity, region, limits, privacy loss, k
        │                            └── duty: payment; approval where each query needs one
        └── obligation ──► one an onward-use duty, with its date

It is made from the canonical form of the terms, so it says no more and no less than what both parties signed. What it
says binds through the terms: `identifier` is their digest.

Source: W3C ODRL Information Model 2.2 (§2.1 to 2.7, Agreement, profiles), ODRL Vocabulary & Expression 2.2 (JSON-LD).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from weir.amounts import MICRO, NANO, format_decimal
from weir.canonical import canonical_json, digest

PROFILE = "weir://profile/odrl/1"
"""Names the profile; terms of it are `PROFILE#term`."""
CONTEXT = "http://www.w3.org/ns/odrl.jsonld"
Node = dict[str, Any]

_TERMS = {
    "dcterms": "http://purl.org/dc/terms/",
    "wp": f"{PROFILE}#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
_LIMITS = {
    "queries": "count",
    "cells": "wp:cells",
    "epsilon_nano": "wp:epsilon",
    "rho_micro": "wp:rho",
    "encrypted_operations": "wp:encryptedOperations",
    "bytes": "wp:bytes",
    "price_micro": "wp:price",
}
_UNITS = {"epsilon_nano": NANO, "rho_micro": MICRO, "price_micro": MICRO}
"""How many of what is counted make one."""
_RATES = {
    "per_query": "wp:query",
    "per_cell": "wp:cell",
    "per_epsilon": "wp:epsilonSpent",
    "per_encrypted_operation": "wp:encryptedOperation",
}


def agreement(terms: Mapping[str, Any], *, domain: str) -> Node:
    """The Agreement of a contract. `terms`: the value of its canonical form. `domain`: whose contract it is.

    Raises:
        KeyError, TypeError, ValueError: they are no contract's terms.
    """
    contract, terms_digest = terms["contract"], digest(canonical_json(dict(terms)))
    uid = f"weir://{domain}/contract/{contract}/{terms_digest}"
    document: Node = {
        "@context": [CONTEXT, _TERMS],
        "@type": "Agreement",
        "uid": uid,
        "profile": PROFILE,
        "conflict": "prohibit",
        "dcterms:title": terms["title"],
        "dcterms:identifier": f"sha256:{terms_digest}",
        "assigner": {"@type": "Party", "uid": f"weir://{domain}/provider/{terms['provider']}"},
        "assignee": {"@type": "Party", "uid": f"weir://{domain}/requester/{terms['requester']}"},
        "target": {"@type": "Asset", "uid": f"weir://{domain}/dataset/{terms['dataset']}"},
        "permission": [_permission(terms, mode, uid=uid, domain=domain) for mode in terms["modes"]],
    }
    if terms["duties"]:
        document["obligation"] = [_obligation(duty, uid=uid) for duty in terms["duties"]]
    return document


def _permission(terms: Mapping[str, Any], mode: str, *, uid: str, domain: str) -> Node:
    permission: Node = {
        "uid": f"{uid}#permission-{mode}",
        "action": [{"rdf:value": {"@id": "wp:query"}, "refinement": list(_scope(terms, mode, domain=domain))}],
        "constraint": [*_circumstances(terms), *_privacy(terms, mode), *_limits(terms)],
    }
    duties = [*_payment(terms, mode), *_approval(terms)]
    return permission | ({"duty": duties} if duties else {})


def _scope(terms: Mapping[str, Any], mode: str, *, domain: str) -> Iterator[Node]:
    """What may be asked: refinements of the action."""
    yield _constraint("wp:mode", "eq", mode)
    for operand, key in (("wp:dimension", "dimensions"), ("wp:measure", "measures"), ("wp:aggregate", "aggregates")):
        yield _constraint(operand, "isAnyOf", list(terms[key]))
    if mode == "encrypted":
        holders = [{"@id": f"weir://{domain}/requester/{name}"} for name in terms["seal_to"]]
        yield _constraint("wp:sealedTo", "isAnyOf", holders)


def _circumstances(terms: Mapping[str, Any]) -> Iterator[Node]:
    """For what, when and where: constraints of the rule. All of them hold at once."""
    yield _constraint("purpose", "isAnyOf", list(terms["purposes"]))
    yield _constraint("dateTime", "gteq", _typed(terms["valid_from"], "dateTime"))
    yield _constraint("dateTime", "lt", _typed(terms["valid_until"], "dateTime"))
    regions = [_constraint("spatial", "isPartOf", region) for region in terms["regions"]]
    if len(regions) > 1:
        yield {"or": {"@list": regions}}
    yield from regions if len(regions) == 1 else ()


def _privacy(terms: Mapping[str, Any], mode: str) -> Iterator[Node]:
    if mode == "exact":
        yield _constraint("wp:k", "gteq", _typed(str(terms["k"]), "integer"))
        return
    for account in ("epsilon", "rho"):
        most = terms[account]["per_query"]
        if most != "0":
            yield _constraint(f"wp:{account}PerQuery", "lteq", _typed(most, "decimal"))


def _limits(terms: Mapping[str, Any]) -> Iterator[Node]:
    """The contract's limits, its shares of a privacy budget among them, over all modes together."""
    for quota in terms["quotas"]:
        metric, window = quota["metric"], quota["window"]
        amount = format_decimal(int(quota["limit"]), unit=_UNITS.get(metric, 1))
        constraint = _constraint(_LIMITS[metric], "lteq", _typed(amount, "decimal" if metric in _UNITS else "integer"))
        if window != "lifetime":
            constraint |= {"wp:window": {"@id": f"wp:{window}"}, "wp:zone": quota["zone"]}
        yield constraint


def _payment(terms: Mapping[str, Any], mode: str) -> Iterator[Node]:
    rates = terms["rates"]
    for key, per in _RATES.items():
        if rates[key] == "0" or (key == "per_encrypted_operation" and mode != "encrypted"):
            continue
        amount = _constraint("payAmount", "eq", _typed(rates[key], "decimal"))
        amount |= {"unit": {"@id": f"wp:currency-{rates['currency']}"}, "wp:per": {"@id": per}}
        yield {"action": [{"rdf:value": {"@id": "odrl:compensate"}, "refinement": [amount]}]}


def _approval(terms: Mapping[str, Any]) -> Iterator[Node]:
    if terms["approval"] == "per_query":
        persons = _constraint("wp:approvers", "gteq", _typed(str(terms["approvers"]), "integer"))
        yield {"action": [{"rdf:value": {"@id": "odrl:obtainConsent"}, "refinement": [persons]}]}


def _obligation(duty: Mapping[str, Any], *, uid: str) -> Node:
    """An onward-use duty of the assignee, attested by its date."""
    return {
        "uid": f"{uid}#duty-{duty['duty']}",
        "action": "wp:fulfil",
        "dcterms:description": duty["sentence"],
        "constraint": [_constraint("dateTime", "lteq", _typed(duty["due"], "dateTime"))],
    }


def _constraint(left: str, operator: str, right: object) -> Node:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


def _typed(text: str, kind: str) -> Node:
    return {"@value": text, "@type": f"xsd:{kind}"}
