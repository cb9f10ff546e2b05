# SPDX-License-Identifier: Apache-2.0
"""What may not be released side by side: in one card, and over all cards that a lineage has published.

Promises would be void if another release spoke of the same source column, so the rules go by columns, not by
names of measures:

* *One way only.* What is exact is exact for every use of its column: exact measures, the columns of their levels, and,
  beside exact measures, unit-level dimensions, whose cells are counted exactly. None of these is a measure or a
  row-level dimension under dp. A column that orders rows of an exact use is no dp measure either. Where a unit's rows
  are hidden by dp, no exact measure counts them, whatever column it counts in.
* *Width.* The interval of `publish.width` is that of one sum known about a value. A second sum over the same rows, a
  dimension binned on the column, or a level taken from it narrows the interval, down to nothing. Measures at different
  levels of one column speak of different rows, so each keeps its own width; the whole and one level do not.
* *One partition.* One dataset of a lineage is answered exactly, and one of those made from the same data, whatever
  lineages they name.
* *One account.* Pure and concentrated losses of a lineage do not add up to what either promises.

Columns go by their names in the source. That two names hold the same content, the provider alone can know.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from weir.errors import Violation
from weir_server.catalog.card import DatasetCard, Dimension, Grade, Measure, Mode, Reduction

BOTH_WAYS = (
    "a lineage never releases one column both exactly and with dp, be it as a measure, its level or order, or a "
    "dimension beside exact measures; keep one of the two uses"
)
ROWS = "dp hides how many rows a unit has, so its lineage never counts rows exactly; drop the exact count"
WIDTH = (
    "where a width is declared, no other measure over the same rows, no dimension, level or order uses that column; "
    "drop the width or the other use"
)
ACCOUNTING = "a lineage's losses add up in one account; take the accounting that its other datasets have"
EXACT_TWICE = (
    "this dataset of the lineage, or made from the same data, is answered exactly already; add the measures there "
    "before its first version"
)


def card_conflicts(card: DatasetCard) -> list[Violation]:
    """What the uses of columns within `card` make of each other's promises."""
    found = [_broken("lineage.both_ways", column, BOTH_WAYS) for column in sorted(_both_ways(card, card))]
    if _counts_rows(card) and hides_rows(card):
        found.append(_broken("lineage.rows", card.name, ROWS))
    return found + [_broken("measure.width_shared", name, WIDTH) for name in sorted(_narrowed(card, by=card))]


def lineage_conflicts(
    card: DatasetCard, others: Iterable[DatasetCard], *, relatives: Collection[str] = ()
) -> list[Violation]:
    """What `card` may not release beside the cards that its lineage has published, older versions included.

    A lineage is answered exactly by one dataset only: atoms of two partitions of the same people could be subtracted
    from each other. `relatives`: names of datasets that share an origin with the card's (`Catalogue.relatives`), of
    which this holds under any lineage: a copy without one person tells that person's values to whoever asks both.
    """
    columns: set[str] = set()
    counted: set[str] = set()
    narrowed: set[str] = set()
    twice: set[str] = set()
    accounts: set[str] = set()
    for other in others:
        if (other.lineage == card.lineage or other.name in relatives) and _exact_twice(card, other):
            twice.add(other.name)
        if other.lineage != card.lineage:
            continue
        columns |= _both_ways(card, other) | _both_ways(other, card)
        narrowed |= _narrowed(card, by=other) | _narrowed(other, by=card)
        if (_counts_rows(card) and hides_rows(other)) or (_counts_rows(other) and hides_rows(card)):
            counted.add(other.name)
        if _measures(card, Mode.DP) and _measures(other, Mode.DP) and card.accounting != other.accounting:
            accounts.add(other.name)
    return [
        *(_broken("lineage.mode", column, BOTH_WAYS) for column in sorted(columns)),
        *(_broken("lineage.rows", name, ROWS) for name in sorted(counted)),
        *(_broken("lineage.accounting", name, ACCOUNTING) for name in sorted(accounts)),
        *(_broken("lineage.width", name, WIDTH) for name in sorted(narrowed)),
        *(_broken("lineage.exact_twice", name, EXACT_TWICE) for name in sorted(twice)),
    ]


def _broken(rule: str, subject: str, sentence: str) -> Violation:
    return Violation(rule=rule, subject=subject, count=0, sentence=sentence)


def _measures(card: DatasetCard, mode: Mode) -> list[Measure]:
    return [measure for measure in card.measures if measure.mode is mode]


def _exact_uses(card: DatasetCard) -> list[Dimension | Measure]:
    """Whatever of the card is answered exactly: nothing, not even a dimension's count, without an exact measure."""
    measures = _measures(card, Mode.EXACT)
    dimensions = [item for item in card.dimensions if item.column and not item.row_level]
    return [*dimensions, *measures] if measures else []


def _both_ways(exact: DatasetCard, dp: DatasetCard) -> set[str]:
    """Columns that `exact` releases exactly and `dp` promises to hide."""
    uses = _exact_uses(exact)
    released = {use.column for use in uses}
    released |= {use.level[0] for use in uses if isinstance(use, Measure) and use.level is not None}
    ordering = {use.per_unit.order for use in uses if use.per_unit.order is not None}
    values = {measure.column for measure in _measures(dp, Mode.DP)}
    rows = {dimension.column for dimension in dp.dimensions if dimension.row_level and dimension.column}
    # A row-level dimension may order: the first row by year tells of the first row, not of how many years there are.
    return (released & (values | rows)) | (ordering & values)


def _exact_twice(card: DatasetCard, other: DatasetCard) -> bool:
    return other.name != card.name and bool(_measures(card, Mode.EXACT) and _measures(other, Mode.EXACT))


def _counts_rows(card: DatasetCard) -> bool:
    return any(measure.per_unit.reduction is Reduction.COUNT for measure in _measures(card, Mode.EXACT))


def hides_rows(card: DatasetCard) -> bool:
    """Whether dp speaks of more than a unit's presence: with one row a unit, COUNT(*) counts units."""
    return card.bounds.rows_per_unit > 1 and bool(_measures(card, Mode.DP))


def _narrowed(card: DatasetCard, *, by: DatasetCard) -> set[str]:
    """Names of measures of `card` whose declared width does not hold beside what `by` releases."""
    return {
        measure.name
        for measure in _measures(card, Mode.EXACT)
        if measure.width > 0
        and (
            any(measure.column in (item.column, item.per_unit.order) for item in by.dimensions)
            or any(_tells(other, measure) for other in _measures(by, Mode.EXACT))
        )
    }


def _tells(other: Measure, measure: Measure) -> bool:
    """Whether `other` speaks of the values behind `measure`."""
    if other.level is not None and other.level[0] == measure.column:
        return True
    if _definition(other) == _definition(measure):
        return False  # itself, or itself in another version
    return measure.column == other.per_unit.order or (measure.column == other.column and not _disjoint(other, measure))


def _definition(measure: Measure) -> Measure:
    return replace(measure, title="", unit="", grade=Grade.GENERAL)


def _disjoint(one: Measure, other: Measure) -> bool:
    """Whether no row counts for both: different levels of one column, compared as the same type."""
    if one.level is None or other.level is None or one.level[0] != other.level[0]:
        return False
    first, second = one.level[1], other.level[1]
    return type(first) is type(second) and first != second
