# SPDX-License-Identifier: Apache-2.0
"""What `weir publish` does around the publisher: which version comes next, and making it answerable.

The snapshot is always built here, inside the domain, with the caller's own access to the source. A server that runs is
asked over its admin listener, by an operator's certificate; without one the books are opened and locked directly.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificates
from google.rpc import status_pb2

from weir.errors import InvalidRequest, PermissionDenied, Unavailable, UnknownName
from weir.v1 import (
    catalogue_service_pb2,
    catalogue_service_pb2_grpc,
    policy_service_pb2,
    policy_service_pb2_grpc,
    quota_service_pb2,
    quota_service_pb2_grpc,
)
from weir.wire import error_from_status
from weir_server import clock
from weir_server.books import open_books, read_books
from weir_server.catalog.card import DatasetCard
from weir_server.catalog.card_file import load_card
from weir_server.catalog.snapshot import Snapshot, open_snapshot
from weir_server.clock import Timekeeper
from weir_server.cluster import configured_cluster
from weir_server.config import load_config
from weir_server.health.latch import Latch
from weir_server.identity.holder import OPERATOR
from weir_server.identity.pki import Domain, load_domain
from weir_server.plan.values import Principal
from weir_server.policy.unproven import require_settled
from weir_server.publish.files import (
    draft_directory,
    nobody_activates,
    private_directory,
    publishing_alone,
    snapshot_directory,
)
from weir_server.publish.leftovers import note_all_of
from weir_server.publish.publisher import Published, publish
from weir_server.services.guard import STATUS_TRAILER
from weir_server.state import State

Progress = Callable[[str], None]
_TIMEOUT = 120.0


async def publish_locally(
    card_path: Path, *, data_dir: Path, source: Path | None, register: Path | None = None, accept_shrink: bool = False,
    progress: Progress,
) -> tuple[Published, int]:  # fmt: skip
    """Builds and activates without a server; the snapshot and the log index of its publication.

    Raises:
        LedgerLocked: a server runs on the data directory: publish through it.
        PublicationError: card, data or succession is refused.
    """
    card, domain = load_card(card_path), load_domain(data_dir)
    config = load_config(None, data_dir=data_dir)
    with publishing_alone(_snapshots(card, data_dir)):
        latch = Latch(Timekeeper(bound=timedelta(seconds=config.clock.max_skew_seconds)))
        store = open_books(data_dir, domain, settings=config.ledger, time=config.clock, latch=latch)
        try:
            store.read(lambda tx: require_settled(tx, card.name))
            state = State(store, data_dir, clock=latch.keeper, entropy=os.urandom)
            with nobody_activates(_snapshots(card, data_dir)):
                await state.catch_up()  # Books in PostgreSQL may have servers that activated until just now.
                snapshots = state.world.catalogue.datasets.get(card.name, ())
                previous = snapshots[0] if snapshots else None
                _clear_leftover(card, previous, data_dir=data_dir, progress=progress)
            files = _Files(card_path, source, register, accept_shrink)
            published = _build(card, files, domain, previous, data_dir=data_dir, progress=progress)
            principal = Principal(name="local-operator", role=OPERATOR, domain=domain.name)
            response = await state.activate_snapshot(principal, _activation(card, published))
            return published, response.leaf_index
        finally:
            store.close()


def publish_to_server(
    card_path: Path, *, data_dir: Path, source: Path | None, register: Path | None = None, server: str,
    identity_file: Path, accept_shrink: bool = False, progress: Progress,
) -> tuple[Published, int]:  # fmt: skip
    """Builds here and asks the running server to activate; the snapshot and the log index of its publication.

    Raises:
        PublicationError: card, data or succession is refused.
        InvalidRequest: the identity is of another domain than the data directory.
        AccessError: the identity is not an operator's.
        Unavailable: the server does not answer.
    """
    card, domain = load_card(card_path), load_domain(data_dir)
    identity = _identity(identity_file, domain)
    snapshots, settings = _snapshots(card, data_dir), load_config(None, data_dir=data_dir).ledger
    if not settings.postgres:  # A restore makes embedded books. Asked before what lies here is taken for leftovers.
        with read_books(data_dir, settings=settings) as tx:
            require_settled(tx, card.name)
    with publishing_alone(snapshots), _channel(server, identity) as channel:
        _ask_admin(channel, server)
        # Whatever the server is activating, for a publisher that may be gone, must not become the newest in between.
        with nobody_activates(snapshots):
            previous = _newest(channel, card.name, data_dir)
            _clear_leftover(card, previous, data_dir=data_dir, progress=progress)
        files = _Files(card_path, source, register, accept_shrink)
        published = _build(card, files, domain, previous, data_dir=data_dir, progress=progress)
        stub = policy_service_pb2_grpc.PolicyServiceStub(channel)
        response = _called(stub.ActivateSnapshot, _activation(card, published))
        return published, response.leaf_index


@dataclass(frozen=True, slots=True)
class _Files:
    """What a publication reads; None where the card says it."""

    card: Path
    source: Path | None
    register: Path | None
    accept_shrink: bool
    """Whether they are whole although most of the units are gone."""


def _next(previous: Snapshot | None) -> int:
    return 1 if previous is None else previous.version + 1


def _clear_leftover(card: DatasetCard, previous: Snapshot | None, *, data_dir: Path, progress: Progress) -> None:
    """Removes what was sealed for the next version by a publication whose activation failed: no query path has ever
    opened it. Renamed first to what the publication removes anyway, so that it goes whole."""
    version = _next(previous)
    leftover = snapshot_directory(data_dir, card.name, version)
    if leftover.exists():
        progress(f"removing version {version}, which was built before and never activated")
        note_all_of(leftover, private_directory(data_dir, card.name))
        draft = draft_directory(leftover.parent, str(version))
        shutil.rmtree(draft, ignore_errors=True)
        leftover.rename(draft)


def _build(
    card: DatasetCard, files: _Files, domain: Domain, previous: Snapshot | None, *, data_dir: Path, progress: Progress
) -> Published:
    return publish(
        card,
        card_directory=files.card.parent,
        data_dir=data_dir,
        version=_next(previous),
        previous=previous,
        now=clock.now(),
        salt=domain.salt,
        source_override=files.source,
        register_override=files.register,
        accept_shrink=files.accept_shrink,
        cluster=configured_cluster(load_config(None, data_dir=data_dir).spark, data_dir=data_dir),
        progress=progress,
    )


def _snapshots(card: DatasetCard, data_dir: Path) -> Path:
    return snapshot_directory(data_dir, card.name, 1).parent


def _activation(card: DatasetCard, published: Published) -> policy_service_pb2.ActivateSnapshotRequest:
    return policy_service_pb2.ActivateSnapshotRequest(
        dataset=card.name,
        snapshot=published.version,
        manifest_digest=published.manifest_digest,
        idempotency_key=secrets.token_hex(16),
    )


def _newest(channel: grpc.Channel, dataset: str, data_dir: Path) -> Snapshot | None:
    stub = catalogue_service_pb2_grpc.CatalogueServiceStub(channel)
    try:
        response = _called(stub.GetDataset, catalogue_service_pb2.GetDatasetRequest(dataset=dataset))
    except UnknownName:
        return None
    newest = response.dataset.snapshots[0]
    directory = snapshot_directory(data_dir, dataset, newest.version)
    return open_snapshot(directory, expected_digest=newest.manifest_digest)


@contextmanager
def _channel(server: str, identity: dict[str, str]) -> Iterator[grpc.Channel]:
    credentials = grpc.ssl_channel_credentials(
        root_certificates=identity["ca"].encode(),
        private_key=identity["private_key"].encode(),
        certificate_chain=identity["certificate"].encode(),
    )
    options = (("grpc.ssl_target_name_override", identity["server_name"]),)
    with grpc.secure_channel(server, credentials, options=options) as channel:
        yield channel


def _identity(path: Path, domain: Domain) -> dict[str, str]:
    """The file's content. Another domain's server knows other versions, and would have those of this one removed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRequest("not an identity file", field="identity", rule="identity.form") from error
    wanted = ("ca", "private_key", "certificate", "server_name")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), str) for key in wanted):
        raise InvalidRequest("not an identity file", field="identity", rule="identity.form")
    if not _authorities(content["ca"].encode()) & _authorities(domain.ca_certificate):
        raise InvalidRequest(
            "the identity is of another domain than the data directory", field="identity", rule="identity.domain"
        )
    return {key: content[key] for key in wanted}


def _authorities(bundle: bytes) -> set[bytes]:
    """Fingerprints; while the authority changes there are two."""
    try:
        return {found.fingerprint(SHA256()) for found in load_pem_x509_certificates(bundle)}
    except ValueError:
        raise InvalidRequest("not an identity file", field="identity", rule="identity.form") from None


def _ask_admin(channel: grpc.Channel, server: str) -> None:
    """Ask what operators alone may, on the admin listener alone, before a source is read for an hour in vain.

    Raises:
        PermissionDenied: another role, or the server's public address.
        Unavailable: nobody answers there.
    """
    stub = quota_service_pb2_grpc.QuotaAdminServiceStub(channel)
    try:
        _called(stub.ListQuotas, quota_service_pb2.ListQuotasRequest(page_size=1))
    except PermissionDenied as error:
        raise PermissionDenied(
            f"{error.message} at {server}: publishing takes the admin address and an operator's identity",
            rule=error.rule,
        ) from None
    except Unavailable as error:
        if error.rule != "transport":
            raise
        raise Unavailable(
            f"nothing on {server} answers operators: is it the server's admin address?", rule="transport"
        ) from None


def _called(method: Callable[..., Any], request: Any) -> Any:
    try:
        return method(request, timeout=_TIMEOUT)
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        if STATUS_TRAILER in trailers:
            raise error_from_status(status_pb2.Status.FromString(trailers[STATUS_TRAILER])) from None
        raise Unavailable("the server does not answer on its admin address", rule="transport") from None
