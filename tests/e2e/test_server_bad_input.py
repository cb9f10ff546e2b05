# SPDX-License-Identifier: Apache-2.0
"""Bad input through a real server: a typed error that names rule and field, metered as a refusal, changing nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.sample import envelope, running_sample, spending_envelope
from tests.support.server import RunningServer, make_domain, open_channel, write_identity
from tests.support.wire import WireFailure, call, collect, key, raw_call
from weir import errors
from weir.errors import WeirError
from weir.v1 import (
    answer_pb2,
    audit_service_pb2,
    catalogue_service_pb2,
    query_pb2,
    query_service_pb2,
    quota_service_pb2,
)

RUN = "/weir.v1.QueryService/RunQuery"
Envelope = query_service_pb2.QueryEnvelope


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_sample(tmp_path_factory.mktemp("bad-input")) as running:
        yield running


@pytest.fixture
def alice(server: RunningServer) -> grpc.Channel:
    return server.channel(server.identity("requester", "alice"))


@dataclass(frozen=True)
class Books:
    """What an outsider can see of the books."""

    leaves: list[dict[str, Any]]
    balances: bytes
    totals: bytes


def books(server: RunningServer) -> Books:
    auditor = server.channel(server.identity("auditor", "ann"))
    alice = server.channel(server.identity("requester", "alice"))
    pages = collect(auditor, "/weir.v1.AuditService/ListEntries", audit_service_pb2.ListEntriesRequest())
    meter = call(auditor, "/weir.v1.AuditService/ListMeter", audit_service_pb2.ListMeterRequest())
    meter.log_size = 0
    balance = call(alice, "/weir.v1.QuotaService/GetBalance", quota_service_pb2.GetBalanceRequest())
    return Books(
        leaves=[json.loads(entry.leaf) for page in pages for entry in page.entries],
        balances=balance.SerializeToString(deterministic=True),
        totals=meter.SerializeToString(deterministic=True),
    )


def bent(change: Callable[[Envelope], object], *, dp: bool = False, drop: str | None = None) -> Envelope:
    """A good envelope with one thing wrong."""
    message = spending_envelope() if dp else envelope()
    if drop is not None:
        message.ClearField(drop)
    change(message)
    return message


def where(column: str, literal: query_pb2.Literal) -> Callable[[Envelope], object]:
    """Adds `column = literal`."""
    comparison = query_pb2.Comparison(column=column, operator=query_pb2.COMPARISON_OPERATOR_EQUAL, literal=literal)
    return lambda message: message.query.where.CopyFrom(query_pb2.Predicate(comparison=comparison))


def nodes(count: int) -> Callable[[Envelope], object]:
    leaf = query_pb2.Predicate(is_null="age")
    wide = query_pb2.Predicate(any_of=query_pb2.PredicateList(operands=[leaf] * count))
    return lambda message: message.query.where.CopyFrom(wide)


def levels(count: int) -> Callable[[Envelope], object]:
    node = query_pb2.Predicate(is_null="age")
    for _ in range(count):
        node = query_pb2.Predicate(negation=node)
    return lambda message: message.query.where.CopyFrom(node)


def aggregate(**fields: Any) -> Callable[[Envelope], object]:
    return lambda message: message.query.aggregates.append(query_pb2.Aggregate(**fields))


BAD = [
    ("unknown dataset", bent(lambda m: setattr(m.query, "dataset", "nowhere")), errors.UnknownName, "query.dataset"),
    ("dataset of no name", bent(lambda m: setattr(m.query, "dataset", "a b")), errors.InvalidQuery, "dataset"),
    ("unknown version", bent(lambda m: setattr(m.query, "snapshot", 9)), errors.UnknownName, "query.snapshot"),
    ("unknown column", bent(where("height", query_pb2.Literal(integer=1))), errors.UnknownName, None),
    ("unknown group", bent(lambda m: m.query.group_by.append("height")), errors.UnknownName, None),
    ("unknown measure", bent(aggregate(function=query_pb2.AGGREGATE_FUNCTION_SUM, measure="height")),
     errors.UnknownName, None),
    ("text for a bin", bent(where("age", query_pb2.Literal(text="old"))), errors.InvalidQuery, None),
    ("number for text", bent(where("region", query_pb2.Literal(integer=3))), errors.InvalidQuery, None),
    ("literal of nothing", bent(where("region", query_pb2.Literal())), errors.InvalidQuery, "where"),
    ("decimal that is none", bent(where("region", query_pb2.Literal(decimal="1e9"))), errors.InvalidQuery, None),
    ("unsupported aggregate", bent(aggregate(function=99)), errors.InvalidQuery, "aggregates"),
    ("aggregate not offered", bent(aggregate(
        function=query_pb2.AGGREGATE_FUNCTION_QUANTILE, measure="visits", quantile_ppm=500_000)),
     errors.InvalidQuery, None),
    ("no aggregate", bent(lambda m: m.query.ClearField("aggregates")), errors.InvalidQuery, "aggregates"),
    ("10,000 nodes", bent(nodes(10_000)), errors.InvalidQuery, "where"),
    ("60 levels", bent(levels(60)), errors.InvalidQuery, "where"),
    ("unknown contract", bent(lambda m: setattr(m, "contract", "c-nobody")), errors.UnknownName, "contract"),
    ("contract of no form", bent(lambda m: setattr(m, "contract", "C 1")),
     errors.InvalidRequest, "envelope.contract"),
    ("no contract", bent(lambda m: m.ClearField("contract")), errors.InvalidRequest, "envelope.contract"),
    ("purpose with a newline", bent(lambda m: setattr(m, "purpose", "a\nb")),
     errors.InvalidRequest, "envelope.purpose"),
    ("encrypted as a mode", bent(lambda m: setattr(m, "mode", answer_pb2.MODE_ENCRYPTED)),
     errors.InvalidRequest, "envelope.mode"),
    ("exact with epsilon", bent(lambda m: setattr(m, "epsilon_nano", 1)),
     errors.InvalidRequest, "envelope.epsilon_nano"),
    ("dp without a loss", bent(lambda m: m.ClearField("epsilon_nano"), dp=True), errors.InvalidRequest, None),
    ("dp with loss and accuracy", bent(lambda m: setattr(m.accuracy, "within", "3"), dp=True),
     errors.InvalidRequest, None),
    ("accuracy of zero",
     bent(lambda m: m.MergeFrom(Envelope(accuracy={"within": "0.0"})), dp=True, drop="epsilon_nano"),
     errors.InvalidRequest, "envelope.accuracy.within"),
    ("epsilon beyond all", bent(lambda m: setattr(m, "epsilon_nano", 2**63), dp=True), errors.InvalidRequest, None),
    ("purpose not allowed", bent(lambda m: setattr(m, "purpose", "resale")), errors.PolicyDenied, None),
    ("loss above the contract's", bent(lambda m: setattr(m, "epsilon_nano", 2_000_000_000), dp=True),
     errors.PolicyDenied, None),
]  # fmt: skip


@pytest.mark.parametrize(("message", "kind", "field"), [pytest.param(m, k, f, id=name) for name, m, k, f in BAD])
def test_bad_input_is_refused_by_rule_and_field_metered_and_changes_nothing(
    server: RunningServer, alice: grpc.Channel, message: Envelope, kind: type[WeirError], field: str | None
) -> None:
    before = books(server)
    with pytest.raises(kind) as caught:
        call(alice, RUN, query_service_pb2.RunQueryRequest(envelope=message, idempotency_key=key()))
    error = caught.value
    assert type(error) is kind
    assert error.rule is not None
    assert field is None or error.field == field
    assert error.message
    after = books(server)
    refused = after.leaves[len(before.leaves) :]
    assert [leaf["type"] for leaf in refused] == ["weir.query.refused"]
    data = refused[0]["data"]
    assert data["subject"]["requester"] == "alice"
    assert (data["record"]["reason"], data["record"]["rule"]) == (error.reason, error.rule)
    assert (after.balances, after.totals) == (before.balances, before.totals)


def _refused_call(server: RunningServer, before: Books, error: WeirError) -> None:
    after = books(server)
    refused = after.leaves[len(before.leaves) :]
    assert [leaf["type"] for leaf in refused] == ["weir.query.refused"]
    assert refused[0]["data"]["record"]["reason"] == error.reason
    assert (after.balances, after.totals) == (before.balances, before.totals)


@pytest.mark.parametrize("text", ["", "short", "x" * 65, "with space 12345678", "ключ-ключ-ключ-ключ"])
def test_a_malformed_idempotency_key_is_refused_and_metered(
    server: RunningServer, alice: grpc.Channel, text: str
) -> None:
    before = books(server)
    with pytest.raises(errors.InvalidRequest) as caught:
        call(alice, RUN, query_service_pb2.RunQueryRequest(envelope=envelope(), idempotency_key=text))
    assert (caught.value.rule, caught.value.field) == ("idempotency_key.form", "idempotency_key")
    _refused_call(server, before, caught.value)


def test_bytes_that_are_no_message_are_refused_and_metered(server: RunningServer, alice: grpc.Channel) -> None:
    before = books(server)
    with pytest.raises(errors.InvalidRequest) as caught:
        raw_call(alice, RUN, b"\xff\xff\xff\xff")
    assert (caught.value.rule, caught.value.field) == ("message.decode", "message")
    _refused_call(server, before, caught.value)


def test_an_oversize_message_is_refused_and_metered(server: RunningServer, alice: grpc.Channel) -> None:
    before = books(server)
    with pytest.raises(errors.InvalidRequest) as caught:
        raw_call(alice, RUN, bytes(600 * 1024))
    assert (caught.value.rule, caught.value.field) == ("message.size", "message")
    _refused_call(server, before, caught.value)


def test_a_message_beyond_the_transports_limit_is_cut_off(server: RunningServer, alice: grpc.Channel) -> None:
    before = books(server)
    with pytest.raises(WireFailure) as caught:
        raw_call(alice, RUN, bytes(2 * 1024 * 1024))
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert books(server) == before


@pytest.mark.parametrize("timeout", [None, 3_600.0], ids=["none", "an hour"])
def test_a_call_without_a_near_deadline_is_refused_and_metered(
    server: RunningServer, alice: grpc.Channel, timeout: float | None
) -> None:
    before = books(server)
    request = query_service_pb2.RunQueryRequest(envelope=envelope(), idempotency_key=key())
    with pytest.raises(errors.DeadlineRequired) as caught:
        call(alice, RUN, request, timeout=timeout)
    assert caught.value.metadata["max_seconds"] == "600"
    _refused_call(server, before, caught.value)


def test_an_auditor_cannot_query_and_the_attempt_is_metered(server: RunningServer) -> None:
    auditor = server.channel(server.identity("auditor", "ann"))
    before = books(server)
    request = query_service_pb2.RunQueryRequest(envelope=envelope(), idempotency_key=key())
    with pytest.raises(errors.PermissionDenied) as caught:
        call(auditor, RUN, request)
    assert caught.value.metadata["role"] == "auditor"
    _refused_call(server, before, caught.value)


def test_another_requester_cannot_tell_a_foreign_contract_from_none(server: RunningServer) -> None:
    mallory = server.channel(server.identity("requester", "mallory"))
    texts = set()
    for contract in ("c-visits", "c-nobody"):
        request = query_service_pb2.RunQueryRequest(envelope=envelope(contract=contract), idempotency_key=key())
        with pytest.raises(errors.UnknownName) as caught:
            call(mallory, RUN, request)
        texts.add((caught.value.message, caught.value.rule, caught.value.field))
    assert len(texts) == 1


def test_a_key_used_with_another_question_is_a_conflict(server: RunningServer, alice: grpc.Channel) -> None:
    same = key()
    call(alice, RUN, query_service_pb2.RunQueryRequest(envelope=envelope(), idempotency_key=same))
    before = books(server)
    with pytest.raises(errors.IdempotencyConflict) as caught:
        call(alice, RUN, query_service_pb2.RunQueryRequest(envelope=envelope(group_by=()), idempotency_key=same))
    _refused_call(server, before, caught.value)


def test_a_repeated_request_gives_the_same_bytes_and_charges_nothing(
    server: RunningServer, alice: grpc.Channel
) -> None:
    request = query_service_pb2.RunQueryRequest(envelope=spending_envelope(), idempotency_key=key())
    first = call(alice, RUN, request)
    before = books(server)
    assert call(alice, RUN, request) == first
    assert books(server) == before


LIST = "/weir.v1.CatalogueService/ListDatasets"


def _list_as(server: RunningServer, identity: Path) -> Any:
    channel = open_channel(server.public, identity)
    try:
        return call(channel, LIST, catalogue_service_pb2.ListDatasetsRequest(), timeout=5.0)
    finally:
        channel.close()


def test_a_certificate_of_another_domain_gets_no_connection(server: RunningServer, tmp_path: Path) -> None:
    foreign = make_domain(tmp_path)  # the same name, another authority
    identity = write_identity(tmp_path / "eve.weir", foreign, role="operator", name="olga")
    content = json.loads(identity.read_text())
    content["ca"] = json.loads(server.identity("requester", "alice").read_text())["ca"]
    identity.write_text(json.dumps(content))
    with pytest.raises(WireFailure) as caught:
        _list_as(server, identity)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_an_expired_certificate_gets_no_connection(server: RunningServer, tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=3)
    identity = write_identity(tmp_path / "late.weir", server.data_dir, role="requester", name="alice", now=past, days=1)
    with pytest.raises(WireFailure) as caught:
        _list_as(server, identity)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_a_connection_without_a_certificate_gets_nothing(server: RunningServer) -> None:
    ca = json.loads(server.identity("requester", "alice").read_text())["ca"].encode()
    options = (("grpc.ssl_target_name_override", "localhost"),)
    with (
        grpc.secure_channel(server.public, grpc.ssl_channel_credentials(ca), options=options) as channel,
        pytest.raises(WireFailure) as caught,
    ):
        call(channel, LIST, catalogue_service_pb2.ListDatasetsRequest(), timeout=5.0)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_plain_text_gets_nothing(server: RunningServer) -> None:
    with grpc.insecure_channel(server.public) as channel, pytest.raises(WireFailure):
        call(channel, LIST, catalogue_service_pb2.ListDatasetsRequest(), timeout=5.0)
