# SPDX-License-Identifier: Apache-2.0
"""Where a publication's rows are: in the publisher's own database, or on the cluster that holds the source.

On a cluster nothing outlives a session but files, so a publication writes its work below a directory of its own there,
and empties it at the end. What it means to write is noted on this machine first: after a crash the next publication of
the dataset empties that. Spark cannot remove a directory; what remains of each is an empty table.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from weir.errors import PublicationError, WeirError
from weir_server.engine.duckdb import Engine
from weir_server.engine.port import RowEngine
from weir_server.engine.spark import Cluster, SparkEngine, open_spark
from weir_server.publish.files import sync_directory
from weir_server.publish.keys import content_key, units_key

_NOTE = "cluster.json"
_WORK, _LASTING = "publishing", ("members", "consent", "bounded")
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
def working_on(cluster: Cluster | None, *, dataset: str, version: int, private: Path) -> Iterator[Remote]:
    """The cluster, for one publication. `private`: the dataset's private directory on this machine. What it keeps is
    emptied unless `kept` has been called when this ends.

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
        _clear(engine, private)
        _note(private, [work, *(remote.lasting(kind) for kind in _LASTING)])
        try:
            yield remote
        except BaseException:
            with suppress(WeirError):  # the next publication does it, then
                _clear(engine, private)
            raise
        with suppress(WeirError):
            _clear(engine, private)
    finally:
        with suppress(WeirError):
            engine.close()


def kept(remote: Remote, private: Path) -> None:
    """What lasts is there to stay: from now on only the work is emptied. Called just before the snapshot exists."""
    _note(private, [f"{remote.directory}/{_WORK}/{remote.name}"])


def _note(private: Path, locations: list[str]) -> None:
    private.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = private / f".{_NOTE}.tmp"
    with draft.open("w", encoding="utf-8") as file:
        json.dump({"unfinished": locations}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.chmod(0o600)
    draft.rename(private / _NOTE)
    sync_directory(private)


def _clear(engine: SparkEngine, private: Path) -> None:
    path = private / _NOTE
    if not path.exists():
        return
    for location in json.loads(path.read_text(encoding="utf-8"))["unfinished"]:
        engine.erase(location)
    path.unlink()
