# SPDX-License-Identifier: Apache-2.0
"""Settings of a server: a TOML file of a few documented keys, read strictly. docs/operate.md says the danger of each.

Every key has a safe default; an empty file, or none, is a complete configuration. Unknown keys are refused, since a
misspelt limit must not silently be no limit.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weir.errors import InvalidRequest
from weir_server.identity.holder import NAME

FILE_NAME = "weir.toml"
"""Read from the data directory where no other file is named."""
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
"""Signature algorithms that tokens may use. `none` and those of shared secrets (HS256, …) are none of them."""

_MOST_PROCESSES = 64
"""For big-integer work, of one server process."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the service is reached."""

    public: str = "127.0.0.1:7443"
    """Address and port for requesters, auditors and operators. Port 0 takes a free one."""
    admin: str = "127.0.0.1:7444"
    """Address and port for operators: policy, quotas, reflection."""
    metrics: str = "127.0.0.1:7445"
    """Address and port of Prometheus metrics over plain HTTP; empty for none."""
    console: str = "127.0.0.1:7446"
    """Address and port of the console over HTTPS; empty for none."""
    log: str = ""
    """Loopback address and port of the log as C2SP tlog-tiles over plain HTTP; empty for none."""


@dataclass(frozen=True, slots=True)
class Witness:
    """Who cosigns the log."""

    url: str = ""
    """Prefix of a tlog-witness (http or https); checkpoints go to URL/add-checkpoint. Empty for none."""
    key: str = ""
    """The witness's verifier key; a reply that does not verify under it is not stored."""
    interval_seconds: int = 10
    """How often the newest checkpoint is submitted, where it is new."""


@dataclass(frozen=True, slots=True)
class Oidc:
    """Bearer tokens of one issuer, beside certificates."""

    issuer: str = ""
    """`iss` of every token; empty where no tokens are taken."""
    audience: str = ""
    """Must be among a token's `aud`."""
    jwks_file: str = ""
    """The issuer's public keys (RFC 7517); read again when the file changes. Never fetched."""
    algorithms: tuple[str, ...] = ALGORITHMS
    """Signature algorithms taken; asymmetric ones only."""
    leeway_seconds: int = 30
    """How far the issuer's clock may be off."""
    max_age_seconds: int = 3600
    """Longest time from a token's `iat` to its `exp`, and to its use."""
    max_token_bytes: int = 8192
    """Longest token."""
    require_token: bool = False
    """Whether requesters need a token beside their certificate."""
    claim: str = "sub"
    """Claim that names the caller."""
    required: Mapping[str, str] = field(default_factory=dict)
    """Further claims and the value that each must have, or hold where it is a list."""
    requesters: Mapping[str, str] = field(default_factory=dict)
    """Values of `claim` and the requester that each stands for."""


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """Where the books are kept."""

    postgres: str = ""
    """Connection string of the PostgreSQL that keeps them, without password (use a password file or a service file);
    empty: an SQLite file in the data directory, for one server process."""
    schema: str = "weir"
    """Schema of that database; one domain a schema."""


@dataclass(frozen=True, slots=True)
class SparkSettings:
    """A Spark cluster that works where rows lie, for datasets whose source names one (`kind: spark`)."""

    remote: str = ""
    """Spark Connect, as `sc://host:port/;use_ssl=true`; empty for none. A token belongs in `token_file`."""
    token_file: str = ""
    """File with the bearer token of the cluster; read when a session opens."""
    directory: str = ""
    """Where bounded rows and the publisher's private records are kept: a directory that every executor reaches
    (`s3a://…`, `hdfs://…`, a shared mount). As secret as the source."""


@dataclass(frozen=True, slots=True)
class ClockSettings:
    """How far the system's clock is believed."""

    max_skew_seconds: int = 30
    """Between it and the time that passes, and between it and the clock of the ledger's database, 1 to 3600."""
    max_pause_hours: int = 24
    """For which the books may have been without a server, where the machine was restarted, 1 to 8784."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes on at once. Beyond it callers get OVERLOADED, which is never billed."""

    max_deadline_seconds: int = 600
    """Longest deadline a call may carry, 1 to 600."""
    max_request_bytes: int = 512 * 1024
    """Largest single request message."""
    max_policy_bytes: int = 4 * 1024 * 1024
    """Largest request message of the policy service."""
    max_upload_bytes: int = 64 * 1024 * 1024
    """Largest sum of the messages of one upload."""
    upload_memory_bytes: int = 512 * 1024 * 1024
    """Uploads in progress and in computation, over all requesters."""
    upload_memory_bytes_per_requester: int = 64 * 1024 * 1024
    """The same of one requester."""
    max_in_flight: int = 256
    """Calls in progress over all callers."""
    max_in_flight_per_requester: int = 128
    """Calls in progress of one caller."""
    max_streams_per_connection: int = 256
    """Calls in progress on one connection."""
    requests_per_second: int = 2000
    """Refill of each caller's token bucket."""
    burst: int = 4000
    """Size of each caller's token bucket."""
    max_weights: int = 100_000
    """Most weights of one encrypted query."""


@dataclass(frozen=True, slots=True)
class Encrypted:
    """Encrypted queries."""

    workers: int = -1
    """Processes for big-integer work of each server process; -1 shares the machine's cores out among them, 0 refuses
    encrypted queries."""
    spark_above: int = 100_000
    """Vectors of more ciphertexts than this go to the cluster of `spark.remote`, where there is one."""
    spark_partitions: int = 8
    """Partitions that the cluster works on for one chunk of a vector; two chunks are in work."""
    spark_seconds: int = 300
    """How long one vector may take there."""

    def processes(self, *, servers: int = 1) -> int:
        """Processes for big-integer work of one of `servers` server processes on this machine."""
        if self.workers >= 0:
            return self.workers
        return min(_MOST_PROCESSES, max(1, len(os.sched_getaffinity(0)) // servers))


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """Sign-ins of the console."""

    idle_minutes: int = 15
    """How long a sign-in lasts without anything being done, 1 to 240."""
    session_hours: int = 8
    """How long it lasts in all, 1 to 24."""
    confirm_minutes: int = 10
    """How long a proof of who one is counts for what decides, stops or changes, 1 to 60."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """How the server ends."""

    drain_seconds: int = 10
    """How long running calls may finish after SIGTERM."""


@dataclass(frozen=True, slots=True)
class Config:
    """All settings."""

    listen: Listen = field(default_factory=Listen)
    witness: Witness = field(default_factory=Witness)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    spark: SparkSettings = field(default_factory=SparkSettings)
    clock: ClockSettings = field(default_factory=ClockSettings)
    limits: Limits = field(default_factory=Limits)
    encrypted: Encrypted = field(default_factory=Encrypted)
    console: ConsoleSettings = field(default_factory=ConsoleSettings)
    shutdown: Shutdown = field(default_factory=Shutdown)
    oidc: Oidc = field(default_factory=Oidc)


SECTIONS: dict[str, type[Any]] = {
    "listen": Listen,
    "witness": Witness,
    "ledger": LedgerSettings,
    "spark": SparkSettings,
    "clock": ClockSettings,
    "limits": Limits,
    "encrypted": Encrypted,
    "console": ConsoleSettings,
    "shutdown": Shutdown,
    "oidc": Oidc,
}
_RANGES: dict[str, tuple[int, int]] = {
    "clock.max_skew_seconds": (1, 3600),
    "clock.max_pause_hours": (1, 8784),
    "limits.max_deadline_seconds": (1, 600),
    "encrypted.workers": (-1, _MOST_PROCESSES),
    "encrypted.spark_partitions": (1, 4096),
    "encrypted.spark_seconds": (1, 600),  # As long as a call may take; what is reserved for it holds a little longer.
    "limits.max_weights": (1, 2**22),
    "console.idle_minutes": (1, 240),
    "console.session_hours": (1, 24),
    "console.confirm_minutes": (1, 60),
    "shutdown.drain_seconds": (0, 600),
    "witness.interval_seconds": (1, 86_400),
    "oidc.leeway_seconds": (0, 300),
    "oidc.max_age_seconds": (1, 86_400),
    "oidc.max_token_bytes": (256, 12_288),
}
_DEFAULT_RANGE = (1, 2**31 - 1)


def load_config(path: Path | None, *, data_dir: Path) -> Config:
    """Settings of the named file, else of `weir.toml` in the data directory, else the defaults.

    Raises:
        InvalidRequest: unreadable, unknown key, wrong type or out of range; names the key.
    """
    chosen = data_dir / FILE_NAME if path is None else path
    if path is None and not chosen.exists():
        return Config()
    try:
        content = tomllib.loads(chosen.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRequest("the configuration is no readable TOML", field="config", rule="config.toml") from error
    return parse_config(content)


def parse_config(content: dict[str, Any]) -> Config:
    """Settings of a parsed TOML document.

    Raises:
        InvalidRequest: unknown key, wrong type or out of range; names the key.
    """
    sections: dict[str, Any] = {}
    for name, values in content.items():
        kind = SECTIONS.get(name)
        if kind is None or not isinstance(values, dict):
            raise _refused(name, "is no section of the configuration")
        sections[name] = _section(name, kind, values)
    config = Config(**sections)
    _check_oidc(config.oidc)
    _check_spark(config.spark)
    return config


def settings() -> list[tuple[str, object]]:
    """Every key as `section.key` with its default, for documentation and its test."""
    return [
        (f"{section}.{item.name}", _shown(getattr(kind(), item.name)))
        for section, kind in SECTIONS.items()
        for item in dataclasses.fields(kind)
    ]


def _shown(default: object) -> object:
    """A default as the document shows it: lists by their members, truth values as TOML writes them."""
    if isinstance(default, tuple | Mapping):
        return ", ".join(default)
    return str(default).lower() if isinstance(default, bool) else default


def _check_oidc(oidc: Oidc) -> None:
    """Refuses settings of tokens that are only half there, since half of them might let everybody in, or nobody."""
    for key in ("audience", "jwks_file", "requesters"):
        if bool(getattr(oidc, key)) != bool(oidc.issuer):
            raise _refused(f"oidc.{key}", "and oidc.issuer are set both or neither")
    if oidc.require_token and not oidc.issuer:
        raise _refused("oidc.require_token", "needs oidc.issuer")
    if not oidc.algorithms or not set(oidc.algorithms) <= set(ALGORITHMS):
        raise _refused("oidc.algorithms", f"are some of {', '.join(ALGORITHMS)}")
    if not oidc.claim:
        raise _refused("oidc.claim", "must name a claim")
    if not all(NAME.fullmatch(name) for name in oidc.requesters.values()):
        raise _refused("oidc.requesters", "must map to names of requesters")


def _check_spark(spark: SparkSettings) -> None:
    if bool(spark.remote) != bool(spark.directory):
        raise _refused("spark.directory", "and spark.remote are set both or neither")
    if spark.remote and not spark.remote.startswith("sc://"):
        raise _refused("spark.remote", "is sc://host:port")
    if "token=" in spark.remote:
        raise _refused("spark.remote", "must not hold a token: put it into a file, and that into spark.token_file")


def _section(section: str, kind: type[Any], values: dict[str, Any]) -> Any:
    defaults = kind()
    known = {item.name: getattr(defaults, item.name) for item in dataclasses.fields(kind)}
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for key, value in values.items():
        name = f"{section}.{key}"
        if key not in known:
            raise _refused(name, "is no key of the configuration")
        if type(value) is not type(known[key]):
            raise _refused(name, f"must be of the type of {known[key]!r}")
        low, high = _RANGES.get(name, _DEFAULT_RANGE)
        parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, tuple) else []
        if not all(isinstance(part, str) for part in parts):
            raise _refused(name, "must hold text only")
        if isinstance(value, int) and not isinstance(value, bool) and not low <= value <= high:
            raise _refused(name, f"must be {low} to {high}")
    return kind(**values)


def _refused(name: str, sentence: str) -> InvalidRequest:
    return InvalidRequest(f"{name[:100]} {sentence}", field=name[:100], rule="config.key")


def split_address(address: str, *, key: str) -> tuple[str, int]:
    """Host and port of `host:port`.

    Raises:
        InvalidRequest: it is none.
    """
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise InvalidRequest("an address is host:port", field=key, rule="listen.form")
    return host, int(port)
