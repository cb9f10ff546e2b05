# SPDX-License-Identifier: Apache-2.0
"""CatalogueService: public cards of what is published. It reads the world and nothing else."""

from __future__ import annotations

from datetime import datetime

from weir.errors import InvalidRequest, UnknownName
from weir.v1 import catalogue_service_pb2, catalogue_service_pb2_grpc
from weir_server.catalog.card import DatasetCard, Grade
from weir_server.catalog.export_dcat import Domain
from weir_server.catalog.search import found, searchable
from weir_server.identity.holder import OPERATOR
from weir_server.services.encode import dataset_to_proto
from weir_server.services.exports import FORMATS, Exports
from weir_server.services.guard import Call
from weir_server.services.paging import page_after, page_size
from weir_server.state import State

_MAX_SEARCH = 100


class CatalogueService(catalogue_service_pb2_grpc.CatalogueServiceServicer):
    """What exists and how it may be asked. `domain`: whose catalogue it is, for exports."""

    def __init__(self, state: State, domain: Domain) -> None:
        self._state, self._exports = state, Exports(domain)
        self._texts: dict[str, tuple[DatasetCard, str]] = {}
        """What a search looks at: made once for each card."""

    async def ListDatasets(
        self, request: catalogue_service_pb2.ListDatasetsRequest, call: Call
    ) -> catalogue_service_pb2.ListDatasetsResponse:
        """Datasets in whose card every searched word stands, by name."""
        if len(request.search) > _MAX_SEARCH:
            raise InvalidRequest(f"a search has at most {_MAX_SEARCH} characters", field="search", rule="search.length")
        datasets = self._state.world.catalogue.datasets
        names = sorted(name for name in datasets if not request.search or found(request.search, self._text(name)))
        size = page_size(request.page_size, default=100)
        page, token = page_after(names, key=str, token=request.page_token, size=size)
        return catalogue_service_pb2.ListDatasetsResponse(
            datasets=[self._shown(name, call.now) for name in page], next_page_token=token
        )

    async def GetDataset(
        self, request: catalogue_service_pb2.GetDatasetRequest, call: Call
    ) -> catalogue_service_pb2.GetDatasetResponse:
        """One dataset."""
        if call.principal.role == OPERATOR:
            await self._state.catch_up()  # Whoever publishes the next version asks for the newest.
        self._check_known(request.dataset)
        return catalogue_service_pb2.GetDatasetResponse(dataset=self._shown(request.dataset, call.now))

    async def ExportCatalogue(
        self, request: catalogue_service_pb2.ExportCatalogueRequest, call: Call
    ) -> catalogue_service_pb2.ExportCatalogueResponse:
        """The catalogue for other catalogues."""
        if request.format not in FORMATS:
            raise InvalidRequest("the format is dcat or odcs", field="format", rule="export.format")
        if request.dataset:
            self._check_known(request.dataset)
        elif request.format == "odcs":
            raise InvalidRequest("an ODCS contract is of one dataset: name it", field="dataset", rule="export.dataset")
        datasets = self._state.world.catalogue.datasets
        chosen = [request.dataset] if request.dataset else sorted(datasets)
        graded = [(datasets[name], self._grade(name, call.now)) for name in chosen]
        document = await self._exports.get(request.format, graded)
        return catalogue_service_pb2.ExportCatalogueResponse(document=document)

    def _text(self, name: str) -> str:
        card = self._state.world.catalogue.datasets[name][0].card
        known = self._texts.get(name)
        if known is None or known[0] is not card:
            known = self._texts[name] = card, searchable(card)
        return known[1]

    def _shown(self, name: str, now: datetime) -> catalogue_service_pb2.Dataset:
        world = self._state.world
        snapshots = world.catalogue.datasets[name]
        until = world.certified_until(snapshots[0].card, now=now)
        return dataset_to_proto(snapshots, grade=self._grade(name, now), certified_until=until)

    def _grade(self, name: str, now: datetime) -> Grade:
        """The grade that holds now, over all versions."""
        world = self._state.world
        return world.grade_of(world.catalogue.resolve(name, 0).card, now=now)

    def _check_known(self, name: str) -> None:
        if name not in self._state.world.catalogue.datasets:
            raise UnknownName("no dataset of this name is published", field="dataset", rule="name.dataset")
