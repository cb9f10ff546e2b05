# SPDX-License-Identifier: Apache-2.0
"""Composition root: one process, one data directory, two gRPC listeners, one metrics port.

Everything a server is made of is built here and handed down; nothing below looks anything up. Starting goes from the
books outwards, so that a listener opens only when everything behind it stands; stopping goes the other way.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from weir.errors import Unavailable
from weir.v1 import (
    audit_service_pb2_grpc,
    case_service_pb2_grpc,
    catalogue_service_pb2_grpc,
    encrypted_service_pb2_grpc,
    policy_service_pb2_grpc,
    query_service_pb2_grpc,
    quota_service_pb2_grpc,
)
from weir_server.background import end, follow, lead, once, sweep
from weir_server.books import give_back_holds, open_books
from weir_server.catalog.card import Mode
from weir_server.catalog.export_dcat import Domain as CatalogueOf
from weir_server.clock import Timekeeper
from weir_server.cluster import configured_cluster
from weir_server.config import Config, split_address
from weir_server.console.usage import keep_counted
from weir_server.dp.store import BoundedStores
from weir_server.dp.technique import DpTechnique
from weir_server.encrypted.cluster import SparkReducer
from weir_server.encrypted.flow import EncryptedQueries
from weir_server.encrypted.pool import KernelPool
from weir_server.encrypted.reducers import Reducers
from weir_server.engine.spark import open_spark
from weir_server.exact.store import Stores
from weir_server.exact.technique import ExactTechnique
from weir_server.exact.warming import keep_warm
from weir_server.health.latch import Latch
from weir_server.health.probes import ProbeServer
from weir_server.health.readiness import SERVING, STATES, Health
from weir_server.identity.authentication import Authentication
from weir_server.identity.leaves import keep_logged, logged_revocations
from weir_server.identity.oidc import open_tokens
from weir_server.identity.pki import Domain, load_domain, log_key
from weir_server.identity.revocation import Revoked, watch_revoked
from weir_server.identity.rotation import live_credentials, watch_certificates
from weir_server.log.background import DIRECTORY as LOG_DIRECTORY
from weir_server.log.background import check_witness, http_post, keep_cosigned, keep_exported, keep_signed
from weir_server.log.receipts import Receipts
from weir_server.log.serve import TileServer
from weir_server.observe import Metrics, event, exception_fields
from weir_server.pipeline import Pipeline
from weir_server.sandbox.answers import Sandbox
from weir_server.sandbox.builds import DIRECTORY as SANDBOX_DIRECTORY
from weir_server.sandbox.builds import Builds, claim_directory
from weir_server.services.access import ACCESS, ADMIN, PUBLIC
from weir_server.services.admission import Admission
from weir_server.services.audit import AuditService
from weir_server.services.cases import CaseAdminService, CaseService
from weir_server.services.catalogue import CatalogueService
from weir_server.services.contracts import ContractService
from weir_server.services.encrypted import EncryptedQueryService
from weir_server.services.guard import Guard
from weir_server.services.health import HealthService
from weir_server.services.policy import PolicyService, add_party_handlers
from weir_server.services.query import QueryService
from weir_server.services.quota import QuotaAdminService, QuotaService
from weir_server.services.strangers import Strangers
from weir_server.services.uploads import Uploads
from weir_server.state import State
from weir_server.store import Store

if TYPE_CHECKING:
    from weir_server.console.listener import ConsoleListener

_HEADROOM = 2
"""The transport's hard limit on a message, as a multiple of ours: in between, the refusal is typed and metered."""
_WAITING, _LEAST_WAITING = 4, 16
"""For how many calls in progress one may wait to be looked at; how many may at least."""
_FUSE = 16
"""The transport's hard limit on calls, as a multiple of ours: in between, the refusal is typed."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a server is reached, with the ports it really got."""

    public: str
    admin: str
    metrics: str
    """Empty where metrics are off."""
    log: str
    """Empty where the log is not served as tiles."""
    console: str
    """Of the console over HTTPS; empty where it is off."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What services are made of."""

    directory: Path
    domain: Domain
    config: Config
    store: Store
    state: State
    receipts: Receipts
    pipeline: Pipeline
    atoms: Stores
    encrypted: EncryptedQueries | None
    sandbox: Sandbox
    metrics: Metrics
    admission: Admission
    strangers: Strangers
    revoked: Revoked
    authentication: Authentication
    credentials: grpc.ServerCredentials
    """Of both listeners. Held here for as long as they run: gRPC calls back into it at each handshake."""
    health: Health
    now: Timekeeper
    """The present, wherever one is asked for."""
    share_ports: bool


async def serve(
    data_dir: Path,
    *,
    config: Config,
    stop: asyncio.Event,
    ready: Callable[[Addresses], None],
    share_ports: bool = False,
    keeper: Timekeeper | None = None,
) -> bool:
    """Runs a server until `stop` is set or the books fail; True where it ended as asked.

    `share_ports`: others of this domain listen on the same ports, which asks for a ledger that all of them use.
    `keeper`: its clock, by default the system's within `clock.max_skew_seconds`.

    Raises:
        LedgerLocked: another process owns the data directory.
        LogInconsistent: the books are of another history than the exported log.
        Unavailable: no whole domain, an open secret, a clock that cannot be right, or an address that cannot be taken.
    """
    loop, failed = asyncio.get_running_loop(), asyncio.Event()

    def on_failure(error: BaseException) -> None:
        rule = getattr(error, "rule", None) or ""
        event("ledger_stopped", level=logging.CRITICAL, rule=rule, **exception_fields(error))
        loop.call_soon_threadsafe(failed.set)

    async with AsyncExitStack() as stack:
        if config.witness.url:
            check_witness(config.witness.url, config.witness.key)
        domain = load_domain(data_dir)
        latch = Latch(keeper or Timekeeper(bound=timedelta(seconds=config.clock.max_skew_seconds)))
        store = open_books(
            data_dir, domain, settings=config.ledger, time=config.clock, latch=latch, on_failure=on_failure
        )
        stack.callback(store.close)
        health = Health(store, latch, log_key=log_key(data_dir), stopping=stop.is_set, clock=time.monotonic)
        parts = await _build(
            data_dir, config, domain, store, health=health, now=latch.keeper, stack=stack, share_ports=share_ports
        )
        console = _console(parts, stack)
        public, admin, addresses = await _listen(parts, stack, console=console)
        background = [asyncio.create_task(work) for work in _background(data_dir, config, parts, console)]
        ready(addresses)
        event("serving", address=addresses.public, pid=os.getpid())
        await _first(stop, failed)
        event("stopping")
        stop.set()  # also where the books failed: health must say so
        for task in background:
            await end(task)
        await _drain(public, admin, console, parts)
    event("stopped")
    return not failed.is_set()


def write_ready_file(path: Path, addresses: Addresses) -> None:
    """Tells whoever waits for the file where the server is; whole or not there at all."""
    draft = path.with_name(path.name + ".part")
    content = {"weir_server": 1, "pid": os.getpid(), **asdict(addresses)}
    draft.write_text(json.dumps(content) + "\n", encoding="utf-8")
    draft.replace(path)


async def _build(
    data_dir: Path,
    config: Config,
    domain: Domain,
    store: Store,
    *,
    health: Health,
    now: Timekeeper,
    stack: AsyncExitStack,
    share_ports: bool,
) -> Parts:
    state = State(store, data_dir, clock=now, entropy=os.urandom)
    receipts = Receipts(domain.log_signers)
    dp = DpTechnique(_bounded_stores(config, data_dir))
    stack.callback(dp.close)
    atoms = Stores()
    pipeline = Pipeline(
        state=state,
        store=store,
        techniques={Mode.EXACT: ExactTechnique(stores=atoms), Mode.DP: dp},
        receipts=receipts,
        clock=now,
        entropy=os.urandom,
    )
    encrypted = None
    if config.encrypted.workers:
        kernels = await stack.enter_async_context(KernelPool(config.encrypted.processes()))
        encrypted = EncryptedQueries(
            pipeline=pipeline,
            store=store,
            kernels=kernels,
            clock=now,
            entropy=os.urandom,
            reducers=_reducers(kernels, config, data_dir, stack),
        )
    place = claim_directory(data_dir / SANDBOX_DIRECTORY, stack.enter_context(ExitStack()))
    sandbox = Sandbox(Builds(place, clock=time.monotonic), clock=time.monotonic)
    stack.push_async_callback(sandbox.close)
    metrics = Metrics()
    revoked = Revoked(watch_revoked(data_dir, known=store.read(logged_revocations)))
    certificates = watch_certificates(data_dir, now=now)
    metrics.certificate_seconds.set_function(lambda: (certificates.get().not_after - now()).total_seconds())
    metrics.watch(health, states=[state for state in STATES if state != SERVING])
    return Parts(
        directory=data_dir,
        domain=domain,
        config=config,
        store=store,
        state=state,
        receipts=receipts,
        pipeline=pipeline,
        atoms=atoms,
        encrypted=encrypted,
        sandbox=sandbox,
        metrics=metrics,
        revoked=revoked,
        admission=Admission(config.limits, clock=time.monotonic),
        strangers=Strangers(clock=time.monotonic),
        authentication=Authentication(
            domain=domain.name,
            revoked=revoked,
            tokens=open_tokens(config.oidc, data_dir=data_dir),
            require_token=config.oidc.require_token,
            authorities=lambda: certificates.recent().authorities,
        ),
        credentials=live_credentials(certificates),
        health=health,
        now=now,
        share_ports=share_ports,
    )


def _bounded_stores(config: Config, data_dir: Path) -> BoundedStores:
    cluster = configured_cluster(config.spark, data_dir=data_dir)
    return BoundedStores() if cluster is None else BoundedStores(cluster=partial(open_spark, cluster))


def _reducers(kernels: KernelPool, config: Config, data_dir: Path, stack: AsyncExitStack) -> Reducers:
    """Worker processes, and for long vectors the cluster where there is one; it is not asked before it is needed."""
    cluster = configured_cluster(config.spark, data_dir=data_dir)
    if cluster is None:
        return Reducers(kernels)
    far = SparkReducer(
        lambda: open_spark(cluster).session,
        partitions=config.encrypted.spark_partitions,
        seconds=config.encrypted.spark_seconds,
    )
    stack.push_async_callback(far.close)
    return Reducers(kernels, far, far_above=config.encrypted.spark_above)


async def _listen(
    parts: Parts, stack: AsyncExitStack, *, console: ConsoleListener | None
) -> tuple[Any, Any, Addresses]:
    listen = parts.config.listen
    metrics = _serve_metrics(listen.metrics, parts, stack)
    tiles = _serve_log(listen.log, parts.directory / LOG_DIRECTORY, stack)
    public, admin = _listener(parts, PUBLIC), _listener(parts, ADMIN)
    _add_common(public, parts, PUBLIC)
    _add_public(public, parts)
    _add_common(admin, parts, ADMIN)
    _add_admin(admin, parts)
    addresses = Addresses(
        public=_bind(public, listen.public, parts.credentials, key="listen.public"),
        admin=_bind(admin, listen.admin, parts.credentials, key="listen.admin"),
        metrics=metrics,
        log=tiles,
        console="" if console is None else f"{split_address(listen.console, key='listen.console')[0]}:{console.port}",
    )
    await public.start()
    await admin.start()
    if console is not None:
        await console.start()
    return public, admin, addresses


def _console(parts: Parts, stack: AsyncExitStack) -> ConsoleListener | None:
    """The console's listener, bound and not yet started; None where it is off."""
    if not parts.config.listen.console:
        return None
    from weir_server.console.open import make_desk, open_console  # a server without a console needs none of it

    host, port = split_address(parts.config.listen.console, key="listen.console")
    desk = make_desk(
        data_dir=parts.directory,
        domain=parts.domain,
        log_key=log_key(parts.directory),
        witness_key=parts.config.witness.key,
        state=parts.state,
        store=parts.store,
        settings=parts.config.console,
        admission=parts.admission,
        authentication=parts.authentication,
        healthy=parts.health.ready,
        now=parts.now,
    )
    console = open_console(desk, host=host, port=port)
    stack.callback(console.close)
    return console


def _listener(parts: Parts, name: str) -> Any:
    limits = parts.config.limits
    largest = limits.max_policy_bytes if name == ADMIN else limits.max_request_bytes
    waiting = max(_LEAST_WAITING, limits.max_in_flight // _WAITING)
    guard = Guard(
        listener=name,
        authentication=parts.authentication,
        limits=limits,
        admission=parts.admission,
        metrics=parts.metrics,
        now=parts.now,
        refuse=parts.pipeline.refuse_call,
        check_caller=parts.state.check_caller,
        strangers=parts.strangers,
    )
    return grpc.aio.server(
        interceptors=(guard,),
        maximum_concurrent_rpcs=limits.max_in_flight * _FUSE,
        options=(
            # Two servers on one port would be two ledgers behind one name, but where they share the ledger.
            ("grpc.so_reuseport", int(parts.share_ports)),
            ("grpc.max_receive_message_length", largest * _HEADROOM),
            ("grpc.max_concurrent_streams", limits.max_streams_per_connection),
            ("grpc.max_metadata_size", 16 * 1024),
            # Of each call, few wait to be looked at. gRPC ends the others by itself, at once and outside of Python: the
            # event loop, if it had to, would not get to the answers that it owes. Few, since whoever waits here and
            # then finds no seat has waited for a refusal.
            ("grpc.server.max_pending_requests", waiting),
            ("grpc.server.max_pending_requests_hard_limit", waiting),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ("grpc.http2.max_ping_strikes", 3),
        ),
    )


def _add_common(server: Any, parts: Parts, listener: str) -> None:
    catalogue = CatalogueService(parts.state, CatalogueOf(parts.domain.name, parts.config.listen.public))
    catalogue_service_pb2_grpc.add_CatalogueServiceServicer_to_server(catalogue, server)
    policy_service_pb2_grpc.add_ContractServiceServicer_to_server(ContractService(parts.state, parts.store), server)
    audit_service_pb2_grpc.add_AuditServiceServicer_to_server(AuditService(parts.store), server)
    case_service_pb2_grpc.add_CaseServiceServicer_to_server(CaseService(parts.state, parts.store), server)
    health = HealthService(parts.health, services=service_names(listener))
    health_pb2_grpc.add_HealthServicer_to_server(health, server)


def _add_public(server: Any, parts: Parts) -> None:
    plain = QueryService(
        parts.pipeline, parts.store, parts.receipts, parts.metrics, state=parts.state, sandbox=parts.sandbox
    )
    query_service_pb2_grpc.add_QueryServiceServicer_to_server(plain, server)
    quota_service_pb2_grpc.add_QuotaServiceServicer_to_server(QuotaService(parts.state, parts.store), server)
    add_party_handlers(PolicyService(parts.state), server)
    if parts.encrypted is not None:
        encrypted = EncryptedQueryService(
            parts.encrypted,
            parts.pipeline,
            parts.metrics,
            uploads=Uploads(parts.config.limits),
            max_weights=parts.config.limits.max_weights,
        )
        encrypted_service_pb2_grpc.add_EncryptedQueryServiceServicer_to_server(encrypted, server)


def _add_admin(server: Any, parts: Parts) -> None:
    policy_service_pb2_grpc.add_PolicyServiceServicer_to_server(PolicyService(parts.state), server)
    case_service_pb2_grpc.add_CaseAdminServiceServicer_to_server(CaseAdminService(parts.state), server)
    quotas = QuotaAdminService(parts.state, parts.store)
    quota_service_pb2_grpc.add_QuotaAdminServiceServicer_to_server(quotas, server)
    reflection.enable_server_reflection((*service_names(ADMIN), reflection.SERVICE_NAME), server)


def service_names(listener: str) -> list[str]:
    """Full names of Weir's services on a listener, and of the health service."""
    names = {rpc.split("/")[1] for rpc, access in ACCESS.items() if listener in access.listeners}
    health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    return sorted(name for name in names if name.startswith("weir.") or name == health)


def _bind(server: Any, address: str, credentials: grpc.ServerCredentials, *, key: str) -> str:
    host, _ = split_address(address, key=key)
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise Unavailable(f"the address {address} cannot be taken", field=key, rule="listen.address") from error
    return f"{host}:{port}"


def _serve_metrics(address: str, parts: Parts, stack: AsyncExitStack) -> str:
    if not address:
        return ""
    host, port = split_address(address, key="listen.metrics")
    try:
        server = ProbeServer(parts.metrics.registry, parts.health, host=host, port=port)
    except OSError as error:
        raise Unavailable(
            f"the address {address} cannot be taken", field="listen.metrics", rule="listen.address"
        ) from error
    stack.callback(server.close)
    return f"{host}:{server.port}"


def _serve_log(address: str, directory: Path, stack: AsyncExitStack) -> str:
    if not address:
        return ""
    host, port = split_address(address, key="listen.log")
    try:
        server = TileServer(directory, host=host, port=port)
    except OSError as error:
        sentence = f"the address {address} cannot be taken"
        raise Unavailable(sentence, field="listen.log", rule="listen.address") from error
    stack.callback(server.close)
    return f"{host}:{server.port}"


def _background(
    data_dir: Path, config: Config, parts: Parts, console: ConsoleListener | None
) -> list[Coroutine[Any, Any, None]]:
    """What runs beside the calls: it follows the books and answers nobody."""
    store = parts.store
    led: list[Callable[[], Coroutine[Any, Any, None]]] = [
        partial(sweep, store, parts.state, parts.now),
        partial(keep_exported, store, data_dir / LOG_DIRECTORY, vkey=log_key(data_dir)),
    ]
    if config.witness.url:
        post = http_post(config.witness.url)
        seconds = config.witness.interval_seconds
        led.append(partial(keep_cosigned, store, witness=config.witness.key, post=post, seconds=seconds))
    warm = keep_warm(parts.atoms, lambda: parts.state.world.catalogue)
    # Each machine has its own record of identities, and what stands in the log is written once.
    logged = keep_logged(store, data_dir, now=parts.now, entropy=os.urandom)
    work = [parts.health.keep_probed(), keep_signed(store), warm, logged, lead(store, "background", led)]
    if config.ledger.postgres:
        work.append(follow(store, parts.state, parts.revoked.learn, parts.now))
    if console is not None:
        # A task of its own: whoever leads the rest may have no console.
        work += [console.keep_certificates(), lead(store, "usage", [partial(keep_counted, store)])]
    return work


async def _first(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(item.wait()) for item in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        await end(task)


async def _drain(public: Any, admin: Any, console: ConsoleListener | None, parts: Parts) -> None:
    """Takes no new call, lets running ones finish, then gives back what is still held."""
    seconds = parts.config.shutdown.drain_seconds
    started = time.monotonic()
    if console is not None:
        await console.stop()
    await asyncio.gather(public.stop(seconds), admin.stop(seconds))
    await parts.pipeline.turns.drain(seconds=max(0.1, seconds - (time.monotonic() - started)))
    if not parts.store.stopped:
        # What is still running now can no longer post: its hold is resolved, and each resolves once.
        await once(partial(parts.store.write, partial(give_back_holds, now=parts.now)))
