# SPDX-License-Identifier: Apache-2.0
"""A domain that answers another question than it was asked, with a receipt that is true of the other one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

import weir_client
from tests.support import sample
from tests.support.server import RunningServer, make_domain, start_server
from tests.support.wire import call, key
from weir import errors
from weir.v1 import policy_service_pb2
from weir_client._calls import Call, Exchange, Stream, Transport

ASKED = "SELECT region, count(*) AS n FROM clinic WHERE age >= 40 GROUP BY region"
OTHER = "SELECT region, count(*) AS n FROM clinic GROUP BY region"
SEALED = sample.CONTRACTS[0].replace("c-visits", "c-sealed") + "seal_to: [alice]\n"


class Swapping:
    """Passes everything on; the second reply of a call is the first one again."""

    def __init__(self, real: Transport) -> None:
        self._real = real
        self._first: dict[str, Any] = {}

    def call(self, effect: Call) -> Any:
        return self._real.call(effect)

    def stream(self, effect: Stream) -> Any:
        return self._real.stream(effect)

    def exchange(self, effect: Exchange) -> Any:
        return self._swapped(effect.method.name, self._real.exchange(effect))

    def close(self) -> Any:
        return self._real.close()

    def _swapped(self, name: str, reply: Message | Sequence[Message]) -> Any:
        return self._first.setdefault(name, reply)


class SwappingCalls(Swapping):
    """As above, for plain and sealed queries of a blocking client."""

    def call(self, effect: Call) -> Any:
        reply: Any = self._real.call(effect)
        return self._swapped("RunQuery", reply) if effect.method.name == "RunQuery" else reply

    def stream(self, effect: Stream) -> Any:
        reply: Any = self._real.stream(effect)
        return self._swapped("RunSealedQuery", reply) if effect.method.name == "RunSealedQuery" else reply


class SwappingLater(Swapping):
    """As above, for an event loop."""

    async def call(self, effect: Call) -> Any:
        reply: Any = await self._real.call(effect)  # type: ignore[misc]
        return self._swapped("RunQuery", reply) if effect.method.name == "RunQuery" else reply


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    data = make_domain(tmp_path_factory.mktemp("swap"))
    sample.publish_sample(data)
    running = start_server(data)
    try:
        operator = running.channel(running.identity("operator", "olga"), admin=True)
        request = policy_service_pb2.ApplyPolicyRequest(documents=[*sample.CONTRACTS, SEALED], idempotency_key=key())
        call(operator, "/weir.v1.PolicyService/ApplyPolicy", request)
        yield running
    finally:
        running.stop()


@pytest.fixture
def client(server: RunningServer, tmp_path: Path) -> Iterator[weir_client.Client]:
    identity = server.identity("requester", "alice")
    with weir_client.connect(server.public, identity=identity, state_dir=tmp_path) as connected:
        connected._transport = SwappingCalls(connected._transport)
        yield connected


@pytest.fixture(scope="module")
def keypair() -> weir_client.KeyPair:
    return weir_client.generate_keypair(2048)


def plain(client: weir_client.Client, keypair: weir_client.KeyPair, sql: str) -> weir_client.Receipt:
    return client.query(sql, contract="c-visits").result(60).receipt


def encrypted(client: weir_client.Client, keypair: weir_client.KeyPair, sql: str) -> weir_client.Receipt:
    job = client.encrypted_query(sql, weights=[1, 2, 3], keypair=keypair, contract="c-visits")
    return job.result(60).receipt


def sealed(client: weir_client.Client, keypair: weir_client.KeyPair, sql: str) -> weir_client.Receipt:
    key_id = client.register_key(keypair)
    return client.sealed_query(sql, to=key_id, contract="c-sealed").result(60).receipts[0]


@pytest.mark.parametrize("ask", [plain, encrypted, sealed], ids=["plain", "encrypted", "sealed"])
def test_the_answer_to_another_question_does_not_verify(
    client: weir_client.Client,
    keypair: weir_client.KeyPair,
    ask: Callable[[weir_client.Client, weir_client.KeyPair, str], weir_client.Receipt],
) -> None:
    honest = ask(client, keypair, OTHER)
    assert client.verify(honest).event["type"] == "weir.query.released"
    with pytest.raises(errors.InvalidReceipt) as caught:
        client.verify(ask(client, keypair, ASKED))
    assert caught.value.rule == "receipt.query"


def test_the_same_question_at_another_price_does_not_verify(client: weir_client.Client) -> None:
    client.query(OTHER, contract="c-visits").result(60).verify()
    with pytest.raises(errors.InvalidReceipt) as caught:
        client.query(OTHER, contract="c-visits", max_price=5).result(60).verify()
    assert caught.value.rule == "receipt.request"


def test_the_same_question_under_another_contract_does_not_verify(client: weir_client.Client) -> None:
    client.query(OTHER, contract="c-visits").result(60).verify()
    with pytest.raises(errors.InvalidReceipt) as caught:
        client.query(OTHER, contract="c-sealed").result(60).verify()
    assert caught.value.rule == "receipt.contract"


def test_the_answer_about_another_dataset_is_refused_at_once(client: weir_client.Client) -> None:
    client.query(OTHER, contract="c-visits").result(60).verify()
    sql = "SELECT region, count(*) AS n FROM spending GROUP BY region"
    with pytest.raises(errors.InvalidReceipt) as caught:
        client.query(sql, contract="c-spending", mode="dp", epsilon="0.1").result(60)
    assert caught.value.rule == "answer.snapshot"


def test_an_event_loop_s_client_checks_the_same(server: RunningServer, tmp_path: Path) -> None:
    async def ask() -> str | None:
        identity = server.identity("requester", "alice")
        async with weir_client.aio.connect(server.public, identity=identity, state_dir=tmp_path) as client:
            client._transport = SwappingLater(client._transport)
            await (await client.query(OTHER, contract="c-visits")).verify()
            swapped = await client.query(ASKED, contract="c-visits")
            with pytest.raises(errors.InvalidReceipt) as caught:
                await swapped.verify()
            return caught.value.rule

    assert asyncio.run(ask()) == "receipt.query"


def test_a_receipt_file_keeps_what_it_must_be_about(client: weir_client.Client, tmp_path: Path) -> None:
    answer = client.query(OTHER, contract="c-visits").result(60)
    again = weir_client.receipt_from_json(answer.receipt.to_json())
    assert again.about == answer.receipt.about
    assert client.verify(again).index == answer.receipt.index
    text = answer.receipt.to_json().replace('"alice"', '"mallory"')
    with pytest.raises(errors.InvalidReceipt) as caught:
        client.verify(weir_client.receipt_from_json(text))
    assert caught.value.rule == "receipt.requester"


def test_a_refusal_shown_as_an_answer_does_not_verify(client: weir_client.Client) -> None:
    with pytest.raises(errors.InvalidQuery):
        client.query("SELECT variance(visits) AS v FROM clinic", contract="c-visits").result(60)
    refusal = client.receipts()[0]
    assert client.verify(refusal).event["type"] == "weir.query.refused"
    answer = client.query(OTHER, contract="c-visits").result(60)
    shown = weir_client.Receipt(refusal.message, answer.receipt.commitments, answer.receipt.about)
    with pytest.raises(errors.InvalidReceipt) as caught:
        client.verify(shown)
    assert caught.value.rule == "receipt.type"
