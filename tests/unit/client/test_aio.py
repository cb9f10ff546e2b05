# SPDX-License-Identifier: Apache-2.0
import asyncio
import inspect
import threading

import pytest

import weir_client
from tests.support.client import identity_file
from weir import errors
from weir.v1 import encrypted_service_pb2 as pb

SQL = "SELECT region, SUM(income) AS s, COUNT(*) FROM census GROUP BY region"


@pytest.fixture
async def client(domain, tmp_path, state):
    async with weir_client.aio.connect(identity=identity_file(domain, tmp_path), timeout=20, state_dir=state) as made:
        yield made


async def test_a_job_is_awaited_and_verified(client):
    job = client.query(SQL, contract="c-1")
    answer = await job
    assert job.done()
    assert (await job.result()) is answer
    assert answer.rows()[1][2] == 107
    assert (await answer.verify()).index == 1
    assert (await client.verify(answer.receipt)).index == 1


async def test_many_jobs_run_together(client, domain):
    jobs = [client.query(SQL, contract="c-1") for _ in range(20)]
    answers = await asyncio.gather(*(job.result() for job in jobs))
    assert len({answer.receipt.index for answer in answers}) == 20
    assert domain.metered == 20


async def test_errors_are_the_same_classes(client, domain):
    domain.refuse["RunQuery"] = [errors.Overloaded("busy"), errors.ApprovalRequired("wait", metadata={"approval": "a"})]
    with pytest.raises(errors.ApprovalRequired):
        await client.query(SQL, contract="c-1")
    with pytest.raises(errors.InvalidQuery):
        client.query("SELECT *", contract="c-1")


async def test_a_lost_reply_is_asked_for_again(client, domain):
    domain.lose_replies = 2
    assert len(await client.query(SQL, contract="c-1")) == 2
    assert domain.metered == 1


async def test_encrypted_queries_leave_the_loop_free(client, keypair):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.005)

    ticking = asyncio.create_task(tick())
    job = client.encrypted_query(
        "SELECT COUNT(*) FROM census GROUP BY region, year", weights=range(6), keypair=keypair, contract="c-1"
    )
    answer = await job
    ticking.cancel()
    assert answer.decrypt(keypair)["count"] == sum(at * (100 + 7 * at) for at in range(6))
    assert ticks > 3
    assert (await answer.verify()).index == 1


async def test_long_vectors_are_encrypted_between_two_calls_beside_the_loop(client, domain, keypair, monkeypatch):
    monkeypatch.setattr("weir_client._encrypted.AHEAD_BYTES", 0)
    in_loop, encrypt_many = [], weir_client.KeyPair.encrypt_many

    def encrypting(self, values, *rest):
        in_loop.append(threading.current_thread() is threading.main_thread())
        return encrypt_many(self, values, *rest)

    monkeypatch.setattr(weir_client.KeyPair, "encrypt_many", encrypting)
    answer = await client.encrypted_query(SQL, weights=[3, -2], keypair=keypair, contract="c-1")
    assert answer.decrypt(keypair)["count"] == 3 * 100 - 2 * 107
    assert in_loop == [False]
    assert [name for name, _ in domain.requests].count("header") == 2


async def test_a_refused_header_arrives_as_its_error(client, domain, keypair):
    domain.refuse["RunEncryptedQuery"] = [errors.HeadroomExceeded("too large", metadata={"reply_bits": "9"})]
    with pytest.raises(errors.HeadroomExceeded):
        await client.encrypted_query(SQL, weights=[1, 1], keypair=keypair, contract="c-1")


async def test_a_refusal_in_the_middle_of_an_upload_never_loses_its_reason(client, domain, keypair, monkeypatch):
    def handle(requests):
        next(requests)
        yield pb.RunEncryptedQueryResponse(accepted=pb.HeaderAccepted(cells=2))
        next(requests)
        raise errors.InvalidCiphertext("a ciphertext is refused")

    monkeypatch.setattr(domain, "RunEncryptedQuery", handle, raising=False)
    monkeypatch.setattr("weir_client._encrypted.CHUNK_BYTES", 512)
    for _ in range(20):
        with pytest.raises(errors.InvalidCiphertext):
            await client.encrypted_query(SQL, weights=[1, 1], keypair=keypair, contract="c-1")


async def test_a_table_of_another_size_stops_the_upload(client, domain, keypair, monkeypatch):
    def handle(requests):
        next(requests)
        yield pb.RunEncryptedQueryResponse(accepted=pb.HeaderAccepted(cells=9))
        list(requests)

    monkeypatch.setattr(domain, "RunEncryptedQuery", handle, raising=False)
    with pytest.raises(errors.InvalidReceipt, match="9 cells"):
        await client.encrypted_query(SQL, weights=[1, 1], keypair=keypair, contract="c-1")


async def test_every_other_call_answers_as_the_blocking_client_does(client, keypair):
    await client.query(SQL, contract="c-1")
    assert [card.name for card in await client.datasets()] == ["census", "census_b", "census_c"]
    assert (await client.dataset("census")).unit == "person"
    assert (await client.estimate(SQL, contract="c-1")).verdict == "deny"
    assert (await client.balance())[0].remaining == 4
    assert (await client.contracts())[0].id == "c-1"
    assert (await client.approvals())[0].id == "ap-1"
    assert [receipt.index for receipt in await client.receipts()] == [1]
    assert [entry.index async for entry in client.entries()] == [0, 1]
    assert (await client.inclusion_proof(1)).tree_size == 2
    assert len((await client.meter()).totals) == 2
    assert (await client.audit()).entries == 2
    assert (await client.register_key(keypair)) == keypair.public.key_id
    assert (await client.apply_policy(["x"], dry_run=True)).loosens
    assert (await client.list_quotas())[0].quota.id == "q-1"
    quota = weir_client.Quota("q-2", "queries", 5)
    assert (await client.set_quota(quota, reason="r")).quota == quota
    assert (await client.decide_approval("ap-1", approve=False, reason="r")).state == "rejected"
    await client.set_suspension("all", reason="r", suspended=False)
    assert (await client.activate_snapshot("census", 2, "ab")) == 7
    assert "weir://test.example/requester/alice" in repr(client)


async def test_a_closed_client_says_so(domain, tmp_path, state, keypair):
    client = weir_client.aio.connect(identity=identity_file(domain, tmp_path), state_dir=state)
    await client.datasets()
    await client.close()
    await client.close()
    with pytest.raises(errors.InvalidRequest) as caught:
        await client.datasets()
    assert caught.value.rule == "client.closed"
    with pytest.raises(errors.InvalidRequest):
        await client.encrypted_query(SQL, weights=[1, 1], keypair=keypair, contract="c-1")


def test_both_clients_have_the_same_methods_and_parameters():
    for name, method in inspect.getmembers(weir_client.Client, inspect.isfunction):
        if name.startswith("_"):
            continue
        other = getattr(weir_client.aio.Client, name)
        assert list(inspect.signature(method).parameters) == list(inspect.signature(other).parameters), name
