# SPDX-License-Identifier: Apache-2.0
"""Dataset cards for tests: one YAML that is right, to be spoilt one key at a time, and a small exact card."""

from __future__ import annotations

from typing import Any

import yaml

from weir_server.catalog.card import DatasetCard
from weir_server.catalog.card_file import parse_card


def clinic() -> dict[str, Any]:
    """Content of a card that breaks no rule: a GENERAL dataset answered exactly."""
    return {
        "name": "clinic",
        "title": "Clinic",
        "description": "Visits to a clinic.",
        "grade": "GENERAL",
        "personal_information": False,
        "legal_basis": "consent register 7",
        "responsible": "data office",
        "provenance": "made for a test",
        "lineage": "clinic",
        "keywords": ["health"],
        "unit": {"name": "person", "column": "who"},
        "source": {"kind": "csv", "location": "clinic.csv"},
        "dimensions": [
            {"name": "region", "type": "text", "column": "region", "cells": ["north", "east", "south", "west"]},
            {"name": "zone", "coarsens": "region", "groups": {"upper": ["north", "east"], "lower": ["south", "west"]}},
            {
                "name": "member",
                "type": "boolean",
                "column": "member",
                "cells": [True, False],
                "null": "unknown",
            },
            {"name": "age", "column": "age", "per_unit": {"first": "day"}, "bins": {"edges": [0, 18, 40, 65]}},
            {"name": "adult", "coarsens": "age", "groups": {"no": [0], "yes": [18, 40]}},
        ],
        "measures": [
            {
                "name": "spend",
                "unit": "USD",
                "column": "spend",
                "mode": "exact",
                "scale": 2,
                "round": "half_even",
                "missing": 0,
                "lower": "-10",
                "upper": "90.00",
                "statistics": ["sum", "avg", "variance", "stddev", "histogram"],
                "buckets": ["-10", 0, "5.5", 20, 90],
            },
            {"name": "worst", "column": "pain", "mode": "exact", "per_unit": "max", "lower": 0, "upper": 10},
            {
                "name": "first_pain",
                "column": "pain",
                "mode": "exact",
                "per_unit": {"first": "day"},
                "lower": 0,
                "upper": 10,
                "statistics": ["sum", "variance"],
            },
            {
                "name": "rows",
                "column": "pain",
                "mode": "exact",
                "per_unit": "count",
                "lower": 0,
                "upper": 5,
                "per_level": {"column": "ward", "values": [1, 2]},
            },
        ],
        "exact": {
            "k": 10,
            "coarsening": [{"coarsen": "age", "to": "adult"}, {"coarsen": "region", "to": "zone"}, {"drop": "member"}],
            "residual": "atom",
        },
    }


def spending() -> dict[str, Any]:
    """Content of an IMPORTANT card answered with dp."""
    return {
        **{key: value for key, value in clinic().items() if key != "exact"},
        "name": "spending",
        "grade": "IMPORTANT",
        "dimensions": [
            *clinic()["dimensions"],
            {"name": "ward", "type": "integer", "column": "ward", "cells": [1, 2], "row_level": True},
        ],
        "measures": [
            {"name": "cost", "unit": "USD", "column": "spend", "mode": "dp", "scale": 2, "lower": 0, "upper": 90}
        ],
        "dp": {"rows_per_unit": 3, "groups_per_unit": {"ward": 2}, "epsilon_lifetime": "4.5"},
    }


def consented() -> dict[str, Any]:
    """The clinic's content where its personal information rests on a register of consents."""
    return clinic() | {
        "personal_information": True,
        "consent": {
            "source": {"kind": "csv", "location": "register.csv"},
            "unit": "person",
            "order": "recorded",
            "text_version": "text",
            "channel": "channel",
            "status": "state",
            "in_force": ["given"],
            "valid_from": "since",
            "valid_until": "until",
            "withdrawn": "withdrawn",
            "purpose": "purpose",
            "purposes": ["research"],
        },
    }


def parse(content: dict[str, Any]) -> DatasetCard:
    """The card of this content, through YAML and the card reader."""
    return parse_card(yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
