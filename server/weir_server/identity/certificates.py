# SPDX-License-Identifier: Apache-2.0
"""X.509 certificates of a domain, as values: its authority, its server, its clients. Keys are EC P-256.

Source: RFC 5280; the critical extensions are those that it demands.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from weir.errors import InvalidRequest

CA_DAYS = 3650
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
_LONGEST_NAME = 253
_SKEW = timedelta(minutes=5)
"""Certificates begin this much early, since clocks of two machines differ."""


def client_certificate(
    public_key: ec.EllipticCurvePublicKey,
    *,
    uris: Sequence[str],
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    validity: timedelta,
) -> x509.Certificate:
    """A certificate for client authentication only, that names its holder by URI."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    return _leaf(
        public_key, names=names, usage=ExtendedKeyUsageOID.CLIENT_AUTH, ca=ca, ca_key=ca_key, now=now, validity=validity
    )


def authority(key: ec.EllipticCurvePrivateKey, *, domain: str, now: datetime) -> x509.Certificate:
    """A certificate that signs others, and revocation lists; itself signed by its own key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Weir authority of {domain}"[:64])])
    usage = _key_usage(signs_certificates=True)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def server_certificate(
    public_key: ec.EllipticCurvePublicKey,
    *,
    names: Sequence[x509.GeneralName],
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    validity: timedelta,
) -> x509.Certificate:
    """A certificate for server authentication only, under these names."""
    usage = ExtendedKeyUsageOID.SERVER_AUTH
    return _leaf(public_key, names=names, usage=usage, ca=ca, ca_key=ca_key, now=now, validity=validity)


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority signed the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def host_name(host: str) -> x509.GeneralName:
    """Name of a server in its certificate.

    Raises:
        InvalidRequest: neither an address nor a DNS name.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass  # Not an address: a DNS name. Its constructor takes any text of ASCII, which no client would ever match.
    if len(host) > _LONGEST_NAME or not _DNS_NAME.fullmatch(host):
        raise InvalidRequest(
            f"a host is a DNS name or an IP address, and {host[:100]!r} is neither", field="hosts", rule="domain.host"
        )
    return x509.DNSName(host)


def _leaf(
    public_key: ec.EllipticCurvePublicKey,
    *,
    names: Sequence[x509.GeneralName],
    usage: x509.ObjectIdentifier,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    validity: timedelta,
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ca.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        # Critical, as RFC 5280 §4.2.1.6 asks where the subject is empty.
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Text form of a private key, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Text form of a certificate."""
    return certificate.public_bytes(serialization.Encoding.PEM)
