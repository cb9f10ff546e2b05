# SPDX-License-Identifier: Apache-2.0
"""What columns are called changes nothing on a cluster, either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_publication import Twice, visits
from tests.support.names import REGISTER, SOURCE, Renamed, dp_card, entries, exact_card, renamed_rows, renamings
from weir_server.dp.layout import FILE, UNITS
from weir_server.engine.duckdb import open_engine
from weir_server.engine.spark import Cluster
from weir_server.publish.publisher import Published

pytestmark = pytest.mark.timeout(900)
"""Seconds. Several publications on a cluster of one machine, which may be slow."""
PEOPLE = 90
PLAIN = {name: name for name in SOURCE}, {name: name for name in REGISTER}
OF_ATOMS, OF_BOUNDS = 0, 4
"""Which names of ours stand for columns; on one engine all do, and that SQL has no others is held there, too
(`tests/unit/server/publish/test_names.py`)."""


@pytest.fixture(autouse=True)
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weir_server.publish.bounded_report.add_laplace", lambda counts, scale: list(counts))


def rows_of(source: Renamed, register: Renamed) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return renamed_rows(visits(PEOPLE), source), renamed_rows(entries(PEOPLE), register)


@pytest.mark.slow
def test_atoms_and_reports_are_those_of_any_names(cluster: Cluster, tmp_path: Path) -> None:
    twice, names = Twice(cluster, tmp_path), renamings(OF_ATOMS)
    plain = twice.publish_here(exact_card(*PLAIN), *rows_of(*PLAIN))
    made = twice.publish_there(exact_card(*names), *rows_of(*names))
    assert made.report == plain.report
    assert twice.atoms("there", 1) == (plain.directory / "atoms.jsonl").read_bytes()


def units(published: Published) -> list[tuple[Any, ...]]:
    with open_engine(published.directory / FILE) as engine:
        return sorted(engine.query(f"SELECT * FROM {UNITS}"))


@pytest.mark.slow
def test_units_and_effects_of_bounds_are_those_of_any_names(cluster: Cluster, tmp_path: Path) -> None:
    twice, names = Twice(cluster, tmp_path), renamings(OF_BOUNDS)
    plain = twice.publish_here(dp_card(*PLAIN), *rows_of(*PLAIN))
    made = twice.publish_there(dp_card(*names), *rows_of(*names))
    assert made.report.effects == plain.report.effects
    assert units(made) == units(plain)
