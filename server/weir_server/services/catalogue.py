# SPDX-License-Identifier: Apache-2.0
"""CatalogueService: public cards of what is published. It reads the world and nothing else."""

from __future__ import annotations

from weir.errors import InvalidRequest, UnknownName
from weir.v1 import catalogue_service_pb2, catalogue_service_pb2_grpc
from weir_server.catalog.card import DatasetCard
from weir_server.services.encode import dataset_to_proto
from weir_server.services.guard import Call
from weir_server.services.paging import page_after, page_size
from weir_server.state import State

_MAX_SEARCH = 100


class CatalogueService(catalogue_service_pb2_grpc.CatalogueServiceServicer):
    """What exists and how it may be asked."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def ListDatasets(
        self, request: catalogue_service_pb2.ListDatasetsRequest, call: Call
    ) -> catalogue_service_pb2.ListDatasetsResponse:
        """Datasets whose card holds the searched text, by name."""
        if len(request.search) > _MAX_SEARCH:
            raise InvalidRequest(f"a search has at most {_MAX_SEARCH} characters", field="search", rule="search.length")
        datasets = self._state.world.catalogue.datasets
        wanted = request.search.casefold()
        found = sorted(name for name, snapshots in datasets.items() if wanted in _searchable(snapshots[0].card))
        size = page_size(request.page_size, default=100)
        names, token = page_after(found, key=str, token=request.page_token, size=size)
        return catalogue_service_pb2.ListDatasetsResponse(
            datasets=[dataset_to_proto(datasets[name]) for name in names], next_page_token=token
        )

    async def GetDataset(
        self, request: catalogue_service_pb2.GetDatasetRequest, call: Call
    ) -> catalogue_service_pb2.GetDatasetResponse:
        """One dataset."""
        snapshots = self._state.world.catalogue.datasets.get(request.dataset)
        if snapshots is None:
            raise UnknownName("no dataset of this name is published", field="dataset", rule="name.dataset")
        return catalogue_service_pb2.GetDatasetResponse(dataset=dataset_to_proto(snapshots))


def _searchable(card: DatasetCard) -> str:
    return "\n".join((card.name, card.title, *card.keywords)).casefold()
