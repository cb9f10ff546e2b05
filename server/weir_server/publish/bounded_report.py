# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""How much the declared bounds drop: itself a dp release, since an exact count of it would tell of single units.

Each number counts units, so one unit changes it by at most 1; dropped rows are counted up to `rows_per_unit` a unit,
so one unit changes them by at most that. The numbers share one loss evenly, which whoever publishes books on the
lineage.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from weir.canonical import canonical_json
from weir_server.catalog.card import DatasetCard
from weir_server.dp.layout import base_dimensions, dp_measures
from weir_server.dp.noise import add_laplace, check_laplace, laplace_interval95, laplace_scale
from weir_server.dp.plan import split
from weir_server.engine.port import RowEngine
from weir_server.engine.relational import statement
from weir_server.publish.grid import cell_index, grid_steps, unit_key


@dataclass(frozen=True, slots=True)
class Effect:
    """What one bound drops, with noise."""

    subject: str
    """`units` (all of them), `rows_per_unit`, `rows_dropped`, or a row-level dimension or measure of the card."""
    sentence: str
    """What is counted."""
    count: int
    """Noisy; may be negative."""
    interval95: int
    """With at least 95 % the true count is within this of `count`."""


@dataclass(frozen=True, slots=True)
class _Question:
    subject: str
    sentence: str
    per_unit: str
    """Expression: integer of a unit, 0 to `most`, over the rows of the unit."""
    most: int = 1


def write_report(path: Path, effects: Iterable[Effect], *, epsilon_nano: int) -> None:
    """The effects in a file of the snapshot, so that what was drawn is what is booked and kept."""
    path.write_bytes(
        canonical_json({"epsilon_nano": str(epsilon_nano), "effects": [asdict(effect) for effect in effects]})
    )


def effects_of_bounds(
    card: DatasetCard, *, engine: RowEngine, rows_relation: str, epsilon_nano: int
) -> tuple[Effect, ...]:
    """Released effects of every bound at a loss of `epsilon_nano` altogether. Draws noise, once, now.

    Raises:
        InvalidQuery: too small a loss for that many numbers.
        InternalError: the engine or a check failed.
        Unavailable: the engine cannot be reached.
    """
    questions = _questions(card)
    noises = []
    for question, loss in zip(questions, split(epsilon_nano, [1] * len(questions)), strict=True):
        scale = laplace_scale(question.most, max(loss, 1))
        check_laplace(question.most, scale, loss)
        noises.append(scale)
    columns = ", ".join(f"{question.per_unit} AS weir_x{index}" for index, question in enumerate(questions))
    sums = ", ".join(f"COALESCE(EXACT_SUM(weir_x{index}), 0)" for index in range(len(questions)))
    asked = f"SELECT {sums} FROM (SELECT {columns} FROM {rows_relation} GROUP BY {unit_key(card)}) AS x"
    counted = engine.select(statement(asked))[0]
    return tuple(
        Effect(question.subject, question.sentence, add_laplace([int(count)], scale)[0], laplace_interval95(scale))
        for question, count, scale in zip(questions, counted, noises, strict=True)
    )


def _questions(card: DatasetCard) -> list[_Question]:
    most = card.bounds.rows_per_unit
    over = f"GREATEST(0, LEAST(COUNT(*) - {most}, {most}))"
    found = [
        _Question("units", "units", "1"),
        _Question("rows_per_unit", f"units with more than {most} rows", _one_if(f"COUNT(*) > {most}")),
        _Question("rows_dropped", f"rows over {most} a unit, at most {most} more counted for each", over, most),
    ]
    for dimension in base_dimensions(card):
        bound = card.bounds.groups_per_unit.get(dimension.name)
        if bound is not None:
            test = _one_if(f"COUNT(DISTINCT {cell_index(dimension)}) > {bound}")
            found.append(_Question(dimension.name, f"units in more than {bound} cells", test))
    for measure in dp_measures(card):
        outside = _one_if(f"{grid_steps(measure)} NOT BETWEEN {measure.lower} AND {measure.upper}")
        found.append(_Question(measure.name, "units with a value outside the bounds", f"MAX({outside})"))
    return found


def _one_if(condition: str) -> str:
    return f"CASE WHEN {condition} THEN 1 ELSE 0 END"
