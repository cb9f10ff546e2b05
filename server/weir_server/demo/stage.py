# SPDX-License-Identifier: Apache-2.0
"""The stage of the demo: a directory, a server process, and actors run one after the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weir.errors import Unavailable

START_SECONDS = 120.0
STEP_SECONDS = 120.0


@dataclass(slots=True)
class Stage:
    """Where the play happens. Owns the server process."""

    directory: Path
    """Holds `domain/` (data directory), `people/` (identities, signing keys), `policy/` and `receipts/`."""
    server: subprocess.Popen[bytes] | None = None
    addresses: dict[str, str] = field(default_factory=dict)
    """`public` and `admin`, host:port, once the server runs."""

    @property
    def data_dir(self) -> Path:
        """Data directory of the domain."""
        return self.directory / "domain"

    def identity(self, name: str) -> Path:
        """Identity file of an actor."""
        return self.directory / "people" / f"{name}.weir"

    def signing_key(self, name: str) -> Path:
        """File of the key with which an actor signs contracts."""
        return self.directory / "people" / f"{name}.sign"

    @property
    def policy(self) -> Path:
        """The operator's policy files."""
        return self.directory / "policy"

    def start_server(self, *options: str) -> None:
        """Start `weir serve` on free loopback ports, with further options, and wait until it is ready.

        Raises:
            Unavailable: it did not come up in time; its own words are in `server.log`.
        """
        ready = self.directory / "ready.json"
        ready.unlink(missing_ok=True)
        with (self.directory / "server.log").open("wb") as log:
            self.server = subprocess.Popen(
                [
                    *weir_command(),
                    "serve",
                    f"--data={self.data_dir}",
                    "--listen=127.0.0.1:0",
                    "--admin=127.0.0.1:0",
                    "--metrics=127.0.0.1:0",
                    "--console=127.0.0.1:0",
                    f"--ready-file={ready}",
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            if self.server.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"the server did not start; see {self.directory / 'server.log'}")
            time.sleep(0.05)
        self.addresses = json.loads(ready.read_text(encoding="utf-8"))

    def stop_server(self) -> int:
        """Ask the server to end and wait; its exit code."""
        if self.server is None:
            return 0
        self.server.send_signal(signal.SIGTERM)
        try:
            return self.server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.server.kill()
            return self.server.wait()

    def run(
        self,
        command: Sequence[str],
        *,
        actor: str = "",
        listener: str = "public",
        expect: int = 0,
        shown: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run one step as `actor` and show what it prints. `shown`: only so many of its last lines, if it succeeds.

        Raises:
            StepFailed: its exit code is not the one expected.
        """
        environment = {**os.environ, **self._environment(actor, listener)}
        done = subprocess.run(
            list(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=STEP_SECONDS,
            check=False,
        )
        whole = shown is None or done.returncode != expect
        lines = done.stdout.splitlines(keepends=True)
        sys.stdout.write(indented("".join(lines if whole else lines[len(lines) - (shown or 0) :])))
        sys.stdout.flush()
        if done.returncode != expect:
            raise StepFailed(f"{' '.join(command[-4:])}: exit code {done.returncode}, expected {expect}")
        return done

    def _environment(self, actor: str, listener: str) -> Mapping[str, str]:
        if not actor:
            return {}
        return {
            "WEIR_IDENTITY": str(self.identity(actor)),
            "WEIR_SERVER": self.addresses.get(listener, ""),
            "XDG_STATE_HOME": str(self.directory / "state"),
        }


class StepFailed(Exception):
    """A step of the demo was not as promised."""


def weir_command() -> list[str]:
    """The `weir` command of this very installation."""
    return [sys.executable, "-m", "weir_client.cli"]


def indented(text: str) -> str:
    """Text as a step's output, set off from the story."""
    return "".join(f"    {line}\n" if line.strip() else "\n" for line in text.splitlines())
