# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens that a call shows beside the certificate of its connection."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from weir.errors import InvalidRequest

Token = str | os.PathLike[str] | Callable[[], str]
"""A token itself; the path of a file that holds one, read anew for each call, so that whoever renews it need not tell;
or a function that gives one, called for each call, from any thread, and expected to be quick."""
_FORM = re.compile(r"[A-Za-z0-9_=.~+/-]{1,16384}")
"""RFC 6750 §2.1, b64token."""


def token_metadata(token: Token | None) -> tuple[tuple[str, str], ...]:
    """Metadata of a call; empty without a token.

    Raises:
        InvalidRequest: the file is missing or readable by others, or what was given is no token.
    """
    if token is None:
        return ()
    text = token if isinstance(token, str) else _read(Path(token)) if isinstance(token, os.PathLike) else token()
    if not isinstance(text, str) or not _FORM.fullmatch(text.strip()):
        # What was given is not quoted: it may be a secret with a slip in it.
        raise InvalidRequest("the token is no bearer token", field="token", rule="token.form")
    return (("authorization", f"Bearer {text.strip()}"),)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise InvalidRequest(
                    f"others may read {path}, which holds a token: chmod 600 it", field="token", rule="token.mode"
                )
            return file.read(65_536).decode("ascii")
    except (OSError, UnicodeDecodeError):
        raise InvalidRequest(f"no token can be read from {path}", field="token", rule="token.file") from None
