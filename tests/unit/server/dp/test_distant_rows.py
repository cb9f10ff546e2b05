# SPDX-License-Identifier: Apache-2.0
"""Rows that a snapshot does not hold: cubes answer without asking anybody; without a cluster, rows are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import dp as support
from weir.errors import Unavailable
from weir.query import Comparison, Literal, Operator
from weir_server.catalog.remote_rows import RemoteRows
from weir_server.catalog.snapshot import Snapshot
from weir_server.dp.store import BoundedStores
from weir_server.dp.technique import DpTechnique
from weir_server.engine.spark import UNREACHABLE, SparkEngine

DEAR = Comparison("spend", Operator.GREATER, Literal(1))


def distant(directory: Path) -> Snapshot:
    made = support.publish(support.card(), [("a", "north", "1", "1", "1")], directory)
    return replace(made, rows=RemoteRows("spark", "nowhere", "0" * 64))


def test_without_a_cluster_rows_are_unavailable_and_cubes_are_not(tmp_path: Path) -> None:
    snapshot, technique = distant(tmp_path), DpTechnique()
    try:
        assert support.answer(support.bind(snapshot, support.count()), technique).values
        with pytest.raises(Unavailable) as refused:
            support.answer(support.bind(snapshot, support.count(), where=DEAR), technique)
        assert refused.value.rule == "engine.no_cluster"
        assert "nowhere" not in str(refused.value)
    finally:
        technique.close()


def test_a_cluster_is_asked_only_when_rows_are_and_again_after_it_was_away(tmp_path: Path) -> None:
    asked = []

    def away() -> SparkEngine:
        asked.append(1)
        raise Unavailable("the cluster cannot be reached", rule=UNREACHABLE)

    snapshot, technique = distant(tmp_path), DpTechnique(BoundedStores(cluster=away))
    try:
        support.answer(support.bind(snapshot, support.count(), groups=["region", "year"]), technique)
        assert not asked
        for times in (1, 2):
            with pytest.raises(Unavailable):
                support.answer(support.bind(snapshot, support.count(), where=DEAR), technique)
            assert len(asked) == times
    finally:
        technique.close()
