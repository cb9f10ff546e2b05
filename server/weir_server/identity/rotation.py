# SPDX-License-Identifier: Apache-2.0
"""What the listeners show: certificate, key and authorities of the data directory, looked at anew for each handshake.

Connections that are open keep the certificate they were opened with; each new one gets the newest. Nothing needs a
restart, and half a renewal is never shown, since key and certificate are checked against each other first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from weir.errors import Unavailable
from weir_server.identity.certificates import issued_by
from weir_server.identity.pki import SECRETS
from weir_server.identity.watched import Watched

_FILES = ("server.key", "server.crt", "ca.crt")


@dataclass(frozen=True, slots=True, repr=False)
class Shown:
    """Key, certificate and authorities that belong together. No text form: it holds a key."""

    key: bytes
    certificate: bytes
    authorities: bytes
    """PEM; several while one authority takes over from another."""
    not_after: datetime
    """When the certificate ends."""


def watch_certificates(data_dir: Path, *, now: Callable[[], datetime]) -> Watched[Shown]:
    """What the data directory says should be shown, now and later.

    Raises:
        Unavailable: key, certificate and authority do not belong together, or are not valid now.
    """
    secrets = data_dir / SECRETS
    return Watched([secrets / name for name in _FILES], lambda: read_shown(data_dir, now=now()))


def read_shown(data_dir: Path, *, now: datetime) -> Shown:
    """Key, certificate and authorities of the listeners.

    Raises:
        Unavailable: unreadable, key and certificate are no pair, none of the authorities signed it, or not valid now.
    """
    key, certificate, authorities = (_read(data_dir / SECRETS / name) for name in _FILES)
    try:
        leaf = x509.load_pem_x509_certificate(certificate)
        signers = x509.load_pem_x509_certificates(authorities)
        private = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise _refused("the listeners' key or certificate is malformed") from error
    if _public(private.public_key()) != _public(leaf.public_key()):
        raise _refused("the listeners' key and certificate are no pair")
    if not any(issued_by(leaf, signer) for signer in signers):
        raise _refused("the listeners' certificate is of another authority")
    if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
        raise _refused("the listeners' certificate is not valid now: weir init --renew")
    return Shown(key=key, certificate=certificate, authorities=authorities, not_after=leaf.not_valid_after_utc)


def live_credentials(shown: Watched[Shown]) -> grpc.ServerCredentials:
    """Credentials of a listener that demands client certificates.

    MUST be kept for as long as the listener runs: gRPC's asyncio server holds no reference, and calls back into it.
    """

    def configuration() -> grpc.ServerCertificateConfiguration:
        # Called for each handshake from a thread of gRPC; it must not raise, and Watched does not.
        newest = shown.get()
        return grpc.ssl_server_certificate_configuration(
            [(newest.key, newest.certificate)], root_certificates=newest.authorities
        )

    return grpc.dynamic_ssl_server_credentials(configuration(), configuration, require_client_authentication=True)


def _public(key: object) -> bytes:
    encode = getattr(key, "public_bytes", None)
    if encode is None:
        raise _refused("the listeners' key is of a kind that is not known")
    found: bytes = encode(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _refused(f"{path.name} cannot be read") from error


def _refused(sentence: str) -> Unavailable:
    return Unavailable(sentence, rule="domain.certificates")
