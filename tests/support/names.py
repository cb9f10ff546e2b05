# SPDX-License-Identifier: Apache-2.0
"""Cards and rows whose columns have names that publication uses itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from tests.support.cards import consented, parse, spending
from weir_server.catalog.card import DatasetCard, PerUnit

NAMES = (
    "place", "unit", "evidence", "id", "consent_decided", "h", "c_0", "d_0", "consent_in_force", "m_0", "n_0", "s_0",
    "x0", "q_0", "lacks", "n", "e_0", "o_0", "d_region", "v_spend", "u", "r", "k", "source_raw", "t_0", "p_0", "v_0",
    "x", "t", "c", "e", "f", "m", "code", "born", "level", "coarse", "history", "present", "class", "rank", "first",
    "next", "draw", "hashed", "ranked", "tied", "units", "units_rough", "readings", "steps", "content", "copies",
    "drawn", "kept", "rowid", "count", "source_read", "consent_register", "consent_rows", "consent_latest",
    "consent_keyed", "bounded_units", "rows", "row", "value", "text", "key", "end", "from", "filename", "a b",
)  # fmt: skip
"""Names of columns, aliases, relations and steps in statements of publication, or close to them, and words of SQL."""
SOURCE = ("who", "region", "member", "age", "day", "spend", "pain", "ward")
REGISTER = ("person", "recorded", "text", "channel", "state", "since", "until", "withdrawn", "purpose")
Renamed = Mapping[str, str]


def renamings(start: int) -> tuple[Renamed, Renamed]:
    """New names for the columns of the source and of the register, from the `start`-th on, every other in capitals:
    engines do not tell them apart."""

    def named(columns: Sequence[str], first: int) -> Renamed:
        names = (NAMES[(first + i) % len(NAMES)] for i in range(len(columns)))
        return {old: new.upper() if i % 2 else new for i, (old, new) in enumerate(zip(columns, names, strict=True))}

    return named(SOURCE, start), named(REGISTER, start)


def renamed_rows(rows: Sequence[Mapping[str, Any]], names: Renamed) -> list[dict[str, Any]]:
    """The rows under other names, beside columns that no card names and that are called as ours are."""
    ours = dict.fromkeys(("weir_unit", "Weir_Reading_0", "weir_order"))
    return [{**ours, **{names[column]: value for column, value in row.items()}} for row in rows]


def exact_card(source: Renamed, register: Renamed) -> DatasetCard:
    """An exact card on consent."""
    return _renamed(parse(consented()), source, register)


def dp_card(source: Renamed, register: Renamed) -> DatasetCard:
    """A dp card on consent, with values that are rounded and a report of what bounds drop."""
    content = spending() | {key: consented()[key] for key in ("personal_information", "consent")}
    content["measures"][0]["round"] = "half_even"
    content["dp"] |= {"report_epsilon": "0.5"}
    return _renamed(parse(content), source, register)


def _renamed(card: DatasetCard, source: Renamed, register: Renamed) -> DatasetCard:
    def first(per_unit: PerUnit) -> PerUnit:
        return replace(per_unit, order=per_unit.order and source[per_unit.order])

    assert card.consent is not None
    columns: dict[str, Any] = {
        item.name: register[value]
        for item in fields(card.consent)
        if isinstance(value := getattr(card.consent, item.name), str) and value
    }
    return replace(
        card,
        unit_column=source[card.unit_column],
        dimensions=tuple(
            replace(item, column=item.column and source[item.column], per_unit=first(item.per_unit))
            for item in card.dimensions
        ),
        measures=tuple(
            replace(
                item,
                column=source[item.column],
                per_unit=first(item.per_unit),
                level=item.level and (source[item.level[0]], item.level[1]),
            )
            for item in card.measures
        ),
        consent=replace(card.consent, **columns),
    )


def entries(people: int) -> list[dict[str, Any]]:
    """A register of the people `p0`, `p1` …: every seventh withdrew later, every fifth never consented to research."""
    found = []
    for who in range(people):
        row = {
            "person": f"p{who}", "recorded": 1, "text": "t-1", "channel": "app", "state": "given",
            "since": "2026-01-01", "until": None, "withdrawn": None, "purpose": "care" if who % 5 == 0 else "research",
        }  # fmt: skip
        found.append(row)
        if who % 7 == 0:
            found.append(row | {"recorded": 10, "state": "refused"})
        if who % 11 == 0:
            found.append(row | {"recorded": 9, "withdrawn": "2026-02-01"})
    return found
