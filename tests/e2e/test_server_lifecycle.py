# SPDX-License-Identifier: Apache-2.0
"""Starting, stopping, restarting: one owner per directory, drained calls, nothing lost, nothing charged twice."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.sample import apply_contracts, envelope, publish_sample, running_sample, spending_envelope
from tests.support.server import RunningServer, make_domain, running_server, serve_command, start_server
from tests.support.wire import WireFailure, call, key
from weir import errors
from weir.v1 import answer_pb2, audit_service_pb2, query_service_pb2, quota_service_pb2
from weir_server.fsck import fsck
from weir_server.identity.pki import log_key

RUN = "/weir.v1.QueryService/RunQuery"


def _ask(channel: grpc.Channel, message: query_service_pb2.QueryEnvelope, idempotency_key: str) -> Any:
    return call(channel, RUN, query_service_pb2.RunQueryRequest(envelope=message, idempotency_key=idempotency_key))


def _alice(server: RunningServer) -> grpc.Channel:
    return server.channel(server.identity("requester", "alice"))


def test_a_second_server_on_the_same_directory_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        command = serve_command(server.data_dir, ready=tmp_path / "second.json", config=tmp_path / "server.toml")
        second = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert second.returncode != 0
        assert b"LedgerLocked" in second.stderr
        assert not (tmp_path / "second.json").exists()
        call(_alice(server), "/weir.v1.QuotaService/GetBalance", quota_service_pb2.GetBalanceRequest())


def test_an_address_in_use_is_refused_by_name(tmp_path: Path) -> None:
    with running_server(tmp_path / "first") as server:
        other = make_domain(tmp_path / "second")
        command = serve_command(other, ready=tmp_path / "r.json", config=server.data_dir.parent / "server.toml")
        command[command.index("--listen") + 1] = server.public
        second = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert second.returncode != 0
        assert b"Unavailable" in second.stderr


def test_a_directory_without_a_domain_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "server.toml").touch()
    command = serve_command(tmp_path / "nothing", ready=tmp_path / "r.json", config=tmp_path / "server.toml")
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert not (tmp_path / "r.json").exists()


def test_sigterm_lets_running_calls_finish_and_a_restart_knows_their_answers(tmp_path: Path) -> None:
    data_dir = make_domain(tmp_path)
    publish_sample(data_dir)
    server = start_server(data_dir)
    apply_contracts(server)
    alice = _alice(server)
    questions = [(spending_envelope(epsilon_nano=1_000_000 + i), key()) for i in range(24)]
    with ThreadPoolExecutor(24) as pool:
        running = [pool.submit(_ask, alice, message, idempotency) for message, idempotency in questions]
        running[0].result(timeout=30)  # the others are on their way
        server.process.send_signal(signal.SIGTERM)
        outcomes = [_outcome(future) for future in running]
    assert server.process.wait(timeout=30) == 0
    answered = {i: reply for i, reply in enumerate(outcomes) if reply is not None}
    assert answered
    assert fsck(data_dir / "ledger", vkey=log_key(data_dir)).ok

    again = start_server(data_dir)
    try:
        channel = _alice(again)
        for i, reply in answered.items():
            message, idempotency = questions[i]
            assert _ask(channel, message, idempotency) == reply
    finally:
        assert again.stop() == 0


def _outcome(future: Any) -> Any:
    """The reply, or None where the call came too late; any other failure is a failure of the test."""
    try:
        return future.result(timeout=30)
    except errors.Unavailable:
        return None
    except WireFailure as error:
        if error.code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            raise
        return None


def test_a_killed_server_starts_again_with_books_that_agree(tmp_path: Path) -> None:
    data_dir = make_domain(tmp_path)
    publish_sample(data_dir)
    server = start_server(data_dir)
    apply_contracts(server)
    idempotency = key()
    reply = _ask(_alice(server), envelope(), idempotency)
    server.stop(number=signal.SIGKILL)
    again = start_server(data_dir)
    try:
        assert _ask(_alice(again), envelope(), idempotency) == reply
    finally:
        assert again.stop() == 0
    assert fsck(data_dir / "ledger", vkey=log_key(data_dir)).ok


def test_everything_the_server_writes_is_closed_to_other_users(tmp_path: Path) -> None:
    with running_sample(tmp_path) as server:
        _ask(_alice(server), envelope(), key())
        open_paths = [
            str(path.relative_to(server.data_dir))
            for path in server.data_dir.rglob("*")
            if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) and path.name != "domain.json"
        ]
        assert open_paths == []


def test_health_says_serving_on_both_listeners(tmp_path: Path) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with running_server(tmp_path) as server:
        for admin in (False, True):
            stub = health_pb2_grpc.HealthStub(server.channel(server.identity("operator", "olga"), admin=admin))
            for service in ("", "weir.v1.CatalogueService"):
                reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
                assert reply.status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(grpc.RpcError) as caught:
                stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=10)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_admin_services_and_only_there(tmp_path: Path) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    with running_server(tmp_path) as server:
        olga = server.identity("operator", "olga")
        request = reflection_pb2.ServerReflectionRequest(list_services="*")
        stub = reflection_pb2_grpc.ServerReflectionStub(server.channel(olga, admin=True))
        (reply,) = stub.ServerReflectionInfo(iter([request]), timeout=10)
        names = {service.name for service in reply.list_services_response.service}
        assert "weir.v1.PolicyService" in names
        assert "weir.v1.QueryService" not in names
        public = reflection_pb2_grpc.ServerReflectionStub(server.channel(olga))
        with pytest.raises(grpc.RpcError) as caught:
            list(public.ServerReflectionInfo(iter([request]), timeout=10))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_metrics_count_calls_by_reason_from_closed_sets(tmp_path: Path) -> None:
    with running_sample(tmp_path) as server:
        _ask(_alice(server), envelope(), key())
        with pytest.raises(errors.UnknownName):
            _ask(_alice(server), envelope(contract="c-none"), key())
        with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=10) as response:
            text = response.read().decode()
        assert f'weir_calls_total{{reason="OK",rpc="{RUN}"}} 1.0' in text
        assert f'weir_calls_total{{reason="UNKNOWN_NAME",rpc="{RUN}"}} 1.0' in text
        assert 'weir_answers_total{mode="exact"} 1.0' in text
        assert "weir_healthy 1.0" in text


def test_a_flood_is_turned_away_without_a_leaf(tmp_path: Path) -> None:
    settings = "[limits]\nrequests_per_second = 1\nburst = 8\n"
    with running_sample(tmp_path, settings=settings) as server:
        auditor = server.channel(server.identity("auditor", "ann"))
        before = call(auditor, "/weir.v1.AuditService/ListMeter", audit_service_pb2.ListMeterRequest()).log_size
        alice, rules = _alice(server), []
        for _ in range(30):
            try:
                call(alice, "/weir.v1.QuotaService/GetBalance", quota_service_pb2.GetBalanceRequest())
            except errors.Overloaded as error:
                rules.append(error.rule)
        assert len(rules) >= 15
        assert set(rules) == {"limits.requests_per_second"}
        after = call(auditor, "/weir.v1.AuditService/ListMeter", audit_service_pb2.ListMeterRequest()).log_size
        assert after == before


def test_the_entries_arrive_in_order_without_gaps_over_many_pages(tmp_path: Path) -> None:
    with running_sample(tmp_path) as server:
        for _ in range(70):
            with pytest.raises(errors.UnknownName):
                _ask(_alice(server), envelope(contract="c-none"), key())
        stub = server.channel(server.identity("auditor", "ann")).unary_stream(
            "/weir.v1.AuditService/ListEntries",
            request_serializer=audit_service_pb2.ListEntriesRequest.SerializeToString,
            response_deserializer=audit_service_pb2.ListEntriesResponse.FromString,
        )
        pages = list(stub(audit_service_pb2.ListEntriesRequest(), timeout=30))
        indexes = [entry.index for page in pages for entry in page.entries]
        assert len(pages) > 1
        assert indexes == list(range(len(indexes)))
        assert [json.loads(entry.leaf)["id"] for page in pages for entry in page.entries] == list(map(str, indexes))


def test_receipts_are_paged_by_key_newest_first(tmp_path: Path) -> None:
    with running_sample(tmp_path) as server:
        alice = _alice(server)
        replies = [_ask(alice, envelope(group_by=group), key()) for group in ((), ("region",), ("age",))]
        assert answer_pb2.Answer.FromString(replies[0].answer).mode == answer_pb2.MODE_EXACT
        seen, token = [], ""
        while True:
            request = query_service_pb2.ListReceiptsRequest(page_size=2, page_token=token)
            page = call(alice, "/weir.v1.QueryService/ListReceipts", request)
            seen += list(page.receipts)
            token = page.next_page_token
            if not token:
                break
        assert seen == [reply.receipt for reply in reversed(replies)]
