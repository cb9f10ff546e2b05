# SPDX-License-Identifier: Apache-2.0
"""Plain HTTP is bounded: in connections, in how long one lasts, in methods."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from weir_server import plain_http
from weir_server.plain_http import Handler, PlainListener


class Echo(Handler):
    """Answers every path alike."""

    def answer(self) -> None:
        self.send(200, "text/plain", b"here")


@pytest.fixture
def listener() -> Iterator[PlainListener]:
    running = PlainListener(Echo, host="127.0.0.1", port=0, name="test-http")
    yield running
    running.close()


def asked(listener: PlainListener, method: str = "GET") -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", listener.port, timeout=10)
    connection.request(method, "/anything")
    response = connection.getresponse()
    try:
        return response.status, response.getheader("Content-Length"), response.read()
    finally:
        connection.close()


def test_head_is_get_without_the_body(listener: PlainListener) -> None:
    assert asked(listener) == (200, "4", b"here")
    assert asked(listener, "HEAD") == (200, "4", b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_there_is_no_other_method(listener: PlainListener, method: str) -> None:
    assert asked(listener, method)[0] == 501


def test_whoever_sends_a_byte_now_and_then_loses_the_seat(
    listener: PlainListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: a time limit for the next byte alone; 32 such connections kept monitoring out for ever."""
    monkeypatch.setattr(plain_http, "_WHOLE_SECONDS", 0.5)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as slow, suppress(OSError):
        while not _ended(slow) and time.monotonic() < began + 10:
            slow.sendall(b"G")
            time.sleep(0.05)
    assert 0.4 < time.monotonic() - began < 5
    assert asked(listener)[0] == 200


def _ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(10)


def test_connections_beyond_the_seats_are_closed_at_once(listener: PlainListener) -> None:
    held = [socket.create_connection(("127.0.0.1", listener.port), timeout=10) for _ in range(32)]
    with socket.create_connection(("127.0.0.1", listener.port), timeout=5) as late:
        assert late.recv(1) == b"", "closed long before anybody's time is up"
    for each in held:
        each.close()
