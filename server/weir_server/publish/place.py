# SPDX-License-Identifier: Apache-2.0
"""Where a publication's rows are: in the publisher's own database, or on the cluster that holds the source.

On a cluster nothing outlives a session but files, so a publication writes its work below a directory of its own there,
and empties it at the end (`leftovers.py`).
"""

from __future__ import annotations

import posixpath
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from weir.errors import PublicationError, WeirError
from weir_server.engine.duckdb import Engine
from weir_server.engine.port import RowEngine
from weir_server.engine.spark import Cluster, SparkEngine, open_spark
from weir_server.publish.keys import content_key, units_key
from weir_server.publish.leftovers import empty_what_nothing_names, note

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
        empty_what_nothing_names(engine, private, snapshots, say)
        note(private, [work, *(remote.lasting(kind) for kind in _LASTING)])
        try:
            yield remote
        finally:
            with suppress(WeirError):  # the next publication does it, then
                empty_what_nothing_names(engine, private, snapshots, say)
    finally:
        with suppress(WeirError):
            engine.close()
