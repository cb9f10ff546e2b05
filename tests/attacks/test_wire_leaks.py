# SPDX-License-Identifier: Apache-2.0
"""Planted values in the sources, then every byte that leaves the server: replies, errors, trailers, log, metrics."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.sample import CANARIES, envelope, running_sample, spending_envelope
from tests.support.server import RunningServer
from tests.support.wire import key
from weir.v1 import audit_service_pb2, catalogue_service_pb2, query_pb2, query_service_pb2, quota_service_pb2
from weir_server.health.readiness import STATES
from weir_server.observe import MODES, REASONS
from weir_server.services.access import ACCESS

SPELLINGS = tuple(text.encode(coding) for text in CANARIES for coding in ("utf-8", "utf-16-le", "utf-32-le"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_sample(tmp_path_factory.mktemp("leaks")) as running:
        yield running


def _received(channel: grpc.Channel, rpc: str, body: bytes, *, stream: bool = False) -> bytes:
    """Every byte of a reply, or of an error with its text and trailers."""
    try:
        if stream:
            return b"".join(channel.unary_stream(rpc)(body, timeout=30))
        reply: bytes = channel.unary_unary(rpc)(body, timeout=30)
        return reply
    except grpc.RpcError as error:
        trailers = b"".join(
            name.encode() + (value if isinstance(value, bytes) else value.encode())
            for name, value in error.trailing_metadata() or ()
        )
        return str(error.details()).encode() + str(error.debug_error_string()).encode() + trailers


def _questions() -> list[query_service_pb2.QueryEnvelope]:
    """Good ones, and ones that try to make the server quote a value."""
    asked = [envelope(), envelope(group_by=("region", "age")), envelope(group_by=()), spending_envelope()]
    for literal in (
        query_pb2.Literal(text=CANARIES[0]),
        query_pb2.Literal(integer=int(CANARIES[1])),
        query_pb2.Literal(decimal=CANARIES[2]),
    ):
        for column in ("region", "age", "visits", "person", "amount", "year"):
            for message in (envelope(), spending_envelope()):
                comparison = query_pb2.Comparison(
                    column=column, operator=query_pb2.COMPARISON_OPERATOR_EQUAL, literal=literal
                )
                message.query.where.CopyFrom(query_pb2.Predicate(comparison=comparison))
                asked.append(message)
    return asked


def test_no_planted_value_leaves_by_reply_error_log_or_metric(server: RunningServer) -> None:
    alice = server.channel(server.identity("requester", "alice"))
    auditor = server.channel(server.identity("auditor", "ann"))
    received = []
    for message in _questions():
        run = query_service_pb2.RunQueryRequest(envelope=message, idempotency_key=key())
        estimate = query_service_pb2.EstimateQueryRequest(envelope=message)
        received.append(_received(alice, "/weir.v1.QueryService/RunQuery", run.SerializeToString()))
        received.append(_received(alice, "/weir.v1.QueryService/EstimateQuery", estimate.SerializeToString()))
    listing = catalogue_service_pb2.ListDatasetsRequest().SerializeToString()
    received.append(_received(alice, "/weir.v1.CatalogueService/ListDatasets", listing))
    balance = quota_service_pb2.GetBalanceRequest().SerializeToString()
    received.append(_received(alice, "/weir.v1.QuotaService/GetBalance", balance))
    receipts = query_service_pb2.ListReceiptsRequest(page_size=200).SerializeToString()
    received.append(_received(alice, "/weir.v1.QueryService/ListReceipts", receipts))
    entries = audit_service_pb2.ListEntriesRequest().SerializeToString()
    received.append(_received(auditor, "/weir.v1.AuditService/ListEntries", entries, stream=True))
    meter = audit_service_pb2.ListMeterRequest().SerializeToString()
    received.append(_received(auditor, "/weir.v1.AuditService/ListMeter", meter))
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=10) as response:
        received.append(response.read())
    received.append(server.log_file.read_bytes())
    everything = b"\n".join(received)
    assert len(everything) > 20_000  # a test that received nothing would find nothing
    found = [spelling for spelling in SPELLINGS if spelling in everything]
    assert found == []


def test_the_planted_values_were_really_in_the_sources(server: RunningServer) -> None:
    sources: Path = server.data_dir.parent / "sources"
    text = (sources / "clinic.csv").read_text() + (sources / "spending.csv").read_text()
    assert all(canary in text for canary in CANARIES)


def test_a_snapshot_that_queries_open_holds_no_unit_id_or_unclipped_value(server: RunningServer) -> None:
    files = [path for path in (server.data_dir / "snapshots").rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        assert CANARIES[0].encode() not in content, path.name


def test_the_log_file_has_only_keys_of_the_allow_list(server: RunningServer) -> None:
    from weir_server.observe import Fields

    allowed = {"time", "level", "event", *Fields.__annotations__}
    lines = server.log_lines()
    assert lines
    assert {key for line in lines for key in line} <= allowed


SECRETS = ("zebra-4711", "AKIA5SECRETKEY", "eyJhbGciOi.bearer.token", "DELETE FROM people", "110101199003077758")
"""What a requester may type into any field, and an operator's tools must not keep."""
DOCUMENT = Path(__file__).parents[2] / "docs" / "operate.md"


def _typed() -> list[query_service_pb2.QueryEnvelope]:
    """A secret in every place that takes a text."""
    asked = []
    for secret in SECRETS:
        asked += [envelope(contract=secret), envelope(group_by=(secret,)), envelope(), envelope(), spending_envelope()]
        asked[-3].purpose = secret
        asked[-2].query.dataset = secret
        comparison = query_pb2.Comparison(
            column="region", operator=query_pb2.COMPARISON_OPERATOR_EQUAL, literal=query_pb2.Literal(text=secret)
        )
        asked[-1].query.where.CopyFrom(query_pb2.Predicate(comparison=comparison))
    return asked


def _scraped(server: RunningServer) -> str:
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=10) as response:
        return str(response.read().decode())


def test_what_requesters_type_is_in_no_metric_and_no_log_line(server: RunningServer) -> None:
    alice = server.channel(server.identity("requester", "alice"))
    run = "/weir.v1.QueryService/RunQuery"
    for message in _typed():
        request = query_service_pb2.RunQueryRequest(envelope=message, idempotency_key=key())
        _received(alice, run, request.SerializeToString())
    for secret in SECRETS:
        request = query_service_pb2.RunQueryRequest(envelope=envelope(), idempotency_key=secret)
        _received(alice, run, request.SerializeToString())
        _received(alice, run, secret.encode())  # no protobuf of anything
        _received(alice, f"/weir.v1.QueryService/{secret.replace(' ', '')}", b"")
    kept = _scraped(server) + server.log_file.read_text(encoding="utf-8")
    assert 'reason="UNKNOWN_NAME"' in kept, "they were refused, and that was counted"
    assert [secret for secret in SECRETS if secret in kept or secret.replace(" ", "") in kept] == []


def test_metrics_have_labels_of_closed_sets_and_every_one_is_documented(server: RunningServer) -> None:
    closed = {
        "rpc": set(ACCESS),
        "reason": set(REASONS),
        "mode": {*MODES, "other"},
        "state": set(STATES),
    }
    samples = [line for line in _scraped(server).splitlines() if not line.startswith("#")]
    names = set()
    for line in samples:
        name, labels = re.fullmatch(r"(\w+)(?:\{(.*)\})? \S+", line).groups()  # type: ignore[union-attr]
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels or ""):
            assert label == "le" or value in closed[label], line
        names.add(re.sub(r"_(bucket|sum|count|created)$", "", name))
    rows = re.findall(r"^\| `(weir_\w+)` \|", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    documented = {re.sub(r"_created$", "", name) for name in rows}
    totals = {name.removesuffix("_total") for name in documented}
    assert {name.removesuffix("_total") for name in names} == totals
