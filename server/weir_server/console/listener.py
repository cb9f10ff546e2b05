# SPDX-License-Identifier: Apache-2.0
"""The console's socket: HTTPS with the server's own certificate, a client certificate asked for and not required.

It runs in the server's event loop. Every connection makes a whole handshake (there are no session tickets), so a new
connection with a certificate proves that its holder has the key at that moment.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from weir.errors import Unavailable
from weir_server.identity.pki import SECRETS
from weir_server.identity.watched import Watched

CERTIFICATE, CONNECTED = "certificate", "connected"
"""Keys of a request's state: the client certificate in DER or None, and when its connection was made (monotonic)."""
_MAX_HEADERS = 32 * 1024
IDLE_SECONDS = 5
"""How long a connection stays open after a reply."""
_MAX_CONNECTIONS = 256
_REQUEST_SECONDS = 20.0
"""How long a request may take to arrive whole, from the handshake or its first byte on."""
_HANDSHAKE_SECONDS = 10.0
_FILES = ("server.key", "server.crt", "ca.crt")
_LOOK_SECONDS = 10.0


class _Protocol(H11Protocol):
    """HTTP/1.1 that tells the application with which certificate, and when, its connection was made.

    A connection that says nothing, or says it slowly, is closed, and so is one too many: the process shares its file
    descriptors with the gRPC listeners. Holders of certificates get in all the same, so that strangers keep none of
    them from a stop.
    """

    _arriving: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        tls = transport.get_extra_info("ssl_object")
        shown = None if tls is None else tls.getpeercert(binary_form=True)
        self.app_state = {**self.app_state, CERTIFICATE: shown, CONNECTED: time.monotonic()}
        super().connection_made(transport)
        if len(self.connections) > (_MAX_CONNECTIONS if shown is None else 2 * _MAX_CONNECTIONS):
            transport.abort()
            return
        self._arriving = self.loop.call_later(_REQUEST_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Serves what came, and watches how long the rest takes."""
        if self._arriving is None:
            self._arriving = self.loop.call_later(_REQUEST_SECONDS, self.transport.abort)
        super().data_received(data)
        # Between requests uvicorn's own, shorter patience holds.
        if self.conn.their_state is not h11.SEND_BODY and not self.conn.trailing_data[0]:
            self._arrived()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._arrived()
        super().connection_lost(exc)

    def _arrived(self) -> None:
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As the base does, with a handshake that may not take long; says when connections are taken."""
        loop, config = asyncio.get_running_loop(), self.config

        def protocol() -> asyncio.Protocol:
            return _Protocol(config=config, server_state=self.server_state, app_state=self.lifespan.state)

        self.servers = [
            await loop.create_server(
                protocol,
                sock=listening,
                ssl=config.ssl,
                backlog=config.backlog,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS,
            )
            for listening in sockets or ()
        ]
        self.started = True
        self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to `weir serve`, which stops every listener in order."""
        yield


class ConsoleListener:
    """Serves an ASGI application until it is stopped."""

    def __init__(self, app: Any, *, host: str, port: int, data_dir: Path) -> None:
        """Binds at once, so that a taken address is known before anything is announced.

        Raises:
            Unavailable: the address cannot be taken.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host.strip("[]"), port))
        except OSError as error:
            self._socket.close()
            sentence = f"the address {host}:{port} cannot be taken"
            raise Unavailable(sentence, field="listen.console", rule="listen.address") from error
        self.port = int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=_MAX_HEADERS,
        )
        config.load()
        context = tls_context()
        self._tls = Watched([data_dir / SECRETS / name for name in _FILES], lambda: _load(context, data_dir))
        config.ssl = context
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serves from here on."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        await self._server.up.wait()

    async def keep_certificates(self) -> None:
        """Follows renewals of the server's certificate until it is cancelled; half a renewal is passed over."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self._tls.get()

    async def stop(self) -> None:
        """Takes no new request, and lets running ones finish for a moment."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task

    def close(self) -> None:
        """Gives the address back."""
        self._socket.close()


def tls_context() -> ssl.SSLContext:
    """TLS 1.3 that asks for a client certificate; what is shown must be of the domain's authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    # A resumed session would show a certificate without proving its key again.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context


def _load(context: ssl.SSLContext, data_dir: Path) -> bool:
    """Has new connections get the certificate and the authorities that the data directory holds now."""
    secrets = data_dir / SECRETS
    try:
        context.load_cert_chain(secrets / "server.crt", secrets / "server.key")
        context.load_verify_locations(secrets / "ca.crt")
    except (OSError, ssl.SSLError) as error:
        raise Unavailable("the listeners' certificate cannot be used", rule="domain.certificates") from error
    return True
