# SPDX-License-Identifier: Apache-2.0
"""What publications leave on a cluster, and how it goes: a journal on this machine of places to empty.

A place is noted before anything is written to it. Whatever is noted, and named by no sealed snapshot and no private
record of one, is emptied: at the end of the publication, be it one that failed, or by the next one of the dataset,
after a crash or where the cluster could not be reached. Spark cannot remove a directory; what remains of each is an
empty table.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from weir.errors import PublicationError, WeirError
from weir_server.catalog import remote_rows
from weir_server.catalog.snapshot import MANIFEST
from weir_server.engine.spark import SparkEngine
from weir_server.publish.files import CLUSTER_NOTE, make_directory, sync_directory

_FOREIGN = "foreign-"


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


def empty_what_nothing_names(engine: SparkEngine, private: Path, snapshots: Path, say: Callable[[str], None]) -> None:
    """What is still named stays. What cannot be emptied now stays noted, for the next publication."""
    noted = _noted(private)
    if any(private.glob(f"{_FOREIGN}*.json")):
        say("what another copy of this data directory noted (private/<dataset>/foreign-*) stays on the cluster")
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
    if content.get("of", _mark(private)) != _mark(private):  # Notes used not to say.
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
    make_directory(private)
    draft = private / f".{CLUSTER_NOTE}.tmp"
    with draft.open("w", encoding="utf-8") as file:
        json.dump({"unfinished": locations, "of": _mark(private)}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.chmod(0o600)
    draft.rename(private / CLUSTER_NOTE)
    sync_directory(private)
