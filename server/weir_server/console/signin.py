# SPDX-License-Identifier: Apache-2.0
"""Signing in and out, and proving again who one is before something is decided.

A certificate signs in where the browser shows one; a one-time code does where it does not. A fresh proof is a new code
of the same person, or a TLS handshake made just now: a page that was left open proves nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from weir.errors import PermissionDenied, Unauthenticated, WeirError
from weir_server.console import forms
from weir_server.console.browser import (
    COOKIE,
    certificate_of,
    connected_at,
    fingerprint,
    language_of,
    session_of,
    set_cookie,
)
from weir_server.console.desk import Desk, monotonic
from weir_server.console.limits import Tries
from weir_server.console.links import PEOPLE, use_code
from weir_server.console.sessions import Session
from weir_server.console.visit import Visit
from weir_server.identity.identities import issued
from weir_server.ledger import record
from weir_server.plan.values import Principal
from weir_server.store import Transaction

HANDSHAKE_SECONDS = 60.0
"""How old a connection may be whose certificate counts as a fresh proof."""
_PATH = re.compile(r"(/[A-Za-z0-9_.-]{1,200}){1,6}")
"""A page of this console: no other site, and no empty first part that browsers would read as one."""
SIGNED_IN = "weir.console.signed_in"
"""Type of the log entry of a sign-in."""

Serve = Callable[[Request], Awaitable[Response]]


class SignIn:
    """The pages that need no session, or make a new one."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._tries = desk, Tries(clock=monotonic)

    def routes(self) -> list[tuple[str, str, Serve]]:
        """Path, method and handler of each."""
        return [
            ("/sign-in", "GET", self._show),
            ("/sign-in/code", "POST", self._by_code),
            ("/sign-in/certificate", "POST", self._by_certificate),
            ("/sign-out", "POST", self._sign_out),
            ("/confirm", "GET", self._show_confirmation),
            ("/confirm/code", "POST", self._confirm_by_code),
            ("/confirm/certificate", "POST", self._confirm_by_certificate),
        ]

    def ask_for_proof(self, visit: Visit, *, then: str) -> Response:
        """To the confirmation, and from there back to the page `then`; nothing was done yet."""
        visit.session.after = then
        return RedirectResponse("/confirm", status_code=303)

    async def _show(self, request: Request) -> Response:
        if session_of(request, self._desk.sessions) is not None:
            return RedirectResponse("/overview", status_code=303)
        return self._page("signin.html", request, None, holder=self._holder(request))

    async def _by_code(self, request: Request) -> Response:
        form = await self._form(request)
        holder = use_code(self._desk.data_dir, form.get("code", ""), now=self._desk.now())
        principal = Principal(holder.name, holder.role, self._desk.domain)
        return await self._begin(request, principal, certificate=b"", by="code")

    async def _by_certificate(self, request: Request) -> Response:
        await self._form(request)
        principal = self.shown(request)
        return await self._begin(request, principal, certificate=fingerprint(request), by="certificate")

    async def _sign_out(self, request: Request) -> Response:
        session = session_of(request, self._desk.sessions)
        form = await self._form(request)
        response = RedirectResponse("/sign-in", status_code=303)
        if session is not None:
            forms.check_token(form, session.csrf)
            self._desk.sessions.end(request.cookies[COOKIE])
        response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
        return response

    async def _show_confirmation(self, request: Request) -> Response:
        session = session_of(request, self._desk.sessions)
        if session is None:
            return RedirectResponse("/sign-in", status_code=303)
        if _PATH.fullmatch(request.query_params.get("then", "")):
            session.after = request.query_params["then"]
        response = self._page("confirm.html", request, session)
        # The proof is a handshake: the next request must make one.
        response.headers["connection"] = "close"
        return response

    async def _confirm_by_code(self, request: Request) -> Response:
        session, form = await self._own_form(request)
        holder = use_code(self._desk.data_dir, form.get("code", ""), now=self._desk.now())
        if (holder.role, holder.name) != (session.principal.role, session.principal.name):
            raise PermissionDenied("the code is another person's", rule="link.person")
        return self._confirmed(request, session)

    async def _confirm_by_certificate(self, request: Request) -> Response:
        session, _ = await self._own_form(request)
        principal = self.shown(request)
        if (principal.role, principal.name) != (session.principal.role, session.principal.name):
            raise PermissionDenied("the certificate is another person's", rule="certificate.person")
        if monotonic() - connected_at(request) > HANDSHAKE_SECONDS:
            # An old connection was used again; this reply closes it, and the next press opens another.
            response = RedirectResponse("/confirm", status_code=303)
            response.headers["connection"] = "close"
            return response
        return self._confirmed(request, session)

    async def _form(self, request: Request) -> forms.Form:
        self._tries.take(request.client.host if request.client else "")
        forms.check_origin(request)
        return await forms.read_form(request, limit=forms.MAX_FORM_BYTES)

    async def _own_form(self, request: Request) -> tuple[Session, forms.Form]:
        session, form = session_of(request, self._desk.sessions), await self._form(request)
        if session is None:
            raise Unauthenticated("sign in first", rule="console.session")
        forms.check_token(form, session.csrf)
        return session, form

    async def _begin(self, request: Request, principal: Principal, *, certificate: bytes, by: str) -> Response:
        """A new session, known to the log before the browser has it."""

        def operation(tx: Transaction) -> object:
            return record(
                tx,
                SIGNED_IN,
                {"actor": principal.name, "role": principal.role, "by": by},
                subject=f"{principal.role}/{principal.name}",
                now=self._desk.now(),
                entropy=os.urandom,
            )

        await self._desk.store.write(operation)
        self._desk.sessions.end(request.cookies.get(COOKIE, ""))
        token, _ = self._desk.sessions.begin(principal, certificate=certificate, revoked=self._desk.revoked())
        response = RedirectResponse("/overview", status_code=303)
        set_cookie(response, COOKIE, token)
        return response

    def _confirmed(self, request: Request, session: Session) -> Response:
        after, session.after = session.after, "/overview"
        response = RedirectResponse(after, status_code=303)
        set_cookie(response, COOKIE, self._desk.sessions.renew(request.cookies[COOKIE]))
        return response

    def shown(self, request: Request) -> Principal:
        """Holder of the certificate of this connection.

        Raises:
            Unauthenticated: there is none, or it is not valid here and now.
            PermissionDenied: its role has no console.
        """
        shown = certificate_of(request)
        if shown is None:
            raise Unauthenticated("the browser shows no certificate of this domain", rule="certificate.missing")
        pem = x509.load_der_x509_certificate(shown).public_bytes(Encoding.PEM)
        principal = self._desk.authenticate(pem)
        if principal.role not in PEOPLE:
            raise PermissionDenied(f"the role {principal.role} has no console", rule="console.role")
        return principal

    def holder(self, request: Request, session: Session) -> Principal:
        """Who is signed in, as of now.

        Raises:
            Unauthenticated: the session's certificate is not valid any more; or a code signed in, and a certificate of
                that person was taken back since.
            PermissionDenied: the role has no console.
        """
        if session.certificate:
            return self.shown(request)
        added = self._desk.revoked() - session.revoked
        if added:
            known, person = issued(self._desk.data_dir), session.principal
            holders = [known.get(serial) for serial in added]
            # Of a serial number that this machine does not know, nobody can say that it is not this person's.
            if any(of is None or (of.role, of.name) == (person.role, person.name) for of in holders):
                self._desk.sessions.end(request.cookies[COOKIE])
                raise Unauthenticated("the certificate was revoked", rule="certificate.revoked")
            session.revoked |= added
        return session.principal

    def _holder(self, request: Request) -> Principal | None:
        try:
            return self.shown(request)
        except WeirError:
            return None  # The page then offers the other way in.

    def _page(self, template: str, request: Request, session: Session | None, **values: object) -> Response:
        words = language_of(request)
        visit = None if session is None else Visit(request, self._desk, session, words, "confirm")
        return self._desk.render(
            template, words=words, request=request, status=200, visit=visit, notice=None, **values
        )  # fmt: skip
