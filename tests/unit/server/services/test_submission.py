# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.queries import QUERIES
from weir.query import Query, canonicalise
from weir.question import request_digest
from weir.v1 import encrypted_service_pb2, query_service_pb2
from weir.wire import query_to_proto
from weir_server.plan.values import Principal, Submission
from weir_server.services.submission import submission_of

ALICE = Principal("alice", "requester", "test.weir")
KEYS = st.from_regex(r"[A-Za-z0-9_-]{16,64}", fullmatch=True)


def _request(query: Query, key: str) -> query_service_pb2.RunQueryRequest:
    envelope = query_service_pb2.QueryEnvelope(query=query_to_proto(query), contract="c-1")
    return query_service_pb2.RunQueryRequest(envelope=envelope, idempotency_key=key)


def _submit(request: query_service_pb2.RunQueryRequest) -> Submission:
    return submission_of(ALICE, request.envelope, request=request, idempotency_key=request.idempotency_key)


@given(QUERIES, KEYS)
def test_every_query_of_the_language_arrives_in_canonical_form(query: Query, key: str) -> None:
    submission = _submit(_request(query, key))
    assert submission.query == canonicalise(query)
    assert submission.idempotency_key == key
    assert (submission.epsilon_nano, submission.within, submission.max_price_micro) == (None, None, None)


@given(QUERIES, KEYS, KEYS)
def test_the_digest_covers_everything_but_the_idempotency_key(query: Query, one: str, two: str) -> None:
    first, second = _request(query, one), _request(query, two)
    assert request_digest(first) == request_digest(second)
    second.envelope.max_price_micro = 0  # set, where it was unset before
    assert request_digest(first) != request_digest(second)


def test_one_key_never_fits_two_kinds_of_call() -> None:
    run, sealed = query_service_pb2.RunQueryRequest(), encrypted_service_pb2.RunSealedQueryRequest()
    assert run.SerializeToString() == sealed.SerializeToString()
    assert request_digest(run) != request_digest(sealed)
