# SPDX-License-Identifier: Apache-2.0
"""Stage 0: a request of the wire becomes a Submission, or is refused by shape alone. Nothing here knows a dataset."""

from __future__ import annotations

import re
from decimal import Decimal

from google.protobuf.message import Message

from weir.amounts import MAX_AMOUNT
from weir.errors import InvalidRequest
from weir.query import canonicalise
from weir.question import request_digest
from weir.v1 import answer_pb2, query_service_pb2
from weir.wire import query_from_proto
from weir_server.catalog.card import Mode
from weir_server.plan.values import EncryptedTerms, Principal, Submission

_CONTRACT = re.compile(r"[a-z][a-z0-9-]{0,62}")
_IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")
_WITHIN = re.compile(r"[0-9]{1,20}(\.[0-9]{1,18})?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_PURPOSE = 200
_MODES: dict[int, Mode | None] = {
    answer_pb2.MODE_UNSPECIFIED: None,
    answer_pb2.MODE_EXACT: Mode.EXACT,
    answer_pb2.MODE_DP: Mode.DP,
}


def submission_of(
    principal: Principal,
    envelope: query_service_pb2.QueryEnvelope,
    *,
    request: Message,
    idempotency_key: str,
    encrypted: EncryptedTerms | None = None,
) -> Submission:
    """A well-formed submission in canonical form. `request`: the message that held the envelope.

    Raises:
        InvalidRequest: a field is missing, malformed or contradicts another.
        InvalidQuery: the query is malformed or too large.
    """
    mode = _mode(envelope.mode)
    epsilon, within = _loss(envelope, mode)
    return Submission(
        principal=principal,
        query=canonicalise(query_from_proto(envelope.query)),
        contract=contract_id(envelope.contract, field="envelope.contract"),
        purpose=_purpose(envelope.purpose),
        mode=mode,
        epsilon_nano=epsilon,
        within=within,
        max_price_micro=_max_price(envelope),
        idempotency_key=idempotency_key,
        request_digest=request_digest(request),
        encrypted=encrypted,
    )


def contract_id(text: str, *, field: str) -> str:
    """A well-formed contract id.

    Raises:
        InvalidRequest: missing or malformed.
    """
    if not _CONTRACT.fullmatch(text):
        raise InvalidRequest(
            "a contract id starts with a small letter and has small letters, digits and hyphens, at most 63",
            field=field,
            rule="contract.form",
        )
    return text


def checked_key(text: str) -> str:
    """A well-formed idempotency key.

    Raises:
        InvalidRequest: missing or malformed.
    """
    if not _IDEMPOTENCY_KEY.fullmatch(text):
        raise InvalidRequest(
            "an idempotency key has 16 to 64 letters, digits, underscores and hyphens",
            field="idempotency_key",
            rule="idempotency_key.form",
        )
    return text


def checked_key_id(text: str) -> str:
    """A well-formed id of a public key.

    Raises:
        InvalidRequest: missing or malformed.
    """
    if not _DIGEST.fullmatch(text):
        raise InvalidRequest("a key id is sha256: and 64 hex digits", field="key_id", rule="key_id.form")
    return text


def _mode(number: int) -> Mode | None:
    if number not in _MODES:
        raise InvalidRequest(
            "mode is exact, dp or unset; encrypted queries have calls of their own",
            field="envelope.mode",
            rule="envelope.mode",
        )
    return _MODES[number]


def _loss(envelope: query_service_pb2.QueryEnvelope, mode: Mode | None) -> tuple[int | None, str | None]:
    """Loss to spend, or accuracy wished; never both, one of them for dp, none for exact."""
    epsilon = envelope.epsilon_nano or None
    within = envelope.accuracy.within if envelope.HasField("accuracy") else None
    given = (epsilon is not None) + (within is not None)
    if given > 1:
        raise _loss_error("give epsilon or an accuracy, not both")
    if mode is Mode.EXACT and given:
        raise _loss_error("an exact query takes neither epsilon nor an accuracy")
    if mode is Mode.DP and not given:
        raise _loss_error("a dp query needs epsilon or an accuracy")
    if epsilon is not None and epsilon >= MAX_AMOUNT:
        raise _loss_error("epsilon is too large")
    if within is not None and (not _WITHIN.fullmatch(within) or Decimal(within) == 0):
        raise InvalidRequest(
            "an accuracy is a decimal greater than 0", field="envelope.accuracy.within", rule="accuracy.decimal"
        )
    return epsilon, within


def _loss_error(sentence: str) -> InvalidRequest:
    return InvalidRequest(sentence, field="envelope.epsilon_nano", rule="envelope.loss")


def _purpose(text: str) -> str:
    if len(text) > _MAX_PURPOSE or not text.isprintable():
        raise InvalidRequest(
            f"a purpose has at most {_MAX_PURPOSE} printable characters", field="envelope.purpose", rule="purpose.form"
        )
    return text


def _max_price(envelope: query_service_pb2.QueryEnvelope) -> int | None:
    if not envelope.HasField("max_price_micro"):
        return None
    if envelope.max_price_micro >= MAX_AMOUNT:
        raise InvalidRequest("the price is too large", field="envelope.max_price_micro", rule="amount.range")
    return envelope.max_price_micro
