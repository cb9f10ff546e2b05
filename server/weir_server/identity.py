# SPDX-License-Identifier: Apache-2.0
"""Who calls: read from the client's certificate, which TLS has verified against the domain's own authority.

A certificate names its holder in exactly one SAN URI, `weir://<domain>/<role>/<name>`. The certificate's common name,
other SAN kinds and everything a request says about its sender are ignored. Validity is checked again on each call,
since a connection may outlive the certificate it was opened with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography import x509
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
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
"""Form of a holder's name."""
DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
"""Form of a domain's name."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a verified certificate says."""

    principal: Principal
    not_before: datetime
    not_after: datetime


def identity_uri(*, domain: str, role: str, name: str) -> str:
    """The SAN URI of an identity."""
    return f"weir://{domain}/{role}/{name}"


def principal_of(pem: bytes, *, domain: str, now: datetime) -> Principal:
    """Holder of a certificate that TLS accepted.

    Raises:
        Unauthenticated: it is no client certificate of this domain and a known role, or not valid now.
    """
    certificate = read_certificate(pem)
    if not certificate.not_before <= now < certificate.not_after:
        raise Unauthenticated("the certificate is not valid at this time", rule="certificate.validity")
    if certificate.principal.domain != domain:
        raise Unauthenticated("the certificate belongs to another domain", rule="certificate.domain")
    return certificate.principal


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
    return Certificate(_principal(uris[0]), certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def _principal(uri: str) -> Principal:
    scheme, _, rest = uri.partition("://")
    parts = rest.split("/")
    if scheme != "weir" or len(parts) != 3:
        raise Unauthenticated("the certificate's identity is malformed", rule="certificate.identity")
    domain, role, name = parts
    if role not in ROLES:
        raise Unauthenticated("the certificate names no known role", rule="certificate.role")
    if not DOMAIN.fullmatch(domain) or not NAME.fullmatch(name):
        raise Unauthenticated("the certificate's identity is malformed", rule="certificate.identity")
    return Principal(name=name, role=role, domain=domain)
