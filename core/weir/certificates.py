# SPDX-License-Identifier: Apache-2.0
"""Certificates that regrade a derived dataset: Ed25519 over `weir-certificate-v1`, a zero byte, and the terms.

A provider's party signs that a dataset, although made from graded sources, is GENERAL, on the strength of one
assessment report and until one day. Pure: the party signs with it, the service refuses by it, and an outsider checks
the document with nothing else.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from weir.agreements import check_signing_key, format_signing_key, public_key_of
from weir.canonical import NotCanonical, canonical_json, digest, parse_canonical
from weir.errors import InvalidKey, InvalidRequest

REPORT_FORMAT = "weir.assessment/1"
"""Format of the reports that a certificate can rest on."""
LEAST_LEVEL = 3
"""Least level of the report, after GB/T 42460-2023."""
REGRADED_FROM, REGRADED_TO = "IMPORTANT", "GENERAL"
"""The one step there is: CORE is a red line."""
_PREFIX = b"weir-certificate-v1\0"
"""A signature under it can be shown as nothing else that the key may sign."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a report says that a certificate repeats."""

    dataset: str
    level: int
    digest: str
    """SHA-256 of the report, hex."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """That a dataset is regraded, by whom, on which report, from when until when."""

    id: str
    dataset: str
    report: str
    """SHA-256 of the assessment report, hex."""
    level: int
    """Level that the report states."""
    issued_by: str
    """Name of the party, a provider."""
    valid_from: datetime
    """Aware."""
    valid_until: datetime
    """First instant after validity; aware."""
    public_key: bytes
    """Ed25519, 32 bytes."""
    signature: bytes = b""
    """64 bytes; empty before it is signed."""

    def holds_at(self, now: datetime) -> bool:
        """Whether it is in force."""
        return self.valid_from <= now < self.valid_until


def read_claim(report: bytes) -> Claim:
    """What a report of `weir assess` says of itself.

    Raises:
        InvalidRequest: it is no such report, or its level carries no certificate.
    """
    try:
        content = parse_canonical(report)
        if not isinstance(content, dict) or content["format"] != REPORT_FORMAT:
            raise KeyError("format")
        claim = Claim(str(content["dataset"]), int(content["level"]), digest(report))
    except (NotCanonical, KeyError, TypeError, ValueError) as error:
        raise InvalidRequest("not a report of weir assess", field="report", rule="certificate.report") from error
    if claim.level < LEAST_LEVEL:
        raise InvalidRequest(
            f"the report states level {claim.level}; a certificate needs {LEAST_LEVEL}", field="report",
            rule="certificate.level",
        )  # fmt: skip
    return claim


def certificate_terms(certificate: Certificate) -> dict[str, object]:
    """JSON form of what is signed."""
    return {
        "certificate": certificate.id,
        "dataset": certificate.dataset,
        "from": REGRADED_FROM,
        "to": REGRADED_TO,
        "report": certificate.report,
        "level": certificate.level,
        "issued_by": certificate.issued_by,
        "valid_from": certificate.valid_from.isoformat(),
        "valid_until": certificate.valid_until.isoformat(),
        "public_key": format_signing_key(certificate.public_key),
    }


def certificate_json(certificate: Certificate) -> dict[str, object]:
    """JSON form with the signature: what a policy document states."""
    return {**certificate_terms(certificate), "signature": b64encode(certificate.signature).decode()}


def sign_certificate(certificate: Certificate, *, seed: bytes) -> Certificate:
    """The certificate, signed. `seed`: the private key, 32 bytes; its public key is written in."""
    named = replace(certificate, public_key=public_key_of(seed))
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(_PREFIX + canonical_json(certificate_terms(named)))
    return replace(named, signature=signature)


def is_certified(certificate: Certificate) -> bool:
    """Whether the signature is that of its key on these very terms. Whose key it is, the party documents say."""
    try:
        check_signing_key(certificate.public_key)
        key = Ed25519PublicKey.from_public_bytes(certificate.public_key)
        key.verify(certificate.signature, _PREFIX + canonical_json(certificate_terms(certificate)))
    except (InvalidKey, InvalidSignature):
        return False
    return True
