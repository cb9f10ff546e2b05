# SPDX-License-Identifier: Apache-2.0
"""Uploads that are announced and never sent: each holds memory that was promised to it, until it ends."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from tests.support.sample import envelope, running_sample
from tests.support.server import RunningServer
from tests.support.wire import call, collect, key, method, typed
from weir import errors
from weir.paillier import encode_ciphertexts
from weir.v1 import audit_service_pb2
from weir.v1 import encrypted_service_pb2 as pb
from weir_client._keys import KeyPair, generate_keypair

SERVICE = "/weir.v1.EncryptedQueryService/"
CELLS = 3
UPLOAD = CELLS * 512
"""Bytes of one upload under a key of 2048 bits."""
SETTINGS = f"[limits]\nupload_memory_bytes = {3 * UPLOAD}\nupload_memory_bytes_per_requester = {2 * UPLOAD}\n"


class Upload:
    """A call of alice that sends what it is given, and has been accepted."""

    def __init__(self, asking: Asking) -> None:
        self._messages: queue.SimpleQueue[pb.RunEncryptedQueryRequest | None] = queue.SimpleQueue()
        self.send(asking.header())
        self._replies = method(asking.channel, SERVICE + "RunEncryptedQuery")(
            iter(self._messages.get, None), timeout=60
        )
        try:
            assert next(self._replies).WhichOneof("part") == "accepted"
        except grpc.RpcError as error:
            self.end()
            raise typed(error) from None

    def send(self, message: pb.RunEncryptedQueryRequest) -> None:
        self._messages.put(message)

    def end(self) -> list[Any]:
        self._messages.put(None)
        try:
            return list(self._replies)
        except grpc.RpcError as error:
            raise typed(error) from None

    def cancel(self) -> None:
        self._replies.cancel()
        self._messages.put(None)


@dataclass
class Asking:
    """Alice with a registered key."""

    server: RunningServer
    channel: grpc.Channel
    keypair: KeyPair

    def header(self) -> pb.RunEncryptedQueryRequest:
        header = pb.EncryptedQueryHeader(
            envelope=envelope(),
            idempotency_key=key(),
            key_id=self.keypair.public.key_id,
            weights=CELLS,
            weight_bits=16,
        )
        return pb.RunEncryptedQueryRequest(header=header)

    def weights(self) -> pb.RunEncryptedQueryRequest:
        data = encode_ciphertexts(self.keypair.public, self.keypair.encrypt_many([1, 2, 3]))
        return pb.RunEncryptedQueryRequest(weights=data)

    def leaves(self) -> int:
        auditor = self.server.channel(self.server.identity("auditor", "ann"))
        pages = collect(auditor, "/weir.v1.AuditService/ListEntries", audit_service_pb2.ListEntriesRequest())
        return sum(len(page.entries) for page in pages)


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    with running_sample(tmp_path_factory.mktemp("uploads"), settings=SETTINGS) as server:
        channel, keypair = server.channel(server.identity("requester", "alice")), generate_keypair(2048)
        proof = keypair.prove(b"weir://test.weir/requester/alice")
        request = pb.RegisterPublicKeyRequest(modulus=keypair.public.to_bytes(), proof=proof)
        call(channel, SERVICE + "RegisterPublicKey", request)
        yield Asking(server, channel, keypair)


def accepted_at_last(asking: Asking) -> Upload:
    """An upload, once room was given back: a cancelled call ends on the server a moment later."""
    for _ in range(50):
        try:
            return Upload(asking)
        except errors.Overloaded:
            time.sleep(0.1)
    raise AssertionError("nothing was given back")


def test_announced_uploads_of_one_requester_fill_their_share_and_no_more(asking: Asking) -> None:
    held = [Upload(asking), Upload(asking)]
    before = asking.leaves()
    with pytest.raises(errors.Overloaded) as caught:
        Upload(asking)
    assert caught.value.rule == "limits.upload_memory_bytes_per_requester"
    assert asking.leaves() == before, "what is turned away grows no log"
    # Answered, too short, or gone: each way gives back what it held.
    held[0].send(asking.weights())
    assert held[0].end()[-1].WhichOneof("part") == "completed"
    held[0] = accepted_at_last(asking)
    with pytest.raises(errors.InvalidRequest):
        held[0].end()
    held[0] = accepted_at_last(asking)
    for upload in held:
        upload.cancel()
    held = [accepted_at_last(asking), accepted_at_last(asking)]
    with pytest.raises(errors.Overloaded):
        Upload(asking)
    for upload in held:
        upload.cancel()
