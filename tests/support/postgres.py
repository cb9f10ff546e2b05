# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server of one's own, on a Unix socket in a temporary directory; gone afterwards.

PostgreSQL refuses to run as root, so root starts it as the user `postgres`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PLACES = (*Path("/usr/lib/postgresql").glob("*/bin"), Path("/usr/local/bin"), Path("/usr/bin"))


def find_binaries() -> Path | None:
    """Directory of initdb and pg_ctl; None where PostgreSQL is not installed or nobody may run it."""
    found = next((place for place in _PLACES if (place / "initdb").exists() and (place / "pg_ctl").exists()), None)
    if found is None or (os.geteuid() == 0 and _account() is None):
        return None
    return found


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None


class Server:
    """One server, which can be crashed and started again."""

    def __init__(self, binaries: Path, directory: Path, *, durable: bool) -> None:
        self._binaries, self._directory = binaries, directory
        self._account = _account() if os.geteuid() == 0 else None
        self._options = (
            f"-c listen_addresses='' -c unix_socket_directories={directory} -c fsync={'on' if durable else 'off'}"
        )
        self.conninfo = f"host={directory} user=weir dbname=postgres"

    def make(self) -> None:
        """Makes the cluster."""
        if self._account is not None:
            os.chown(self._directory, self._account.pw_uid, self._account.pw_gid)
        self._run("initdb", "-U", "weir", "--auth=trust", "--no-sync")

    def start(self) -> None:
        """Starts it; after a crash it recovers from its log first."""
        self._run("pg_ctl", "-o", self._options, "-l", str(self._directory / "log"), "-w", "start")

    def crash(self) -> None:
        """Stops it at once: no checkpoint, no goodbye to anybody."""
        self._run("pg_ctl", "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        user = None if self._account is None else self._account.pw_uid
        group = None if self._account is None else self._account.pw_gid
        command = [str(self._binaries / program), "-D", str(self._directory / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=user, group=group, cwd=self._directory)


@contextmanager
def postgres_server(binaries: Path, *, durable: bool = False) -> Iterator[Server]:
    """A fresh server. `durable`: it syncs what it acknowledges, as a ledger asks."""
    # Not below pytest's directories: the path of a socket is short, and only their owner may enter them.
    directory = Path(tempfile.mkdtemp(prefix="weir-pg-"))
    try:
        server = Server(binaries, directory, durable=durable)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.crash()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def running_postgres(binaries: Path, *, durable: bool = False) -> Iterator[str]:
    """The connection string of a fresh server."""
    with postgres_server(binaries, durable=durable) as server:
        yield server.conninfo
