# SPDX-License-Identifier: Apache-2.0
"""What a question is known by on both sides: the digest of its request and the bytes of its query. Pure.

The service commits to both in the leaf of the answer. The client makes both from what it sent, so a receipt proves an
answer to this question and to no other.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from weir.canonical import canonical_json
from weir.query import Query, query_json


def request_digest(request: Message) -> str:
    """Hex digest of a request but its idempotency key; the message's name is part of it, so that one key never fits
    two calls."""
    prefix, keyed = _kind(request.DESCRIPTOR)
    if keyed:
        copy = type(request)()
        copy.CopyFrom(request)
        copy.ClearField("idempotency_key")
        request = copy
    return hashlib.sha256(prefix + request.SerializeToString(deterministic=True)).hexdigest()


@lru_cache(maxsize=64)
def _kind(kind: Descriptor) -> tuple[bytes, bool]:
    """What the digest of such a message begins with, and whether it has an idempotency key."""
    return kind.full_name.encode() + b"\0", "idempotency_key" in kind.fields_by_name


def digest_with_upload(header_digest: str, *upload: bytes) -> str:
    """Hex digest of a header and all that was uploaded after it: a key stands for both together.

    `header_digest`: `request_digest` of the header. `upload`: in any pieces.
    """
    uploaded = hashlib.sha256()
    for piece in upload:
        uploaded.update(piece)
    return hashlib.sha256(header_digest.encode() + uploaded.digest()).hexdigest()


def answered_query(query: Query, *, snapshot: int) -> bytes:
    """The canonical query in JSON as the leaf of its answer commits to it. `query`: canonical. `snapshot`: the version
    that answered."""
    return canonical_json(query_json(replace(query, snapshot=snapshot)))
