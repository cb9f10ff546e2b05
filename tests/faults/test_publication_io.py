# SPDX-License-Identifier: Apache-2.0
"""A disk that fails to sync while a snapshot is sealed: publication stops, answers nothing from what may be torn, and
the next attempt makes the snapshot anew."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import sample
from tests.support.server import make_domain, write_identity
from weir.errors import InvalidRequest, PublicationError, Unavailable
from weir_server import publication
from weir_server.catalog.snapshot import MANIFEST, open_snapshot
from weir_server.publish import files
from weir_server.publish.publisher import Published
from weir_server.state import State

SYNCS = 11
"""The atoms' file, the manifest, the draft's directory; the data directory and the private one, which get a directory
each; the members' file and its directory; that directory again, for the one of consents; the consents' file and its
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


def test_what_is_being_activated_is_nobodys_leftover(
    publish: Callable[[], Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its publisher may be gone meanwhile. Mutant: a second one, who is told of the version before, removes it."""
    snapshots, seen = tmp_path / "data" / "snapshots" / "clinic", list[str | None]()
    genuine = State._mutate

    async def mutated(self: State, *arguments: Any, **named: Any) -> Any:
        for enter in (files.publishing_alone, files.nobody_activates):
            with pytest.raises(PublicationError) as refused, enter(snapshots):
                pass
            seen.append(refused.value.rule)
        return await genuine(self, *arguments, **named)

    monkeypatch.setattr(State, "_mutate", mutated)
    publish()
    assert seen == ["publication.running"] * 2


def test_what_is_newest_is_asked_while_nobody_activates(
    publish: Callable[[], Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On shared books a server may have activated since they were opened. Mutant: its version is a leftover then."""
    asked: list[bool] = []

    async def caught_up(self: State) -> None:
        with pytest.raises(PublicationError), files.activating(tmp_path / "data" / "snapshots" / "clinic"):
            pass
        asked.append(True)

    monkeypatch.setattr(State, "catch_up", caught_up)
    publish()
    assert asked[:1] == [True]


def sealed_only(publish: Callable[[], Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A version that was published and is not activated."""

    async def refused(self: State, *arguments: object) -> None:
        raise PublicationError("not today", rule="test")

    with monkeypatch.context() as patched:
        patched.setattr(State, "activate_snapshot", refused)
        with pytest.raises(PublicationError, match="not today"):
            publish()
    return tmp_path / "data" / "snapshots" / "clinic" / "1"


def test_nothing_is_cleared_away_while_the_server_activates(
    publish: Callable[[], Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = sealed_only(publish, tmp_path, monkeypatch)
    with files.activating(version.parent), pytest.raises(PublicationError) as running:
        publish()
    assert running.value.rule == "publication.running"
    assert version.exists()
    assert publish().version == 1


def test_a_leftover_whose_removal_was_cut_short_blocks_nothing(
    publish: Callable[[], Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = sealed_only(publish, tmp_path, monkeypatch)
    (version / MANIFEST).unlink()
    assert publish().version == 1


def test_an_identity_of_either_authority_publishes_while_the_authority_changes(tmp_path: Path) -> None:
    """Mutant: the texts are compared; from the first step of a change on nobody could publish."""
    here, there = make_domain(tmp_path / "here"), make_domain(tmp_path / "there")
    card, _ = sample.write_sources(tmp_path / "sources")
    own = write_identity(tmp_path / "olga.weir", here, role="operator", name="olga")
    authority = here / "secrets" / "ca.crt"
    authority.write_bytes((there / "secrets" / "ca.crt").read_bytes() + authority.read_bytes())
    with pytest.raises(Unavailable):  # Nobody serves there; it was asked.
        publication.publish_to_server(
            card, data_dir=here, source=None, server="127.0.0.1:1", identity_file=own, progress=lambda line: None
        )


def test_an_identity_of_another_domain_publishes_nothing_here(tmp_path: Path) -> None:
    """Its server knows other versions: those of this directory would be taken for leftovers."""
    here, there = make_domain(tmp_path / "here"), make_domain(tmp_path / "there")
    card, _ = sample.write_sources(tmp_path / "sources")
    foreign = write_identity(tmp_path / "olga.weir", there, role="operator", name="olga")
    with pytest.raises(InvalidRequest) as refused:
        publication.publish_to_server(
            card, data_dir=here, source=None, server="127.0.0.1:1", identity_file=foreign, progress=lambda line: None
        )
    assert refused.value.rule == "identity.domain"
