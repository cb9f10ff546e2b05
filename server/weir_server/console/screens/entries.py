# SPDX-License-Identifier: Apache-2.0
"""The log: its entries, and one entry verified in front of the reader."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta

from starlette.responses import Response

from weir.errors import InvalidRequest, UnknownName
from weir_server import log
from weir_server.audit.replay_decisions import replay
from weir_server.console import calls
from weir_server.console.reads import checkpoints, entries
from weir_server.console.reads.checkpoints import Head
from weir_server.console.reads.entries import Entry, EntryPage, Filter
from weir_server.console.screens.screen import Screen
from weir_server.console.verify import Verified, verify_entry
from weir_server.console.visit import Visit
from weir_server.policy.lifecycle import terms
from weir_server.store import Transaction, blob, text

_READS = (calls.LIST_ENTRIES, calls.GET_INCLUSION_PROOF, calls.GET_CHECKPOINT)


async def show(visit: Visit) -> Response:
    """Entries, newest first."""
    wanted = Filter(visit.query("type"), visit.query("requester"), visit.query("contract"))
    before, day = visit.number("before"), _day(visit.query("day"))

    def read(tx: Transaction) -> tuple[EntryPage, list[str]]:
        behind = entries.first_since(tx, day + timedelta(days=1)) if day is not None and before is None else before
        return entries.page(tx, wanted, before=behind), entries.types(tx)

    found, types = await visit.read(calls.LIST_ENTRIES, read)
    jump = visit.number("index")
    if jump is not None:
        return visit.go(f"/log/{jump}")
    return visit.page(
        "log.html",
        page=found,
        types=types,
        wanted=wanted,
        day=visit.query("day"),
        first=visit.link(before=None) if before is not None else "",
        following=visit.link(before=found.next) if found.next is not None else "",
    )


async def show_entry(visit: Visit) -> Response:
    """One entry: what it says, and whether it is what was signed."""
    index = _index(visit)

    def read(tx: Transaction) -> tuple[Entry | None, Head | None, list[bytes]]:
        entry, head = entries.find(tx, index), checkpoints.newest(tx)
        covered = entry is not None and head is not None and index < head.size
        return entry, head, log.inclusion(tx, index, head.size) if covered and head is not None else []

    entry, head, path = await visit.read(calls.GET_INCLUSION_PROOF, read)
    if entry is None:
        raise UnknownName("the log has no such entry", field="index", rule="log.index")
    verified: Verified | None = None
    if head is not None and index < head.size:
        verified = verify_entry(
            index=index,
            leaf=entry.leaf,
            path=path,
            note=head.note + head.cosigned,
            log_key=visit.desk.log_key,
            witness_key=visit.desk.witness_key,
        )
    return visit.page(
        "entry.html",
        entry=entry,
        missing=not entry.leaf,
        head=head,
        verified=verified,
        decides=entry.type in ("weir.query.reserved", "weir.query.refused"),
    )


async def show_replay(visit: Visit) -> Response:
    """The decision of one entry, made again from what is kept of it."""
    index = _index(visit)

    def read(tx: Transaction) -> tuple[Entry | None, object, list[tuple[str, bytes]], bytes | None]:
        rows = tx.execute("SELECT contract_digest, facts FROM decisions WHERE leaf_index = ?", (index,))
        kept = [(text(digest), blob(facts)) for digest, facts in rows]
        contract = terms(tx, kept[0][0]) if kept else None
        return entries.find(tx, index), replay(tx, start=index, end=index + 1), kept, contract

    entry, replayed, kept, contract = await visit.read(calls.GET_EVIDENCE, read)
    if entry is None:
        raise UnknownName("the log has no such entry", field="index", rule="log.index")
    return visit.page(
        "replay.html",
        entry=entry,
        replayed=replayed,
        facts=json.loads(kept[0][1]) if kept else {},
        contract_digest=kept[0][0] if kept else "",
        contract=json.loads(contract) if contract else None,
    )


def _day(text: str) -> datetime | None:
    """First instant of a day in UTC.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        day = datetime.combine(date.fromisoformat(text), time(), tzinfo=UTC) if text else None
        # The day after it must be one too.
        return None if day is None else day + timedelta(days=1) - timedelta(days=1)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest("a day looks like 2026-11-22", field="day", rule="console.number") from error


def _index(visit: Visit) -> int:
    number = visit.path("index")
    if not number.isascii() or not number.isdecimal() or len(number) > 18:
        raise UnknownName("the log has no such entry", field="index", rule="log.index")
    return int(number)


SCREENS = (
    Screen("log", "/log", show, (calls.LIST_ENTRIES,)),
    Screen("entry", "/log/{index}", show_entry, _READS),
    Screen("replay", "/log/{index}/replay", show_replay, (calls.LIST_ENTRIES, calls.GET_EVIDENCE)),
)
