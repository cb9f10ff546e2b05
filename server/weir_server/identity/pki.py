# SPDX-License-Identifier: Apache-2.0
"""The domain's own certificate authority and secrets: made once by `weir init`, used by `weir identity` and the server.

    DATA/domain.json                   public: name of the domain, verifier key of its log
    DATA/secrets/                      0700; every file below 0600
        ca.key ca.crt                  authority: signs the server's and every client's certificate
        server.key server.crt          what the listeners show
        log.key                        signs checkpoints, a key a line; whoever holds it can fork the log
        publication.salt               32 bytes; ranks and atoms' ties are drawn with it, per dataset

Certificates are short-lived (`identities` issues and renews them), and can be taken back (`revocation`). Keys are EC
P-256 (certificates), Ed25519 and ML-DSA-44 (log), from the operating system's generator.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from weir.checkpoint import ED25519, MLDSA44, Signer, new_signer, parse_skey
from weir.errors import InvalidRequest, Unavailable
from weir_server.identity.certificates import (
    authority,
    certificate_pem,
    client_certificate,
    host_name,
    key_pem,
    server_certificate,
)
from weir_server.identity.holder import DOMAIN, HOLDERS, NAME, identity_uri

SECRETS = "secrets"
DOMAIN_FILE = "domain.json"
NEEDED = ("ca.crt", "server.crt", "server.key", "log.key", "publication.salt")
"""What a server reads of the secrets; `ca.key` may lie where identities are issued."""
SERVER_NAME = "localhost"
"""DNS name that is always in the server's certificate; clients check for it whatever address they dial."""
SERVER_DAYS = 90
DEFAULT_DAYS = 30
MAX_DAYS = 825


@dataclass(frozen=True, slots=True, repr=False)
class Domain:
    """What a server needs of its domain. No text form: it holds keys."""

    name: str
    ca_certificate: bytes
    server_certificate: bytes
    server_key: bytes
    log_signers: tuple[Signer, ...]
    """Keys that sign checkpoints, all of one name: the log's origin."""
    salt: bytes
    """32 bytes."""


def init_domain(data_dir: Path, *, domain: str, hosts: Sequence[str], now: datetime, days: int = SERVER_DAYS) -> None:
    """Makes the authority, the server's certificate, the log's key and the publication salt.

    `hosts`: further DNS names and IP addresses that the server is reached under. `days`: validity of the server's
    certificate, 1 to 825.

    Raises:
        InvalidRequest: a name is malformed, days out of range, or the directory holds a domain already (it is never
            overwritten: a new log key under old data would look like a forged log). Nothing is made then.
    """
    validity = validity_of(days=days)
    names = _names([SERVER_NAME, "127.0.0.1", *hosts])
    if not DOMAIN.fullmatch(domain):
        raise InvalidRequest(
            "a domain is small letters, digits, dots and hyphens, at most 63", field="domain", rule="domain.form"
        )
    secrets = data_dir / SECRETS
    if (data_dir / DOMAIN_FILE).exists():
        raise InvalidRequest("the directory already holds a domain", field="data", rule="domain.exists")
    if secrets.exists():
        raise InvalidRequest(
            "the directory already holds secrets of a domain, but no domain.json: put that back; only where no server "
            "ever ran on it, remove secrets/ and begin anew",
            field="data",
            rule="domain.exists",
        )
    secrets.mkdir(parents=True, mode=0o700)
    secrets.chmod(0o700)
    signers = [new_signer(f"weir/{domain}", seed=os.urandom(32), kind=kind) for kind in (ED25519, MLDSA44)]
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = authority(ca_key, domain=domain, now=now)
    server_key = ec.generate_private_key(ec.SECP256R1())
    server = server_certificate(server_key.public_key(), names=names, ca=ca, ca_key=ca_key, now=now, validity=validity)
    _write_secret(secrets / "ca.key", key_pem(ca_key))
    _write_secret(secrets / "ca.crt", certificate_pem(ca))
    _write_secret(secrets / "server.key", key_pem(server_key))
    _write_secret(secrets / "server.crt", certificate_pem(server))
    _write_secret(secrets / "log.key", "".join(f"{signer.skey}\n" for signer in signers).encode())
    _write_secret(secrets / "publication.salt", os.urandom(32))
    # Last: a directory with this file is a whole domain.
    content = {"weir_domain": 1, "domain": domain, "log_key": " ".join(signer.verifier.vkey for signer in signers)}
    (data_dir / DOMAIN_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def renew_server(data_dir: Path, *, now: datetime, days: int = SERVER_DAYS, hosts: Sequence[str] = ()) -> None:
    """A new key and certificate for the listeners, of the same names and those of `hosts`. A running server shows them
    from its next handshake on; what is open stays open.

    Raises:
        Unavailable: the directory holds no whole domain.
        InvalidRequest: days out of range, or a name is malformed.
    """
    validity, further = validity_of(days=days), _names(hosts)
    names = list(x509.load_pem_x509_certificate(load_domain(data_dir).server_certificate)
                 .extensions.get_extension_for_class(x509.SubjectAlternativeName).value)  # fmt: skip
    names += [name for name in further if name not in names]
    with authority_locked(data_dir) as (ca, ca_key):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = server_certificate(
            key.public_key(), names=names, ca=ca, ca_key=ca_key, now=now, validity=validity
        )
        # One after the other: in between they are no pair, and the server goes on with the old one.
        for name, content in (("server.key", key_pem(key)), ("server.crt", certificate_pem(certificate))):
            path = data_dir / SECRETS / name
            path.with_suffix(".new").unlink(missing_ok=True)
            _write_secret(path.with_suffix(".new"), content)
            path.with_suffix(".new").replace(path)


def validity_of(*, days: int, hours: int | None = None) -> timedelta:
    """How long a certificate lasts: `hours` where they are given, else `days`.

    Raises:
        InvalidRequest: less than an hour, or more than 825 days.
    """
    validity = timedelta(days=days) if hours is None else timedelta(hours=hours)
    if not timedelta(hours=1) <= validity <= timedelta(days=MAX_DAYS):
        raise InvalidRequest(
            f"a certificate lasts an hour to {MAX_DAYS} days",
            field="days" if hours is None else "hours",
            rule="identity.days",
        )
    return validity


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    return [host_name(host) for host in dict.fromkeys(hosts)]


def load_domain(data_dir: Path) -> Domain:
    """Everything a server needs, read from the data directory.

    Raises:
        Unavailable: the directory holds no whole domain, or a secret is readable by others. The text names the file.
    """
    check_permissions(data_dir)
    name, read = domain_name(data_dir), {file: _secret(data_dir, file) for file in NEEDED}
    try:
        signers = tuple(parse_skey(line) for line in read["log.key"].decode("ascii").splitlines() if line.strip())
    except ValueError as error:
        raise _lacking("log.key", "holds no key") from error
    if not signers:
        raise _lacking("log.key", "holds no key")
    return Domain(
        name=name,
        ca_certificate=read["ca.crt"],
        server_certificate=read["server.crt"],
        server_key=read["server.key"],
        log_signers=signers,
        salt=read["publication.salt"],
    )


def _secret(data_dir: Path, name: str) -> bytes:
    try:
        return (data_dir / SECRETS / name).read_bytes()
    except OSError as error:
        raise _lacking(name, "cannot be read" if (data_dir / SECRETS / name).exists() else "is missing") from error


def _lacking(name: str, what: str) -> Unavailable:
    """Never advises `weir init`: another log key under these books would look like a forged log."""
    return Unavailable(
        f"secrets/{name} of the domain {what}: put it back from where its secrets are kept",
        rule="domain.incomplete",
        field=name or None,
    )


def domain_name(data_dir: Path) -> str:
    """Name of the domain that a data directory belongs to.

    Raises:
        Unavailable: the directory holds no domain.
    """
    return _public(data_dir)["domain"]


def log_key(data_dir: Path) -> str:
    """Verifier keys of the domain's log, separated by a space, as auditors and requesters keep them; each signs every
    checkpoint.

    Raises:
        Unavailable: the directory holds no domain.
    """
    return _public(data_dir)["log_key"]


def check_permissions(data_dir: Path) -> None:
    """Refuses secrets that other users of the machine could read.

    Raises:
        Unavailable: names the first file at fault.
    """
    secrets = data_dir / SECRETS
    if not secrets.is_dir():
        if (data_dir / DOMAIN_FILE).exists():
            raise _lacking("", "is missing")
        raise Unavailable("the data directory holds no domain: run weir init", rule="domain.missing")
    for path in (secrets, *sorted(secrets.iterdir())):
        if path.stat().st_mode & 0o077:
            raise Unavailable(
                f"{path.name} is open to other users: chmod go-rwx", rule="secrets.permissions", field=path.name
            )


def issue_identity(
    data_dir: Path,
    *,
    role: str,
    name: str,
    now: datetime,
    days: int = DEFAULT_DAYS,
    hours: int | None = None,
    address: str = "",
) -> dict[str, object]:
    """A new key pair and certificate for a holder, as the JSON of an identity file.

    The private key exists in the returned value only. `days`: validity, 1 to 825; `hours` in its place, at least 1.

    Raises:
        InvalidRequest: unknown role, malformed name, or validity out of range.
        Unavailable: the directory holds no domain.
    """
    if role not in HOLDERS:
        raise InvalidRequest(f"a role is one of {', '.join(HOLDERS)}", field="role", rule="identity.role")
    if not NAME.fullmatch(name):
        raise InvalidRequest(
            "a name is small letters, digits and hyphens, at most 63", field="name", rule="identity.name"
        )
    validity = validity_of(days=days, hours=hours)
    domain = domain_name(data_dir)
    ca, ca_key = _load_authority(data_dir)
    key = ec.generate_private_key(ec.SECP256R1())
    uri = identity_uri(domain=domain, role=role, name=name)
    certificate = client_certificate(key.public_key(), uris=[uri], ca=ca, ca_key=ca_key, now=now, validity=validity)
    return {
        "weir_identity": 1,
        "name": name,
        "role": role,
        "domain": domain,
        "certificate": certificate_pem(certificate).decode(),
        "private_key": key_pem(key).decode(),
        "ca": (data_dir / SECRETS / "ca.crt").read_text("ascii"),
        "server_name": SERVER_NAME,
        "log_key": log_key(data_dir),
        "address": address,
    }


@contextmanager
def authority_locked(data_dir: Path) -> Iterator[tuple[x509.Certificate, ec.EllipticCurvePrivateKey]]:
    """The authority, while no other process uses it to change a file of the domain.

    Raises:
        Unavailable: the directory holds no authority.
    """
    ca, key = _load_authority(data_dir)
    with (data_dir / SECRETS / "ca.key").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield ca, key


def _load_authority(data_dir: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The authority that `ca.key` belongs to; `ca.crt` may hold another one beside it while one takes over."""
    secrets = data_dir / SECRETS
    try:
        authorities = x509.load_pem_x509_certificates((secrets / "ca.crt").read_bytes())
        key = serialization.load_pem_private_key((secrets / "ca.key").read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise Unavailable("the domain's authority cannot be read", rule="domain.authority") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Unavailable("the domain's authority has a key of another kind", rule="domain.authority")
    own = [item for item in authorities if item.public_key() == key.public_key()]
    if not own:
        raise Unavailable("the domain's authority and its key are no pair", rule="domain.authority")
    return own[0], key


def _public(data_dir: Path) -> dict[str, str]:
    try:
        content = json.loads((data_dir / DOMAIN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if (data_dir / DOMAIN_FILE).exists() or (data_dir / SECRETS).exists():
            raise Unavailable(
                "domain.json is missing or damaged: put it back from a backup of the domain",
                rule="domain.incomplete",
                field=DOMAIN_FILE,
            ) from error
        raise Unavailable("the data directory holds no domain: run weir init", rule="domain.missing") from error
    if not isinstance(content, dict) or content.get("weir_domain") != 1:
        raise Unavailable("domain.json is of another version", rule="domain.version")
    return {key: str(value) for key, value in content.items()}


def _write_secret(path: Path, content: bytes) -> None:
    # Created closed: chmod after writing would leave a moment in which others can read.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
