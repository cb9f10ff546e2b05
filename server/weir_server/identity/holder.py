# SPDX-License-Identifier: Apache-2.0
"""Who calls: read from the client's certificate, which TLS has verified against the domain's own authority.

A certificate names its holder in exactly one SAN URI, `weir://<domain>/<role>/<name>`. The certificate's common name,
other SAN kinds and everything a request says about its sender are ignored. Validity is checked again on each call,
since a connection may outlive the certificate it was opened with.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from weir.errors import Unauthenticated
from weir_server.plan.values import Principal

REQUESTER = "requester"
PROVIDER = "provider"
OPERATOR = "operator"
APPROVER = "approver"
AUDITOR = "auditor"
ROLES = (REQUESTER, PROVIDER, OPERATOR, APPROVER, AUDITOR)
"""Roles that callers act in. Another one is a word here, a column in `services.access`, and nothing else."""
GATEWAY = "gateway"
"""Role of a connection that entitles to nothing: its calls are those of the requester that their token names."""
HOLDERS = (*ROLES, GATEWAY)
"""What a certificate may name."""
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
"""Form of a holder's name."""
DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
"""Form of a domain's name."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a verified certificate says."""

    principal: Principal
    """Its holder; of the role `gateway` only until a token says who calls."""
    not_before: datetime
    not_after: datetime
    serial: int
    thumbprint: str
    """`x5t#S256` of RFC 8705: SHA-256 of its DER form in unpadded base64url."""


def identity_uri(*, domain: str, role: str, name: str) -> str:
    """The SAN URI of an identity."""
    return f"weir://{domain}/{role}/{name}"


def valid_certificate(pem: bytes, *, domain: str, now: datetime) -> Certificate:
    """A certificate that TLS accepted, if it may be used now.

    Raises:
        Unauthenticated: it is no client certificate of this domain and a known role, or not valid now.
    """
    certificate = read_certificate(pem)
    if not certificate.not_before <= now < certificate.not_after:
        raise Unauthenticated("the certificate is not valid at this time", rule="certificate.validity")
    if certificate.principal.domain != domain:
        raise Unauthenticated("the certificate belongs to another domain", rule="certificate.domain")
    return certificate


@lru_cache(maxsize=4096)
def read_certificate(pem: bytes) -> Certificate:
    """Identity and validity of a certificate. Cached: a connection shows the same one on every call.

    Raises:
        Unauthenticated: malformed, not for client authentication, or without exactly one identity of a known role.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise Unauthenticated("the certificate names no identity", rule="certificate.form") from error
    if list(usage) != [ExtendedKeyUsageOID.CLIENT_AUTH]:
        raise Unauthenticated("the certificate is not one of a client", rule="certificate.usage")
    if len(uris) != 1:
        raise Unauthenticated("the certificate must name exactly one identity", rule="certificate.identity")
    digest = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()
    return Certificate(
        principal=_principal(uris[0]),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        serial=certificate.serial_number,
        thumbprint=base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
    )


def _principal(uri: str) -> Principal:
    scheme, _, rest = uri.partition("://")
    parts = rest.split("/")
    if scheme != "weir" or len(parts) != 3:
        raise Unauthenticated("the certificate's identity is malformed", rule="certificate.identity")
    domain, role, name = parts
    if role not in HOLDERS:
        raise Unauthenticated("the certificate names no known role", rule="certificate.role")
    if not DOMAIN.fullmatch(domain) or not NAME.fullmatch(name):
        raise Unauthenticated("the certificate's identity is malformed", rule="certificate.identity")
    return Principal(name=name, role=role, domain=domain)
