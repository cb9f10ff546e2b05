# SPDX-License-Identifier: Apache-2.0
"""Forms: read up to a limit, from this very site, with the session's own token."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request

from weir.errors import InvalidRequest, PermissionDenied

MAX_FORM_BYTES = 64 * 1024
"""Of every form but the policy's documents."""
_MAX_FIELDS = 200
_URLENCODED = "application/x-www-form-urlencoded"
Form = Mapping[str, str]
"""Fields by name; of one given twice, the last."""


async def read_form(request: Request, *, limit: int) -> Form:
    """The form that was posted.

    Raises:
        InvalidRequest: larger than `limit` bytes, of another type, or malformed.
    """
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != _URLENCODED:
        raise InvalidRequest("a form is posted as x-www-form-urlencoded", field="form", rule="console.form")
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            raise InvalidRequest(f"a form has at most {limit} bytes", field="form", rule="console.form_size")
    try:
        pairs = parse_qsl(content.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError as error:
        raise InvalidRequest("the form is malformed", field="form", rule="console.form") from error
    return dict(pairs)


def check_origin(request: Request) -> None:
    """Refuses what another site makes a browser post. Browsers send `Origin` with every POST; no page can forge it.

    Raises:
        PermissionDenied: it is missing or names another site.
    """
    origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
    if origin != f"https://{host}" or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise PermissionDenied("the form came from another site", rule="console.origin")


def check_token(form: Form, expected: str) -> None:
    """Refuses a form that was not made for this session.

    Raises:
        PermissionDenied: its token is missing or another's.
    """
    if not hmac.compare_digest(form.get("csrf", "").encode(), expected.encode()):
        raise PermissionDenied("the page is out of date; open it again", rule="console.csrf")


def check_host(request: Request, hosts: frozenset[str]) -> None:
    """Refuses a name that the server's certificate does not hold: somebody pointed another name here.

    Raises:
        InvalidRequest: it does not.
    """
    try:
        named = urlsplit(f"//{request.headers.get('host', '')}").hostname
    except ValueError:
        named = None
    if named is None or named.lower() not in hosts:
        raise InvalidRequest("the console is not addressed by this name", field="host", rule="console.host")
