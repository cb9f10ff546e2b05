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


@contextmanager
def running_postgres(binaries: Path, *, durable: bool = False) -> Iterator[str]:
    """A fresh server; its connection string. `durable`: it syncs what it acknowledges, as a ledger asks."""
    # Not below pytest's directories: the path of a socket is short, and only their owner may enter them.
    directory = Path(tempfile.mkdtemp(prefix="weir-pg-"))
    account = _account() if os.geteuid() == 0 else None
    if account is not None:
        os.chown(directory, account.pw_uid, account.pw_gid)

    def run(*command: str) -> None:
        user = None if account is None else account.pw_uid
        group = None if account is None else account.pw_gid
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=user, group=group, cwd=directory)

    data, options = (
        str(directory / "data"),
        f"-c listen_addresses='' -c unix_socket_directories={directory} -c fsync={'on' if durable else 'off'}",
    )
    try:
        run(str(binaries / "initdb"), "-D", data, "-U", "weir", "--auth=trust", "--no-sync")
        run(str(binaries / "pg_ctl"), "-D", data, "-o", options, "-l", str(directory / "log"), "-w", "start")
        try:
            yield f"host={directory} user=weir dbname=postgres"
        finally:
            run(str(binaries / "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
