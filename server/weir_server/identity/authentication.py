# SPDX-License-Identifier: Apache-2.0
"""Who a call is from: the certificate of its connection first, then, where there is one, the token of the call.

certificate of       token           caller
requester            none            the requester, unless `oidc.require_token` is set
requester            maps to it      the requester
gateway              maps to one     that requester; a gateway by itself may do nothing
another role         none            its holder
anything else                        Unauthenticated
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography import x509

from weir.errors import Unauthenticated
from weir_server.identity.certificates import issued_by
from weir_server.identity.holder import GATEWAY, REQUESTER, Certificate, valid_certificate
from weir_server.identity.oidc import Tokens
from weir_server.plan.values import Principal

HEADER = "authorization"
"""Metadata key of a token, as `Bearer TOKEN`."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """What callers are held against."""

    domain: str
    revoked: Callable[[], frozenset[int]]
    """Serial numbers of certificates that were taken back, as of now."""
    tokens: Tokens | None = None
    """None where the service takes no tokens."""
    require_token: bool = False
    """Whether a requester's certificate alone is not enough."""
    authorities: Callable[[], bytes] | None = None
    """PEM of the authorities that count now; None where TLS has seen to it. A connection may outlive the authority that
    it was opened under."""

    def caller(self, pem: bytes, headers: Sequence[str | bytes], *, now: datetime) -> Principal:
        """Caller of a call over a connection of that certificate, with these values of the authorization metadata.

        Raises:
            Unauthenticated: certificate or token are refused, or do not fit each other.
        """
        certificate = valid_certificate(pem, domain=self.domain, now=now)
        if certificate.serial in self.revoked():
            raise Unauthenticated("the certificate was revoked", rule="certificate.revoked")
        if self.authorities is not None and not _is_signed(pem, self.authorities()):
            raise Unauthenticated("the certificate's authority counts no more", rule="certificate.authority")
        return self._principal(certificate, headers, now=now)

    def _principal(self, certificate: Certificate, headers: Sequence[str | bytes], *, now: datetime) -> Principal:
        holder = certificate.principal
        if not headers:
            if holder.role == GATEWAY or (self.require_token and holder.role == REQUESTER):
                raise Unauthenticated("the call needs a token beside the certificate", rule="token.missing")
            return holder
        text = _bearer(headers)
        # A token that nobody checks must not look as if it had been: it is refused, not passed over.
        if self.tokens is None:
            raise Unauthenticated("this service takes no tokens", rule="token.unsupported")
        if holder.role not in {GATEWAY, REQUESTER}:
            raise Unauthenticated("a token stands for a requester, and the certificate does not", rule="token.role")
        name = self.tokens.requester(text, thumbprint=certificate.thumbprint, now=now)
        if holder.role == REQUESTER and holder.name != name:
            raise Unauthenticated("token and certificate stand for two requesters", rule="token.other")
        return Principal(name=name, role=REQUESTER, domain=holder.domain)


@lru_cache(maxsize=4096)
def _is_signed(pem: bytes, authorities: bytes) -> bool:
    """Whether one of the authorities signed the certificate. Cached: a connection shows the same one on every call."""
    certificate = x509.load_pem_x509_certificate(pem)
    return any(issued_by(certificate, authority) for authority in x509.load_pem_x509_certificates(authorities))


def _bearer(headers: Sequence[str | bytes]) -> str:
    """The token. Two headers are refused: a proxy and this service could take a different one each."""
    header = headers[0]
    if len(headers) != 1 or not isinstance(header, str):
        raise Unauthenticated("a call shows one token", rule="token.repeated")
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "bearer" or not text or "," in text or " " in text:
        raise Unauthenticated("a token comes as Bearer TOKEN", rule="token.scheme")
    return text
