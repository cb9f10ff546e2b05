# SPDX-License-Identifier: Apache-2.0
"""A dataset card from YAML, with every violation at once. The keys are described in docs/cards.md.

Amounts are decimals in the unit of the measure; here they become integers on the declared grid, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import Any

from weir.amounts import NANO, parse_decimal, parse_epsilon, parse_price, parse_rho
from weir.errors import CardError, InvalidRequest, Violation
from weir.query import Function, LiteralValue
from weir_server.catalog.basis_card import read_anonymisation, read_consent, read_derived_from
from weir_server.catalog.card import (
    DELIMITERS,
    FREQUENCIES,
    K_FLOOR,
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
from weir_server.catalog.card_reader import Fields, read_yaml
from weir_server.catalog.card_rules import check_card
from weir_server.catalog.rates import Rates

_TYPES: dict[str, type] = {"integer": int, "text": str, "boolean": bool}
_SOURCES = ("csv", "parquet", "duckdb", "postgres", "spark")
_REPORT_EPSILON = "0.1"
"""Loss of the report of a publication, unless the card says otherwise."""


def load_card(path: Path, *, to_assess: bool = False) -> DatasetCard:
    """The card in a YAML file. `to_assess`: it may lack the report that is to be made.

    Raises:
        CardError: unreadable, or any rule broken; `violations` lists all.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CardError("the card file cannot be read as UTF-8 text", rule="card.file") from error
    return parse_card(text, to_assess=to_assess)


def parse_card(text: str, *, to_assess: bool = False) -> DatasetCard:
    """The card in a YAML text. `to_assess`: it may lack the report that is to be made.

    Raises:
        CardError: any rule broken; `violations` lists all.
    """
    violations: list[Violation] = []
    fields = Fields(read_yaml(text), "", violations)
    card = _card(fields)
    fields.finish()
    if not violations:  # rules on a card that was misread would only mislead
        violations.extend(found for found in check_card(card) if not to_assess or found.rule != "basis.missing")
    if violations:
        listed = "; ".join(f"{item.subject}: {item.sentence}" for item in violations[:3])
        more = f" (and {len(violations) - 3} more)" if len(violations) > 3 else ""
        raise CardError(f"the card breaks {len(violations)} rules: {listed}{more}", violations=violations)
    return card


def _card(fields: Fields) -> DatasetCard:
    grade = Grade[fields.text("grade", choices=[grade.name for grade in Grade])]
    unit = fields.section("unit")
    bases: dict[str, Dimension] = {}
    dimensions = fields.items("dimensions", lambda item, path: _dimension(fields.sub(item, path), grade, bases))
    measures = fields.items("measures", lambda item, path: _measures(fields.sub(item, path), grade))
    exact = fields.section("exact", required=False)
    dp = fields.section("dp", required=False)
    card = DatasetCard(
        name=fields.text("name"),
        title=fields.text("title"),
        description=fields.text("description"),
        grade=grade,
        grading_scheme=fields.text("grading_scheme", "GB/T 43697-2024"),
        personal_information=fields.flag("personal_information"),
        legal_basis=fields.text("legal_basis", ""),
        responsible=fields.text("responsible"),
        provenance=fields.text("provenance"),
        lineage=fields.text("lineage"),
        unit_name=unit.text("name"),
        unit_column=unit.text("column"),
        unit_namespace=unit.text("namespace", ""),
        source=_source(fields.section("source")),
        dimensions=dimensions,
        measures=tuple(measure for group in measures for measure in group),
        keywords=fields.items("keywords", lambda item, _path: str(item), required=False),
        contact=fields.text("contact", ""),
        licence=fields.text("licence", ""),
        quality=_quality(fields),
        update_frequency=fields.text("update_frequency", "", choices=FREQUENCIES),
        list_rates=_rates(fields.section("list_rates")) if fields.has("list_rates") else fields.raw("list_rates", None),
        k=exact.integer("k", K_FLOOR),
        coalition=exact.integer("coalition", 1),
        coarsening=exact.items("coarsening", lambda item, path: _step(fields.sub(item, path)), required=False),
        residual=exact.text("residual", "drop"),
        bounds=_bounds(dp),
        accounting=dp.text("accounting", "pure", choices=("pure", "concentrated")),
        epsilon_lifetime=_amount(dp, "epsilon_lifetime", parse_epsilon),
        rho_lifetime=_amount(dp, "rho_lifetime", parse_rho),
        delta_digits=_delta(dp),
        report_epsilon=_report_epsilon(dp),
        consent=read_consent(fields, _source),
        anonymisation=read_anonymisation(fields),
        derived_from=read_derived_from(fields),
    )
    for section in (unit, exact, dp):
        section.finish()
    return card


def _quality(fields: Fields) -> dict[str, str]:
    """Short name to sentence; other things than text are refused."""
    section = fields.section("quality", required=False)
    found = {str(name): section.text(str(name)) for name in fields.mapping("quality")}
    section.finish()
    return found


def _rates(fields: Fields) -> Rates:
    def price(key: str) -> int:
        return _amount(fields, key, parse_price, rule=f"list_rates.{key}")

    rates = Rates(
        currency=fields.text("currency", "CNY"),
        per_query_micro=price("per_query"),
        per_cell_micro=price("per_cell"),
        per_epsilon_micro=price("per_epsilon"),
        per_encrypted_operation_micro=price("per_encrypted_operation"),
    )
    fields.finish()
    return rates


def _source(fields: Fields) -> Source:
    kind = fields.text("kind", choices=_SOURCES)
    delimiter = fields.text("delimiter", ",")
    source = Source(kind, fields.text("location"), fields.text("table", ""), delimiter)
    if delimiter not in DELIMITERS or (kind != "csv" and delimiter != ","):
        fields.refuse("source.delimiter", fields.at("delimiter"), "of a CSV file it is `,` `;` `|` or `tab`")
    if kind in ("duckdb", "postgres") and not source.table:
        fields.refuse("source.table", fields.at("table"), "a database source names its table")
    if kind == "spark" and not source.location.startswith(("table:", "parquet:")):
        fields.refuse("source.location", fields.at("location"), "on Spark it is `table:<name>` or `parquet:<path>`")
    fields.finish()
    return source


def _bounds(fields: Fields) -> Bounds:
    groups = fields.section("groups_per_unit", required=False)
    bounds = Bounds(
        rows_per_unit=fields.integer("rows_per_unit", 1),
        groups_per_unit={str(name): groups.integer(str(name)) for name in (fields.mapping("groups_per_unit") or {})},
    )
    groups.finish()
    return bounds


def _amount(fields: Fields, key: str, parse: Callable[[str], int], default: str = "", *, rule: str = "") -> int:
    text = fields.text(key, default)
    try:
        return parse(text) if text else 0
    except InvalidRequest as error:
        fields.refuse(rule or f"dp.{key}", fields.at(key), error.message)
        return 0


def _report_epsilon(fields: Fields) -> int:
    default = _REPORT_EPSILON if fields.has("epsilon_lifetime") or fields.has("rho_lifetime") else ""
    return _amount(fields, "report_epsilon", lambda text: parse_decimal(text, unit=NANO, field="it"), default)


def _delta(fields: Fields) -> int:
    """Digits of `1e-9`."""
    try:
        delta = Decimal(fields.text("delta", "1e-9")).normalize()
    except InvalidOperation:
        delta = Decimal(0)
    if delta.as_tuple()[:2] != (0, (1,)) or delta >= 1:
        fields.refuse("dp.delta", fields.at("delta"), "a power of ten from 1e-1 down to 1e-30, such as 1e-9")
        return 9
    return -delta.adjusted()


def _step(fields: Fields) -> tuple[str, str | None]:
    step = (fields.text("drop"), None) if fields.has("drop") else (fields.text("coarsen"), fields.text("to"))
    fields.finish()
    return step


def _dimension(fields: Fields, grade: Grade, bases: dict[str, Dimension]) -> Dimension:
    name = fields.text("name")
    title = fields.text("title", name)
    own_grade = Grade[fields.text("grade", grade.name, choices=[item.name for item in Grade])]
    scheme = fields.text("grading_scheme", "")
    if fields.has("coarsens"):
        dimension = _coarser(fields, name=name, title=title, grade=own_grade, bases=bases)
    else:
        dimension = _base(fields, name=name, title=title, grade=own_grade)
        bases[name] = dimension
    fields.finish()
    return replace(dimension, grading_scheme=scheme)


def _base(fields: Fields, *, name: str, title: str, grade: Grade) -> Dimension:
    row_level = fields.flag("row_level", False)
    edges: tuple[int, ...] = ()
    if fields.has("bins"):
        kind = "integer"
        cells, edges = _bins(fields.section("bins"))
    else:
        kind = fields.text("type", choices=_TYPES)
        cells = fields.items("cells", lambda item, path: _cell(fields, item, path, kind=kind))
    if fields.has("null"):
        cells = (*cells, Cell(None, fields.text("null")))
    return Dimension(
        name=name,
        title=title,
        type=kind,
        cells=cells,
        column=fields.text("column"),
        per_unit=PerUnit(Reduction.CONSTANT) if row_level else _per_unit(fields, "constant"),
        row_level=row_level,
        edges=edges,
        grade=grade,
    )


def _cell(fields: Fields, content: Any, path: str, *, kind: str) -> Cell | None:
    item, label = content, ""
    if isinstance(content, dict):
        sub = fields.sub(content, path)
        item, label = sub.raw("value"), sub.text("label", "")
        sub.finish()
    if kind == "text" and isinstance(item, int) and not isinstance(item, bool):
        item = str(item)
    if type(item) is not _TYPES[kind]:
        fields.refuse("card.cell", path, f"expected a value of type {kind}")
        return None
    value: Any = item
    return Cell(value, label or str(value))


def _bins(fields: Fields) -> tuple[tuple[Cell, ...], tuple[int, ...]]:
    edges = fields.items("edges", lambda item, path: _integer(fields, item, path))
    given = fields.items("labels", lambda item, _path: str(item), required=False)
    labels = given or tuple(f"{low}–{high - 1}" if high - low > 1 else str(low) for low, high in pairwise(edges))
    if len(labels) != max(len(edges) - 1, 0):
        fields.refuse("card.bins", fields.at("labels"), "one label for each bin, one fewer than edges")
    fields.finish()
    return tuple(Cell(edge, label) for edge, label in zip(edges, labels, strict=False)), edges


def _integer(fields: Fields, item: Any, path: str) -> int | None:
    if isinstance(item, bool) or not isinstance(item, int):
        fields.refuse("card.integer", path, "expected a whole number")
        return None
    return item


def _coarser(fields: Fields, *, name: str, title: str, grade: Grade, bases: dict[str, Dimension]) -> Dimension:
    base_name = fields.text("coarsens")
    groups = fields.mapping("groups")
    base = bases.get(base_name)
    if base is None:
        fields.refuse("dimension.coarsens", fields.at("coarsens"), "it names a base dimension declared before it")
    # Values of bins are their lower ends; `null` stands for the null cell.
    position = {} if base is None else {(type(cell.value), cell.value): i for i, cell in enumerate(base.cells)}
    mapping = [-1] * len(position)
    for index, members in enumerate(groups.values()):
        for member in members if isinstance(members, list) else [members]:
            found = position.get((type(member), member))
            if found is None or mapping[found] != -1:
                fields.refuse("dimension.groups", fields.at("groups"), "each cell of the base belongs to one group")
            else:
                mapping[found] = index
    return Dimension(
        name=name,
        title=title,
        type="text",
        cells=tuple(Cell(str(label), str(label)) for label in groups),
        row_level=base is not None and base.row_level,
        coarsens=base_name,
        mapping=tuple(mapping),
        grade=grade,
    )


def _per_unit(fields: Fields, default: str) -> PerUnit:
    """`sum`, or `{first: year}` with the column that orders rows."""
    value = fields.raw("per_unit", default)
    if isinstance(value, dict):
        section = fields.section("per_unit")
        per_unit = PerUnit(Reduction.FIRST, section.text("first"))
        section.finish()
        return per_unit
    return PerUnit(Reduction(fields.text("per_unit", default, choices=[item.value for item in Reduction])))


def _measures(fields: Fields, grade: Grade) -> tuple[Measure, ...]:
    mode = Mode(fields.text("mode", choices=["exact", "dp"]))
    scale = fields.integer("scale", 0)
    offered = {"sum", "avg"} if not fields.has("buckets") else {"sum", "avg", "histogram"}
    words = fields.items("statistics", lambda item, _path: str(item), required=False) or tuple(sorted(offered))
    known = {function.value: function for function in Function}
    for word in words:
        if word not in known:
            fields.refuse("measure.statistics", fields.at("statistics"), f"known: {', '.join(sorted(known))}")
    measure = Measure(
        name=fields.text("name"),
        title=fields.text("title", fields.text("name")),
        unit=fields.text("unit", ""),
        column=fields.text("column"),
        mode=mode,
        scale=scale,
        lower=fields.steps("lower", scale=scale),
        upper=fields.steps("upper", scale=scale),
        per_unit=_per_unit(fields, "sum"),
        statistics=frozenset(known[word] for word in words if word in known),
        buckets=fields.items("buckets", lambda item, path: fields.as_steps(item, path, scale=scale), required=False),
        width=fields.steps("width", scale=scale, default=0),
        rounding=fields.text("round", "refuse"),
        missing=fields.steps("missing", scale=scale) if fields.has("missing") else None,
        grade=Grade[fields.text("grade", grade.name, choices=[item.name for item in Grade])],
        grading_scheme=fields.text("grading_scheme", ""),
    )
    levels = _levels(fields, measure) if fields.has("per_level") else (measure,)
    fields.finish()
    return levels


def _levels(fields: Fields, measure: Measure) -> tuple[Measure, ...]:
    section = fields.section("per_level")
    column = section.text("column")
    values = section.items("values", lambda item, path: _level(fields, item, path))
    section.finish()
    return tuple(_at_level(measure, column, value) for (value,) in values)


def _level(fields: Fields, item: Any, path: str) -> tuple[LiteralValue] | None:
    if isinstance(item, bool | int | str):
        return (item,)
    fields.refuse("card.level", path, "expected a number, text, true or false")
    return None


def _at_level(measure: Measure, column: str, value: LiteralValue) -> Measure:
    """`visits` at year 3 becomes `visits_year_3`."""
    suffix = f"{column}_{value}".lower()
    return replace(
        measure,
        name=f"{measure.name}_{suffix}",
        title=f"{measure.title} ({column} {value})",
        level=(column, value),
    )
