# SPDX-License-Identifier: Apache-2.0
"""A disk that fails to sync while a snapshot is sealed: publication stops, answers nothing from what may be torn, and
the next attempt makes the snapshot anew."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import sample
from tests.support.server import make_domain
from weir.errors import PublicationError
from weir_server import publication
from weir_server.catalog.snapshot import MANIFEST, open_snapshot
from weir_server.publish import files
from weir_server.publish.publisher import Published

SYNCS = 8
"""The atoms' file, the manifest, the draft's directory; the members' file and its directory; the consents' file and its
directory; the directory of versions."""


@pytest.fixture(name="publish")
def _publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Published]:
    """Publishes the sample's exact dataset into a domain, as the command does."""
    data_dir = make_domain(tmp_path)
    card, _ = sample.write_sources(tmp_path / "sources")

    def publish() -> Published:
        work = publication.publish_locally(card, data_dir=data_dir, source=None, progress=lambda line: None)
        return asyncio.run(work)[0]

    return publish


def failing(at: int, monkeypatch: pytest.MonkeyPatch, *, inside: str) -> list[int]:
    """Make the `at`-th sync of sealing fail, counted from 1; gives the list that grows with each."""
    calls: list[int] = []
    genuine, seal = os.fsync, files.seal

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == at:
            raise OSError(5, "Input/output error")
        genuine(descriptor)

    def sealed(*arguments: object, **named: object) -> str:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fsync)
            return seal(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(inside, sealed)
    return calls


SEAL = "weir_server.publish.publisher.seal"


@pytest.mark.parametrize("at", range(1, SYNCS + 1))
def test_a_failed_sync_stops_the_publication_and_is_never_tried_again(
    at: int, publish: Callable[[], Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        calls = failing(at, patched, inside=SEAL)
        with pytest.raises(OSError, match="Input/output error"):
            publish()
        assert len(calls) == at, "what failed once is not synced again: the pages may be gone"
    version = tmp_path / "data" / "snapshots" / "clinic" / "1"
    assert version.exists() == (at == SYNCS), "only the name itself may stand, unactivated"
    again = publish()
    assert again.version == 1, "nothing was activated, so the version is made anew"
    assert open_snapshot(again.directory, expected_digest=again.manifest_digest).version == 1


def test_sealing_syncs_each_file_and_directory_once(
    publish: Callable[[], Published], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = failing(0, monkeypatch, inside=SEAL)
    publish()
    assert len(calls) == SYNCS


def test_a_snapshot_torn_after_its_name_appeared_is_not_opened(publish: Callable[[], Published]) -> None:
    published = publish()
    manifest = published.directory / MANIFEST
    content = manifest.read_bytes()
    manifest.chmod(0o600)
    manifest.write_bytes(content[: len(content) // 2])
    with pytest.raises(PublicationError):
        open_snapshot(published.directory, expected_digest=published.manifest_digest)
