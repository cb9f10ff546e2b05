# SPDX-License-Identifier: Apache-2.0
"""One-time codes that sign a person in to the console without a certificate in the browser.

Whoever owns the data directory issues one; the directory keeps its hash, never the code. A code is typed or pasted, or
travels in the fragment of a link, which no browser sends: so it stands in no URL that a server, proxy or history keeps.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from weir.errors import InvalidRequest, Unauthenticated
from weir_server.clock import from_micros, to_micros
from weir_server.identity.holder import APPROVER, AUDITOR, NAME, OPERATOR

PEOPLE = (OPERATOR, APPROVER, AUDITOR)
"""Roles that have a console: those who run, decide or oversee. Parties of contracts use the SDK and `weir`."""
DIRECTORY = "console-codes"
"""Of the data directory; 0700, one file per open code, named by its hash."""
DEFAULT_MINUTES = 10
MAX_MINUTES = 60
_CODE_BYTES = 20
"""160 random bits: nobody finds one by trying, so an unsalted hash of it can stand in a file's name."""
_CODE_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a code signs in."""

    role: str
    name: str


def issue_code(
    data_dir: Path,
    *,
    role: str,
    name: str,
    now: datetime,
    entropy: Callable[[int], bytes],
    minutes: int = DEFAULT_MINUTES,
) -> str:
    """A new code, in groups of four characters; it exists in the returned value only.

    `minutes`: how long it can be used, 1 to 60.

    Raises:
        InvalidRequest: a role without a console, a malformed name, or minutes out of range.
    """
    if role not in PEOPLE:
        raise InvalidRequest(f"the console is for {', '.join(PEOPLE)}", field="role", rule="link.role")
    if not NAME.fullmatch(name):
        raise InvalidRequest(
            "a name is small letters, digits and hyphens, at most 63", field="name", rule="identity.name"
        )
    if not 1 <= minutes <= MAX_MINUTES:
        raise InvalidRequest(f"minutes is 1 to {MAX_MINUTES}", field="minutes", rule="link.minutes")
    directory = data_dir / DIRECTORY
    directory.mkdir(mode=0o700, exist_ok=True)
    _remove_lapsed(directory, now)
    code = base64.b32encode(entropy(_CODE_BYTES)).decode("ascii")
    content = {"role": role, "name": name, "expires": to_micros(now + timedelta(minutes=minutes))}
    descriptor = os.open(directory / _name_of(code), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
    return "-".join(code[at : at + 4] for at in range(0, _CODE_CHARACTERS, 4))


def use_code(data_dir: Path, code: str, *, now: datetime) -> Holder:
    """Whom the code signs in; from then on it is worth nothing.

    Raises:
        Unauthenticated: unknown, used or lapsed; one text for all of them.
    """
    plain = "".join(code.split()).replace("-", "").upper()
    refused = Unauthenticated("the code is unknown, was used, or has lapsed", rule="link.code")
    if len(plain) != _CODE_CHARACTERS or not plain.isascii() or not plain.isalnum():
        raise refused
    path = data_dir / DIRECTORY / _name_of(plain)
    taken = path.with_suffix(".taken")
    try:
        os.rename(path, taken)  # Of two that try at once, the file system lets exactly one through.
        content = json.loads(taken.read_text(encoding="utf-8"))
        taken.unlink()
        holder, expires = Holder(content["role"], content["name"]), from_micros(content["expires"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise refused from error
    if now >= expires or holder.role not in PEOPLE:
        raise refused
    return holder


def _name_of(code: str) -> str:
    return hashlib.sha256(code.encode("ascii")).hexdigest() + ".json"


def _remove_lapsed(directory: Path, now: datetime) -> None:
    for path in directory.iterdir():
        try:
            lapsed = from_micros(json.loads(path.read_text(encoding="utf-8"))["expires"]) <= now
        except (OSError, ValueError, KeyError, TypeError):
            continue  # Being written or used at this moment; the next issue looks again.
        if lapsed:
            path.unlink(missing_ok=True)
