# SPDX-License-Identifier: Apache-2.0
"""RunQuery without a meter: the peer of `meter.overhead_vs_unmetered`. Ends with its input.

Answers the bytes that the real server is asked, over the same snapshots, under the same TLS: decoded, bound, analysed,
executed, released and encoded, with no ledger, no log and no receipt. `bare` leaves out identity, admission, decision
and the operator log too; `guarded` has them, so that what remains between it and the real server is metering alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio

from weir.errors import WeirError
from weir.v1 import answer_pb2, query_service_pb2, query_service_pb2_grpc
from weir_server import books, clock
from weir_server.catalog.card import Mode
from weir_server.config import Limits
from weir_server.exact.technique import ExactTechnique
from weir_server.identity.authentication import Authentication
from weir_server.identity.pki import Domain, load_domain
from weir_server.observe import Metrics, configure
from weir_server.plan.analyse import analyse
from weir_server.plan.bind import bind
from weir_server.plan.values import Plan, Principal, Submission
from weir_server.policy.decide import Allow, decide
from weir_server.policy.facts import facts_of
from weir_server.services.access import PUBLIC
from weir_server.services.admission import Admission
from weir_server.services.guard import Call, Guard
from weir_server.services.submission import checked_key, submission_of
from weir_server.state import State
from weir_server.store import Transaction
from weir_server.store.sqlite import read_only

T = TypeVar("T")
UNLIMITED = 1_000_000


class ReadOnlyBooks:
    """What another process has stored, for loading catalogue and contracts once."""

    def __init__(self, data_dir: Path) -> None:
        self._directory = data_dir / books.DIRECTORY

    def read(self, operation: Callable[[Transaction], T]) -> T:
        """Runs `operation` on what is durable."""
        with read_only(self._directory) as tx:
            return operation(tx)


class Unmetered(query_service_pb2_grpc.QueryServiceServicer):
    """RunQuery, and nothing kept of it."""

    def __init__(self, data_dir: Path, *, decided: bool) -> None:
        stored: Any = ReadOnlyBooks(data_dir)
        self._world = State(stored, data_dir, clock=clock.now, entropy=os.urandom).world
        self._technique, self._decided = ExactTechnique(), decided

    async def RunQuery(
        self, request: query_service_pb2.RunQueryRequest, call: Call
    ) -> query_service_pb2.RunQueryResponse:
        """The answer alone."""
        key = checked_key(request.idempotency_key)
        submission = submission_of(call.principal, request.envelope, request=request, idempotency_key=key)
        plan = self._plan(submission)
        bound, analysis = plan.bound, plan.analysis
        answer = self._technique.release(bound, analysis, self._technique.execute(bound, analysis))
        answer.dataset, answer.snapshot, answer.mode = (
            bound.query.dataset,
            bound.snapshot.version,
            answer_pb2.MODE_EXACT,
        )
        return query_service_pb2.RunQueryResponse(answer=answer.SerializeToString(deterministic=True))

    def _plan(self, submission: Submission) -> Plan:
        world, contract = self._world, self._world.policy.contracts[submission.contract]
        bound = bind(submission, world.catalogue)
        if bound.mode is not Mode.EXACT:
            raise ValueError("the bench asks exact questions")
        plan = analyse(bound, self._technique, contract)
        if self._decided:
            facts = facts_of(plan, world, now=clock.now())
            decision = decide(facts, contract, policy_digest=world.policy.digest)
            if not isinstance(decision, Allow):
                raise ValueError("the bench asks questions that are allowed")
        return plan


def _bare(service: Unmetered, domain: Domain) -> grpc.aio.Server:
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    caller = Call(Principal(name="alice", role="requester", domain=domain.name), "RunQuery", clock.now())

    async def run(request: query_service_pb2.RunQueryRequest, context: Any) -> query_service_pb2.RunQueryResponse:
        return await service.RunQuery(request, caller)

    handler = grpc.unary_unary_rpc_method_handler(
        run,
        request_deserializer=query_service_pb2.RunQueryRequest.FromString,
        response_serializer=query_service_pb2.RunQueryResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("weir.v1.QueryService", {"RunQuery": handler}),)
    )
    return server


def _guarded(service: Unmetered, domain: Domain) -> grpc.aio.Server:
    limits = Limits(requests_per_second=UNLIMITED, burst=UNLIMITED)
    guard = Guard(
        listener=PUBLIC,
        authentication=Authentication(domain=domain.name, revoked=frozenset),
        limits=limits,
        admission=Admission(limits, clock=time.monotonic),
        metrics=Metrics(),
        now=clock.now,
        refuse=_unrefused,
    )
    server = grpc.aio.server(interceptors=(guard,), options=(("grpc.so_reuseport", 0),))
    query_service_pb2_grpc.add_QueryServiceServicer_to_server(service, server)
    return server


async def _unrefused(principal_name: str, role: str, call: str, error: WeirError) -> None:
    """Refusals are not metered here."""


async def main(data_dir: Path, kind: str) -> None:
    """Serve until standard input closes; the port is the first line printed."""
    domain = load_domain(data_dir)
    service = Unmetered(data_dir, decided=kind == "guarded")
    make: dict[str, Callable[[Unmetered, Domain], grpc.aio.Server]] = {"bare": _bare, "guarded": _guarded}
    server = make[kind](service, domain)
    credentials = grpc.ssl_server_credentials(
        [(domain.server_key, domain.server_certificate)],
        root_certificates=domain.ca_certificate,
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    with open(os.devnull, "w", encoding="utf-8") as lines:  # formatted and written, as in the real server
        configure(lines, level=logging.INFO)
        asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
