# SPDX-License-Identifier: Apache-2.0
"""The console in a test's own process: a domain, a desk over it, and a browser that brings cookies and certificates."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx

from tests.support.domain import Domain as TestDomain
from tests.support.domain import open_domain, populate
from tests.support.ledger import VKEY
from weir_server.config import ConsoleSettings, Limits
from weir_server.console.desk import Desk
from weir_server.console.links import issue_code
from weir_server.console.open import make_desk
from weir_server.console.web import build
from weir_server.identity import pki
from weir_server.identity.authentication import Authentication
from weir_server.identity.revocation import watch_revoked
from weir_server.services.admission import Admission

HOST = "localhost:7446"
_TOKEN = re.compile(r'name="csrf" value="([0-9a-f]+)"')
_browsers = count(1)
_KEY = re.compile(r'name="key" value="([^"]+)"')


@dataclass
class Browser:
    """One browser over one ASGI application. `certificate`: what its connections show, in DER."""

    app: Any
    certificate: bytes | None = None
    connected: float = 0.0
    """When its connections were made; 0 for just now."""
    address: str = field(default_factory=lambda: f"192.0.2.{next(_browsers)}")
    http: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope["state"] = {"certificate": self.certificate, "connected": self.connected or time.monotonic()}
            await self.app(scope, receive, send)

        transport = httpx.ASGITransport(app=app, client=(self.address, 40_000), raise_app_exceptions=True)
        self.http = httpx.AsyncClient(transport=transport, base_url=f"https://{HOST}")

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """A page, redirects not followed."""
        return await self.http.get(path, headers=headers)

    async def post(
        self, path: str, fields: Mapping[str, str] | None = None, *, origin: str | None = f"https://{HOST}"
    ) -> httpx.Response:
        """A form as a page of this site posts it."""
        headers = {"content-type": "application/x-www-form-urlencoded"} | ({} if origin is None else {"origin": origin})
        return await self.http.post(path, content=urlencode(dict(fields or {})), headers=headers)

    async def act(self, page: str, path: str, fields: Mapping[str, str] | None = None) -> httpx.Response:
        """Opens a page and posts one of its forms, with the token and the key of the page."""
        shown = (await self.get(page)).text
        token, key = _TOKEN.search(shown), _KEY.search(shown)
        given = {"csrf": token.group(1) if token else "", "key": key.group(1) if key else ""}
        return await self.post(path, {**given, **(fields or {})})


@dataclass
class ConsoleUnderTest:
    """A desk over a populated domain."""

    domain: TestDomain
    desk: Desk
    app: Any
    data_dir: Path

    def code(self, role: str, name: str) -> str:
        """A one-time code."""
        return issue_code(self.data_dir, role=role, name=name, now=self.domain.clock(), entropy=os.urandom)

    def certificate(self, role: str, name: str, *, days: int = 30) -> bytes:
        """A certificate of the domain in DER."""
        issued = pki.issue_identity(self.data_dir, role=role, name=name, now=self.domain.clock(), days=days)
        return ssl.PEM_cert_to_DER_cert(str(issued["certificate"]))

    def browser(self, certificate: bytes | None = None) -> Browser:
        """A browser nobody is signed in with."""
        return Browser(self.app, certificate)

    async def signed_in(self, role: str, name: str = "") -> Browser:
        """A browser that signed in with a code."""
        browser = self.browser()
        reply = await browser.post("/sign-in/code", {"code": self.code(role, name or f"some-{role}")})
        assert reply.status_code == 303, reply.text
        return browser


@asynccontextmanager
async def running_console(
    directory: Path, *, settings: ConsoleSettings | None = None, limits: Limits | None = None, **populated: Any
) -> AsyncIterator[ConsoleUnderTest]:
    """A console over a populated domain, closed afterwards."""
    domain = open_domain(directory)
    try:
        await populate(domain, **populated)
        pki.init_domain(directory, domain="weir.test", hosts=(), now=datetime(2026, 1, 1, tzinfo=UTC))
        desk = make_desk(
            data_dir=directory,
            domain=pki.load_domain(directory),
            log_key=VKEY,
            witness_key="",
            state=domain.state,
            store=domain.store,
            settings=settings or ConsoleSettings(),
            admission=Admission(limits or Limits(), clock=time.monotonic),
            authentication=Authentication(domain="weir.test", revoked=watch_revoked(directory).get),
            healthy=lambda: True,
            now=domain.clock,
        )
        yield ConsoleUnderTest(domain, desk, build(desk), directory)
        await domain.pipeline.turns.drain(seconds=10)
    finally:
        domain.store.close()
