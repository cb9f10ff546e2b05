# SPDX-License-Identifier: Apache-2.0
"""Encrypted queries through a real server, below the SDK: the stream as it should be, and every way to break it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import grpc
import pytest

from tests.support.paillier import real_keypair
from tests.support.sample import envelope, running_sample
from tests.support.server import RunningServer
from tests.support.wire import call, collect, key, method
from weir import errors
from weir.paillier import decode_ciphertexts, encode_ciphertexts
from weir.v1 import audit_service_pb2, quota_service_pb2
from weir.v1 import encrypted_service_pb2 as pb
from weir_client._keys import KeyPair, generate_keypair

RUN = "/weir.v1.EncryptedQueryService/RunEncryptedQuery"
REGISTER = "/weir.v1.EncryptedQueryService/RegisterPublicKey"
CELLS = 3


@dataclass
class Asking:
    """Alice with a registered key."""

    server: RunningServer
    channel: grpc.Channel
    keypair: KeyPair
    key_id: str

    def header(self, **changes: object) -> pb.RunEncryptedQueryRequest:
        fields: dict[str, object] = {
            "envelope": envelope(),
            "idempotency_key": key(),
            "key_id": self.key_id,
            "weights": CELLS,
            "weight_bits": 16,
            **changes,
        }
        return pb.RunEncryptedQueryRequest(header=pb.EncryptedQueryHeader(**fields))  # type: ignore[arg-type]

    def weights(self, values: Sequence[int]) -> bytes:
        return encode_ciphertexts(self.keypair.public, self.keypair.encrypt_many(list(values)))


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    with running_sample(tmp_path_factory.mktemp("encrypted")) as server:
        channel = server.channel(server.identity("requester", "alice"))
        keypair = generate_keypair(2048)
        proof = keypair.prove(b"weir://test.weir/requester/alice")
        request = pb.RegisterPublicKeyRequest(modulus=keypair.public.to_bytes(), proof=proof)
        yield Asking(server, channel, keypair, call(channel, REGISTER, request).key_id)


def _newest(asking: Asking) -> dict[str, Any]:
    auditor = asking.server.channel(asking.server.identity("auditor", "ann"))
    pages = collect(auditor, "/weir.v1.AuditService/ListEntries", audit_service_pb2.ListEntriesRequest())
    newest: dict[str, Any] = json.loads(pages[-1].entries[-1].leaf)
    return newest


def _balances(asking: Asking) -> bytes:
    reply = call(asking.channel, "/weir.v1.QuotaService/GetBalance", quota_service_pb2.GetBalanceRequest())
    balances: bytes = reply.SerializeToString(deterministic=True)
    return balances


def _send(asking: Asking, messages: Sequence[pb.RunEncryptedQueryRequest]) -> list[pb.RunEncryptedQueryResponse]:
    return collect(asking.channel, RUN, iter(messages))


def test_a_reply_decrypts_to_the_weighted_sum_of_the_release(asking: Asking) -> None:
    upload = asking.weights([3, -2, 5])
    pieces = [pb.RunEncryptedQueryRequest(weights=upload[at : at + 700]) for at in range(0, len(upload), 700)]
    replies = _send(asking, [asking.header(), *pieces])
    assert replies[0].WhichOneof("part") == "accepted"
    assert replies[0].accepted.cells == CELLS
    results = b"".join(reply.results for reply in replies)
    answer = pb.EncryptedAnswer.FromString(replies[-1].completed.answer)
    assert answer.results_digest == sha256(results).digest()
    ciphertexts = decode_ciphertexts(asking.keypair.public, results)
    signed = [asking.keypair.decrypt(ciphertext, bits=answer.reply_bits) for ciphertext in ciphertexts]
    # Oracle: cells are in declared order; the canary unit counts for 1 and 20 (clipped) in the north.
    counts = [201, 200, 200]
    visits = [sum((i * 7) % 13 for i in range(600) if i % 3 == cell) for cell in range(3)]
    visits[0] += 20
    weights = [3, -2, 5]
    expected = [sum(w * c for w, c in zip(weights, column, strict=True)) for column in (counts, visits)]
    assert signed == expected


@pytest.mark.parametrize(
    ("changes", "kind", "rule"),
    [
        pytest.param({"key_id": "sha256:" + "0" * 64}, errors.InvalidKey, "key.registered", id="unregistered key"),
        pytest.param({"key_id": "mine"}, errors.InvalidRequest, "key_id.form", id="key id of no form"),
        pytest.param({"weights": 7}, errors.InvalidRequest, "encrypted.weights", id="wrong number of weights"),
        pytest.param({"weights": 0}, errors.InvalidRequest, "weights.count", id="no weights"),
        pytest.param({"weights": 2**31}, errors.InvalidRequest, "weights.count", id="two billion weights"),
        pytest.param({"weight_bits": 65}, errors.InvalidRequest, "weights.bits", id="weights too wide"),
        pytest.param({"envelope": envelope(contract="c-none")}, errors.UnknownName, "name.contract", id="contract"),
        pytest.param({"idempotency_key": "x"}, errors.InvalidRequest, "idempotency_key.form", id="idempotency key"),
    ],
)
def test_a_header_that_does_not_fit_is_refused_before_the_upload(
    asking: Asking, changes: dict[str, object], kind: type[errors.WeirError], rule: str
) -> None:
    before = _balances(asking)
    with pytest.raises(kind) as caught:
        # The stream stays open: the refusal must not wait for weights.
        collect(asking.channel, RUN, _then_wait(asking.header(**changes)))
    assert caught.value.rule == rule
    newest = _newest(asking)
    assert newest["type"] == "weir.query.refused"
    assert _balances(asking) == before


def _then_wait(header: pb.RunEncryptedQueryRequest) -> Iterator[pb.RunEncryptedQueryRequest]:
    yield header
    time.sleep(1.0)


@pytest.mark.parametrize(
    ("cut", "rule"),
    [
        pytest.param(lambda upload: upload[:-1], "upload.short", id="a byte short"),
        pytest.param(lambda upload: b"", "upload.short", id="nothing"),
        pytest.param(lambda upload: upload + b"\0", "upload.long", id="a byte long"),
        pytest.param(lambda upload: bytes(300 * 1024), "upload.chunk", id="a chunk too large"),
    ],
)
def test_an_upload_of_another_length_is_refused_and_metered(asking: Asking, cut: object, rule: str) -> None:
    before = _balances(asking)
    upload = cut(asking.weights([1, 1, 1]))  # type: ignore[operator]
    with pytest.raises(errors.InvalidRequest) as caught:
        _send(asking, [asking.header(), pb.RunEncryptedQueryRequest(weights=upload)])
    assert (caught.value.rule, caught.value.field) == (rule, "weights")
    assert _newest(asking)["type"] == "weir.query.refused"
    assert _balances(asking) == before


@pytest.mark.parametrize("messages", ["none", "weights first", "two headers"])
def test_messages_out_of_order_are_refused(asking: Asking, messages: str) -> None:
    piece = pb.RunEncryptedQueryRequest(weights=b"\1")
    sent = {"none": [], "weights first": [piece], "two headers": [asking.header(), asking.header()]}[messages]
    with pytest.raises(errors.InvalidRequest) as caught:
        _send(asking, sent)
    assert caught.value.rule in ("upload.header", "upload.order")
    assert _newest(asking)["type"] == "weir.query.refused"


def test_malformed_ciphertexts_meet_one_text_whatever_is_wrong(asking: Asking) -> None:
    n, size = asking.keypair.public.n, asking.keypair.public.ciphertext_bytes
    good = asking.weights([1, 1, 1])
    texts = set()
    for bad in (0, 1, n, n * n - 1, n * n, (1 << (8 * size)) - 1):
        before = _balances(asking)
        upload = good[: 2 * size] + bad.to_bytes(size, "big")
        with pytest.raises(errors.InvalidCiphertext) as caught:
            _send(asking, [asking.header(), pb.RunEncryptedQueryRequest(weights=upload)])
        texts.add((caught.value.message, caught.value.rule, caught.value.field, tuple(caught.value.metadata)))
        assert _newest(asking)["type"] == "weir.query.refused"
        assert _balances(asking) == before
    assert len(texts) == 1


def test_a_stream_that_is_cut_half_way_is_metered_and_charged_nothing(asking: Asking) -> None:
    before = _balances(asking)
    upload = asking.weights([1, 1, 1])

    def half() -> Iterator[pb.RunEncryptedQueryRequest]:
        yield asking.header()
        yield pb.RunEncryptedQueryRequest(weights=upload[: len(upload) // 2])
        time.sleep(30.0)

    stream = method(asking.channel, RUN)(half(), timeout=20.0)
    assert next(stream).WhichOneof("part") == "accepted"
    stream.cancel()
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        newest = _newest(asking)
        if newest["data"].get("record", {}).get("rule") == "upload.short":
            break
        time.sleep(0.05)
    else:
        pytest.fail("the upload that was cut left no leaf")
    assert _balances(asking) == before


def test_a_repeated_request_gives_the_same_ciphertexts(asking: Asking) -> None:
    header, upload = asking.header(), asking.weights([1, 2, 3])
    messages = [header, pb.RunEncryptedQueryRequest(weights=upload)]
    first = _send(asking, messages)
    before = _balances(asking)
    assert _send(asking, messages)[1:] == first[1:]
    assert _balances(asking) == before


@pytest.mark.parametrize("proof", [b"", b"\0" * 100, b"x" * 40_000])
def test_a_key_without_its_proof_is_not_registered(asking: Asking, proof: bytes) -> None:
    unknown = real_keypair(seed="unproven").public
    request = pb.RegisterPublicKeyRequest(modulus=unknown.to_bytes(), proof=proof)
    with pytest.raises(errors.InvalidKey):
        call(asking.channel, REGISTER, request)
    assert _newest(asking)["type"] == "weir.query.refused"


def test_a_key_proven_by_somebody_else_is_not_registered(asking: Asking) -> None:
    mallory = asking.server.channel(asking.server.identity("requester", "mallory"))
    proof = asking.keypair.prove(b"weir://test.weir/requester/alice")
    request = pb.RegisterPublicKeyRequest(modulus=asking.keypair.public.to_bytes(), proof=proof)
    with pytest.raises(errors.InvalidKey):
        call(mallory, REGISTER, request)
