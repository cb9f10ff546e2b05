# SPDX-License-Identifier: Apache-2.0
"""The catalogue: every active snapshot of every dataset, as one immutable value that a query is bound against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from weir.errors import UnknownName
from weir_server.catalog.card import DatasetCard, Grade
from weir_server.catalog.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Datasets by name; each with its active snapshots, newest first."""

    datasets: Mapping[str, tuple[Snapshot, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def resolve(self, dataset: str, version: int) -> Snapshot:
        """The snapshot of that version, or the newest for 0, under the strictest grade that any version ever had.

        Data that was regraded must not stay open in its older versions: a red line has no past.

        Raises:
            UnknownName: no such dataset or version.
        """
        snapshots = self.datasets.get(dataset)
        if snapshots is None:
            raise UnknownName("no dataset of this name is published", field="query.dataset", rule="name.dataset")
        for snapshot in snapshots:
            if version in (0, snapshot.version):
                strictest = max((other.card.grade for other in snapshots), key=lambda grade: grade.value)
                return snapshot if snapshot.card.grade is strictest else _regraded(snapshot, strictest)
        raise UnknownName(
            f"the dataset has no version {version}; the newest is {snapshots[0].version}",
            field="query.snapshot",
            rule="name.snapshot",
        )

    def sources(self, dataset: str) -> frozenset[str]:
        """Datasets that any version of it was derived from: a later card cannot forget one."""
        return frozenset(name for snapshot in self.datasets.get(dataset, ()) for name in snapshot.card.derived_from)

    def origins(self, *datasets: str) -> frozenset[str]:
        """These datasets and, over any number of steps, all that they were derived from."""
        found: set[str] = set()
        ahead = set(datasets)
        while ahead:
            found |= ahead
            ahead = {name for known in ahead for name in self.sources(known)} - found
        return frozenset(found)

    def relatives(self, card: DatasetCard) -> frozenset[str]:
        """Other datasets that share an origin with this card's: made from it or from what it is made from, or what it
        is made from itself."""
        own = self.origins(card.name, *card.derived_from)
        return frozenset(name for name in self.datasets if name != card.name and self.origins(name) & own)

    def with_snapshot(self, snapshot: Snapshot) -> Catalogue:
        """This catalogue and one newer snapshot."""
        older = self.datasets.get(snapshot.card.name, ())
        return Catalogue(MappingProxyType({**self.datasets, snapshot.card.name: (snapshot, *older)}))


def _regraded(snapshot: Snapshot, grade: Grade) -> Snapshot:
    return replace(snapshot, card=replace(snapshot.card, grade=grade))
