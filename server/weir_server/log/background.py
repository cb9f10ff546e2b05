# SPDX-License-Identifier: Apache-2.0
"""What follows the log while a server runs: signatures and the export to files, at most a second behind; a witness.

None is needed for an answer: what fails here is logged and tried again, and nothing is held up.
"""

from __future__ import annotations

import asyncio
import logging
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from weir.checkpoint import parse_vkey
from weir.errors import InvalidRequest, Unavailable, VerificationError, WeirError
from weir_server.log.cosign import HttpReply, Post, submit
from weir_server.log.seal import is_behind
from weir_server.log.tiles import export_tiles
from weir_server.observe import event, exception_fields
from weir_server.store import Store, Transaction
from weir_server.store.aside import read_aside

DIRECTORY = "log"
"""Of the data directory: the exported log."""
_EXPORT_SECONDS = 0.5
_SIGN_SECONDS = 0.4
"""With `seal.MOST_BEHIND` less than a second."""
_RETRY_SECONDS = 5.0
_POST_SECONDS = 10.0
_MAX_REPLY = 64 * 1024


async def keep_signed(store: Store) -> None:
    """Has leaves signed that no answer followed, until the store stops or the task is cancelled."""
    while not store.stopped:
        with suppress(Unavailable):  # It stopped in between, which has ended the server by its own signal.
            if await read_aside(store, is_behind):
                await store.write(_nothing)
        await asyncio.sleep(_SIGN_SECONDS)


def _nothing(tx: Transaction) -> None:
    """An operation whose group is sealed."""


async def keep_exported(store: Store, directory: Path, *, vkey: str = "") -> None:
    """Exports again and again until the store stops, the task is cancelled, or the files show that the books are not
    the newest: then they are left as they are, for whoever looks, and the log of operators says so once.

    `vkey`: the log's verifier keys. Files that a power cut spoilt are written again at the start."""
    mend = True
    while not store.stopped:
        pause = _EXPORT_SECONDS
        try:
            await asyncio.to_thread(export_tiles, store, directory, vkey=vkey, mend=mend)
            mend = False
        except VerificationError as error:
            event("export_stopped", level=logging.ERROR, rule=error.rule or "", **exception_fields(error))
            return
        except (OSError, WeirError) as error:
            event("export_failed", level=logging.ERROR, **exception_fields(error))
            pause = _RETRY_SECONDS
        await asyncio.sleep(pause)


async def keep_cosigned(store: Store, *, witness: str, post: Post, seconds: float) -> None:
    """Submits the newest checkpoint every `seconds` until the store stops or the task is cancelled."""
    known = 0
    while not store.stopped:
        try:
            known = await submit(store, witness=witness, post=post, known=known)
        except (OSError, VerificationError, Unavailable) as error:
            event("witness_failed", level=logging.ERROR, **exception_fields(error))
        await asyncio.sleep(seconds)


def check_witness(url: str, key: str) -> None:
    """Refuses a witness that cannot be asked or whose reply could not be checked.

    Raises:
        InvalidRequest: no http(s) URL, or no verifier key.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise InvalidRequest("a witness is an http or https URL", field="witness.url", rule="witness.url")
    try:
        parse_vkey(key)
    except VerificationError as error:
        sentence = "witness.url needs the witness's verifier key"
        raise InvalidRequest(sentence, field="witness.key", rule=error.rule) from error


def http_post(url: str) -> Post:
    """A sender to the witness at `url`. It follows no redirect, uses no proxy and reads at most 64 KiB."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    target = url.rstrip("/") + "/add-checkpoint"

    def post(body: str) -> HttpReply:
        request = urllib.request.Request(target, data=body.encode(), method="POST")  # noqa: S310 - see check_witness
        try:
            reply = opener.open(request, timeout=_POST_SECONDS)
        except urllib.error.HTTPError as error:
            reply = error
        with reply:
            text = reply.read(_MAX_REPLY).decode("utf-8", errors="replace")
            return HttpReply(int(reply.status), reply.headers.get("Content-Type", ""), text)

    return post


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object, **named: object) -> None:
        """None: the reply is the redirect itself."""
