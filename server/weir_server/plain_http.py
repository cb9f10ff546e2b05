# SPDX-License-Identifier: Apache-2.0
"""Plain HTTP for what needs no certificate: GET and HEAD of a few paths, from threads of their own, bounded.

No header or body of a caller is looked at, and no path is logged: it is the caller's text.
"""

from __future__ import annotations

import socket
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_CONNECTIONS = 32
_SECONDS = 10.0
"""How long a reader may take for the next piece of a request or of an answer."""
_WHOLE_SECONDS = 60.0
"""How long a connection lasts at most, or whoever sends a byte now and then would keep its seat for ever."""


class PlainListener:
    """Serves from a thread of its own until closed."""

    def __init__(self, handler: type[Handler], *, host: str, port: int, name: str) -> None:
        """Listens at once. `name`: of the thread.

        Raises:
            OSError: the address cannot be taken.
        """
        self._server = _Server((host, port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name=name, daemon=True)
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


class Handler(BaseHTTPRequestHandler, ABC):
    """One connection."""

    timeout = _SECONDS
    server_version, sys_version = "weir", ""

    @abstractmethod
    def answer(self) -> None:
        """Answers `self.path`; by `send`, or in its own way where what it sends is long."""

    @property
    def with_body(self) -> bool:
        """Whether the body is asked for."""
        return self.command != "HEAD"

    def head(self, status: int, kind: str, length: int, *, cache: str) -> None:
        """Sends everything before the body."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", cache)
        self.end_headers()

    def send(self, status: int, kind: str, body: bytes) -> None:
        """Sends a whole answer, which nobody is to keep."""
        self.head(status, kind, len(body), cache="no-store")
        if self.with_body:
            self.wfile.write(body)

    def do_GET(self) -> None:
        """Answers."""
        self.answer()

    def do_HEAD(self) -> None:
        """Answers without a body."""
        self.answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: paths are the caller's text."""


class _Server(ThreadingHTTPServer):
    """A thread for each connection, up to a number of them; further ones are closed at once."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 4 * _CONNECTIONS
    """Else the system leaves those who come at once without an answer for seconds, instead of seated or closed."""

    def __init__(self, address: tuple[str, int], handler: type[Handler]) -> None:
        self._seats = threading.BoundedSemaphore(_CONNECTIONS)
        host, port = address
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host.strip("[]"), port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts a thread for a connection, or closes it where all seats are taken."""
        if not self._seats.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # No thread could be started.
            self._seats.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Runs one connection, for no longer than a whole one lasts, and gives its seat back."""
        end = threading.Timer(_WHOLE_SECONDS, _cut, (request,))
        end.daemon = True
        try:
            end.start()
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._seats.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away is its own business."""


def _cut(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)  # Wakes the thread, which closes it.
