# SPDX-License-Identifier: Apache-2.0
"""A domain that answers a really published dp dataset, in either account."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.domain import Domain, dp_contract_document, open_domain, spending_card
from weir_server import ledger
from weir_server.catalog.card import DatasetCard, Mode, Source
from weir_server.dp.technique import DpTechnique
from weir_server.ledger import Quota
from weir_server.publish.publisher import Published, publish

RHO = {"total": "0.006", "per_query": "0.003"}
"""Twice what epsilon 0.5 at 1e-9 costs, and a little."""
SITES, AGES = ("north", "south", "west", "east"), (5, 30, 70)


def concentrated_card(**changes: Any) -> DatasetCard:
    """The spending dataset with concentrated accounting; lifetime rho of 0.007."""
    values = {"accounting": "concentrated", "epsilon_lifetime": 0, "rho_lifetime": 7_000} | changes
    return spending_card(**values)


def rho_contract(contract: str = "d-1", **changes: Any) -> str:
    """A contract with a share in rho alone."""
    return dp_contract_document(contract, **({"epsilon": None, "rho": RHO} | changes))


def publish_card(domain: Domain, card: DatasetCard, *, version: int = 1) -> Published:
    """A sealed snapshot of 60 people, not yet activated."""
    source = domain.directory / "people.csv"
    rows = "".join(f"p{at},{SITES[at % 4]},{AGES[at % 3]},{at % 50}.25\n" for at in range(60))
    source.write_text(f"person,site,age,dollars\n{rows}")
    previous = domain.state.world.catalogue.datasets.get(card.name, (None,))[0]
    return publish(
        replace(card, source=Source("csv", "people.csv")),
        card_directory=domain.directory,
        data_dir=domain.directory,
        version=version,
        previous=previous,
        now=domain.clock(),
        salt=bytes(32),
    )


@asynccontextmanager
async def answering(directory: Path, card: DatasetCard, *documents: str) -> AsyncIterator[Domain]:
    """A domain with the card published and these contracts."""
    dp = DpTechnique()
    domain = open_domain(directory, techniques={Mode.DP: dp})
    try:
        await domain.activate(card, digest=publish_card(domain, card).manifest_digest)
        await domain.apply(*documents)
        yield domain
        await domain.pipeline.turns.drain(seconds=10)
    finally:
        domain.store.close()
        dp.close()


def budget_per_account(domain: Domain, *requesters: str) -> None:
    """The mutant: in place of the lineage's one budget, each requester has it alone."""
    known = next(
        balance.quota
        for balance in domain.store.read(lambda tx: ledger.list_quotas(tx, now=domain.clock()))
        if balance.quota.id.startswith("lineage-")
    )
    trail: dict[str, Any] = {"reason": "mutant", "actor": "test", "now": domain.clock(), "entropy": os.urandom}
    domain.store.write_sync(lambda tx: ledger.remove_quota(tx, known.id, **trail))
    for name in requesters:
        own: Quota = replace(known, id=f"{known.id}-{name}", requester=name)
        domain.store.write_sync(lambda tx, own=own: ledger.set_quota(tx, own, **trail))  # type: ignore[misc]
