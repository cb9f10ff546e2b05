# SPDX-License-Identifier: Apache-2.0
"""What books do not know that were restored without proof, and how nothing is released over it.

Entries behind the copy may be lost, and with them lineages, versions and whole datasets. So

* a lineage that the books do not know starts with a limit of 0: it may be one that has spent its budget;
* a dataset answered exactly that was there gets no further version: the next one would never be held against what the
  lost one answered, and the two could differ by one person;
* a dataset answered exactly under a name that the books do not know starts stopped: it may have been answered before.

The first and the last end by an act of an operator, by name and with a reason; the second never does.
"""

from __future__ import annotations

from collections.abc import Mapping

from weir.errors import PublicationError
from weir_server.catalog.card import DatasetCard
from weir_server.exact.lattice import exact_measures
from weir_server.policy import book
from weir_server.policy.acting import Acting
from weir_server.store import Transaction

REASON = "first of its name since a restore without proof"
HELD = "weir.dataset.held"
"""Entry of each dataset that gets no further version."""
_DOMAIN = ""
"""Stands in the table for the books as a whole."""


def is_unproven(tx: Transaction) -> bool:
    """Whether the books were restored without proof that they are whole."""
    return bool(tx.execute("SELECT 1 FROM unproven WHERE dataset = ?", (_DOMAIN,)))


def replace(tx: Transaction, marks: Mapping[str, int]) -> None:
    """Puts these marks in place of those that are there: index of the entry, by dataset, and by "" for the domain."""
    tx.execute("DELETE FROM unproven")
    tx.execute_many("INSERT INTO unproven (dataset, leaf_index) VALUES (?, ?)", list(marks.items()))


def mark(tx: Transaction, index: int, *, dataset: str = _DOMAIN) -> None:
    """Marks the domain, or a dataset, by the entry that says so; a mark that is there stays."""
    tx.execute(
        "INSERT INTO unproven (dataset, leaf_index) VALUES (?, ?) ON CONFLICT (dataset) DO NOTHING", (dataset, index)
    )


def require_settled(tx: Transaction, dataset: str) -> None:
    """Refuses a further version of a dataset whose newest one may be lost.

    Raises:
        PublicationError: it may; rule `restore.unsettled`.
    """
    if tx.execute("SELECT 1 FROM unproven WHERE dataset = ?", (dataset,)):
        raise PublicationError(
            "the books were restored without proof, so nobody knows which version was the newest, and a further one "
            "could differ from a lost one by one person: restore with the whole exported log, or publish under a new "
            "dataset name and lineage",
            field="name",
            rule="restore.unsettled",
        )


def stop_first(acting: Acting, card: DatasetCard) -> None:
    """Stops a dataset of a new name until an operator says, by resuming it, that nothing of it was answered before."""
    known = card.name in acting.world.catalogue.datasets
    if known or not exact_measures(card) or not is_unproven(acting.tx):
        return
    book.set_suspension(acting.tx, "dataset", card.name, suspended=True, now=acting.now)
    acting.record("weir.suspension.set", f"dataset/{card.name}", {"reason": REASON})
