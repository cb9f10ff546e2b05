# SPDX-License-Identifier: Apache-2.0
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.domain import census_card, spending_card, write_snapshot
from weir.canonical import canonical_json
from weir.errors import PublicationError, UnknownName
from weir_server.catalog.card import DatasetCard, Grade, Mode
from weir_server.catalog.catalogue import Catalogue
from weir_server.catalog.codec import card_to_json
from weir_server.catalog.snapshot import Snapshot, open_snapshot


def snapshot(card: DatasetCard, version: int = 1) -> Snapshot:
    return Snapshot(card, version, datetime(2026, 1, 1, tzinfo=UTC), f"{version:064x}", Path(), ())


def test_the_newest_version_is_asked_where_none_is_named() -> None:
    catalogue = Catalogue().with_snapshot(snapshot(census_card())).with_snapshot(snapshot(census_card(), 2))
    assert catalogue.resolve("census", 0).version == 2
    assert catalogue.resolve("census", 1).version == 1


@pytest.mark.parametrize(("dataset", "version", "rule"), [("none", 0, "name.dataset"), ("census", 3, "name.snapshot")])
def test_what_is_not_published_is_unknown(dataset: str, version: int, rule: str) -> None:
    catalogue = Catalogue().with_snapshot(snapshot(census_card()))
    with pytest.raises(UnknownName) as caught:
        catalogue.resolve(dataset, version)
    assert caught.value.rule == rule


@pytest.mark.parametrize("order", [(Grade.GENERAL, Grade.CORE), (Grade.CORE, Grade.GENERAL)], ids=["raised", "lowered"])
def test_the_strictest_grade_a_dataset_ever_had_holds_for_all_of_its_versions(order: tuple[Grade, Grade]) -> None:
    first, second = (census_card(grade=grade) for grade in order)
    catalogue = Catalogue().with_snapshot(snapshot(first)).with_snapshot(snapshot(second, 2))
    assert all(catalogue.resolve("census", version).card.modes == () for version in (0, 1, 2))


def test_a_newer_snapshot_leaves_the_older_catalogue_as_it_was() -> None:
    before = Catalogue()
    before.with_snapshot(snapshot(census_card()))
    assert not before.datasets


@pytest.mark.parametrize(
    ("card", "modes"),
    [
        (census_card(), (Mode.EXACT, Mode.ENCRYPTED)),
        (spending_card(), (Mode.DP, Mode.ENCRYPTED)),
        (census_card(grade=Grade.IMPORTANT), ()),
        (census_card(grade=Grade.CORE), ()),
        (spending_card(grade=Grade.CORE), ()),
        (spending_card(grade=Grade.GENERAL), (Mode.DP, Mode.ENCRYPTED)),
    ],
    ids=["general", "important", "important but exact", "core exact", "core dp", "general dp"],
)
def test_the_grade_decides_the_techniques(card: DatasetCard, modes: tuple[Mode, ...]) -> None:
    assert card.modes == modes


def test_a_snapshot_opens_as_it_was_written(tmp_path: Path) -> None:
    digest = write_snapshot(tmp_path, census_card(), 3)
    opened = open_snapshot(tmp_path / "snapshots" / "census" / "3", expected_digest=digest)
    assert (opened.card, opened.version, opened.files) == (census_card(), 3, ("atoms.bin",))


def _manifest(**changes: Any) -> dict[str, Any]:
    return {"card": card_to_json(census_card()), "version": 1, "published": "2026-01-01", "files": {}} | changes


BROKEN: dict[str, Callable[[], bytes]] = {
    "no JSON": lambda: b"{",
    "no object": lambda: b"[]",
    "no files": lambda: canonical_json({"version": 1}),
    "no card": lambda: canonical_json(_manifest(card={})),
    "no time": lambda: canonical_json(_manifest(published="yesterday")),
    "no version": lambda: canonical_json(_manifest(version="one")),
    "a file outside": lambda: canonical_json(_manifest(files={"../other": "0" * 64})),
    "deeply nested": lambda: b"[" * 100_000,
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_manifest_that_is_none_is_refused_even_under_its_own_digest(tmp_path: Path, case: str) -> None:
    content = BROKEN[case]()
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(PublicationError):
        open_snapshot(tmp_path, expected_digest=hashlib.sha256(content).hexdigest())


def test_a_directory_without_manifest_is_no_snapshot(tmp_path: Path) -> None:
    with pytest.raises(PublicationError) as caught:
        open_snapshot(tmp_path, expected_digest="0" * 64)
    assert caught.value.rule == "snapshot.missing"
