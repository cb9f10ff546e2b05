# SPDX-License-Identifier: Apache-2.0
"""One dataset as a data contract of the Open Data Contract Standard (ODCS) v3.1, in YAML. Public facts only.

What ODCS has no field for stands in `customProperties`, named in camel case as the standard asks. Numbers are written
as exact decimals.

Source: Bitol, Open Data Contract Standard v3.1.0, and its JSON schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import yaml

from weir.amounts import MICRO, format_epsilon, format_price, format_rho
from weir_server.catalog.card import Cell, DatasetCard, Dimension, Grade, Measure, modes_under
from weir_server.catalog.export_dcat import Domain
from weir_server.catalog.snapshot import Snapshot

API_VERSION = "v3.1.0"
_QUALITY = frozenset({"accuracy", "completeness", "conformity", "consistency", "coverage", "timeliness", "uniqueness"})
"""Dimensions of quality that the standard knows."""
_TYPES = {"integer": "integer", "text": "string", "boolean": "boolean"}
Node = dict[str, Any]


def odcs_document(snapshots: tuple[Snapshot, ...], grade: Grade, domain: Domain) -> str:
    """The YAML text. `snapshots`: newest first, at least one; `grade`: that holds now."""
    content = odcs_contract(snapshots, grade, domain)
    text: str = yaml.dump(content, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=120)
    return text


def odcs_contract(snapshots: tuple[Snapshot, ...], grade: Grade, domain: Domain) -> Node:
    """The same as a mapping."""
    card, newest = snapshots[0].card, snapshots[0]
    contract: Node = {
        "apiVersion": API_VERSION,
        "kind": "DataContract",
        "id": domain.iri("dataset", card.name),
        "name": card.title,
        "version": str(newest.version),
        "status": "active",
        "domain": domain.name,
        "description": _description(card, grade),
        "schema": [_schema(card)],
        "team": {"name": card.responsible},
        "roles": [{"role": "requester", "access": "query", "description": "Asks under a contract with the provider."}],
        "contractCreatedTs": snapshots[-1].published.isoformat(),
        "customProperties": _custom(_facts(card, snapshots, grade)),
    }
    if modes_under(card, grade):
        location = f"grpcs://{domain.address}"
        contract["servers"] = [{"server": domain.name, "type": "api", "location": location}]
    return contract | dict(_optional(card))


def _description(card: DatasetCard, grade: Grade) -> Node:
    modes = ", ".join(mode.value for mode in modes_under(card, grade))
    asked = (
        f"Asked with aggregate queries, in the modes {modes}." if modes else "Catalogued only: it is never answered."
    )
    return {
        "purpose": card.description,
        "usage": asked,
        "limitations": "No row leaves the domain; a contract says who may ask what, for which purpose and until when.",
    }


def _optional(card: DatasetCard) -> Iterator[tuple[str, Any]]:
    if card.keywords:
        yield "tags", list(card.keywords)
    if card.contact:
        web = card.contact.startswith("http")
        url = card.contact if web else f"mailto:{card.contact}"
        yield "support", [{"channel": card.responsible, "url": url, "tool": "other" if web else "email"}]
    if card.update_frequency:
        yield "slaProperties", [{"property": "frequency", "value": card.update_frequency}]
    if card.list_rates is not None:
        yield (
            "price",
            {
                "priceAmount": _number(Decimal(card.list_rates.per_query_micro) / MICRO),
                "priceCurrency": card.list_rates.currency,
                "priceUnit": "query",
            },
        )


def _schema(card: DatasetCard) -> Node:
    columns: tuple[Dimension | Measure, ...] = (*card.dimensions, *card.measures)
    node: Node = {
        "name": card.name,
        "businessName": card.title,
        "logicalType": "object",
        "dataGranularityDescription": f"Rows about each {card.unit_name}; released as aggregates only.",
        "properties": [*map(_dimension, card.dimensions), *map(_measure, card.measures)],
    }
    for column, shown in zip(columns, node["properties"], strict=True):
        scheme = column.grading_scheme or card.grading_scheme
        shown["customProperties"].append({"property": "gradingScheme", "value": scheme})
    if card.quality:
        node["quality"] = [_statement(name, sentence) for name, sentence in card.quality.items()]
    return node


def _statement(name: str, sentence: str) -> Node:
    node: Node = {"name": name, "type": "text", "description": sentence}
    return node | ({"dimension": name} if name in _QUALITY else {})


def _dimension(dimension: Dimension) -> Node:
    said: Node = {"kind": "dimension", "cells": [_cell(cell) for cell in dimension.cells]}
    if dimension.coarsens is not None:
        said["coarsens"] = dimension.coarsens
    if dimension.row_level:
        said["rowLevel"] = True
    return {
        "name": dimension.name,
        "businessName": dimension.title,
        "logicalType": _TYPES[dimension.type],
        "required": all(cell.value is not None for cell in dimension.cells),
        "classification": dimension.grade.name,
        "customProperties": _custom(said),
    }


def _cell(cell: Cell) -> Node:
    return {"value": cell.value, "label": cell.label}


def _measure(measure: Measure) -> Node:
    said: Node = {
        "kind": "measure",
        "mode": measure.mode.value,
        "aggregates": sorted(function.value for function in measure.statistics),
        "scale": measure.scale,
    }
    if measure.unit:
        said["unit"] = measure.unit
    if measure.buckets:
        said["buckets"] = [_steps(edge, measure.scale) for edge in measure.buckets]
    return {
        "name": measure.name,
        "businessName": measure.title,
        "logicalType": "number" if measure.scale else "integer",
        "logicalTypeOptions": {
            "minimum": _steps(measure.lower, measure.scale),
            "maximum": _steps(measure.upper, measure.scale),
        },
        "classification": measure.grade.name,
        "customProperties": _custom(said),
    }


def _facts(card: DatasetCard, snapshots: tuple[Snapshot, ...], grade: Grade) -> Node:
    facts: Node = {
        "grade": card.grade.name,
        "effectiveGrade": grade.name,
        "gradingScheme": card.grading_scheme,
        "personalInformation": card.personal_information,
        "legalBasis": card.legal_basis,
        "provenance": card.provenance,
        "lineage": card.lineage,
        "privacyUnit": card.unit_name,
        "unitNamespace": card.unit_namespace,
        "licence": card.licence,
        "derivedFrom": list(card.derived_from),
        "snapshots": [_snapshot(snapshot) for snapshot in snapshots],
    }
    if card.budget_lifetime:
        said = format_rho if card.concentrated else format_epsilon
        facts["privacyAccounting"] = card.accounting
        facts["lifetimeBudget"] = said(card.budget_lifetime)
    if card.list_rates is not None:
        facts["pricePerCell"] = format_price(card.list_rates.per_cell_micro)
        facts["pricePerEpsilon"] = format_price(card.list_rates.per_epsilon_micro)
        facts["pricePerEncryptedOperation"] = format_price(card.list_rates.per_encrypted_operation_micro)
    return {name: value for name, value in facts.items() if value not in ("", [])}


def _snapshot(snapshot: Snapshot) -> Node:
    return {
        "version": snapshot.version,
        "published": snapshot.published.isoformat(),
        "manifestDigest": f"sha256:{snapshot.manifest_digest}",
    }


def _custom(facts: Mapping[str, Any]) -> list[Node]:
    return [{"property": name, "value": value} for name, value in facts.items()]


def _steps(steps: int, scale: int) -> int | Decimal:
    return _number(Decimal(steps).scaleb(-scale))


def _number(value: Decimal) -> int | Decimal:
    """Whole numbers as integers, so that YAML reads both as numbers."""
    return int(value) if value == value.to_integral_value() else value


class _Dumper(yaml.SafeDumper):
    """Writes decimals as numbers, exactly."""

    def ignore_aliases(self, data: Any) -> bool:
        """No anchors: a value that stands twice is written twice."""
        return True


def _decimal(dumper: yaml.SafeDumper, value: Decimal) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:float", format(value, "f"))


_Dumper.add_representer(Decimal, _decimal)
