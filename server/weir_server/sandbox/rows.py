# SPDX-License-Identifier: Apache-2.0
"""Synthetic source rows, drawn from a card and a seed and from nothing else.

Each source column that the card names becomes one `Column`: the values it may take, by everything the card says of it
at once (a column may be a dimension, a measure, the level of another measure and the order of rows). Values are drawn
uniformly over declared cells and bounds, so they say nothing that the card does not; no relation between columns is
meant, and none should be read into them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from random import Random

from weir.errors import PublicationError
from weir_server.catalog.card import DatasetCard, Dimension, Grade, Measure, Mode, Reduction, declared_columns
from weir_server.catalog.card_rules import base_dimensions
from weir_server.exact.technique import decimal_text

LEAST_UNITS = 2_000
MOST_UNITS = 10_000
MOST_ROWS = 60_000
"""Of one sandbox, so that it is built in seconds whatever the card says."""
MOST_LEVELS = 50
"""Rows of a unit at most; levels beyond have no rows."""
_FEW = 3
"""Rows of a unit at most, where no level asks for more."""
_NULLS = 0.05
"""Share of missing values in a measure that may be missing."""

Row = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """What a source column may hold, by the card."""

    name: str
    values: Sequence[str | int]
    """Values, or numbers in steps of 10**-scale."""
    scale: int = 0
    bins: tuple[range, ...] = ()
    """Ranges that are equally likely, whatever their lengths; empty for none."""
    nulls: float = 0.0
    """How often it is missing."""
    constant: bool = False
    """The same in all rows of a unit."""
    distinct: bool = False
    """Different in all rows of a unit: it orders them."""
    in_turn: bool = False
    """The rows of a unit take the values in turn, so that each has some: levels."""
    total: bool = False
    """The rows of a unit add up to one value within the bounds."""


def columns_of(card: DatasetCard) -> tuple[Column, ...]:
    """A column for each that the card names, unit first.

    Raises:
        PublicationError: the card leaves no value for one of them.
    """
    return tuple(_column(card, name) for name in declared_columns(card))


def rows_of(card: DatasetCard, *, seed: str) -> Iterator[Row]:
    """Rows of a few thousand units, values in the order of `columns_of`; the same for the same card and seed.

    Raises:
        PublicationError: no row can be drawn: CORE data, or a column without a value.
    """
    if card.grade is Grade.CORE:
        raise PublicationError("CORE data is catalogued only", rule="sandbox.core")
    random, (unit, *rest) = Random(seed), columns_of(card)
    levels = max((len(column.values) for column in rest if column.in_turn), default=0)
    most = _most_rows(rest, levels)
    units = min(_units(card), len(unit.values), MOST_ROWS // most)
    for identifier in random.sample(unit.values, units):
        count = most if levels else random.randint(1, most)
        drawn = [_draw(column, count, random) for column in rest]
        yield from zip([_text(unit, identifier)] * count, *drawn, strict=True)


def _most_rows(columns: Sequence[Column], levels: int) -> int:
    most = min(max(levels, _FEW), MOST_LEVELS)
    for column in columns:
        if column.distinct:
            most = min(most, 1 if column.constant else len(column.values))
    return most


def _units(card: DatasetCard) -> int:
    """Enough that most cells of the grid hold k units, within bounds."""
    cells = prod(len(dimension.cells) for dimension in base_dimensions(card))
    return max(LEAST_UNITS, min(MOST_UNITS, 4 * card.k * cells))


def _draw(column: Column, count: int, random: Random) -> list[str | None]:
    """Values of one unit's rows."""
    if column.constant:
        return [_one(column, random)] * count
    if column.distinct or column.in_turn:
        order = random.sample(column.values, min(count, len(column.values)))
        return [_text(column, order[i % len(order)]) for i in range(count)]
    if column.total:
        return _parts(column, count, random)
    return [_one(column, random) for _ in range(count)]


def _one(column: Column, random: Random) -> str | None:
    if column.nulls and random.random() < column.nulls:
        return None
    chosen = random.choice(column.bins) if column.bins else column.values
    return _text(column, random.choice(chosen))


def _parts(column: Column, count: int, random: Random) -> list[str | None]:
    """A value within the bounds as a sum over the rows, some of which may be missing."""
    total = random.choice(column.values)
    if not isinstance(total, int):
        raise TypeError("only numbers add up")
    share, rest = divmod(total, count)
    parts: list[str | None] = [_text(column, share + (1 if i < rest else 0)) for i in range(count)]
    return [None if column.nulls and random.random() < column.nulls else part for part in parts]


def _text(column: Column, value: str | int) -> str:
    return value if isinstance(value, str) else decimal_text(value, column.scale)


def _column(card: DatasetCard, name: str) -> Column:
    dimensions = [item for item in card.dimensions if item.column == name]
    measures = [item for item in card.measures if item.column == name]
    valued = [item for item in measures if not _counted(item)]
    levels = _levels(card, name)
    items: tuple[Dimension | Measure, ...] = (*card.dimensions, *card.measures)
    ordered = name in {item.per_unit.order for item in items}
    listed = _listed([item for item in dimensions if not item.edges], levels)
    scale, values, bins = 0, range(1, MOST_UNITS + 1), _bins(dimensions)
    if bins:
        values = range(bins[0].start, bins[-1].stop)
    elif valued:
        finest = min(valued, key=lambda item: item.scale)  # what lies on the coarsest grid lies on all
        scale, values = finest.scale, range(finest.lower, finest.upper + 1)
    drawn: Sequence[str | int] = values if listed is None else listed
    if not drawn:
        raise PublicationError("the card leaves no value for a column", rule="sandbox.values")
    return Column(
        name=name,
        values=drawn,
        scale=scale,
        bins=bins if listed is None else (),
        nulls=0.0 if name == card.unit_column or ordered or levels else _nulls(dimensions, measures),
        constant=any(not item.row_level and item.per_unit.reduction is Reduction.CONSTANT for item in dimensions),
        distinct=ordered or name == card.unit_column,
        in_turn=bool(levels),
        total=bool(valued) and not dimensions and all(_added_up(item) for item in valued),
    )


def _counted(measure: Measure) -> bool:
    """Whether only rows with a value count, whatever the value."""
    return measure.mode is Mode.EXACT and measure.per_unit.reduction is Reduction.COUNT


def _added_up(measure: Measure) -> bool:
    return measure.mode is Mode.EXACT and measure.per_unit.reduction is Reduction.SUM and measure.level is None


def _levels(card: DatasetCard, name: str) -> tuple[str, ...]:
    found = (str(item.level[1]) for item in card.measures if item.level is not None and item.level[0] == name)
    return tuple(dict.fromkeys(found))[:MOST_LEVELS]


def _listed(dimensions: Sequence[Dimension], levels: tuple[str, ...]) -> tuple[str, ...] | None:
    """Values that every listing of the column has; levels, where none lists it; None where nothing does.

    An empty text is none of them: many sources cannot tell it from a missing value.
    """
    if not dimensions:
        return levels or None
    texts = [[_word(cell.value) for cell in item.cells if cell.value is not None] for item in dimensions]
    common = [text for text in texts[0] if text and all(text in other for other in texts[1:])]
    return tuple([text for text in common if text in levels] or common)


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bins(dimensions: Sequence[Dimension]) -> tuple[range, ...]:
    """Bins of the first dimension that has any: what lies in one of its bins falls in some bin of every other."""
    edges = next((item.edges for item in dimensions if item.edges), ())
    return tuple(range(low, high) for low, high in pairwise(edges))


def _nulls(dimensions: Sequence[Dimension], measures: Sequence[Measure]) -> float:
    """How often a value is missing: as often as any other cell is drawn, and never where it is not declared."""
    missing = all(item.mode is Mode.DP or item.missing is not None or _counted(item) for item in measures)
    if not missing or any(item.cells[-1].value is not None for item in dimensions):
        return 0.0
    return 1 / len(dimensions[0].cells) if dimensions else _NULLS
