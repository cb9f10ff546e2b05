# SPDX-License-Identifier: Apache-2.0
"""What a browser brings along: cookies, the language it prefers, the certificate of its connection."""

from __future__ import annotations

import hashlib
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from weir_server.console.listener import CERTIFICATE, CONNECTED
from weir_server.console.sessions import Session, Sessions
from weir_server.console.text import LANGUAGES, Words, preferred, words_of

COOKIE, LANGUAGE_COOKIE = "__Host-weir-console", "__Host-weir-language"
"""The prefix makes browsers refuse them without Secure, with a domain, or with another path."""
LIVE = "x-weir-live"
"""Header of a page that refreshes itself: it keeps nobody signed in."""


def language_of(request: Request) -> Words:
    """The language of a page: chosen before, else what the browser prefers."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    return words_of(chosen if chosen in LANGUAGES else preferred(request.headers.get("accept-language", "")))


def session_of(request: Request, sessions: Sessions) -> Session | None:
    """Who is signed in with this browser."""
    return sessions.find(
        request.cookies.get(COOKIE, ""), certificate=fingerprint(request), touch=LIVE not in request.headers
    )


def certificate_of(request: Request) -> bytes | None:
    """The certificate that the connection shows, in DER."""
    shown = _state(request).get(CERTIFICATE)
    return shown if isinstance(shown, bytes) else None


def connected_at(request: Request) -> float:
    """When the connection's handshake was made, in monotonic seconds."""
    return float(_state(request).get(CONNECTED, 0.0))


def fingerprint(request: Request) -> bytes:
    """Digest of the certificate that the connection shows; empty without one."""
    shown = certificate_of(request)
    return hashlib.sha256(shown).digest() if shown else b""


def set_cookie(response: Response, name: str, value: str, *, days: int | None = None) -> None:
    """A cookie of this site alone, that no script reads."""
    age = None if days is None else days * 86_400
    response.set_cookie(name, value, max_age=age, path="/", secure=True, httponly=True, samesite="strict")


def _state(request: Request) -> dict[str, Any]:
    state: dict[str, Any] = request.scope.get("state", {})
    return state
