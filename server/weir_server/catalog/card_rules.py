# SPDX-License-Identifier: Apache-2.0
"""What a dataset card must obey as a whole: the rules of grades, techniques and domains, each named.

Every rule is a function from a card to violations, and `RULES` is the list of all. They run on cards however made, so
that no other door than the card file leads around them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from math import prod

from weir.errors import InvalidQuery, Violation
from weir.query import Function, check_name
from weir_server.catalog.basis_card import basis_rules
from weir_server.catalog.card import (
    FREQUENCIES,
    K_FLOOR,
    DatasetCard,
    Dimension,
    Grade,
    Measure,
    Mode,
    Reduction,
    declared_columns,
)
from weir_server.catalog.lineage_rules import card_conflicts
from weir_server.catalog.rates import CURRENCY, CURRENCY_WORDS

MAX_FINE_CELLS = 2**22
"""Most cells of the grid of base unit-level dimensions, for exact mode: each is visited at load."""
MAX_CELLS = 100_000
"""Most cells of one dimension."""
RESERVED = "weir_"
"""What names of our own begin with wherever they stand beside columns of a source: engines would take a column of the
same name for ours, or ours for it, and read another row than the card says."""
_LIMIT = 2**62
_NAMESPACE = re.compile(r"[a-z][a-z0-9-]{0,62}")
_QUALITY_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_CONTACT = re.compile(r"[^\s@<>\"]+@[^\s@<>\"]+|https?://[^\s<>\"]+")
_IRI = re.compile(r"(https?://|urn:)[^\s<>\"{}|^`\\]+")
_MAX_STATEMENTS = 30
_STATISTICS = {
    Mode.EXACT: frozenset({Function.SUM, Function.AVG, Function.VARIANCE, Function.STDDEV, Function.HISTOGRAM}),
    Mode.DP: frozenset(Function) - {Function.COUNT, Function.COUNT_UNITS},
}


def check_card(card: DatasetCard) -> list[Violation]:
    """Every rule that `card` breaks; empty for a card that may be published."""
    return [violation for rule in RULES for violation in rule(card)]


def _offers(card: DatasetCard, mode: Mode) -> bool:
    return any(measure.mode is mode for measure in card.measures)


def _broken(rule: str, subject: str, sentence: str) -> Violation:
    return Violation(rule=rule, subject=subject, count=0, sentence=sentence)


def _names(card: DatasetCard) -> Iterator[Violation]:
    names = [card.name, *(item.name for item in card.dimensions), *(item.name for item in card.measures)]
    for name in names:
        try:
            check_name(name, field="name")
        except InvalidQuery as error:
            yield _broken("name.form", name, error.message)
    for name in sorted({name for name in names[1:] if names[1:].count(name) > 1}):
        yield _broken("name.twice", name, "dimensions and measures share one space of names; rename one")
    for field in ("title", "lineage", "unit_name", "unit_column", "responsible", "provenance"):
        if not getattr(card, field).strip():
            yield _broken("card.empty", field, f"{field} must say something")


def _columns(card: DatasetCard) -> Iterator[Violation]:
    """Of source and register: engines do not tell capitals from small letters."""
    for columns in (declared_columns(card), () if card.consent is None else card.consent.columns):
        folded = [column.upper().casefold() for column in columns]  # What has one capital is one: dotless i, long s.
        for column, name in zip(columns, folded, strict=True):
            if name.startswith(RESERVED):
                yield _broken("column.reserved", column, f"names that begin with {RESERVED} are the publisher's own")
            if folded.count(name) > 1:
                yield _broken("column.case", column, "engines take columns that differ in capitals only for one")


def _grades(card: DatasetCard) -> Iterator[Violation]:
    columns: tuple[Dimension | Measure, ...] = (*card.dimensions, *card.measures)
    for item in columns:
        if item.grade.value > card.grade.value:
            yield _broken("grade.column", item.name, "a dataset is graded at least as strictly as each of its columns")
    if card.grade is not Grade.GENERAL:
        for measure in card.measures:
            if measure.mode is Mode.EXACT:
                yield _broken("grade.exact", measure.name, "exact answers are for GENERAL data; use mode dp")
    if card.personal_information and not card.legal_basis.strip():
        yield _broken("grade.legal_basis", "legal_basis", "personal information needs a legal basis")


def _modes(card: DatasetCard) -> Iterator[Violation]:
    if not card.measures and card.grade is not Grade.CORE:
        yield _broken("card.measures", "measures", "declare at least one measure")
    if _offers(card, Mode.DP):
        yield from _dp(card)
    else:
        for dimension in card.dimensions:
            if dimension.row_level:
                yield _broken(
                    "dimension.row_level",
                    dimension.name,
                    "only dp can filter by what varies within a unit; for exact, make it a measure per level",
                )
    if _offers(card, Mode.EXACT):
        yield from _exact(card)


def _dp(card: DatasetCard) -> Iterator[Violation]:
    yield from _dp_budget(card)
    if card.bounds.rows_per_unit < 1:
        yield _broken("dp.rows_per_unit", "rows_per_unit", "at least one row of each unit must count")
    for name, bound in card.bounds.groups_per_unit.items():
        dimension = card.dimension(name)
        if dimension is None or not dimension.row_level:
            yield _broken("dp.groups_per_unit", name, "only row-level dimensions of the card take a bound on groups")
        elif not 1 <= bound <= len(dimension.cells):
            yield _broken("dp.groups_per_unit", name, "between 1 and the number of its cells")


def _dp_budget(card: DatasetCard) -> Iterator[Violation]:
    binding, other = "epsilon_lifetime", "rho_lifetime"
    if card.accounting not in ("pure", "concentrated"):
        yield _broken("dp.accounting", "accounting", "`pure` or `concentrated`")
    elif card.concentrated:
        binding, other = other, binding
    if not 0 < getattr(card, binding) < _LIMIT:
        yield _broken(f"dp.{binding}", binding, f"dp with {card.accounting} accounting needs {binding} above 0")
    if getattr(card, other):
        yield _broken(f"dp.{other}", other, f"with {card.accounting} accounting, {binding} alone is the budget")
    if not 1 <= card.delta_digits <= 30:
        yield _broken("dp.delta", "delta", "a power of ten from 1e-1 down to 1e-30")
    if not 0 <= card.report_epsilon < _LIMIT or (not card.concentrated and card.report_epsilon > card.epsilon_lifetime):
        yield _broken("dp.report_epsilon", "report_epsilon", "0, or a part of the lifetime budget")


def _exact(card: DatasetCard) -> Iterator[Violation]:
    if card.k < K_FLOOR:
        yield _broken("exact.k", "k", f"an atom has at least {K_FLOOR} units")
    if not 1 <= card.coalition <= card.k - 2:
        yield _broken("exact.coalition", "coalition", "at least 1, and at least two of k units must stay outside it")
    if card.residual not in ("atom", "drop"):
        yield _broken("exact.residual", "residual", "`atom` or `drop`")
    if prod(len(dimension.cells) for dimension in base_dimensions(card)) > MAX_FINE_CELLS:
        yield _broken("exact.cells", "dimensions", f"the grid of all dimensions has at most {MAX_FINE_CELLS} cells")
    dropped: set[str] = set()
    for base, coarser in card.coarsening:
        yield from _step(card, base, coarser, dropped=dropped)


def _step(card: DatasetCard, base: str, coarser: str | None, *, dropped: set[str]) -> Iterator[Violation]:
    if base not in {dimension.name for dimension in base_dimensions(card)}:
        yield _broken("exact.coarsening", base, "a step names a base dimension that is constant within a unit")
    elif base in dropped:
        yield _broken("exact.coarsening", base, "a dropped dimension takes no further step")
    elif coarser is None:
        dropped.add(base)
    else:
        target = card.dimension(coarser)
        if target is None or target.coarsens != base:
            yield _broken("exact.coarsening", coarser, f"a step leads to a dimension that coarsens `{base}`")


def base_dimensions(card: DatasetCard) -> tuple[Dimension, ...]:
    """The dimensions whose grid atoms are made of: unit-level, coarsening no other; in the order of the card."""
    return tuple(item for item in card.dimensions if not item.row_level and item.coarsens is None)


def _dimensions(card: DatasetCard) -> Iterator[Violation]:
    for dimension in card.dimensions:
        values = [cell.value for cell in dimension.cells]
        if not 1 <= len(values) <= MAX_CELLS:
            yield _broken("dimension.cells", dimension.name, f"1 to {MAX_CELLS} cells")
        if len({(type(value), value) for value in values}) != len(values):
            yield _broken("dimension.cells_twice", dimension.name, "each cell is declared once")
        if None in values[:-1]:
            yield _broken("dimension.null_cell", dimension.name, "at most one null cell, last")
        expected = {"integer": int, "text": str, "boolean": bool}.get(dimension.type)
        if any(value is not None and type(value) is not expected for value in values):
            yield _broken("dimension.type", dimension.name, f"every cell is of the declared type {dimension.type}")
        yield from _coarser(card, dimension) if dimension.coarsens is not None else _base(dimension)


def _base(dimension: Dimension) -> Iterator[Violation]:
    if not dimension.column:
        yield _broken("dimension.column", dimension.name, "a base dimension names its source column")
    if dimension.per_unit.reduction not in (Reduction.CONSTANT, Reduction.FIRST):
        yield _broken(
            "dimension.per_unit", dimension.name, "a dimension is constant within a unit, or first by an order"
        )
    if (dimension.per_unit.reduction is Reduction.FIRST) != (dimension.per_unit.order is not None):
        yield _broken("dimension.order", dimension.name, "first, and only first, names the column that orders rows")
    if dimension.edges:
        bins = len([cell for cell in dimension.cells if cell.value is not None])
        if len(dimension.edges) != bins + 1 or not _ascending(dimension.edges):
            yield _broken("dimension.edges", dimension.name, "bins need ascending edges, one more than bins")


def _coarser(card: DatasetCard, dimension: Dimension) -> Iterator[Violation]:
    base = card.dimension(dimension.coarsens or "")
    if base is None or base.coarsens is not None or base.row_level != dimension.row_level:
        yield _broken(
            "dimension.coarsens", dimension.name, "it coarsens a base dimension of the card, of the same level"
        )
    elif len(dimension.mapping) != len(base.cells) or set(dimension.mapping) != set(range(len(dimension.cells))):
        yield _broken(
            "dimension.groups", dimension.name, "every cell of the base lies in exactly one group; none is empty"
        )


def _ascending(numbers: tuple[int, ...]) -> bool:
    return all(first < second for first, second in pairwise(numbers))


def _measures(card: DatasetCard) -> Iterator[Violation]:
    for measure in card.measures:
        if measure.mode is Mode.ENCRYPTED:
            yield _broken("measure.mode", measure.name, "`exact` or `dp`; encrypted queries work over either")
            continue
        if not 0 <= measure.scale <= 18:
            yield _broken("measure.scale", measure.name, "0 to 18 decimal digits")
        if not -_LIMIT < measure.lower < measure.upper < _LIMIT:
            yield _broken("measure.bounds", measure.name, "lower < upper, both of less than 2**62 grid steps")
        if measure.rounding not in ("refuse", "half_even"):
            yield _broken("measure.round", measure.name, "`refuse` or `half_even`")
        if not measure.column:
            yield _broken("measure.column", measure.name, "a measure names its source column")
        yield from _statistics(measure)
        if measure.mode is Mode.EXACT:
            yield from _exact_measure(measure)


def _statistics(measure: Measure) -> Iterator[Violation]:
    if not measure.statistics or measure.statistics - _STATISTICS[measure.mode]:
        yield _broken("measure.statistics", measure.name, f"one or more that mode {measure.mode.value} offers")
    edges = measure.buckets
    if edges and (len(edges) < 2 or not _ascending(edges) or (edges[0], edges[-1]) != (measure.lower, measure.upper)):
        yield _broken("measure.buckets", measure.name, "ascending edges from the lower to the upper bound")
    if not edges and measure.statistics & {Function.HISTOGRAM, Function.QUANTILE}:
        yield _broken("measure.buckets", measure.name, "histogram and quantile need declared buckets")


def _exact_measure(measure: Measure) -> Iterator[Violation]:
    reduction = measure.per_unit.reduction
    if reduction is Reduction.CONSTANT:
        yield _broken("measure.per_unit", measure.name, "sum, count, max or first of the column within the unit")
    if (reduction is Reduction.FIRST) != (measure.per_unit.order is not None):
        yield _broken("measure.order", measure.name, "first, and only first, names the column that orders rows")
    if reduction is Reduction.COUNT and measure.scale != 0:
        yield _broken("measure.scale", measure.name, "a count has scale 0")
    if not 0 <= measure.width <= measure.upper - measure.lower:
        yield _broken("measure.width", measure.name, "the width is at most the distance of the bounds")
    if measure.missing is not None and not measure.lower <= measure.missing <= measure.upper:
        yield _broken("measure.missing", measure.name, "what stands for a missing value lies within the bounds")


def _catalogue(card: DatasetCard) -> Iterator[Violation]:
    """What the card says for people and for other catalogues."""
    if card.unit_namespace and not _NAMESPACE.fullmatch(card.unit_namespace):
        yield _broken("unit.namespace", "namespace", "small letters, digits and hyphens, beginning with a letter")
    if card.contact and not _CONTACT.fullmatch(card.contact):
        yield _broken("card.contact", "contact", "an e-mail address, or a web address beginning with http")
    if card.licence and not _IRI.fullmatch(card.licence):
        yield _broken("card.licence", "licence", "the web address or URN of a licence")
    if card.update_frequency not in ("", *FREQUENCIES):
        yield _broken("card.update_frequency", "update_frequency", f"one of: {', '.join(FREQUENCIES)}")
    if len(card.quality) > _MAX_STATEMENTS:
        yield _broken("card.quality", "quality", f"at most {_MAX_STATEMENTS} statements")
    for name, sentence in card.quality.items():
        if not _QUALITY_NAME.fullmatch(name) or not sentence.strip():
            yield _broken("card.quality", name, "a short name of small letters, and a sentence")
    if card.list_rates is not None and not CURRENCY.fullmatch(card.list_rates.currency):
        yield _broken("list_rates.currency", "currency", CURRENCY_WORDS)


RULES = (_names, _columns, _catalogue, _grades, _modes, _dimensions, _measures, card_conflicts, basis_rules)
"""Every rule of cards; `check_card` runs all."""
