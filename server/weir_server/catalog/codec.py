# SPDX-License-Identifier: Apache-2.0
"""Dataset card to and from the JSON that a manifest holds.

Integers of a grid are text, since they pass 2**53. `card_from_json(card_to_json(card)) == card` for every card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from weir.errors import PublicationError
from weir.query import Function, Literal, LiteralValue
from weir_server.catalog.basis_card import basis_from_json, basis_to_json, source_to_json
from weir_server.catalog.card import (
    Bounds,
    Cell,
    DatasetCard,
    Dimension,
    Grade,
    Measure,
    Mode,
    PerUnit,
    Reduction,
    Source,
)
from weir_server.catalog.rates import Rates

_PLAIN = (
    "name", "title", "description", "grading_scheme", "personal_information", "legal_basis", "responsible",
    "provenance", "lineage", "unit_name", "unit_column", "k", "coalition", "residual", "accounting", "delta_digits",
)  # fmt: skip
"""Fields of a card that are JSON as they are."""
_LATER = ("unit_namespace", "contact", "licence", "update_frequency")
"""The same, of fields that snapshots of earlier releases do not have: text, empty where it is missing."""


def card_to_json(card: DatasetCard) -> dict[str, Any]:
    """JSON object of a card."""
    return {
        **{name: getattr(card, name) for name in (*_PLAIN, *_LATER)},
        "grade": card.grade.name,
        "source": source_to_json(card.source),
        "dimensions": [_dimension_to_json(dimension) for dimension in card.dimensions],
        "measures": [_measure_to_json(measure) for measure in card.measures],
        "keywords": list(card.keywords),
        "coarsening": [list(step) for step in card.coarsening],
        "bounds": {
            "rows_per_unit": card.bounds.rows_per_unit,
            "groups_per_unit": dict(card.bounds.groups_per_unit),
        },
        "epsilon_lifetime": str(card.epsilon_lifetime),
        "rho_lifetime": str(card.rho_lifetime),
        "report_epsilon": str(card.report_epsilon),
        **basis_to_json(card),
        "quality": dict(card.quality),
        "list_rates": None if card.list_rates is None else _rates_to_json(card.list_rates),
    }


def card_from_json(content: Mapping[str, Any]) -> DatasetCard:
    """Card of its JSON object.

    Raises:
        PublicationError: not the JSON of a card.
    """
    try:
        return DatasetCard(
            **{name: content[name] for name in _PLAIN},
            **{name: content.get(name, "") for name in _LATER},
            grade=Grade[content["grade"]],
            source=Source(**content["source"]),
            dimensions=tuple(_dimension_from_json(item) for item in content["dimensions"]),
            measures=tuple(_measure_from_json(item) for item in content["measures"]),
            keywords=tuple(content["keywords"]),
            coarsening=tuple((base, coarser) for base, coarser in content["coarsening"]),
            bounds=Bounds(**content["bounds"]),
            epsilon_lifetime=int(content["epsilon_lifetime"]),
            rho_lifetime=int(content["rho_lifetime"]),
            report_epsilon=int(content["report_epsilon"]),
            **basis_from_json(content),
            quality=dict(content.get("quality", {})),
            list_rates=_rates_from_json(content.get("list_rates")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PublicationError("the manifest holds no readable card", rule="snapshot.card") from error


def _rates_to_json(rates: Rates) -> dict[str, str]:
    return {name: str(value) for name, value in asdict(rates).items()}


def _rates_from_json(content: Mapping[str, str] | None) -> Rates | None:
    if content is None:
        return None
    amounts = {name: int(value) for name, value in content.items() if name != "currency"}
    return Rates(currency=content["currency"], **amounts)


def _dimension_to_json(dimension: Dimension) -> dict[str, Any]:
    return {
        "name": dimension.name,
        "title": dimension.title,
        "type": dimension.type,
        "cells": [[_value_to_json(cell.value), cell.label] for cell in dimension.cells],
        "column": dimension.column,
        "per_unit": _per_unit_to_json(dimension.per_unit),
        "row_level": dimension.row_level,
        "edges": [str(edge) for edge in dimension.edges],
        "coarsens": dimension.coarsens,
        "mapping": list(dimension.mapping),
        "grade": dimension.grade.name,
        "grading_scheme": dimension.grading_scheme,
    }


def _dimension_from_json(content: Mapping[str, Any]) -> Dimension:
    return Dimension(
        name=content["name"],
        title=content["title"],
        type=content["type"],
        cells=tuple(Cell(_value_from_json(value), label) for value, label in content["cells"]),
        column=content["column"],
        per_unit=_per_unit_from_json(content["per_unit"]),
        row_level=content["row_level"],
        edges=tuple(int(edge) for edge in content["edges"]),
        coarsens=content["coarsens"],
        mapping=tuple(content["mapping"]),
        grade=Grade[content["grade"]],
        grading_scheme=content.get("grading_scheme", ""),
    )


def _measure_to_json(measure: Measure) -> dict[str, Any]:
    return {
        "name": measure.name,
        "title": measure.title,
        "unit": measure.unit,
        "column": measure.column,
        "mode": measure.mode.value,
        "scale": measure.scale,
        "lower": str(measure.lower),
        "upper": str(measure.upper),
        "per_unit": _per_unit_to_json(measure.per_unit),
        "level": None if measure.level is None else [measure.level[0], _value_to_json(measure.level[1])],
        "statistics": sorted(function.value for function in measure.statistics),
        "buckets": [str(edge) for edge in measure.buckets],
        "width": str(measure.width),
        "rounding": measure.rounding,
        "missing": None if measure.missing is None else str(measure.missing),
        "grade": measure.grade.name,
        "grading_scheme": measure.grading_scheme,
    }


def _measure_from_json(content: Mapping[str, Any]) -> Measure:
    return Measure(
        name=content["name"],
        title=content["title"],
        unit=content["unit"],
        column=content["column"],
        mode=Mode(content["mode"]),
        scale=content["scale"],
        lower=int(content["lower"]),
        upper=int(content["upper"]),
        per_unit=_per_unit_from_json(content["per_unit"]),
        level=_level_from_json(content["level"]),
        statistics=frozenset(Function(word) for word in content["statistics"]),
        buckets=tuple(int(edge) for edge in content["buckets"]),
        width=int(content["width"]),
        rounding=content["rounding"],
        missing=None if content["missing"] is None else int(content["missing"]),
        grade=Grade[content["grade"]],
        grading_scheme=content.get("grading_scheme", ""),
    )


def _level_from_json(content: list[Any] | None) -> tuple[str, LiteralValue] | None:
    if content is None:
        return None
    value = _value_from_json(content[1])
    if value is None:
        raise ValueError("a level has a value")
    return content[0], value


def _per_unit_to_json(per_unit: PerUnit) -> list[str | None]:
    return [per_unit.reduction.value, per_unit.order]


def _per_unit_from_json(content: list[Any]) -> PerUnit:
    return PerUnit(Reduction(content[0]), content[1])


def _value_to_json(value: LiteralValue | None) -> list[Any] | None:
    return None if value is None else Literal(value).canonical()


def _value_from_json(content: list[Any] | None) -> LiteralValue | None:
    if content is None:
        return None
    kind, value = content
    if kind == "integer":
        return int(value)
    if kind == "decimal":
        return Decimal(value)
    if kind == "boolean":
        return bool(value)
    if kind == "text":
        return str(value)
    raise ValueError("unknown kind of value")
