# SPDX-License-Identifier: Apache-2.0
"""The console's socket: what it asks of a connection, and what it tells the application of it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from weir.errors import Unavailable
from weir_server.console import listener as listeners
from weir_server.console.listener import CERTIFICATE, CONNECTED, ConsoleListener
from weir_server.identity import pki


async def tell(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what the listener says of the connection."""
    shown, made = scope["state"][CERTIFICATE], scope["state"][CONNECTED]
    body = json.dumps({"certificate": None if shown is None else shown.hex(), "made": made, "scheme": scope["scheme"]})
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body.encode()})


async def wait_for_body(scope: Any, receive: Any, send: Any) -> None:
    """Answers once all has come."""
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.request":
        await tell(scope, receive, send)


def make_domain(directory: Path) -> Path:
    directory.mkdir()
    pki.init_domain(directory, domain="weir.test", hosts=(), now=datetime.now(UTC))
    return directory


@asynccontextmanager
async def listening(data_dir: Path, app: Any = tell) -> AsyncIterator[ConsoleListener]:
    listener = ConsoleListener(app, host="127.0.0.1", port=0, data_dir=data_dir)
    try:
        await listener.start()
        yield listener
        await listener.stop()
    finally:
        listener.close()


def client_context(data_dir: Path, *, identity: dict[str, object] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(data_dir / "secrets" / "ca.crt"))
    if identity is not None:
        path = data_dir / "client.pem"
        path.write_text(f"{identity['private_key']}{identity['certificate']}", encoding="ascii")
        context.load_cert_chain(path)
    return context


async def ask(port: int, context: ssl.SSLContext) -> tuple[dict[str, Any], bytes]:
    """What the application was told, and the server's certificate."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        reply = await asyncio.wait_for(reader.read(), 10)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
    if not reply:
        raise ConnectionError("no reply")
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b"server:" not in head.lower()
    told: dict[str, Any] = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])
    return told, shown


def identity(data_dir: Path) -> dict[str, object]:
    return pki.issue_identity(data_dir, role="operator", name="olga", now=datetime.now(UTC), days=1)


async def test_a_connection_without_a_certificate_is_served_and_known_to_have_none(tmp_path: Path) -> None:
    data_dir = make_domain(tmp_path / "data")
    async with listening(data_dir) as listener:
        told, _ = await ask(listener.port, client_context(data_dir))
        assert (told["certificate"], told["scheme"]) == (None, "https")


async def test_a_certificate_of_the_domain_reaches_the_application_with_the_time_of_its_handshake(
    tmp_path: Path,
) -> None:
    data_dir = make_domain(tmp_path / "data")
    olga = identity(data_dir)
    async with listening(data_dir) as listener:
        first, _ = await ask(listener.port, client_context(data_dir, identity=olga))
        assert bytes.fromhex(first["certificate"]) == ssl.PEM_cert_to_DER_cert(str(olga["certificate"]))
        second, _ = await ask(listener.port, client_context(data_dir, identity=olga))
        assert second["made"] > first["made"]


async def test_a_certificate_of_another_authority_ends_the_connection(tmp_path: Path) -> None:
    data_dir, other = make_domain(tmp_path / "data"), make_domain(tmp_path / "other")
    context = client_context(data_dir, identity=identity(other))
    async with listening(data_dir) as listener:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(listener.port, context)


async def test_older_tls_is_refused(tmp_path: Path) -> None:
    data_dir = make_domain(tmp_path / "data")
    context = client_context(data_dir)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with listening(data_dir) as listener:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(listener.port, context)


async def test_no_session_is_resumed_so_every_connection_proves_its_key(tmp_path: Path) -> None:
    data_dir = make_domain(tmp_path / "data")
    context = client_context(data_dir, identity=identity(data_dir))
    async with listening(data_dir) as listener:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", listener.port, ssl=context, server_hostname="localhost"
        )
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await asyncio.wait_for(reader.read(), 10)
        session = writer.get_extra_info("ssl_object").session
        writer.close()
        assert session is None or not session.has_ticket


async def test_a_renewed_certificate_is_shown_to_new_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "_LOOK_SECONDS", 0.02)
    data_dir = make_domain(tmp_path / "data")
    async with listening(data_dir) as listener:
        following = asyncio.create_task(listener.keep_certificates())
        try:
            _, before = await ask(listener.port, client_context(data_dir))
            pki.renew_server(data_dir, now=datetime.now(UTC))
            for _ in range(200):
                _, after = await ask(listener.port, client_context(data_dir))
                if after != before:
                    return
                await asyncio.sleep(0.02)
            raise AssertionError("the old certificate is still shown")
        finally:
            following.cancel()


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: loc", id="half a head"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab", id="half a body"),
    ],
)
async def test_a_connection_that_does_not_finish_its_request_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(listeners, "_REQUEST_SECONDS", 0.2)
    data_dir = make_domain(tmp_path / "data")
    async with listening(data_dir, wait_for_body) as listener:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", listener.port, ssl=client_context(data_dir), server_hostname="localhost"
        )
        writer.write(said)
        with suppress(ConnectionError, ssl.SSLError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_a_connection_that_never_shakes_hands_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "_HANDSHAKE_SECONDS", 0.2)
    data_dir = make_domain(tmp_path / "data")
    async with listening(data_dir) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_a_request_that_arrived_may_be_served_for_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "_REQUEST_SECONDS", 0.1)
    data_dir = make_domain(tmp_path / "data")

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.4)
        await tell(scope, receive, send)

    async with listening(data_dir, slow) as listener:
        assert (await ask(listener.port, client_context(data_dir)))[0]["scheme"] == "https"


async def test_strangers_that_hold_every_connection_keep_no_holder_of_a_certificate_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "_MAX_CONNECTIONS", 2)
    data_dir = make_domain(tmp_path / "data")
    olga = identity(data_dir)
    strange = client_context(data_dir)
    async with listening(data_dir) as listener:
        held = [
            await asyncio.open_connection("127.0.0.1", listener.port, ssl=strange, server_hostname="localhost")
            for _ in range(2)
        ]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(listener.port, strange)
        assert (await ask(listener.port, client_context(data_dir, identity=olga)))[0]["certificate"]
        for _, writer in held:
            writer.close()


async def test_an_address_that_is_taken_is_refused_by_name(tmp_path: Path) -> None:
    data_dir = make_domain(tmp_path / "data")
    async with listening(data_dir) as listener:
        with pytest.raises(Unavailable) as caught:
            ConsoleListener(tell, host="127.0.0.1", port=listener.port, data_dir=data_dir)
        assert caught.value.field == "listen.console"
