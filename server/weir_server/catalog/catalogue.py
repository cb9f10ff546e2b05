# SPDX-License-Identifier: Apache-2.0
"""The catalogue: every active snapshot of every dataset, as one immutable value that a query is bound against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from weir.errors import UnknownName
from weir_server.catalog.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Datasets by name; each with its active snapshots, newest first."""

    datasets: Mapping[str, tuple[Snapshot, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def resolve(self, dataset: str, version: int) -> Snapshot:
        """The snapshot of that version, or the newest for 0.

        Raises:
            UnknownName: no such dataset or version.
        """
        snapshots = self.datasets.get(dataset)
        if snapshots is None:
            raise UnknownName("no dataset of this name is published", field="query.dataset", rule="name.dataset")
        if version == 0:
            return snapshots[0]
        for snapshot in snapshots:
            if snapshot.version == version:
                return snapshot
        raise UnknownName(
            f"the dataset has no version {version}; the newest is {snapshots[0].version}",
            field="query.snapshot",
            rule="name.snapshot",
        )

    def with_snapshot(self, snapshot: Snapshot) -> Catalogue:
        """This catalogue and one newer snapshot."""
        older = self.datasets.get(snapshot.card.name, ())
        return Catalogue(MappingProxyType({**self.datasets, snapshot.card.name: (snapshot, *older)}))
