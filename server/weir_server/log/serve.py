# SPDX-License-Identifier: Apache-2.0
"""The exported log over HTTP as C2SP tlog-tiles: `/checkpoint`, `/tile/<level>/…`, `/tile/entries/…`; read-only.

There is no authentication, and leaves name requesters, contracts and amounts: so this listener takes loopback
addresses only, and whoever shows the log to others puts a proxy in front that knows whom it lets in.

Source: c2sp.org/tlog-tiles.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
from pathlib import Path

from weir.errors import InvalidRequest
from weir_server.plain_http import Handler, PlainListener

_PATH = re.compile(r"/(checkpoint|cosigned|tile/(?:entries|[0-7])/(?:x[0-9]{3}/)*[0-9]{3}(?:\.p/[1-9][0-9]{0,2})?)")
"""Every path there is. A path that fits cannot leave the directory: no part of it can be `..` or empty."""
_MAX_PATH = 200
_TEXT = "text/plain; charset=utf-8"


class TileServer(PlainListener):
    """Serves one directory."""

    def __init__(self, directory: Path, *, host: str, port: int) -> None:
        """Listens at once.

        Raises:
            InvalidRequest: the host is not a loopback address.
            OSError: the address cannot be taken.
        """
        demand_loopback(host)
        handler = type("TileHandler", (_Handler,), {"directory": directory})
        super().__init__(handler, host=host, port=port, name="weir-log-http")


def demand_loopback(host: str) -> None:
    """Refuses an address that others can reach.

    Raises:
        InvalidRequest: rule `listen.loopback`.
    """
    if not is_loopback(host):
        raise InvalidRequest(
            "listen.log: the log is served without authentication, on a loopback address only",
            field="listen.log",
            rule="listen.loopback",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class _Handler(Handler):
    directory: Path

    def answer(self) -> None:
        """Sends a file of the log."""
        found = _PATH.fullmatch(self.path) if len(self.path) <= _MAX_PATH else None
        try:
            file = (self.directory / found[1]).open("rb") if found else None
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            file = None
        if file is None or found is None:
            self.send(404, _TEXT, b"")
            return
        with file:
            tile, length = found[1].startswith("tile/"), file.seek(0, 2)
            # A tile never changes once it exists, full or partial.
            cache = "max-age=31536000, immutable" if tile else "no-cache"
            self.head(200, "application/octet-stream" if tile else _TEXT, length, cache=cache)
            file.seek(0)
            if self.with_body:
                shutil.copyfileobj(file, self.wfile)
