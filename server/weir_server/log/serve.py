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
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from weir.errors import InvalidRequest

_PATH = re.compile(r"/(checkpoint|cosigned|tile/(?:entries|[0-7])/(?:x[0-9]{3}/)*[0-9]{3}(?:\.p/[1-9][0-9]{0,2})?)")
"""Every path there is. A path that fits cannot leave the directory: no part of it can be `..` or empty."""
_MAX_PATH = 200
_CONNECTIONS = 32
_SECONDS = 10.0
"""How long a reader may take to send a request or to take the next piece of a file."""


class TileServer:
    """Serves one directory from a thread of its own until closed."""

    def __init__(self, directory: Path, *, host: str, port: int) -> None:
        """Listens at once.

        Raises:
            InvalidRequest: the host is not a loopback address.
            OSError: the address cannot be taken.
        """
        if not is_loopback(host):
            raise InvalidRequest(
                "the log is served without authentication: on a loopback address only",
                field="listen.log",
                rule="listen.loopback",
            )
        handler = type("TileHandler", (_Handler,), {"directory": directory})
        self._server = BoundedServer((host, port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="weir-log-http", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it got."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Takes no more requests and ends the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class BoundedServer(ThreadingHTTPServer):
    """A thread for each connection, up to a number of them; further ones are closed at once."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._seats = threading.BoundedSemaphore(_CONNECTIONS)
        host, port = address
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host.strip("[]"), port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts a thread for a connection, or closes it where all seats are taken."""
        if not self._seats.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Runs one connection and gives its seat back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._seats.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away is its own business."""


class _Handler(BaseHTTPRequestHandler):
    directory: Path
    timeout = _SECONDS
    server_version, sys_version = "weir", ""

    def do_GET(self) -> None:
        """Sends a file of the log."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Says how long a file of the log is."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        found = _PATH.fullmatch(self.path) if len(self.path) <= _MAX_PATH else None
        try:
            file = (self.directory / found[1]).open("rb") if found else None
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            file = None
        if file is None or found is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        with file:
            tile = found[1].startswith("tile/")
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream" if tile else "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(file.seek(0, 2)))
            # A tile never changes once it exists, full or partial.
            self.send_header("Cache-Control", "max-age=31536000, immutable" if tile else "no-cache")
            self.end_headers()
            file.seek(0)
            if body:
                shutil.copyfileobj(file, self.wfile)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: paths are the reader's text."""
