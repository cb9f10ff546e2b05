# SPDX-License-Identifier: Apache-2.0
"""Regrading certificates among the policy's documents; what one is worth is said in `regrading`."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error
from datetime import UTC, timedelta

from weir.agreements import parse_signing_key
from weir.certificates import LEAST_LEVEL, REGRADED_FROM, REGRADED_TO, Certificate, certificate_json
from weir.errors import InvalidKey
from weir_server.policy.kinds import Kind
from weir_server.policy.reader import Reader

MOST_DAYS = 731
"""Longest validity: an assessment grows old as other data becomes public."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


def read_certificate(reader: Reader) -> Certificate | None:
    """A certificate as `weir certify` writes it."""
    reader.word("from", (REGRADED_FROM,), default=None)
    reader.word("to", (REGRADED_TO,), default=None)
    certificate = Certificate(
        id=reader.identifier("certificate"),
        dataset=reader.text("dataset"),
        report=reader.text("report"),
        level=reader.count("level"),
        issued_by=reader.text("issued_by"),
        valid_from=reader.instant("valid_from").astimezone(UTC),
        valid_until=reader.instant("valid_until").astimezone(UTC),
        public_key=_key(reader),
        signature=_signature(reader),
    )
    if not _DIGEST.fullmatch(certificate.report):
        reader.fault("report", "must be the SHA-256 of a report, 64 hexadecimal digits")
    if certificate.level not in (LEAST_LEVEL, LEAST_LEVEL + 1):
        reader.fault("level", f"must be {LEAST_LEVEL} or {LEAST_LEVEL + 1}")
    if not timedelta(0) < certificate.valid_until - certificate.valid_from <= timedelta(days=MOST_DAYS):
        reader.fault("valid_until", f"must be after valid_from, by at most {MOST_DAYS} days")
    return certificate if not reader.faults else None


def _key(reader: Reader) -> bytes:
    text = reader.text("public_key")
    try:
        return parse_signing_key(text)
    except InvalidKey:
        reader.fault("public_key", "must be an Ed25519 key: ed25519: and 32 bytes in base64")
        return b""


def _signature(reader: Reader) -> bytes:
    try:
        signature = b64decode(reader.text("signature"), validate=True)
    except (Error, ValueError):
        signature = b""
    if len(signature) != 64:
        reader.fault("signature", "must be 64 bytes in base64")
    return signature


def loosens(old: Certificate | None, new: Certificate | None) -> bool:
    """One that comes or changes can open a dataset; one that goes cannot."""
    return new is not None and old != new


CERTIFICATE = Kind(
    "certificate", read_certificate, lambda certificate: certificate.id, certificate_json, loosens
)  # fmt: skip
"""Certificates among the policy's documents."""
