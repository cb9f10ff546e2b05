# SPDX-License-Identifier: Apache-2.0
"""Checkpoints, their witnesses, and whether the log of one extends the log of another."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response

from weir.errors import UnknownName
from weir_server import log
from weir_server.console import calls
from weir_server.console.reads import checkpoints
from weir_server.console.reads.checkpoints import Head
from weir_server.console.screens.screen import Screen
from weir_server.console.verify import Verified, verify_growth, verify_tree
from weir_server.console.visit import Visit
from weir_server.log.tree import root
from weir_server.store import Transaction


async def show(visit: Visit) -> Response:
    """Checkpoints, newest first; the newest one held against the tree that is stored."""
    below = visit.number("below")

    def read(tx: Transaction) -> tuple[list[Head], int | None, Head | None, bytes]:
        heads, following = checkpoints.page(tx, below=below)
        newest = checkpoints.newest(tx)
        return heads, following, newest, b"" if newest is None else root(tx, newest.size)

    heads, following, newest, stored = await visit.read(calls.GET_CHECKPOINT, read)
    verified = None
    if newest is not None:
        note = newest.note + newest.cosigned
        verified = verify_tree(note=note, size=newest.size, root=stored, log_key=visit.desk.log_key)
    return visit.page(
        "checkpoints.html",
        heads=heads,
        newest=newest,
        verified=verified,
        first=visit.link(below=None) if below is not None else "",
        following=visit.link(below=following) if following is not None else "",
        keys=visit.desk.log_key.split(),
    )


async def show_growth(visit: Visit) -> Response:
    """Whether the log at one size is the beginning of the log at another."""
    old, new = visit.number("old"), visit.number("new")

    def read(tx: Transaction) -> tuple[Head | None, Head | None, list[bytes]]:
        newest = checkpoints.newest(tx)
        wanted = newest.size if newest is not None and new is None else new or 0
        newer, older = checkpoints.up_to(tx, wanted), checkpoints.up_to(tx, min(old or 0, wanted))
        if newer is None or older is None:
            return older, newer, []
        return older, newer, list(log.consistency(tx, older.size, newer.size).path)

    older, newer, path = await visit.read(calls.GET_CHECKPOINT, read)
    verified: Verified | None = None
    if older is not None and newer is not None:
        verified = verify_growth(older=older.note, newer=newer.note, path=path, log_key=visit.desk.log_key)
    return visit.page(
        "growth.html", older=older, newer=newer, path=[item.hex() for item in path], verified=verified, old=old, new=new
    )


async def show_note(visit: Visit) -> Response:
    """The signed note of a checkpoint, as it is; for tools."""
    size = visit.path("size")
    wanted = int(size) if size.isascii() and size.isdecimal() and len(size) <= 18 else -1
    head = await visit.read(calls.GET_CHECKPOINT, lambda tx: checkpoints.at(tx, wanted))
    if head is None:
        raise UnknownName("no checkpoint has this size", field="size", rule="log.size")
    return PlainTextResponse(head.note + head.cosigned)


SCREENS = (
    Screen("checkpoints", "/checkpoints", show, (calls.GET_CHECKPOINT, calls.GET_INCLUSION_PROOF)),
    Screen("growth", "/checkpoints/growth", show_growth, (calls.GET_CHECKPOINT, calls.GET_INCLUSION_PROOF)),
    Screen("note", "/checkpoints/{size}/note", show_note, (calls.GET_CHECKPOINT, calls.GET_INCLUSION_PROOF)),
)
