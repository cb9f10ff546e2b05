# SPDX-License-Identifier: Apache-2.0
"""Two processes behind one port and one ledger: either may be killed under load; nothing is lost or charged twice."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from tests.support.sample import CONTRACTS, apply_contracts, envelope, publish_sample, spending_envelope
from tests.support.server import RunningServer, make_domain, open_channel, start_server
from tests.support.wire import WireFailure, call, key
from weir import errors
from weir.v1 import policy_service_pb2, query_service_pb2, quota_service_pb2
from weir_server.books import check_books
from weir_server.config import LedgerSettings

RUN = "/weir.v1.QueryService/RunQuery"
QUERIES = 300
CALLERS = 8


@pytest.fixture
def schema() -> str:
    return f"workers_{secrets.token_hex(4)}"


@pytest.fixture
def workers(tmp_path: Path, ledger_server: str, schema: str) -> Iterator[RunningServer]:
    data_dir = make_domain(tmp_path)
    settings = f"""
[ledger]
postgres = "{ledger_server}"
schema = "{schema}"
[encrypted]
workers = 1
"""
    (data_dir / "weir.toml").write_text(settings, encoding="utf-8")
    publish_sample(data_dir)
    server = start_server(data_dir, settings=settings, workers=2)
    try:
        apply_contracts(server)
        yield server
    finally:
        assert server.stop(seconds=60) == 0
    assert check_books(data_dir, settings=LedgerSettings(ledger_server, schema)).findings == ()


def pids(server: RunningServer) -> list[int]:
    """Process ids of the workers, in the order in which they began to serve."""
    return [int(str(line["pid"])) for line in server.log_lines() if line["event"] == "serving"]


class Caller:
    """Asks until it is answered, each question under one key, on connections that find any worker."""

    def __init__(self, server: RunningServer, identity: Path) -> None:
        self._server, self._identity = server, identity
        self._channel = self._open()
        self.repeated = 0

    def _open(self) -> grpc.Channel:
        return open_channel(self._server.public, self._identity, local=True)

    def ask(self, question: query_service_pb2.QueryEnvelope) -> bytes:
        request = query_service_pb2.RunQueryRequest(envelope=question, idempotency_key=key())
        deadline = time.monotonic() + 60
        while True:
            try:
                answer: bytes = call(self._channel, RUN, request, timeout=10).answer
                return answer
            except (WireFailure, errors.Unavailable, errors.Overloaded) as error:
                if isinstance(error, WireFailure) and error.code not in (
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                ):
                    raise
                assert time.monotonic() < deadline, "not answered in time"
                self.repeated += 1
                self._channel.close()
                time.sleep(0.1)
                self._channel = self._open()

    def close(self) -> None:
        self._channel.close()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_killed_under_load_loses_nothing_and_charges_nothing_twice(
    workers: RunningServer, victim: int
) -> None:
    alice = workers.identity("requester", "alice")
    callers = [Caller(workers, alice) for _ in range(CALLERS)]
    before = pids(workers)
    assert len(before) == 2
    answered = Counter[int]()
    lock = threading.Lock()

    def work(number: int) -> None:
        for n in range(number, QUERIES, CALLERS):
            callers[number].ask(envelope(group_by=(("region",), ("age",), ("region", "age"), ())[n % 4]))
            with lock:
                answered[number] += 1

    with ThreadPoolExecutor(CALLERS) as pool:
        running = [pool.submit(work, number) for number in range(CALLERS)]
        while sum(answered.values()) < QUERIES // 4:
            time.sleep(0.02)
        os.kill(before[victim], signal.SIGKILL)
        for task in running:
            task.result(timeout=120)
    assert sum(answered.values()) == QUERIES
    assert used(workers, "alice-queries") == QUERIES, "each question was billed once"
    until = time.monotonic() + 30
    while len(pids(workers)) < 3:
        assert time.monotonic() < until, "the worker was not started again"
        time.sleep(0.1)
    callers[0].ask(envelope(group_by=("age",)))
    for caller in callers:
        caller.close()


@pytest.mark.slow
def test_what_one_worker_is_told_binds_the_other(workers: RunningServer) -> None:
    alice, olga = workers.identity("requester", "alice"), workers.identity("operator", "olga")
    callers = [Caller(workers, alice) for _ in range(CALLERS)]
    for caller in callers:
        caller.ask(spending_envelope())
    admin = open_channel(workers.admin, olga, local=True)
    stop = policy_service_pb2.SetSuspensionRequest(
        scope=policy_service_pb2.SUSPENSION_SCOPE_CONTRACT,
        name="c-spending",
        suspended=True,
        reason="test",
        idempotency_key=key(),
    )
    call(admin, "/weir.v1.PolicyService/SetSuspension", stop)
    for caller in callers:
        with pytest.raises(errors.Suspended):
            caller.ask(spending_envelope(epsilon_nano=400_000_000))
        caller.close()
    admin.close()


def test_workers_without_a_ledger_to_share_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="InvalidRequest"):
        start_server(make_domain(tmp_path), workers=2)


def test_a_ledger_that_other_commands_would_not_find_is_refused(tmp_path: Path, ledger_server: str) -> None:
    with pytest.raises(RuntimeError, match="InvalidRequest"):
        start_server(make_domain(tmp_path), settings=f'[ledger]\npostgres = "{ledger_server}"')


def used(server: RunningServer, quota: str) -> int:
    """What is used of a limit."""
    admin = open_channel(server.admin, server.identity("operator", "olga"), local=True)
    listed = call(admin, "/weir.v1.QuotaAdminService/ListQuotas", quota_service_pb2.ListQuotasRequest())
    admin.close()
    return next(int(balance.used + balance.held) for balance in listed.balances if balance.quota.id == quota)


def test_the_sample_s_quota_is_wide_enough_for_the_load() -> None:
    assert any("limit: 1000" in document for document in CONTRACTS)
    assert QUERIES < 1000
