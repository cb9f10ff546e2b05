# SPDX-License-Identifier: Apache-2.0
"""Whatever a card declares, the rows drawn from it are rows that it would itself publish."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weir.query import Function
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
from weir_server.catalog.card_rules import check_card
from weir_server.catalog.snapshot import open_snapshot
from weir_server.sandbox.build import build

COLUMNS = ("a", "b", "c")
"""Few, so that uses of one column meet."""
WORDS = st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=8).filter(str.isprintable)


@st.composite
def dimensions(draw: st.DrawFn, at: int, *, dp: bool) -> Dimension:
    kind = draw(st.sampled_from(["integer", "text", "boolean", "bins"]))
    edges: tuple[int, ...] = ()
    if kind == "bins":
        edges = tuple(sorted(draw(st.sets(st.integers(-1000, 10**6), min_size=2, max_size=5))))
        cells = tuple(Cell(edge, str(edge)) for edge in edges[:-1])
    else:
        values = {"integer": st.integers(-(2**40), 2**40), "text": WORDS, "boolean": st.booleans()}[kind]
        cells = tuple(Cell(value, str(value)) for value in draw(st.lists(values, min_size=1, max_size=6, unique=True)))
    if draw(st.booleans()):
        cells = (*cells, Cell(None, "none"))
    row_level = dp and draw(st.booleans())
    first = not row_level and draw(st.booleans())
    return Dimension(
        name=f"d{at}",
        title="D",
        type="integer" if kind == "bins" else kind,
        cells=cells,
        column=f"d{at}",  # a listed column of one's own: two lists that share no value leave none
        per_unit=PerUnit(Reduction.FIRST, "moment") if first else PerUnit(Reduction.CONSTANT),
        row_level=row_level,
        edges=edges,
    )


@st.composite
def measures(draw: st.DrawFn, at: int, *, mode: Mode) -> Measure:
    lower = draw(st.integers(-(10**6), 10**6))
    reduction = draw(st.sampled_from([Reduction.SUM, Reduction.MAX, Reduction.FIRST, Reduction.COUNT]))
    if mode is Mode.DP:
        reduction = Reduction.SUM
    upper = lower + draw(st.integers(1, 10**6))
    scale = 0 if reduction is Reduction.COUNT else draw(st.integers(0, 6))
    missing = draw(st.none() | st.integers(lower, upper))
    level = draw(st.none() | st.integers(1, 4))
    return Measure(
        name=f"m{at}",
        title="M",
        unit="",
        column=draw(st.sampled_from(COLUMNS)),
        mode=mode,
        scale=scale,
        lower=lower,
        upper=upper,
        per_unit=PerUnit(reduction, "moment" if reduction is Reduction.FIRST else None),
        level=None if mode is Mode.DP or level is None else ("ward", level),
        missing=None if mode is Mode.DP else missing,
        statistics=frozenset({Function.SUM, Function.AVG}),
        rounding=draw(st.sampled_from(["refuse", "half_even"])),
    )


@st.composite
def cards(draw: st.DrawFn) -> DatasetCard:
    mode = draw(st.sampled_from([Mode.EXACT, Mode.DP]))
    found = tuple(draw(dimensions(at, dp=mode is Mode.DP)) for at in range(draw(st.integers(0, 3))))
    rows = draw(st.integers(1, 6))
    card = DatasetCard(
        name="drawn",
        title="Drawn",
        description="",
        grade=Grade.GENERAL,
        grading_scheme="S",
        personal_information=False,
        legal_basis="",
        responsible="nobody",
        provenance="drawn",
        lineage="drawn",
        unit_name="unit",
        unit_column="u",
        source=Source("csv", "none.csv"),
        dimensions=found,
        measures=tuple(draw(measures(at, mode=mode)) for at in range(draw(st.integers(1, 3)))),
        residual=draw(st.sampled_from(["drop", "atom"])),
    )
    if mode is Mode.DP:
        return replace(card, bounds=Bounds(rows_per_unit=rows), epsilon_lifetime=10**9)
    return card


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(cards().filter(lambda card: not check_card(card)))
def test_every_card_without_a_fault_makes_a_sandbox(card: DatasetCard) -> None:
    with tempfile.TemporaryDirectory() as directory:
        digest = build(card, Path(directory))
        snapshot = open_snapshot(Path(directory) / "snapshots" / "drawn" / "1", expected_digest=digest)
        assert snapshot.card.dimensions == card.dimensions
        assert snapshot.files
