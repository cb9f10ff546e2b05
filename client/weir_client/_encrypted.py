# SPDX-License-Identifier: Apache-2.0
"""Encrypted queries: weights go out as ciphertexts, combinations of releases come back as ciphertexts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

from google.protobuf.message import DecodeError, Message

from weir.paillier import check_ciphertexts, decode_ciphertexts, encode_ciphertexts
from weir.question import digest_with_upload, request_digest
from weir.v1 import answer_pb2, encrypted_service_pb2
from weir_client._calls import Compute, Operation
from weir_client._ciphertexts import EncryptedAnswer, SealedTable, Table, malformed
from weir_client._keys import KeyPair
from weir_client._operations import (
    Context,
    Terms,
    answer_receipt,
    dataset,
    invoke,
    invoke_exchange,
    invoke_stream,
    question,
)
from weir_client._weights import Weights, declared_cells, ordered_weights

Progress = Callable[[int, int], None]
"""Called as progress(done, total); during an encrypted query from another thread."""
CHUNK_BYTES = 256 * 1024
AHEAD_BYTES = 16 * 1024 * 1024
"""Weights of more ciphertext than this (32,768 at 2048 bits, 21,845 at 3072) are all encrypted before the call that
sends them: half a minute of work is too much of its deadline."""


def register_key(context: Context, keypair: KeyPair, key_context: bytes) -> Operation[str]:
    """Registers a public key with its proof, bound to the caller; gives its id."""
    request = encrypted_service_pb2.RegisterPublicKeyRequest(
        modulus=keypair.public.to_bytes(), proof=keypair.prove(key_context)
    )
    reply = yield from invoke(context, "EncryptedQueryService", "RegisterPublicKey", request)
    context.registered.add(reply.key_id)
    return str(reply.key_id)


def encrypted_query(
    context: Context,
    sql: str,
    terms: Terms,
    idempotency_key: str,
    *,
    weights: Weights,
    keypair: KeyPair,
    key_context: bytes,
    weight_bits: int,
    progress: Progress | None,
) -> Operation[EncryptedAnswer]:
    """Secret weights (DESIGN §8)."""
    # 1. The question, and weights in the order of its cells; both refused here where they must be.
    parsed, message = yield from question(context, sql, terms)
    card = yield from dataset(context, parsed.query.dataset)
    cells = declared_cells(card, parsed.query.group_by)
    values = ordered_weights(weights, cells, parsed, weight_bits)
    # 2. The key, once per client.
    if keypair.public.key_id not in context.registered:
        yield from register_key(context, keypair, key_context)
    # 3. Header, acceptance, upload, replies. Encryption starts only after acceptance and is kept for a retry, since
    #    the same request must carry the same ciphertexts. A long one is done between two calls: the first is given up
    #    as soon as the header is accepted, so that what is refused costs no encryption either way.
    header = encrypted_service_pb2.EncryptedQueryHeader(
        envelope=message,
        idempotency_key=idempotency_key,
        key_id=keypair.public.key_id,
        weights=len(values),
        weight_bits=weight_bits,
    )
    upload = _Upload(keypair, values, progress)
    first = encrypted_service_pb2.RunEncryptedQueryRequest(header=header)
    run = partial(invoke_exchange, context, "EncryptedQueryService", "RunEncryptedQuery", first)
    if len(values) * keypair.public.ciphertext_bytes > AHEAD_BYTES:
        upload.check((yield from run(None))[0])
        yield Compute(upload.chunks)
    replies = yield from run(upload)
    # 4. The reply, checked against its description, and the description against the question.
    data, completed = _reply(replies)
    description = _description(completed, data, keypair.public.key_id)
    table = Table(_parsed_table(description.table), parsed)
    if table.keys() != cells:
        raise malformed("its cells are in another order")
    ciphertexts = decode_ciphertexts(keypair.public, data)
    check_ciphertexts(keypair.public, ciphertexts)
    if len(ciphertexts) != len(table.message.values):
        raise malformed("it has another number of columns")
    shown = table.in_shown_order()
    return EncryptedAnswer(
        ciphertexts=tuple(ciphertexts[at] for at, _, _ in shown),
        column_names=tuple(name for _, name, _ in shown),
        key_id=description.key_id,
        reply_bits=description.reply_bits,
        dataset=table.message.dataset,
        snapshot=table.message.snapshot,
        receipt=answer_receipt(
            context,
            message,
            digest_with_upload(request_digest(header), *upload.chunks()),
            completed.receipt,
            committed=completed.answer,
            answer=table.message,
        ),
        _scales=tuple(column.scale for _, _, column in shown),
    )


def sealed_query(
    context: Context, sql: str, terms: Terms, idempotency_key: str, *, key_id: str, max_addends: int
) -> Operation[SealedTable]:
    """A release sealed to a registered key."""
    parsed, message = yield from question(context, sql, terms)
    request = encrypted_service_pb2.RunSealedQueryRequest(
        envelope=message, idempotency_key=idempotency_key, key_id=key_id, max_addends=max_addends
    )
    replies = yield from invoke_stream(context, "EncryptedQueryService", "RunSealedQuery", request)
    data, completed = _reply(replies)
    description = _description(completed, data, key_id)
    table = Table(_parsed_table(description.table), parsed)
    named = table.named()
    proof = answer_receipt(
        context,
        message,
        request_digest(request),
        completed.receipt,
        committed=completed.answer,
        answer=table.message,
    )
    return SealedTable(
        data=data,
        keys=tuple(table.keys()),
        column_names=tuple(name for name, _ in named),
        key_id=description.key_id,
        slots=description.slots,
        slot_bits=description.slot_bits,
        max_addends=description.max_addends,
        addends=1,
        receipts=(proof,),
        _scales=tuple(column.scale for _, column in named),
    )


class _Upload:
    """Messages with the encrypted weights: encrypted chunk by chunk, as they are sent or ahead, once for all attempts.
    Kept as they travel, 512 bytes a weight at 2048 bits and 768 at 3072."""

    def __init__(self, keypair: KeyPair, values: Sequence[int], progress: Progress | None) -> None:
        self._keypair = keypair
        self._values = values
        self._progress = progress
        self._chunks: list[bytes] = []

    def check(self, accepted: Message) -> None:
        """Whether what was accepted is what would be sent."""
        cells = cast(encrypted_service_pb2.RunEncryptedQueryResponse, accepted).accepted.cells
        if cells != len(self._values):
            raise malformed(f"it has {cells} cells where the catalogue has {len(self._values)}")

    def __call__(self, accepted: Message) -> Iterator[Message]:
        self.check(accepted)
        for chunk in self._encrypted():
            yield encrypted_service_pb2.RunEncryptedQueryRequest(weights=chunk)

    def chunks(self) -> list[bytes]:
        """All weights as they travel; those that were not encrypted yet are now."""
        return list(self._encrypted())

    def _encrypted(self) -> Iterator[bytes]:
        if not self._chunks:
            # One table for all of them: chunk by chunk, a small one would be built first and a larger one later.
            self._keypair.prepare(len(self._values))
        each = max(1, CHUNK_BYTES // self._keypair.public.ciphertext_bytes)
        for number, start in enumerate(range(0, len(self._values), each)):
            if number == len(self._chunks):
                part = self._values[start : start + each]
                self._chunks.append(encode_ciphertexts(self._keypair.public, self._keypair.encrypt_many(part)))
                if self._progress is not None:
                    self._progress(min(start + each, len(self._values)), len(self._values))
            yield self._chunks[number]


def _reply(replies: Sequence[Any]) -> tuple[bytes, encrypted_service_pb2.EncryptedResult]:
    """Ciphertext bytes and the end of a reply."""
    if not replies or replies[-1].WhichOneof("part") != "completed":
        raise malformed("the stream ended early")
    data = b"".join(reply.results for reply in replies if reply.WhichOneof("part") == "results")
    return data, replies[-1].completed


def _description(
    completed: encrypted_service_pb2.EncryptedResult, data: bytes, key_id: str
) -> encrypted_service_pb2.EncryptedAnswer:
    try:
        description = encrypted_service_pb2.EncryptedAnswer.FromString(completed.answer)
    except DecodeError:
        raise malformed("its description is malformed") from None
    if description.key_id != key_id:
        raise malformed("it is under another key")
    if description.results_digest != hashlib.sha256(data).digest():
        raise malformed("its ciphertexts are not the described ones")
    return description


def _parsed_table(data: bytes) -> answer_pb2.Answer:
    try:
        return answer_pb2.Answer.FromString(data)
    except DecodeError:
        raise malformed("its table is malformed") from None
