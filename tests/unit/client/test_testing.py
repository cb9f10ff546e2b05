# SPDX-License-Identifier: Apache-2.0
import pytest

import weir_client
from tests.support.client import answer_for, census_card
from weir import errors
from weir.v1 import catalogue_service_pb2, encrypted_service_pb2, query_service_pb2
from weir_client.testing import MockTransport


def run_query(request):
    answer = answer_for(request.envelope.query, 0).SerializeToString()
    return query_service_pb2.RunQueryResponse(answer=answer)


def test_a_program_is_tested_without_a_network(tmp_path):
    transport = MockTransport({"QueryService/RunQuery": run_query})
    with weir_client.Client(transport, state_dir=tmp_path) as client:
        answer = client.query("SELECT COUNT(*) FROM census", contract="c-1").result(5)
    assert answer.rows() == [(100,)]
    assert [name for name, _ in transport.requests] == ["QueryService/RunQuery"]
    assert transport.closed


async def test_the_same_transport_serves_the_async_client(tmp_path):
    transport = MockTransport({"QueryService/RunQuery": run_query})
    async with weir_client.aio.Client(transport, state_dir=tmp_path) as client:
        assert (await client.query("SELECT COUNT(*) FROM census", contract="c-1")).rows() == [(100,)]


def test_handlers_raise_what_the_service_would(tmp_path):
    def refuse(request):
        raise errors.PolicyDenied("no contract", rule="contract.none")

    with weir_client.Client(MockTransport({"QueryService/RunQuery": refuse}), state_dir=tmp_path) as client:
        with pytest.raises(errors.PolicyDenied):
            client.query("SELECT COUNT(*) FROM census", contract="c-1").result(5)
        with pytest.raises(errors.InvalidRequest, match="no handler for CatalogueService/ListDatasets"):
            client.datasets()


def test_retries_run_against_the_mock_too(tmp_path):
    waiting = [errors.Unavailable("gone"), errors.Unavailable("gone")]

    def flaky(request):
        if waiting:
            raise waiting.pop()
        return run_query(request)

    transport = MockTransport({"QueryService/RunQuery": flaky})
    with weir_client.Client(transport, state_dir=tmp_path) as client:
        client.query("SELECT COUNT(*) FROM census", contract="c-1").result(10)
    keys = {request.idempotency_key for _, request in transport.requests}
    assert len(transport.requests) == 3
    assert len(keys) == 1


@pytest.mark.parametrize("ahead", [0, 1024], ids=["long", "short"])
def test_uploads_reach_the_handler_in_one_list(tmp_path, keypair, monkeypatch, ahead):
    monkeypatch.setattr("weir_client._encrypted.AHEAD_BYTES", ahead)

    def handle(requests):
        assert requests[0].header.weights == 2
        assert sum(len(request.weights) for request in requests[1:]) == 2 * keypair.public.ciphertext_bytes
        raise errors.InvalidCiphertext("refused")

    card = catalogue_service_pb2.GetDatasetResponse(dataset=census_card())
    registered = encrypted_service_pb2.RegisterPublicKeyResponse(key_id=keypair.public.key_id)
    transport = MockTransport(
        {
            "CatalogueService/GetDataset": lambda request: card,
            "EncryptedQueryService/RegisterPublicKey": lambda request: registered,
            "EncryptedQueryService/RunEncryptedQuery": handle,
        }
    )
    with weir_client.Client(transport, state_dir=tmp_path) as client, pytest.raises(errors.InvalidCiphertext):
        client.encrypted_query(
            "SELECT COUNT(*) FROM census GROUP BY region", weights=[1, 2], keypair=keypair, contract="c-1"
        ).result(20)
