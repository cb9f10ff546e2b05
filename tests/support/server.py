# SPDX-License-Identifier: Apache-2.0
"""A real server process on loopback, in a data directory of its own, with identities; for every end-to-end test.

with running_server(tmp_path) as server:
    alice = server.identity("requester", "alice")          # path of an identity file
    channel = server.channel(alice)                        # plain gRPC, for tests below the SDK
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import grpc

from weir_server.identity import pki

START_SECONDS = 180.0
"""A server that cannot start ends, and is noticed at once; one that is slow has a busy machine."""
LOOPBACK = "127.0.0.1:0"
"""A free port of loopback."""


@dataclass
class RunningServer:
    """A server process and its data directory."""

    data_dir: Path
    process: subprocess.Popen[bytes]
    public: str
    admin: str
    metrics: str
    console: str
    log_file: Path
    """Everything the process wrote to standard error: its JSON log."""
    _channels: list[grpc.Channel] = field(default_factory=list)

    def identity(self, role: str, name: str) -> Path:
        """Path of the identity file of a holder; issued at the first call. Its address is the public listener."""
        path = self.data_dir.parent / f"{name}.{role}.weir"
        if not path.exists():
            write_identity(path, self.data_dir, role=role, name=name, address=self.public)
        return path

    def channel(self, identity: Path, *, admin: bool = False) -> grpc.Channel:
        """An open channel with an identity; closed with the server."""
        channel = open_channel(self.admin if admin else self.public, identity)
        self._channels.append(channel)
        return channel

    def log_lines(self) -> list[dict[str, object]]:
        """The operator log, parsed; without a line that is just being written."""
        whole = self.log_file.read_text(encoding="utf-8").rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def stop(self, *, number: int = signal.SIGTERM, seconds: float = 30.0) -> int:
        """Ends the process; its exit code."""
        for channel in self._channels:
            channel.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=seconds)


def make_domain(tmp_path: Path, *, domain: str = "test.weir", now: datetime | None = None) -> Path:
    """A fresh data directory; its certificates are valid from `now` on."""
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700, parents=True)
    pki.init_domain(data_dir, domain=domain, hosts=(), now=now or datetime.now(UTC))
    return data_dir


def write_identity(
    path: Path,
    data_dir: Path,
    *,
    role: str,
    name: str,
    address: str = "",
    now: datetime | None = None,
    days: int = 1,
) -> Path:
    """An identity file, as `weir identity` writes it."""
    moment = datetime.now(UTC) if now is None else now
    issued = pki.issue_identity(data_dir, role=role, name=name, now=moment, days=days, address=address)
    path.touch(mode=0o600)
    path.write_text(json.dumps(issued), encoding="utf-8")
    return path


def open_channel(address: str, identity: Path, *, local: bool = False) -> grpc.Channel:
    """A channel that shows the identity's certificate. `local`: with a connection of its own."""
    content = json.loads(identity.read_text(encoding="utf-8"))
    credentials = grpc.ssl_channel_credentials(
        root_certificates=content["ca"].encode(),
        private_key=content["private_key"].encode(),
        certificate_chain=content["certificate"].encode(),
    )
    options = (
        ("grpc.ssl_target_name_override", content["server_name"]),
        ("grpc.use_local_subchannel_pool", int(local)),
    )
    return grpc.secure_channel(address, credentials, options=options)


def start_server(data_dir: Path, *, settings: str = "", workers: int = 1, public: str = LOOPBACK) -> RunningServer:
    """Starts a server and waits until it serves. `settings`: TOML of its configuration; `public`: its public address,
    for one that comes back where it was."""
    ready, log_file, config = (data_dir.parent / name for name in ("ready.json", "server.log", "server.toml"))
    ready.unlink(missing_ok=True)
    config.write_text(settings, encoding="utf-8")
    with log_file.open("ab") as errors:
        process = subprocess.Popen(
            [*serve_command(data_dir, ready=ready, config=config, public=public), "--workers", str(workers)],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
    try:
        content = _wait_for(ready, process, log_file)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return RunningServer(
        data_dir=data_dir,
        process=process,
        public=content["public"],
        admin=content["admin"],
        metrics=content["metrics"],
        console=content["console"],
        log_file=log_file,
    )


def serve_command(data_dir: Path, *, ready: Path, config: Path, public: str = LOOPBACK) -> list[str]:
    """Command line of a server on free loopback ports."""
    return [
        sys.executable, "-m", "weir_server", "serve", "--data", str(data_dir), "--listen", public, "--admin", LOOPBACK,
        "--metrics", LOOPBACK, "--console", LOOPBACK, "--ready-file", str(ready), "--config", str(config),
    ]  # fmt: skip


@contextmanager
def running_server(tmp_path: Path, *, settings: str = "") -> Iterator[RunningServer]:
    """A server in a fresh domain; ended on leaving."""
    server = start_server(make_domain(tmp_path), settings=settings)
    try:
        yield server
    finally:
        server.stop()


def _wait_for(ready: Path, process: subprocess.Popen[bytes], log_file: Path) -> dict[str, str]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if ready.exists():
            content: dict[str, str] = json.loads(ready.read_text(encoding="utf-8"))
            return content
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}: {log_file.read_text()[-2000:]}")
        time.sleep(0.02)
    raise RuntimeError("the server did not start in time")
