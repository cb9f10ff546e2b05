# SPDX-License-Identifier: Apache-2.0
"""`weir doctor`: what a server needs of its machine, checked one by one; each finding says what to do."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from weir.errors import InternalError, WeirError
from weir_server import clock
from weir_server.books import DIRECTORY, last_seen, present
from weir_server.catalog.remote_rows import FILE as ROWS_FILE
from weir_server.catalog.remote_rows import read_rows
from weir_server.cluster import configured_cluster
from weir_server.config import load_config, split_address
from weir_server.engine.spark import SparkEngine, open_spark
from weir_server.health import pulse
from weir_server.health.latch import skewed
from weir_server.identity import pki
from weir_server.identity.identities import issued
from weir_server.identity.oidc import open_tokens
from weir_server.identity.revocation import watch_revoked
from weir_server.identity.rotation import read_shown
from weir_server.log.serve import demand_loopback
from weir_server.store.sqlite import LOCK_NAME

_EXTRAS = ("duckdb", "grpc_health", "grpc_reflection", "jwt", "opendp", "prometheus_client", "yaml")
_PYTHON = (3, 11)
_WARN_DAYS = 30
_WARN_AUTHORITY_DAYS = 180
_SOON = timedelta(days=3)
_FREE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    passed: bool
    detail: str
    """What was found; where it failed, what to do."""


def diagnose(data_dir: Path, *, rows: bool = False) -> list[Check]:
    """Every check, in order; none changes anything. `rows`: also what a cluster keeps, all of it."""
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("python", _python),
        ("extras", _extras),
        ("permissions", lambda: _permissions(data_dir)),
        ("certificates", lambda: _certificates(data_dir)),
        ("identities", lambda: _identities(data_dir)),
        ("clock", lambda: _clock(data_dir)),
        ("disk", lambda: _disk(data_dir)),
        ("lock", lambda: _lock(data_dir)),
        ("configuration", lambda: _configuration(data_dir)),
        ("tokens", lambda: _tokens(data_dir)),
        ("ports", lambda: _ports(data_dir)),
        ("cluster", lambda: _cluster(data_dir, rows=rows)),
    )
    return [_run(name, check) for name, check in checks]


def _run(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, passed=True, detail=check())
    except WeirError as error:
        return Check(name, passed=False, detail=error.message)
    except _Failed as error:
        return Check(name, passed=False, detail=str(error))


class _Failed(Exception):
    """A check that failed; its text is for the operator."""


def _python() -> str:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < _PYTHON:
        raise _Failed(f"Python {version}; 3.11 or newer is needed")
    return version


def _extras() -> str:
    missing = [name for name in _EXTRAS if importlib.util.find_spec(name) is None]
    if missing:
        raise _Failed(f"missing {', '.join(missing)}: pip install 'dataweir[server]'")
    return "server extra is complete"


def _permissions(data_dir: Path) -> str:
    pki.check_permissions(data_dir)
    return "secrets are closed to other users"


def _certificates(data_dir: Path) -> str:
    domain, now = pki.load_domain(data_dir), clock.now()
    shown = read_shown(data_dir, now=now)
    days = (shown.not_after - now).days
    if days < _WARN_DAYS:
        raise _Failed(f"the server's certificate ends in {days} days: weir init DATA --renew, also while it runs")
    authority = max(item.not_valid_after_utc for item in x509.load_pem_x509_certificates(shown.authorities))
    left = (authority - now).days
    if left < _WARN_AUTHORITY_DAYS:
        raise _Failed(
            f"the domain's authority ends in {left} days, and every identity with it: put a new one beside it"
        )
    return f"domain {domain.name}; server certificate valid {days} more days"


def _identities(data_dir: Path) -> str:
    """What ends soon is no failure, since certificates are meant to; that nobody renewed it is worth a line."""
    now, revoked = clock.now(), watch_revoked(data_dir).get()
    ends: dict[str, datetime] = {}
    for serial, act in issued(data_dir).items():
        if serial not in revoked:
            holder, until = f"{act.role}/{act.name}", datetime.fromisoformat(act.until)
            ends[holder] = max(until, ends.get(holder, until))
    good = {holder: until for holder, until in ends.items() if until > now}
    soon = sorted(holder for holder, until in good.items() if until - now < _SOON)
    named = f"; these end within {_SOON.days} days: {', '.join(soon[:20])}" if soon else ""
    return f"{len(good)} holders on record, {len(revoked)} certificates revoked{named}"


def _tokens(data_dir: Path) -> str:
    terms = load_config(None, data_dir=data_dir).oidc
    if open_tokens(terms, data_dir=data_dir) is None:
        return "no tokens are taken"
    return f"tokens of {terms.issuer} for {len(terms.requesters)} requesters"


def _clock(data_dir: Path) -> str:
    """What a start would say of the time; beside a server that runs, what the next one would."""
    config = load_config(None, data_dir=data_dir)
    keeper = clock.Timekeeper(bound=timedelta(seconds=config.clock.max_skew_seconds))
    last, engine = last_seen(data_dir, settings=config.ledger)
    pause = timedelta(hours=config.clock.max_pause_hours)
    found = pulse.judge(last, present(keeper), bound=keeper.bound, pause=pause)
    found = found or skewed(keeper(), engine, bound=keeper.bound)
    if found is not None:
        raise _Failed(found.message)
    alive = "" if last is None else f"; the books were last alive at {last.at.isoformat(timespec='seconds')}"
    return f"{keeper().isoformat(timespec='seconds')}{alive}"


def _disk(data_dir: Path) -> str:
    if not data_dir.is_dir():
        raise _Failed("there is no such directory")
    status = os.statvfs(data_dir)
    free = status.f_bavail * status.f_frsize
    if free < _FREE_BYTES:
        raise _Failed(f"{free // 2**20} MiB are free: the ledger stops when the disk is full")
    return f"{free // 2**20} MiB free"


def _lock(data_dir: Path) -> str:
    path = data_dir / DIRECTORY / LOCK_NAME
    if not path.exists():
        return "no ledger yet; the first start makes it"
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return "a process owns the ledger"
    return "no process owns the ledger"


def _configuration(data_dir: Path) -> str:
    listen = load_config(None, data_dir=data_dir).listen
    if listen.log:
        demand_loopback(split_address(listen.log, key="listen.log")[0])
    return "complete"


def _cluster(data_dir: Path, *, rows: bool) -> str:
    kept = sorted((data_dir / "snapshots").glob(f"[!.]*/[!.]*/{ROWS_FILE}"))
    cluster = configured_cluster(load_config(None, data_dir=data_dir).spark, data_dir=data_dir)
    if kept and cluster is None:
        raise _Failed(f"{len(kept)} snapshots have their rows on a Spark cluster: name it in spark.remote")
    if cluster is None:
        return "none is named, and no snapshot needs one"
    engine = open_spark(cluster)
    try:
        altered = [
            path.parent for path in kept if rows and not _holds_rows(engine, path, pki.load_domain(data_dir).salt)
        ]
    finally:
        engine.close()
    if altered:
        listed = ", ".join(f"{path.parent.name} version {path.name}" for path in altered)
        raise _Failed(f"rows on the cluster are not those that were published: {listed}; publish them again")
    return f"reached; {len(kept)} snapshots have their rows there{', as they were published' if kept and rows else ''}"


def _holds_rows(engine: SparkEngine, path: Path, salt: bytes) -> bool:
    from weir_server.publish.bounded import fingerprint_of_rows, rank_key

    dataset, version = path.parent.parent.name, int(path.parent.name)
    named = read_rows(path.parent, (ROWS_FILE,))
    if named is None:
        return False
    try:
        engine.open("kept_rows", named.location)
    except InternalError:  # not there any more
        return False
    key = rank_key(salt, dataset=dataset, version=version)
    return fingerprint_of_rows(engine, "kept_rows", key=key) == named.fingerprint


def _ports(data_dir: Path) -> str:
    listen = load_config(None, data_dir=data_dir).listen
    taken = [address for key, address in asdict(listen).items() if address and _taken(address, key)]
    # Taken by our own server is as it should be; the lock above tells which case it is.
    return f"in use: {', '.join(taken)}" if taken else "free"


def _taken(address: str, key: str) -> bool:
    host, port = split_address(address, key=f"listen.{key}")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host.strip("[]"), port)) == 0
