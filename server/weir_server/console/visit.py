# SPDX-License-Identifier: Apache-2.0
"""One request of somebody who is signed in: all that a screen needs to read, call and answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from weir.errors import InvalidRequest
from weir_server.console.forms import Form
from weir_server.console.gate import may
from weir_server.console.sessions import Notice, Session
from weir_server.console.text import Words
from weir_server.plan.values import Principal
from weir_server.store import Transaction
from weir_server.world import World

if TYPE_CHECKING:
    from weir_server.console.desk import Desk
    from weir_server.console.screens.screen import Screen

T = TypeVar("T")


@dataclass(slots=True)
class Visit:
    """A request with its session. Lives as long as the request."""

    request: Request
    desk: Desk
    session: Session
    words: Words
    screen: str
    """Name of the screen."""
    form: Form = field(default_factory=dict)
    """What was posted; empty otherwise."""

    @property
    def principal(self) -> Principal:
        """Who is signed in."""
        return self.session.principal

    @property
    def world(self) -> World:
        """The domain at this moment."""
        return self.desk.state.world

    @property
    def now(self) -> datetime:
        """By the server's clock."""
        return self.desk.now()

    @property
    def fresh(self) -> bool:
        """Whether the person proved who they are recently."""
        return self.desk.sessions.is_fresh(self.session)

    def may(self, *calls: str) -> bool:
        """Whether the person's role may make every one of these calls."""
        return may(self.principal.role, *calls)

    async def call(self, rpc: str, request: Message) -> Any:
        """A call of a service, as this person."""
        return await self.desk.gate.call(self.principal, rpc, request)

    async def read(self, rpc: str, operation: Callable[[Transaction], T]) -> T:
        """A read of the books, open to whoever may make `rpc`."""
        return await self.desk.gate.read(self.principal, rpc, operation)

    def path(self, name: str) -> str:
        """A parameter of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str) -> str:
        """A parameter of the address, at most 200 characters; empty where it is not given."""
        return self.request.query_params.get(name, "")[:200].strip()

    def number(self, name: str) -> int | None:
        """A whole number of the address, or None where it is not given.

        Raises:
            InvalidRequest: it is none.
        """
        return whole_number(self.query(name), field=name)

    def field(self, name: str) -> str:
        """A text field of the form; empty where it is not given."""
        return self.form.get(name, "").strip()

    def reason(self) -> str:
        """The reason of the form on one line, as the log keeps it: people break lines where the page lets them."""
        return " ".join(self.field("reason").split())

    def key(self) -> str:
        """The idempotency key of the form, made with the page: pressing twice does it once."""
        return self.field("key")

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """A page of this template."""
        shown, self.session.notice = self.session.notice, None
        return self.desk.render(
            template,
            words=self.words,
            request=self.request,
            status=status,
            visit=self,
            notice=shown,
            new_key=secrets.token_urlsafe(18),
            **values,
        )

    def go(self, path: str, notice: str = "", **values: str) -> Response:
        """A redirect after something was done; the next page tells it."""
        if notice:
            self.session.notice = Notice(notice, values)
        return RedirectResponse(path, status_code=303)

    def rooms(self) -> list[tuple[str, list[Screen]]]:
        """The navigation: what this person may open, by group."""
        from weir_server.console.screens.table import BY_NAME, ROOMS

        found = [
            (group, [BY_NAME[name] for name in names if name in BY_NAME and self.may(*BY_NAME[name].calls)])
            for group, names in ROOMS
        ]
        return [(group, screens) for group, screens in found if screens]

    def in_room(self, room: Screen) -> bool:
        """Whether the page belongs to a room of the navigation."""
        path = self.request.url.path
        return path == room.path or path.startswith(f"{room.path}/")

    def link(self, **changes: object) -> str:
        """This address with other parameters; None takes one away."""
        return address(self.request.url.path, {**dict(self.request.query_params), **changes})


def address(path: str, parameters: Mapping[str, object]) -> str:
    """A path with the parameters that have a value."""
    from urllib.parse import urlencode

    given = {key: value for key, value in parameters.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path


def whole_number(text: str, *, field: str) -> int | None:
    """A whole number below 2**62, or None for an empty text.

    Raises:
        InvalidRequest: it is none.
    """
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise InvalidRequest("not a whole number", field=field, rule="console.number")
    return int(text)
