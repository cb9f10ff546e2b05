# SPDX-License-Identifier: Apache-2.0
"""Datasets: grade, versions, atoms and coverage, and the privacy budget burning down."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from weir.errors import UnknownName
from weir_server.console import calls
from weir_server.console.charts import Series
from weir_server.console.reads import datasets as reads
from weir_server.console.screens.screen import Screen
from weir_server.console.visit import Visit
from weir_server.services.paging import page_after

PAGE = 50


async def show(visit: Visit) -> Response:
    """Datasets by name."""
    search = visit.query("search").casefold()
    known = visit.world.catalogue.datasets
    names = sorted(
        name
        for name, snapshots in known.items()
        if search in "\n".join((name, snapshots[0].card.title, *snapshots[0].card.keywords)).casefold()
    )
    page, following = page_after(names, key=str, token=visit.query("after"), size=PAGE)
    now = visit.now
    rows = [(known[name][0], visit.world.grade_of(known[name][0].card, now=now).name) for name in page]
    return visit.page(
        "datasets.html",
        rows=rows,
        search=visit.query("search"),
        first=visit.link(after=None) if visit.query("after") else "",
        following=visit.link(after=following) if following else "",
    )


async def show_dataset(visit: Visit) -> Response:
    """One dataset."""
    snapshots = visit.world.catalogue.datasets.get(visit.path("dataset"))
    if snapshots is None:
        raise UnknownName("no dataset of this name is published", field="dataset", rule="name.dataset")
    newest, now = snapshots[0], visit.now
    card = newest.card
    burned = (
        await visit.read(calls.LIST_METER, lambda tx: reads.burn(tx, card)) if visit.may(calls.LIST_METER) else None
    )
    coverage = await asyncio.to_thread(reads.coverage, newest)
    return visit.page(
        "dataset.html",
        card=card,
        grade=visit.world.grade_of(card, now=now).name,
        modes=[mode.value for mode in visit.world.modes_of(card, now=now)],
        snapshots=snapshots,
        coverage=coverage,
        burn=burned,
        series=[Series(name or visit.words.say("dataset.others"), share) for name, share in burned.shares]
        if burned is not None
        else [],
        contracts=sorted(item.id for item in visit.world.policy.contracts.values() if item.dataset == card.name)[:PAGE],
    )


SCREENS = (
    Screen("datasets", "/datasets", show, (calls.LIST_DATASETS,)),
    Screen("dataset", "/datasets/{dataset}", show_dataset, (calls.GET_DATASET,)),
)
