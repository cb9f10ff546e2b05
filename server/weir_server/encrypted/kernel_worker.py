# SPDX-License-Identifier: Apache-2.0
"""The process that does big-integer work for `encrypted.pool`: one request at a time, from stdin to stdout.

It imports weir.paillier and nothing of the server, so that it starts quickly and stays small. Messages are
length-prefixed `marshal` of plain tuples, bytes and integers: both ends are this program in the same interpreter,
over pipes nobody else can open, and unlike pickle the format cannot construct objects.
"""

from __future__ import annotations

import marshal
import os
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from weir.errors import HeadroomExceeded, InvalidCiphertext, InvalidKey, InvalidRequest, WeirError
from weir.paillier import (
    PublicKey,
    check_ciphertexts,
    decode_ciphertexts,
    dot,
    encode_ciphertexts,
    encrypt,
    mask_replies,
    matrix_dot,
    verify_key_proof,
)

READY = b"ready"
"""The first message of a worker: it has imported everything and waits for work."""
PASSED_ON: dict[str, type[WeirError]] = {
    kind.__name__: kind for kind in (HeadroomExceeded, InvalidCiphertext, InvalidKey, InvalidRequest)
}
"""Errors that mean something to the caller; any other failure crosses as a name alone."""


def read_message(source: BinaryIO) -> Any:
    """The next message, or None when the other end is gone."""
    head = source.read(8)
    if len(head) < 8:
        return None
    size = int.from_bytes(head, "big")
    body = source.read(size)
    return marshal.loads(body) if len(body) == size else None  # noqa: S302 - our own other end


def frame(message: Any) -> bytes:
    """The bytes of one message."""
    body = marshal.dumps(message)
    return len(body).to_bytes(8, "big") + body


def _dot(n: bytes, ciphertexts: bytes, scalars: Sequence[int]) -> bytes:
    key = PublicKey.from_bytes(n)
    return encode_ciphertexts(key, [dot(key, decode_ciphertexts(key, ciphertexts), scalars)])


def _matrix_dot(n: bytes, ciphertexts: bytes, columns: Sequence[Sequence[int]]) -> bytes:
    key = PublicKey.from_bytes(n)
    return encode_ciphertexts(key, matrix_dot(key, decode_ciphertexts(key, ciphertexts), columns))


def _check(n: bytes, ciphertexts: bytes) -> None:
    key = PublicKey.from_bytes(n)
    check_ciphertexts(key, decode_ciphertexts(key, ciphertexts))


def _mask(n: bytes, ciphertexts: bytes, bits: Sequence[int]) -> bytes:
    key = PublicKey.from_bytes(n)
    replies = decode_ciphertexts(key, ciphertexts)
    return encode_ciphertexts(key, mask_replies(key, replies, bits=bits, entropy=secrets.token_bytes))


def _encrypt(n: bytes, plaintexts: Sequence[int]) -> bytes:
    key = PublicKey.from_bytes(n)
    return encode_ciphertexts(key, [encrypt(key, m, entropy=secrets.token_bytes) for m in plaintexts])


def _verify(n: bytes, proof: bytes, context: bytes) -> None:
    verify_key_proof(PublicKey.from_bytes(n), proof, context=context)


def _process_id() -> int:
    return os.getpid()


OPERATIONS: dict[str, Callable[..., Any]] = {
    "check": _check,
    "dot": _dot,
    "encrypt": _encrypt,
    "mask": _mask,
    "matrix_dot": _matrix_dot,
    "process_id": _process_id,
    "verify": _verify,
}
"""Everything a worker can be asked; arguments are plain values, n and ciphertexts in wire form."""


def answer(request: tuple[str, tuple[Any, ...]]) -> tuple[str, Any]:
    """("ok", result), ("refused", class, text, field, rule, metadata) or ("failed", class name)."""
    name, arguments = request
    try:
        return "ok", OPERATIONS[name](*arguments)
    except WeirError as error:
        return "refused", (type(error).__name__, error.message, error.field, error.rule, error.metadata)
    except Exception as error:
        # The text may quote an operand; the class name cannot.
        return "failed", type(error).__name__


def main() -> None:
    """Serve until stdin ends, which is how the pool, or its death, stops a worker."""
    # An interrupt at the terminal reaches every process; the server decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    # Anything printed by accident must not corrupt the stream of answers.
    sys.stdout = sys.stderr
    sink.write(frame(READY))
    sink.flush()
    while (request := read_message(source)) is not None:
        sink.write(frame(answer(request)))
        sink.flush()


if __name__ == "__main__":
    main()
