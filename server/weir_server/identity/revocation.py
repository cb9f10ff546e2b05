# SPDX-License-Identifier: Apache-2.0
"""Certificates taken back: an X.509 revocation list that the domain's authority signs, in the data directory.

`DATA/revoked.crl` is public and can be made where `ca.key` is kept and carried to where the server runs. A running
server reads it again when it changes and asks it on every call, so that open connections end with the next call.

Source: RFC 5280 §5.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from weir.errors import Unavailable
from weir_server.identity import pki
from weir_server.identity.watched import Watched

FILE_NAME = "revoked.crl"
_LARGEST = 16 * 1024 * 1024


def watch_revoked(data_dir: Path, *, known: frozenset[int] = frozenset()) -> Watched[frozenset[int]]:
    """Serial numbers on the list, now and later. `known`: others that are revoked, by what the log says.

    Raises:
        Unavailable: the list cannot be trusted.
    """
    return Watched([data_dir / FILE_NAME], _Reader(data_dir, known))


class _Reader:
    """Reads the list. What was revoked once stays so: neither an older list nor none at all brings it back."""

    def __init__(self, data_dir: Path, known: frozenset[int]) -> None:
        self._data_dir, self._revoked, self._existed = data_dir, known, False

    def __call__(self) -> frozenset[int]:
        if self._existed or (self._data_dir / FILE_NAME).exists():
            self._revoked |= read_revoked(self._data_dir).keys()
            self._existed = True
        return self._revoked


class Revoked:
    """Serial numbers that are revoked now: by the list of this machine, and by what the log says of other machines'."""

    def __init__(self, listed: Watched[frozenset[int]]) -> None:
        self._listed = listed
        self._logged: frozenset[int] = frozenset()
        self._joined = (listed.get(), self._logged, listed.get())

    def __call__(self) -> frozenset[int]:
        """All of them; joined anew only where one of the two has changed, since every call asks."""
        listed, logged = self._listed.get(), self._logged
        if self._joined[0] is not listed or self._joined[1] is not logged:
            self._joined = listed, logged, listed | logged
        return self._joined[2]

    def learn(self, logged: frozenset[int]) -> None:
        """Add what the log calls revoked; nothing ever goes."""
        if not logged <= self._logged:
            self._logged |= logged


def read_revoked(data_dir: Path) -> dict[int, datetime]:
    """Serial numbers on the list, with when each was taken back.

    Raises:
        Unavailable: unreadable, malformed, or not signed by an authority of the domain.
    """
    try:
        with (data_dir / FILE_NAME).open("rb") as file:
            listed = x509.load_pem_x509_crl(file.read(_LARGEST))
        authorities = x509.load_pem_x509_certificates((data_dir / pki.SECRETS / "ca.crt").read_bytes())
    except (OSError, ValueError) as error:
        raise Unavailable("the list of revoked certificates cannot be read", rule="revocation.form") from error
    if not any(_signed(listed, authority) for authority in authorities):
        raise Unavailable("the list of revoked certificates is not the authority's", rule="revocation.signature")
    return {entry.serial_number: entry.revocation_date_utc for entry in listed}


def revoke(data_dir: Path, serials: Iterable[int], *, now: datetime) -> list[int]:
    """Puts serial numbers on the list, for good; gives those that were not on it. Needs the authority's key.

    Raises:
        Unavailable: the directory holds no authority, or a list that cannot be trusted.
    """
    with pki.authority_locked(data_dir) as (ca, ca_key):
        known = read_revoked(data_dir) if (data_dir / FILE_NAME).exists() else {}
        added = [serial for serial in dict.fromkeys(serials) if serial not in known]
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(ca.subject)
            .last_update(now)
            # The form wants a date; the list is local, so that a stale one only means that nothing was revoked since.
            .next_update(max(ca.not_valid_after_utc, now + timedelta(days=1)))
        )
        for serial, at in {**known, **dict.fromkeys(added, now)}.items():
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at).build()
            )
        signed = builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        _replace(data_dir / FILE_NAME, signed)
    return added


def sign_anew(data_dir: Path, *, now: datetime) -> None:
    """Signs the list, where there is one, with the authority's key of now: a new authority takes it over so.

    Raises:
        Unavailable: the directory holds no authority, or a list that cannot be trusted.
    """
    if (data_dir / FILE_NAME).exists():
        revoke(data_dir, (), now=now)


def _signed(listed: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    key = authority.public_key()
    return listed.issuer == authority.subject and listed.is_signature_valid(key)  # type: ignore[arg-type]


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(path.name + ".part")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
