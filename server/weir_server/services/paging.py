# SPDX-License-Identifier: Apache-2.0
"""Pages by key: a token is the last key that was shown, so that a page never shifts under what is added meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from weir.errors import InvalidRequest

T = TypeVar("T")
MAX_PAGE = 200


def page_size(asked: int, *, default: int) -> int:
    """Rows of a page; `default` for 0.

    Raises:
        InvalidRequest: more than 200.
    """
    if asked > MAX_PAGE:
        raise InvalidRequest(f"a page has at most {MAX_PAGE} entries", field="page_size", rule="page.size")
    return asked or default


def page_after(items: Sequence[T], *, key: Callable[[T], str], token: str, size: int) -> tuple[list[T], str]:
    """The page behind `token` of items ordered by key, and the token of the page that follows; empty on the last."""
    rest = [item for item in items if key(item) > token]
    page = rest[:size]
    return page, key(page[-1]) if len(rest) > size else ""


def index_token(token: str) -> int | None:
    """A token that is an index of the log; None for the first page.

    Raises:
        InvalidRequest: it is no token of this call.
    """
    if not token:
        return None
    if not token.isascii() or not token.isdecimal() or len(token) > 18:
        raise bad_token()
    return int(token)


def bad_token() -> InvalidRequest:
    """The refusal of a token that this call never gave."""
    return InvalidRequest("not a page token of this call", field="page_token", rule="page.token")
