# SPDX-License-Identifier: Apache-2.0
import hashlib
import secrets
from decimal import Decimal

import numpy as np
import pytest

import weir_client
from tests.support.client import answer_for
from weir import errors
from weir.paillier import Packing, encode_ciphertexts, encrypt, pack
from weir.question import request_digest
from weir.v1 import answer_pb2
from weir.v1 import encrypted_service_pb2 as pb
from weir_client._encrypted import CHUNK_BYTES

SQL = "SELECT region, SUM(income) AS s, COUNT(*) FROM census GROUP BY region"


def test_weighted_sums_come_back_exactly_and_only_to_the_key_s_holder(client, keypair):
    job = client.encrypted_query(SQL, weights={("north",): 3, ("south",): -2}, keypair=keypair, contract="c-1")
    answer = job.result(60)
    assert answer.column_names == ("s", "count")
    assert answer.decrypt(keypair) == {"s": Decimal("0.86"), "count": 3 * 100 - 2 * 107}
    assert answer.verify().index == 1
    assert repr(answer) == "<EncryptedAnswer census@1: s, count; 80 bits>"
    with pytest.raises(errors.InvalidKey):
        answer.decrypt(weir_client.generate_keypair(2048))


def test_the_service_sees_no_weight_and_learns_nothing_from_the_header(client, domain, keypair):
    client.encrypted_query(SQL, weights=[1, 0], keypair=keypair, contract="c-1").result(60)
    first = next(request for name, request in domain.requests if name == "header")
    client.encrypted_query(SQL, weights=[2**31, -1], keypair=keypair, contract="c-1").result(60)
    second = [request for name, request in domain.requests if name == "header"][-1]
    first.idempotency_key = second.idempotency_key = ""
    assert first == second
    assert first.weight_bits == 32


def test_replies_are_python_paillier_s_numbers(client, keypair):
    answer = client.encrypted_query(SQL, weights=[5, 0], keypair=keypair, contract="c-1").result(60)
    numbers = answer.to_phe(keypair.public_key)
    plain = [keypair.private_key.raw_decrypt(number.ciphertext(be_secure=False)) % 2**80 for number in numbers]
    assert plain == [500, 500]


@pytest.mark.parametrize(
    ("sql", "weights", "expected"),
    [
        (SQL, {"south": 1}, 107),
        ("SELECT COUNT(*) FROM census", [4], 400),
        ("SELECT COUNT(*) FROM census", {(): 4}, 400),
        ("SELECT year, region, COUNT(*) FROM census GROUP BY region, year", {(2025, "north"): 1}, 107),
        ("SELECT year, region, COUNT(*) FROM census GROUP BY region, year", {(None, "south"): 1}, 135),
        ("SELECT COUNT(*) FROM census GROUP BY year, region", {("south", 2024): 1}, 121),
        ("SELECT COUNT(*) FROM census GROUP BY region", np.array([1, 2]), 314),
        ("SELECT COUNT(*) FROM census GROUP BY region", {}, 0),
    ],
    ids=["bare", "one-cell", "empty-key", "select-order", "null-key", "not-shown", "numpy", "none"],
)
def test_weights_are_given_by_key_or_by_cell(client, keypair, sql, weights, expected):
    answer = client.encrypted_query(sql, weights=weights, keypair=keypair, contract="c-1").result(60)
    assert answer.decrypt(keypair)["count"] == expected


@pytest.mark.parametrize(
    ("weights", "bits", "rule"),
    [
        ([1], 32, "weights.count"),
        ([1, 2, 3], 32, "weights.count"),
        ([1, 2.5], 32, "weights.integer"),
        ({"north": 0.5}, 32, "weights.integer"),
        ({"east": 1}, 32, "weights.key"),
        ({("north", 2): 1}, 32, "weights.key"),
        ({True: 1}, 32, "weights.key"),
        ([2**32, 0], 32, "weights.bits"),
        ([-(2**32), 0], 32, "weights.bits"),
        ([0, 0], 0, "weights.bits"),
        ([0, 0], 65, "weights.bits"),
    ],
    ids=str,
)
def test_wrong_weights_are_refused_before_anything_is_encrypted(client, domain, keypair, weights, bits, rule):
    job = client.encrypted_query(SQL, weights=weights, keypair=keypair, contract="c-1", weight_bits=bits)
    with pytest.raises(errors.InvalidRequest) as caught:
        job.result(60)
    assert caught.value.rule == rule
    assert {name for name, _ in domain.requests} == {"GetDataset"}


def test_the_key_is_registered_once_with_its_proof(client, domain, keypair):
    for _ in range(2):
        client.encrypted_query(SQL, weights=[1, 1], keypair=keypair, contract="c-1").result(60)
    assert [name for name, _ in domain.requests].count("RegisterPublicKey") == 1
    assert client.register_key(keypair) == keypair.public.key_id


def test_a_refused_header_costs_no_encryption(client, domain, keypair, monkeypatch):
    client.register_key(keypair)
    domain.refuse["RunEncryptedQuery"] = [errors.QuotaExceeded("limit reached")]
    monkeypatch.setattr(type(keypair), "encrypt_many", lambda *_: pytest.fail("encrypted for nothing"))
    with pytest.raises(errors.QuotaExceeded):
        client.encrypted_query(SQL, weights=[1, 1], keypair=keypair, contract="c-1").result(60)


def test_a_retry_sends_the_same_ciphertexts(client, domain, keypair, monkeypatch):
    uploads = []
    original = domain.RunEncryptedQuery

    def streaming(requests):
        header = next(requests)
        yield pb.RunEncryptedQueryResponse(accepted=pb.HeaderAccepted(cells=2))
        rest = list(requests)
        uploads.append(b"".join(message.weights for message in rest))
        if len(uploads) == 1:
            raise errors.Unavailable("going away")
        replies = original(iter([header, *rest]))
        next(replies)
        yield from replies

    monkeypatch.setattr(domain, "RunEncryptedQuery", streaming, raising=False)
    answer = client.encrypted_query(SQL, weights=[1, 1], keypair=keypair, contract="c-1").result(60)
    assert answer.decrypt(keypair)["count"] == 207
    assert len(uploads) == 2
    assert uploads[0] == uploads[1]


def test_uploads_go_in_chunks_with_progress(client, domain, keypair, monkeypatch):
    sizes, seen = [], []
    original = domain.RunEncryptedQuery

    def watching(requests):
        def each():
            for message in requests:
                if message.WhichOneof("part") == "weights":
                    sizes.append(len(message.weights))
                yield message

        yield from original(each())

    monkeypatch.setattr(domain, "RunEncryptedQuery", watching, raising=False)
    monkeypatch.setattr("weir_client._encrypted.CHUNK_BYTES", 2048)
    sql = "SELECT COUNT(*) FROM census GROUP BY region, year"
    job = client.encrypted_query(
        sql, weights=range(6), keypair=keypair, contract="c-1", progress=lambda *at: seen.append(at)
    )
    assert job.result(60).decrypt(keypair)["count"] == sum(at * (100 + 7 * at) for at in range(6))
    assert sizes == [2048, 1024]
    assert seen == [(4, 6), (6, 6)]
    assert CHUNK_BYTES == 256 * 1024


@pytest.fixture
def ahead(domain, monkeypatch):
    """Every vector counts as a long one. What happened, in order: calls with a header, each piece of encryption."""
    happened = []
    original, encrypt_many = domain.RunEncryptedQuery, weir_client.KeyPair.encrypt_many

    def answering(requests):
        happened.append("header")
        for message in original(requests):
            if message.WhichOneof("part") == "results":
                happened.append("sent")
            yield message

    def encrypting(self, values, *rest):
        happened.append(len(values))
        return encrypt_many(self, values, *rest)

    monkeypatch.setattr(domain, "RunEncryptedQuery", answering, raising=False)
    monkeypatch.setattr(weir_client.KeyPair, "encrypt_many", encrypting)
    monkeypatch.setattr("weir_client._encrypted.CHUNK_BYTES", 2048)
    monkeypatch.setattr("weir_client._encrypted.AHEAD_BYTES", 0)
    return happened


BY_YEAR = "SELECT COUNT(*) FROM census GROUP BY region, year"


def test_long_vectors_are_encrypted_between_acceptance_and_the_call_that_sends_them(client, domain, keypair, ahead):
    seen = []
    job = client.encrypted_query(
        BY_YEAR, weights=range(6), keypair=keypair, contract="c-1", progress=lambda *at: seen.append(at)
    )
    answer = job.result(60)
    assert answer.decrypt(keypair)["count"] == sum(at * (100 + 7 * at) for at in range(6))
    assert answer.verify().index == 1
    assert ahead == ["header", 4, 2, "header", "sent"]
    assert seen == [(4, 6), (6, 6)]
    headers = [request for name, request in domain.requests if name == "header"]
    assert headers[0] == headers[1]


def test_vectors_up_to_the_threshold_go_in_one_call(client, keypair, ahead, monkeypatch):
    monkeypatch.setattr("weir_client._encrypted.AHEAD_BYTES", 6 * keypair.public.ciphertext_bytes)
    answer = client.encrypted_query(BY_YEAR, weights=range(6), keypair=keypair, contract="c-1").result(60)
    assert answer.decrypt(keypair)["count"] == sum(at * (100 + 7 * at) for at in range(6))
    assert ahead == ["header", 4, 2, "sent"]


def test_a_long_vector_that_is_refused_is_not_encrypted(client, domain, keypair, ahead):
    client.register_key(keypair)
    domain.refuse["RunEncryptedQuery"] = [errors.Unavailable("busy"), errors.QuotaExceeded("limit reached")]
    with pytest.raises(errors.QuotaExceeded):
        client.encrypted_query(BY_YEAR, weights=range(6), keypair=keypair, contract="c-1").result(60)
    assert ahead == []


def test_a_long_vector_for_a_table_of_another_size_is_not_encrypted(client, domain, keypair, ahead, monkeypatch):
    def handle(requests):
        next(requests)
        yield pb.RunEncryptedQueryResponse(accepted=pb.HeaderAccepted(cells=9))

    monkeypatch.setattr(domain, "RunEncryptedQuery", handle, raising=False)
    with pytest.raises(errors.InvalidReceipt, match="9 cells"):
        client.encrypted_query(BY_YEAR, weights=range(6), keypair=keypair, contract="c-1").result(60)
    assert ahead == []


def redescribe(change):
    def handle(replies):
        answer = pb.EncryptedAnswer.FromString(replies[-1].completed.answer)
        change(answer)
        replies[-1].completed.answer = answer.SerializeToString()
        return replies

    return handle


def other_cells(answer):
    table = answer_pb2.Answer.FromString(answer.table)
    table.keys[0].cells.reverse()
    answer.table = table.SerializeToString()


@pytest.mark.parametrize(
    "change",
    [
        lambda replies: replies[:-1],
        redescribe(lambda answer: setattr(answer, "key_id", "sha256:" + "0" * 64)),
        redescribe(lambda answer: setattr(answer, "results_digest", b"x" * 32)),
        redescribe(lambda answer: setattr(answer, "table", b"\xff")),
        redescribe(other_cells),
        lambda replies: [*replies[:-1], pb.RunEncryptedQueryResponse(completed=pb.EncryptedResult(answer=b"\xff"))],
    ],
    ids=["cut", "key", "digest", "table", "cells", "answer"],
)
def test_a_reply_that_does_not_fit_is_refused(client, domain, keypair, monkeypatch, change):
    original = domain.RunEncryptedQuery
    client.register_key(keypair)

    def handle(requests):
        replies = original(requests)
        yield next(replies)
        yield from change(list(replies))

    monkeypatch.setattr(domain, "RunEncryptedQuery", handle, raising=False)
    with pytest.raises(errors.InvalidReceipt) as caught:
        client.encrypted_query(SQL, weights=[1, 1], keypair=keypair, contract="c-1").result(60)
    assert caught.value.rule == "answer.form"


def test_a_table_of_another_size_stops_the_upload(client, domain, keypair, monkeypatch):
    def handle(requests):
        next(requests)
        yield pb.RunEncryptedQueryResponse(accepted=pb.HeaderAccepted(cells=9))
        list(requests)

    monkeypatch.setattr(domain, "RunEncryptedQuery", handle, raising=False)
    with pytest.raises(errors.InvalidReceipt, match="9 cells"):
        client.encrypted_query(SQL, weights=[1, 1], keypair=keypair, contract="c-1").result(60)


def test_a_stream_that_ends_before_accepting_is_unavailable(domain, keypair, client, monkeypatch):
    monkeypatch.setattr(domain, "RunEncryptedQuery", lambda requests: iter(()), raising=False)
    quick = weir_client.connect(identity=client.identity, retries=0, state_dir="/nonexistent")
    with quick, pytest.raises(errors.Unavailable) as caught:
        quick.encrypted_query(SQL, weights=[1, 1], keypair=keypair, contract="c-1").result(60)
    assert caught.value.rule == "stream.ended"


@pytest.fixture
def sealing(domain, keypair, monkeypatch):
    """The domain seals its invented tables to the key."""

    def handle(request):
        answer = answer_for(request.envelope.query, 0)
        layout = Packing.for_key(keypair.public, value_bits=20, parties=request.max_addends)
        values = [int(cell) for column in answer.values for cell in column.numerators]
        ciphertexts = [encrypt(keypair.public, m, entropy=secrets.token_bytes) for m in pack(layout, values)]
        results = encode_ciphertexts(keypair.public, ciphertexts)
        for column in answer.values:
            column.ClearField("numerators")
        described = pb.EncryptedAnswer(
            table=answer.SerializeToString(),
            key_id=request.key_id,
            results_digest=hashlib.sha256(results).digest(),
            slots=layout.slots,
            slot_bits=layout.slot_bits,
            max_addends=request.max_addends,
        ).SerializeToString()
        index = domain._charge(described, request.envelope, request_digest(request))
        yield pb.RunSealedQueryResponse(results=results)
        completed = pb.EncryptedResult(answer=described, receipt=domain.log.receipt(index))
        yield pb.RunSealedQueryResponse(completed=completed)

    monkeypatch.setattr(domain, "RunSealedQuery", handle, raising=False)
    return keypair


def test_sealed_tables_add_up_to_totals_only_the_key_s_holder_reads(client, sealing):
    jobs = [
        client.sealed_query(SQL, to=sealing.public.key_id, contract="c-1", max_addends=3, idempotency_key=key * 16)
        for key in "abc"
    ]
    tables = [job.result(60) for job in jobs]
    assert tables[0].decrypt(sealing) == {"count": [100, 107], "s": [Decimal("1.00"), Decimal("1.07")]}
    total = weir_client.add_sealed(tables, sealing.public_key)
    assert total.addends == 3
    assert total.keys == (("north",), ("south",))
    assert total.decrypt(sealing)["count"] == [300, 321]
    assert len(total.receipts) == 3
    assert "SealedTable of 3: 2 cells" in repr(total)
    with pytest.raises(errors.InvalidRequest) as caught:
        weir_client.add_sealed([total, tables[0]], sealing.public_key)
    assert caught.value.rule == "sealed.addends"
    other = client.sealed_query(
        "SELECT COUNT(*) FROM census", to=sealing.public.key_id, contract="c-1", max_addends=3
    ).result(60)
    with pytest.raises(errors.InvalidRequest) as caught:
        weir_client.add_sealed([tables[0], other], sealing.public_key)
    assert caught.value.rule == "sealed.shape"
    assert {client.verify(receipt).index for receipt in total.receipts} == {1, 3, 5}


def test_tables_are_prepared_once_for_the_whole_upload(client, keypair, monkeypatch):
    prepared = []
    original = type(keypair).prepare
    monkeypatch.setattr(
        type(keypair), "prepare", lambda self, count, **rest: (prepared.append(count), original(self, count, **rest))
    )
    monkeypatch.setattr("weir_client._encrypted.CHUNK_BYTES", 1024)
    sql = "SELECT COUNT(*) FROM census GROUP BY region, year"
    client.encrypted_query(sql, weights=range(6), keypair=keypair, contract="c-1").result(60)
    assert prepared == [6]
