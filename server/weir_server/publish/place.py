# SPDX-License-Identifier: Apache-2.0
"""Where a publication's rows are: in the publisher's own database, or on the cluster that holds the source.

On a cluster nothing outlives a session but files, so a publication writes its work below a directory of its own there,
and empties it at the end. What it means to write is noted on this machine first. Whatever is noted, and named by no
sealed snapshot and no private record of one, is emptied: at the end of the publication, be it one that failed, or by
the next one of the dataset, after a crash or where the cluster could not be reached. Spark cannot remove a directory;
what remains of each is an empty table.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from weir.errors import PublicationError, WeirError
from weir_server.catalog import remote_rows
from weir_server.catalog.snapshot import MANIFEST
from weir_server.engine.duckdb import Engine
from weir_server.engine.port import RowEngine
from weir_server.engine.spark import Cluster, SparkEngine, open_spark
from weir_server.publish.files import CLUSTER_NOTE, sync_directory
from weir_server.publish.keys import content_key, units_key

_WORK, _LASTING = "publishing", ("members", "consent", "bounded")
_FOREIGN = "foreign-"
_PATTERN = re.compile(r"[*?{\[]")


@dataclass(frozen=True, slots=True)
class Remote:
    """A cluster at work for one publication."""

    engine: SparkEngine
    directory: str
    """The cluster's own, below which everything is kept."""
    name: str
    """Of this publication, never used again: dataset, version and a nonce."""

    def lasting(self, kind: str) -> str:
        """Where something is kept that the snapshot or the next publication needs."""
        return f"{self.directory}/{kind}/{self.name}"

    def keeps(self, path: str) -> bool:
        """Whether a path, which may be a pattern, is of what publications keep: private records of any dataset."""
        plain = _PATTERN.split(path)[0]
        given = _plain(plain)
        own = [_plain(f"{self.directory}/{kind}") for kind in (_WORK, *_LASTING)]
        return any(f"{given}/".startswith(f"{place}/") or (plain != path and place.startswith(given)) for place in own)


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows are, and what statements over them are keyed with."""

    local: Engine
    """The publisher's own database: aggregates, and without a cluster the rows too."""
    remote: Remote | None
    salt: bytes
    dataset: str

    @property
    def rows(self) -> RowEngine:
        """Where rows are worked on."""
        return self.local if self.remote is None else self.remote.engine

    @property
    def units_key(self) -> bytes:
        """Key of the hashes of units."""
        return self.salt if self.remote is None else units_key(self.salt, dataset=self.dataset)

    @property
    def content_key(self) -> bytes:
        """Key of fingerprints."""
        return self.salt if self.remote is None else content_key(self.salt, dataset=self.dataset)


def _plain(path: str) -> str:
    return posixpath.normpath(path.removeprefix("file:")).replace("//", "/")


@contextmanager
def working_on(
    cluster: Cluster | None, *, dataset: str, version: int, private: Path, snapshots: Path, say: Callable[[str], None]
) -> Iterator[Remote]:
    """The cluster, for one publication. `private`, `snapshots`: the dataset's directories on this machine.

    Raises:
        PublicationError: no cluster is configured.
        Unavailable: it cannot be reached.
    """
    if cluster is None:
        raise PublicationError(
            "the source is on a Spark cluster, and the configuration names none: set spark.remote and spark.directory",
            rule="source.spark",
        )
    directory, name = cluster.directory.rstrip("/"), f"{dataset}-{version}-{secrets.token_hex(8)}"
    work = f"{directory}/{_WORK}/{name}"
    engine = open_spark(cluster, directory=work)
    try:
        remote = Remote(engine, directory, name)
        _empty_what_nothing_names(engine, private, snapshots, say)
        if any(private.glob(f"{_FOREIGN}*.json")):
            say("what another copy of this data directory noted (private/<dataset>/foreign-*) stays on the cluster")
        note(private, [work, *(remote.lasting(kind) for kind in _LASTING)])
        try:
            yield remote
        finally:
            with suppress(WeirError):  # the next publication does it, then
                _empty_what_nothing_names(engine, private, snapshots, say)
    finally:
        with suppress(WeirError):
            engine.close()


def note_all_of(snapshot: Path, private: Path) -> None:
    """Notes what a snapshot that is about to be removed has on the cluster, so that it goes with it. What cannot be
    read any more is passed over. Of its version nothing else is in use, since it was never activated.
    """
    locations = set[str]()
    for record in private.rglob(f"{snapshot.name}-*.json"):
        with suppress(PublicationError):
            locations.add(location_of(record))
    with suppress(PublicationError):
        locations |= _rows_of(snapshot)
    if locations:
        note(private, locations)


def note(private: Path, locations: Iterable[str]) -> None:
    """Adds to what is to be emptied unless something names it then, durably."""
    _write(private, [*_noted(private), *locations])


def _empty_what_nothing_names(engine: SparkEngine, private: Path, snapshots: Path, say: Callable[[str], None]) -> None:
    """What is still named stays. What cannot be emptied now stays noted, for the next publication."""
    noted = _noted(private)
    if not noted:
        return
    try:
        named = set[str]().union(*(_named_by(path, private) for path in _versions(snapshots)))
    except PublicationError:
        say("a snapshot or its private record cannot be read: nothing is emptied on the cluster")
        return
    left = [location for location in noted if location not in named and not _emptied(engine, location)]
    if left:
        say(f"{len(left)} directories on the cluster could not be emptied; the next publication tries again")
    _write(private, left)


def _emptied(engine: SparkEngine, location: str) -> bool:
    try:
        engine.erase(location)
    except WeirError:
        return False
    return True


def _versions(snapshots: Path) -> list[Path]:
    return [path for path in snapshots.iterdir() if not path.name.startswith(".")]


def _named_by(snapshot: Path, private: Path) -> set[str]:
    """Locations on the cluster that a sealed snapshot and its private records name.

    Raises:
        PublicationError: one of them cannot be read.
    """
    try:
        digest = hashlib.sha256((snapshot / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        raise _unreadable() from None
    return _rows_of(snapshot) | {location_of(path) for path in private.rglob(f"{snapshot.name}-{digest[:32]}*.json")}


def _rows_of(snapshot: Path) -> set[str]:
    present = (remote_rows.FILE,) if (snapshot / remote_rows.FILE).exists() else ()
    rows = remote_rows.read_rows(snapshot, present)
    return set() if rows is None else {rows.location}


def location_of(record: Path) -> str:
    """Where on the cluster a private record says that it is.

    Raises:
        PublicationError: it cannot be read.
    """
    try:
        return str(json.loads(record.read_bytes())["location"])
    except (OSError, ValueError, KeyError, TypeError):
        raise _unreadable() from None


def _unreadable() -> PublicationError:
    return PublicationError("a snapshot or its private record cannot be read", rule="snapshot.private")


def _noted(private: Path) -> list[str]:
    """What is to be emptied. The note of another directory, which this one is a copy of, is put aside: the copy must
    not empty what the first one has."""
    path = private / CLUSTER_NOTE
    if not path.exists():
        return []
    content = json.loads(path.read_bytes())
    if content["of"] != _mark(private):
        path.rename(private / f"{_FOREIGN}{content['of']}.json")
        return []
    return list(content["unfinished"])


def _mark(private: Path) -> int:
    """Names a directory: it stays when it is moved or the machine starts anew, and is another in a copy."""
    return private.stat().st_ino


def _write(private: Path, locations: list[str]) -> None:
    if not locations:
        (private / CLUSTER_NOTE).unlink(missing_ok=True)
        return
    private.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = private / f".{CLUSTER_NOTE}.tmp"
    with draft.open("w", encoding="utf-8") as file:
        json.dump({"unfinished": locations, "of": _mark(private)}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.chmod(0o600)
    draft.rename(private / CLUSTER_NOTE)
    sync_directory(private)
