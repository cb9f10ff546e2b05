# SPDX-License-Identifier: Apache-2.0
"""From a request to a screen. In this order, each step before the next one costs anything:

    1  host         a name of the server's certificate                              InvalidRequest
    2  session      the cookie, over the certificate it is bound to                 to the sign-in
    3  admit        a token and a seat, shared with the person's gRPC calls         Overloaded
    4  authorise    one table: every call that the screen stands for, by role       PermissionDenied
    5  form         from this site, small enough, with the session's token          PermissionDenied, InvalidRequest
    6  proof        a fresh one, for what decides or changes                        to the confirmation
    7  serve        the screen                                                      its own error, or an incident id

Only a WeirError's public parts are shown; of any other exception the operator log keeps type and code location.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from weir.errors import (
    AccessError,
    InternalError,
    Overloaded,
    RefusalError,
    RequestError,
    Unauthenticated,
    Unavailable,
    UnknownName,
    VerificationError,
    WeirError,
)
from weir_server.console import forms
from weir_server.console.browser import LANGUAGE_COOKIE, language_of, session_of, set_cookie
from weir_server.console.desk import Desk, static_files
from weir_server.console.gate import require
from weir_server.console.headers import SecurityHeaders
from weir_server.console.screens.screen import Screen
from weir_server.console.screens.table import SCREENS
from weir_server.console.sessions import Session
from weir_server.console.signin import SignIn
from weir_server.console.text import LANGUAGES
from weir_server.console.visit import Visit, address
from weir_server.observe import event, exception_fields
from weir_server.services.access import ACCESS

_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_STATUS: tuple[tuple[type[WeirError], int], ...] = (
    (UnknownName, 404),
    (RequestError, 400),
    (Unauthenticated, 401),
    (AccessError, 403),
    (RefusalError, 409),
    (VerificationError, 409),
    (Overloaded, 429),
    (Unavailable, 503),
)
_MAX_POLICY_BYTES = 3 * 4 * 1024 * 1024
"""A form triples the bytes of what it escapes."""

Handler = Callable[[Request], Awaitable[Response]]


def build(desk: Desk) -> ASGIApp:
    """The application that serves the console of a desk."""
    web = Web(desk)
    return SecurityHeaders(Starlette(routes=web.routes()))


class Web:
    """Serves the screens of one desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._static, self._signin = desk, static_files(), SignIn(desk)

    def routes(self) -> list[Route]:
        """Every route there is; what is none of them gets a page that says so."""
        by_path: dict[str, dict[str, Screen]] = {}
        for screen in SCREENS:
            by_path.setdefault(screen.path, {})[screen.method] = screen
        return [
            Route("/static/{name}", self._file),
            Route("/", self._home),
            *(Route(path, self._guarded(serve), methods=[method]) for path, method, serve in self._signin.routes()),
            *(
                Route(path, self._guarded(self._screen(screens)), methods=list(screens))
                for path, screens in by_path.items()
            ),
            Route("/{path:path}", self._guarded(_nothing)),
        ]

    def _guarded(self, serve: Handler) -> Handler:
        async def endpoint(request: Request) -> Response:
            try:
                forms.check_host(request, self._desk.hosts)
                chosen = request.query_params.get("lang")
                if chosen in LANGUAGES and request.method == "GET":
                    return _switched(request, chosen)
                return await serve(request)
            except Exception as error:
                return self._failed(request, error)

        return endpoint

    def _screen(self, screens: dict[str, Screen]) -> Handler:
        async def serve(request: Request) -> Response:
            screen = screens["POST" if request.method == "POST" else "GET"]
            session = session_of(request, self._desk.sessions)
            if session is None:
                return RedirectResponse("/sign-in", status_code=303)
            principal = self._signin.holder(request, session)
            with self._desk.admission.seat(f"{principal.role}/{principal.name}"):
                require(principal, *screen.calls)
                visit = Visit(request, self._desk, session, language_of(request), screen.name)
                if screen.method == "POST":
                    visit.form = await _checked_form(request, session, screen)
                if screen.proof and not visit.fresh:
                    return self._signin.ask_for_proof(visit, then=_parent(request))
                return await screen.serve(visit)

        return serve

    def _failed(self, request: Request, error: Exception) -> Response:
        """The page of an error; its status says what kind."""
        public, words = _public_error(error), language_of(request)
        status = next((status for kind, status in _STATUS if isinstance(public, kind)), 500)
        # Another name for this server gets no page of anybody's.
        session = None if public.rule == "console.host" else session_of(request, self._desk.sessions)
        return self._desk.render(
            "error.html",
            words=words,
            request=request,
            status=status,
            visit=None if session is None else Visit(request, self._desk, session, words, "error"),
            notice=None,
            error=public,
            back=_parent(request) if request.method == "POST" else "/",
        )

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        content = self._static.get(name)
        if content is None:
            return Response(status_code=404)
        return Response(content, media_type=_TYPES[name.rpartition(".")[2]])

    async def _home(self, request: Request) -> Response:
        signed_in = session_of(request, self._desk.sessions) is not None
        return RedirectResponse("/overview" if signed_in else "/sign-in", status_code=303)


async def _checked_form(request: Request, session: Session, screen: Screen) -> forms.Form:
    forms.check_origin(request)
    large = any(ACCESS[call].policy for call in screen.calls)
    form = await forms.read_form(request, limit=_MAX_POLICY_BYTES if large else forms.MAX_FORM_BYTES)
    forms.check_token(form, session.csrf)
    return form


def _switched(request: Request, language: str) -> Response:
    kept = {key: value for key, value in request.query_params.items() if key != "lang"}
    # One slash in front: browsers read `//name` as another site.
    path = f"/{request.url.path.lstrip('/')}"
    response = RedirectResponse(address(path, kept), status_code=303)
    set_cookie(response, LANGUAGE_COOKIE, language, days=365)
    return response


async def _nothing(request: Request) -> Response:
    raise UnknownName("there is no such page", rule="console.page")


def _parent(request: Request) -> str:
    return request.url.path.rpartition("/")[0] or "/"


def _public_error(error: Exception) -> WeirError:
    """What may be shown in place of any exception."""
    if isinstance(error, WeirError):
        return error
    incident = secrets.token_hex(6)
    event("incident", level=logging.ERROR, rpc="console", incident=incident, **exception_fields(error))
    return InternalError(
        "the service failed; operators find the cause by the incident id", metadata={"incident": incident}
    )
