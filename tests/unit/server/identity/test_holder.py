# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from weir.errors import Unauthenticated
from weir_server.identity.holder import valid_certificate
from weir_server.plan.values import Principal

NOW = datetime(2026, 11, 22, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())


def _pem(
    uris: Sequence[str] = ("weir://test.weir/requester/alice",),
    *,
    usage: Sequence[x509.ObjectIdentifier] | None = (ExtendedKeyUsageOID.CLIENT_AUTH,),
    common_name: str = "root",
    days: int = 1,
    dns: str | None = None,
) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    if dns is not None:
        names.append(x509.DNSName(dns))
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=days))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=True)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_certificate_names_its_holder_by_uri() -> None:
    found = valid_certificate(_pem(), domain="test.weir", now=NOW)
    assert found.principal == Principal("alice", "requester", "test.weir")


def test_the_common_name_means_nothing() -> None:
    certificate = valid_certificate(_pem(common_name="weir://test.weir/operator/eve"), domain="test.weir", now=NOW)
    assert certificate.principal.role == "requester"


@pytest.mark.parametrize(
    ("pem", "rule"),
    [
        pytest.param(_pem(["weir://test.weir/root/alice"]), "certificate.role", id="unknown role"),
        pytest.param(_pem(["weir://test.weir//alice"]), "certificate.role", id="no role"),
        pytest.param(_pem(["weir://other.weir/requester/alice"]), "certificate.domain", id="foreign domain"),
        pytest.param(
            _pem(["weir://test.weir/requester/alice", "weir://test.weir/operator/alice"]),
            "certificate.identity",
            id="two identities",
        ),
        pytest.param(_pem(["https://test.weir/requester/alice"]), "certificate.identity", id="another scheme"),
        pytest.param(_pem(["weir://test.weir/requester/alice/x"]), "certificate.identity", id="a longer path"),
        pytest.param(_pem(["weir://test.weir/requester/Alice"]), "certificate.identity", id="a malformed name"),
        pytest.param(_pem(["weir://test.weir/requester/"]), "certificate.identity", id="an empty name"),
        pytest.param(_pem([], dns="alice"), "certificate.identity", id="a DNS name only"),
        pytest.param(_pem([]), "certificate.form", id="no alternative name"),
        pytest.param(_pem(usage=None), "certificate.form", id="no extended usage"),
        pytest.param(_pem(usage=[ExtendedKeyUsageOID.SERVER_AUTH]), "certificate.usage", id="a server's certificate"),
        pytest.param(
            _pem(usage=[ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
            "certificate.usage",
            id="for both sides",
        ),
        pytest.param(b"no certificate", "certificate.form", id="no certificate at all"),
    ],
)
def test_any_other_certificate_is_unauthenticated(pem: bytes, rule: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        valid_certificate(pem, domain="test.weir", now=NOW)
    assert caught.value.rule == rule


@pytest.mark.parametrize("offset", [timedelta(seconds=-1), timedelta(days=1)], ids=["early", "expired"])
def test_validity_is_checked_on_each_call_and_not_only_when_connecting(offset: timedelta) -> None:
    pem = _pem(days=1)
    valid_certificate(pem, domain="test.weir", now=NOW)
    with pytest.raises(Unauthenticated) as caught:
        valid_certificate(pem, domain="test.weir", now=NOW + offset)
    assert caught.value.rule == "certificate.validity"
