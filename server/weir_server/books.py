# SPDX-License-Identifier: Apache-2.0
"""The books of a domain: ledger and log in one store, embedded in the data directory or in a PostgreSQL schema."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from weir.checkpoint import verify
from weir.errors import LogInconsistent, Unavailable, VerificationError
from weir_server import ledger, log
from weir_server.clock import Timekeeper
from weir_server.config import ClockSettings, LedgerSettings
from weir_server.fsck import Report, check, fsck, postgres_rows
from weir_server.health import pulse
from weir_server.health.latch import Latch
from weir_server.identity.pki import Domain, log_key
from weir_server.log.background import DIRECTORY as LOG_DIRECTORY
from weir_server.log.continuity import continues
from weir_server.store import Store, Transaction, integer
from weir_server.store.schema import VERSION
from weir_server.store.sqlite import FILE_NAME, SqliteStore
from weir_server.store.sqlite import read_only as read_embedded

DIRECTORY = "ledger"
"""Of the data directory; 0700. Empty where a PostgreSQL keeps the books."""
_EMBEDDED = LedgerSettings()
_CLOCK = ClockSettings()
_DATABASE_TIME = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
"""Of a PostgreSQL."""
OnFailure = Callable[[BaseException], None]


def nothing(error: BaseException) -> None:
    """Of a store whose end is seen by its callers."""


def open_books(
    data_dir: Path,
    domain: Domain,
    *,
    settings: LedgerSettings = _EMBEDDED,
    time: ClockSettings = _CLOCK,
    latch: Latch | None = None,
    on_failure: OnFailure = nothing,
) -> Store:
    """The store, with its log named and what former processes left half-way given back.

    `latch`: what closes the store to writing; by default its clock alone. `on_failure` runs once, in another thread,
    when the store stops by itself: the process MUST end then.

    Raises:
        LedgerLocked: another process has the directory.
        LogInconsistent: the exported log is of another history.
        Unavailable: the books were written by a newer Weir, their database cannot be reached or trusted, they are older
            than the exported log, or the clock cannot be right (rule `clock.…`; see `pulse`).
    """
    latch = latch or Latch(Timekeeper(bound=timedelta(seconds=time.max_skew_seconds)))
    keeper = latch.keeper
    store = _store(data_dir, domain, settings, latch, on_failure)
    try:
        _require_newest(store, data_dir)
        _require_time(store, keeper, time)
        ledger.start(store, origin=domain.log_signers[0].name, now=keeper, entropy=os.urandom)
        store.write_sync(partial(pulse.beat, pulse=present(keeper)))
    except BaseException:
        store.close()
        raise
    return store


def accept_time(
    data_dir: Path,
    domain: Domain,
    *,
    settings: LedgerSettings = _EMBEDDED,
    time: ClockSettings = _CLOCK,
    reason: str,
    actor: str,
) -> tuple[datetime, int]:
    """Takes the present as the time of the books, by a person's word; the time and the index of the log's entry.

    Raises: as `open_books`, but for the clock, which is that of the database where there is one (`clock.skew`).
    """
    keeper = Timekeeper(bound=timedelta(seconds=time.max_skew_seconds))
    store = _store(data_dir, domain, settings, Latch(keeper), nothing)
    try:
        _require_newest(store, data_dir)
        ledger.start(store, origin=domain.log_signers[0].name, now=keeper, entropy=os.urandom)
        current = present(keeper)
        act = partial(pulse.accept, current=current, reason=reason, actor=actor, entropy=os.urandom)
        return current.at, store.write_sync(act)
    finally:
        store.close()


def present(keeper: Timekeeper) -> pulse.Pulse:
    """The pulse of this moment."""
    return pulse.Pulse(keeper(), pulse.boot(), keeper.steady())


def _require_time(store: Store, keeper: Timekeeper, time: ClockSettings) -> None:
    """Refuses to live on with a clock that cannot be right.

    Raises:
        Unavailable: rule `clock.…`, and what to do.
    """
    pause = timedelta(hours=time.max_pause_hours)
    closed = pulse.judge(store.read(pulse.last_pulse), present(keeper), bound=keeper.bound, pause=pause)
    if closed is not None:
        raise Unavailable(closed.message, rule=closed.rule)


def _require_newest(store: Store, data_dir: Path) -> None:
    """Refuses books that were put back, or others than those that were served: they would give budget back and fork the
    log. Entries are exported after they are durable, so the export is never ahead by itself.

    Raises:
        LogInconsistent: the exported log has other entries.
        Unavailable: it has more.
    """
    try:
        note = (data_dir / LOG_DIRECTORY / "checkpoint").read_text(encoding="utf-8")
        exported = verify(note, log_key(data_dir))
    except (OSError, ValueError, VerificationError):
        return  # Derived files: what is missing or damaged is written again, and proves nothing.
    head = store.read(log.read_head)
    size = 0 if head is None else head.size
    if exported.size > size:
        raise Unavailable(
            f"the exported log has {exported.size} entries and the books {size}: these are not the newest books, and "
            "would give budget back; weir restore brings a copy forward",
            rule="ledger.behind",
        )
    if not store.read(partial(continues, older=exported)):
        raise LogInconsistent("the exported log is of another history than the books", older=note, newer="")


def _store(data_dir: Path, domain: Domain, settings: LedgerSettings, latch: Latch, on_failure: OnFailure) -> Store:
    seal = log.sealer(domain.log_signers, now=latch.keeper)
    if settings.postgres:
        from weir_server.store.postgres import PostgresStore

        return PostgresStore(settings.postgres, schema=settings.schema, seal=seal, on_failure=on_failure, admit=latch)
    directory = data_dir / DIRECTORY
    directory.mkdir(mode=0o700, exist_ok=True)
    return SqliteStore(directory, seal=seal, on_failure=on_failure, admit=latch)


@contextmanager
def read_books(data_dir: Path, *, settings: LedgerSettings = _EMBEDDED) -> Iterator[Transaction]:
    """One consistent snapshot of the books, beside the servers that use them.

    Raises:
        Unavailable: there are none, or their database cannot be reached.
    """
    if settings.postgres:
        from weir_server.store.postgres import read_only

        with read_only(settings.postgres, settings.schema) as tx:
            yield tx
    else:
        with read_embedded(data_dir / DIRECTORY) as tx:
            yield tx


def last_seen(data_dir: Path, *, settings: LedgerSettings = _EMBEDDED) -> tuple[pulse.Pulse | None, int | None]:
    """The newest pulse, and the time of the books' database (microseconds since 1970) where there is one.

    No pulse where there are no books yet, or none of this version.

    Raises:
        Unavailable: the database cannot be reached.
    """
    if not settings.postgres and not (data_dir / DIRECTORY / FILE_NAME).exists():
        return None, None
    with read_books(data_dir, settings=settings) as tx:
        engine = integer(tx.execute(_DATABASE_TIME)[0][0]) if settings.postgres else None
        current = tx.execute("SELECT version FROM schema_version")[0][0] == VERSION
        return pulse.last_pulse(tx) if current else None, engine


def check_books(data_dir: Path, *, settings: LedgerSettings = _EMBEDDED) -> Report:
    """fsck of the books and of the exported log.

    Raises:
        Unavailable: their database cannot be reached.
    """
    vkey, files = log_key(data_dir), data_dir / LOG_DIRECTORY
    if not settings.postgres:
        return fsck(data_dir / DIRECTORY, vkey=vkey, files=files)
    with postgres_rows(settings.postgres, settings.schema) as rows:
        return check(rows, vkey=vkey, files=files)


def give_back_holds(tx: Transaction, *, now: Callable[[], datetime]) -> int:
    """Expires this process's holds: for shutdown, once nothing runs that could still post. Gives how many."""
    return ledger.give_up(tx, now=now(), entropy=os.urandom)


def recover_holds(tx: Transaction, *, now: Callable[[], datetime]) -> int:
    """Expires holds of processes that are gone; gives how many."""
    return ledger.recover(tx, now=now(), entropy=os.urandom)


def expire_holds(tx: Transaction, *, now: Callable[[], datetime]) -> int:
    """Expires holds whose time is up; gives how many."""
    return ledger.expire_holds(tx, now=now(), entropy=os.urandom)
