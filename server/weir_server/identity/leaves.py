# SPDX-License-Identifier: Apache-2.0
"""What was done to identities, in the log: `weir.identity.issued` and `weir.identity.revoked`.

The acts need the authority's key and no server, so a running server, or the next one that starts, follows their record.
What the log holds stays so: a certificate that it calls revoked is refused even where the list was lost or put back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path

from weir.errors import WeirError
from weir.receipts import parse_event
from weir_server.identity import identities, revocation
from weir_server.identity.identities import REVOKED, Act, read_acts
from weir_server.identity.watched import Watched
from weir_server.ledger import record
from weir_server.observe import event, exception_fields
from weir_server.store import Store, Transaction

AUTHORITY = "authority"
"""Role, in log entries, of who uses the authority's key; no certificate has it."""
TYPE = "weir.identity."
_TYPE = TYPE.encode()
_INSERT = "INSERT INTO identity_acts (act, serial, leaf_index) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_LOOK_SECONDS = 2.0
Entropy = Callable[[int], bytes]


async def keep_logged(store: Store, data_dir: Path, *, now: Callable[[], datetime], entropy: Entropy) -> None:
    """Puts what was done to identities into the log, once each and seconds later, until the store stops.

    Nothing waits for it: a revocation holds from the moment the list is written. What cannot be read is tried again.
    """
    watched: Watched[list[Act]] | None = None
    logged: list[Act] | None = None
    while not store.stopped:
        try:
            if watched is None:
                files = [data_dir / revocation.FILE_NAME, data_dir / identities.FILE_NAME]
                watched = Watched(files, lambda: known_acts(data_dir))
            acts = watched.get()
            if acts is not logged:
                await store.write(partial(log_acts, acts=acts, now=now(), entropy=entropy))
                logged = acts
        except WeirError as error:
            event("identities_unlogged", level=logging.ERROR, **exception_fields(error))
        await asyncio.sleep(_LOOK_SECONDS)


def known_acts(data_dir: Path) -> list[Act]:
    """The record, and revocations that only the list knows since it came from another machine.

    Raises:
        Unavailable: record or list cannot be read.
    """
    acts = read_acts(data_dir)
    recorded = {act.serial for act in acts if act.act == REVOKED}
    listed = revocation.read_revoked(data_dir) if (data_dir / revocation.FILE_NAME).exists() else {}
    carried = [
        Act(act=REVOKED, serial=f"{serial:x}", role="", name="", at=at.isoformat())
        for serial, at in listed.items()
        if f"{serial:x}" not in recorded
    ]
    return acts + carried


def logged_revocations(tx: Transaction) -> frozenset[int]:
    """Serial numbers that the log calls revoked."""
    rows = tx.execute("SELECT serial FROM identity_acts WHERE act = ?", (REVOKED,))
    return frozenset(int(str(serial), 16) for (serial,) in rows)


def rebuild(tx: Transaction, leaves: Iterable[bytes]) -> None:
    """Makes the table again from all entries of the log, in order; for a restore."""
    tx.execute("DELETE FROM identity_acts")
    for index, leaf in enumerate(leaves):
        if _TYPE in leaf:
            event = parse_event(leaf)
            kind, data = str(event["type"]), event["data"]
            if kind.startswith(TYPE) and isinstance(data, dict):
                tx.execute(_INSERT, (kind.removeprefix(TYPE), str(data["serial"]), index))


def log_acts(tx: Transaction, *, acts: Iterable[Act], now: datetime, entropy: Entropy) -> int:
    """A leaf for each act that has none; gives how many. A certificate is issued once and revoked once."""
    known = {(str(act), str(serial)) for act, serial in tx.execute("SELECT act, serial FROM identity_acts")}
    fresh = [act for act in acts if (act.act, act.serial) not in known]
    for act in fresh:
        stated = {"serial": act.serial, "at": act.at, "until": act.until, "reason": act.reason}
        data = {key: value for key, value in stated.items() if value} | {"actor": act.by, "role": AUTHORITY}
        subject = f"{act.role}/{act.name}" if act.name else f"certificate/{act.serial}"
        posted = record(tx, f"{TYPE}{act.act}", data, subject=subject, now=now, entropy=entropy)
        tx.execute(_INSERT, (act.act, act.serial, posted.leaf_index))
    return len(fresh)
