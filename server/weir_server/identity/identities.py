# SPDX-License-Identifier: Apache-2.0
"""Identities over their life: issued, renewed, revoked, and a record of all that.

    DATA/identities.jsonl              one act a line: what was issued to whom until when, what was taken back and why

The record holds no secret. `weir identity revoke ROLE/NAME` finds serial numbers in it, and a server puts its lines
into the log (`leaves`): the acts themselves need `ca.key`, which the server never reads.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from weir.errors import InvalidRequest, Unauthenticated, Unavailable, UnknownName
from weir_server.identity import pki, revocation
from weir_server.identity.certificates import issued_by
from weir_server.identity.holder import HOLDERS, read_certificate

FILE_NAME = "identities.jsonl"
_SERIAL = re.compile(r"[0-9a-fA-F]{1,40}")
_SERIALS_END = 1 << 159
"""Source: RFC 5280 §4.1.2.2: positive, at most 20 octets with the sign."""
ISSUED = "issued"
REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Act:
    """A line of the record."""

    act: str
    """`issued` or `revoked`."""
    serial: str
    """Serial number of the certificate, hexadecimal."""
    role: str
    """Empty where a serial number was revoked that the record does not know."""
    name: str
    at: str
    """RFC 3339, UTC."""
    until: str = ""
    """Issued: end of the certificate."""
    reason: str = ""
    """Revoked: as stated."""
    by: str = ""
    """Who did it, as the operating system knows that person; they hold the authority's key."""


def issue(
    data_dir: Path,
    *,
    role: str,
    name: str,
    now: datetime,
    days: int,
    hours: int | None = None,
    address: str = "",
    by: str = "",
) -> dict[str, object]:
    """As `pki.issue_identity`, recorded before it is handed out.

    Raises:
        InvalidRequest, Unavailable: as there, or the record cannot be written.
    """
    issued = pki.issue_identity(data_dir, role=role, name=name, now=now, days=days, hours=hours, address=address)
    certificate = read_certificate(str(issued["certificate"]).encode())
    _append(
        data_dir,
        [
            Act(
                act=ISSUED,
                serial=f"{certificate.serial:x}",
                role=role,
                name=name,
                at=now.isoformat(),
                until=certificate.not_after.isoformat(),
                by=by,
            )
        ],
    )
    return issued


def renew(
    data_dir: Path, identity: dict[str, Any], *, now: datetime, days: int, hours: int | None = None, by: str = ""
) -> dict[str, object]:
    """A new key and certificate for the holder of an identity file that is still good.

    Who it is comes from the certificate and not from the file around it, which anybody can edit.

    Raises:
        InvalidRequest: no identity of this domain, expired, or revoked: such a one is issued anew, by decision.
        Unavailable: as `pki.issue_identity`.
    """
    try:
        pem = str(identity["certificate"]).encode()
        certificate = read_certificate(pem)
        _demand_own(data_dir, pem)
    except (KeyError, TypeError, ValueError, Unauthenticated) as error:
        raise InvalidRequest(
            "the file is no identity of this domain", field="identity", rule="identity.form"
        ) from error
    if not certificate.not_before <= now < certificate.not_after:
        raise InvalidRequest("the identity has ended: issue a new one", field="identity", rule="identity.ended")
    if certificate.serial in revocation.watch_revoked(data_dir).get():
        raise InvalidRequest("the identity was revoked", field="identity", rule="identity.revoked")
    holder = certificate.principal
    return issue(
        data_dir,
        role=holder.role,
        name=holder.name,
        now=now,
        days=days,
        hours=hours,
        address=str(identity.get("address") or ""),
        by=by,
    )


def revoke(data_dir: Path, target: str, *, reason: str, now: datetime, by: str = "") -> list[Act]:
    """Takes certificates back: `role/name` for all of a holder that have not ended, or one serial number.

    Gives what was taken back now; certificates that were revoked before are left as they are.

    Raises:
        InvalidRequest: neither form, or no reason of 1 to 500 printable characters.
        UnknownName: the record knows no certificate of that holder that is still good.
        Unavailable: the directory holds no authority.
    """
    if not 1 <= len(reason) <= 500 or not reason.isprintable():
        raise InvalidRequest("a reason has 1 to 500 printable characters", field="reason", rule="reason.form")
    known = issued(data_dir)
    wanted = _serials(known, target, now=now)
    # The list first: a certificate must be dead before anybody reads that it is.
    added = revocation.revoke(data_dir, wanted, now=now)
    acts = []
    for serial in added:
        of = known.get(serial)
        acts.append(
            Act(
                act=REVOKED,
                serial=f"{serial:x}",
                role="" if of is None else of.role,
                name="" if of is None else of.name,
                at=now.isoformat(),
                reason=reason,
                by=by,
            )
        )
    _append(data_dir, acts)
    return acts


def issued(data_dir: Path) -> dict[int, Act]:
    """Every certificate on the record, by serial number, in the order of issuing.

    Raises:
        Unavailable: the record is damaged.
    """
    return {int(act.serial, 16): act for act in read_acts(data_dir) if act.act == ISSUED}


def read_acts(data_dir: Path) -> list[Act]:
    """The record, oldest first; empty where there is none.

    Raises:
        Unavailable: a line is malformed, and it is not the torn end of a write that never finished.
    """
    try:
        text = (data_dir / FILE_NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise Unavailable("the record of identities cannot be read", rule="identities.form") from error
    lines, torn = text.split("\n"), not text.endswith("\n")
    return [_act(line, number) for number, line in enumerate(lines[:-1] if torn else lines, 1) if line]


def _act(line: str, number: int) -> Act:
    try:
        found = Act(**json.loads(line))
        int(found.serial, 16)
    except (ValueError, TypeError) as error:
        raise Unavailable(f"line {number} of the record of identities is damaged", rule="identities.form") from error
    return found


def _serials(known: dict[int, Act], target: str, *, now: datetime) -> list[int]:
    role, slash, name = target.partition("/")
    if slash and role in HOLDERS:
        held = [
            serial
            for serial, act in known.items()
            if (act.role, act.name) == (role, name) and datetime.fromisoformat(act.until) > now
        ]
        if not held:
            raise UnknownName(f"no certificate of {role} {name[:63]} is on record", rule="identity.unknown")
        return held
    serial = int(target, 16) if _SERIAL.fullmatch(target) else 0
    if not 0 < serial < _SERIALS_END:
        raise InvalidRequest(
            "state ROLE/NAME, or the serial number of a certificate in hexadecimal",
            field="target",
            rule="identity.target",
        )
    return [serial]


def _demand_own(data_dir: Path, pem: bytes) -> None:
    """Raises ValueError where no authority of the domain signed the certificate."""
    certificate = x509.load_pem_x509_certificate(pem)
    authorities = x509.load_pem_x509_certificates((data_dir / pki.SECRETS / "ca.crt").read_bytes())
    if not any(issued_by(certificate, authority) for authority in authorities):
        raise ValueError("another issuer")


def _append(data_dir: Path, acts: list[Act]) -> None:
    """Adds lines, durably; the torn end of a write that never finished goes first."""
    try:
        descriptor = os.open(data_dir / FILE_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.seek(0, os.SEEK_END)
            file.write("".join(json.dumps(asdict(act)) + "\n" for act in acts).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise Unavailable("the record of identities cannot be written", rule="identities.write") from error
