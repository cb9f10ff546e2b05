# SPDX-License-Identifier: Apache-2.0
"""Putting a copy in force: brought forward, held against every checkpoint that is known, and stopped.

    1  the copy goes to a new directory, which is no domain yet
    2  evidence: the exported log, verified from its first to its last entry, and checkpoints kept elsewhere
    3  entries behind the copy are appended as they stand; reservations, limits, balances and meter follow from entries
    4  refuse where a known checkpoint is newer, or where nothing shows how far the log had got; `close_budgets` instead
       lowers every privacy budget to what is used, an entry each, and marks what the books cannot know any more
       (policy/unproven.py): lineages, versions and datasets of entries behind the copy
    5  approvals are taken back, since the copy does not know what used them; everything is stopped, by name, until an
       operator has looked; only then the directory becomes a domain

Answers, releases, salts and idempotency keys of entries behind the copy are lost; what was charged for them is not.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from weir.checkpoint import Checkpoint, verify
from weir.errors import InvalidRequest, LogInconsistent, PublicationError, Unavailable, VerificationError
from weir.merkle import leaf_hash, root_of
from weir.receipts import parse_event
from weir.replay import Books, follow_all
from weir.tiles import LARGEST_BUNDLE, TILE_WIDTH, entries_of, tile_name
from weir_server import clock, log
from weir_server.backup import agreements, conduct, unknown
from weir_server.backup.copying import IDENTITIES, SNAPSHOTS, copy_tree, put_in_place
from weir_server.books import DIRECTORY as BOOKS
from weir_server.catalog.snapshot import Snapshot, open_snapshot
from weir_server.clock import to_micros
from weir_server.config import FILE_NAME as SETTINGS
from weir_server.fsck.unproven import unproven_of
from weir_server.health import pulse
from weir_server.identity import leaves as identity_leaves
from weir_server.identity.pki import DOMAIN_FILE, NEEDED, SECRETS, load_domain, log_key
from weir_server.ledger import METRICS, record
from weir_server.policy import book, unproven
from weir_server.publish.files import PRIVATE
from weir_server.store import SqlValue, Transaction
from weir_server.store.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    copied: int
    """Entries that the copy held."""
    appended: int
    """Entries brought in from the exported log."""
    closed: tuple[str, ...]
    """Privacy budgets closed for good."""
    held: tuple[str, ...]
    """Datasets that get no further version, since nobody knows which was the newest."""


def restore(
    backup: Path,
    target: Path,
    *,
    exported: Path | None = None,
    checkpoints: Sequence[str] = (),
    secrets: Path | None = None,
    newer: Path | None = None,
    close_budgets: bool = False,
) -> Restored:
    """Makes the new data directory `target` from a backup. See the module for the order of steps.

    `exported`: directory of the log's files, the newest there is. `checkpoints`: signed notes that witnesses, auditors
    or requesters kept. The newest of all these must not be older than the copy. `secrets`: the domain's secrets, where
    the backup holds none. `newer`: a directory with snapshots made after the backup. `close_budgets`: go on although
    entries may be missing.

    Raises:
        InvalidRequest: the target exists, the backup is none, or there are no secrets.
        Unavailable: entries are missing, or nothing shows that none are; rule `restore.behind` or `restore.evidence`.
        LogInconsistent: a checkpoint or the exported log is of another history.
        VerificationError: the exported log or a checkpoint does not verify.
    """
    if target.exists():
        raise InvalidRequest("the target of a restore must not exist", field="data", rule="restore.target")
    draft = target.with_name(target.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _lay_out(backup, draft, secrets, newer)
        done = _bring_forward(draft, exported, checkpoints, close_budgets=close_budgets)
        put_in_place(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return done


def _lay_out(backup: Path, draft: Path, secrets: Path | None, newer: Path | None) -> None:
    if not (backup / DOMAIN_FILE).is_file() or not (backup / BOOKS).is_dir():
        raise InvalidRequest("the directory is no backup", field="backup", rule="restore.backup")
    _demand_secrets(secrets or backup / SECRETS)
    draft.mkdir(mode=0o700, parents=True)
    for name in (BOOKS, SNAPSHOTS, PRIVATE):
        if (backup / name).is_dir():
            shutil.copytree(backup / name, draft / name)
    for name in (SNAPSHOTS, PRIVATE):
        if newer is not None:
            copy_tree(newer / name, draft / name)
    for name in (*IDENTITIES, SETTINGS):
        if (backup / name).is_file():
            shutil.copy2(backup / name, draft / name)
    shutil.copytree(secrets or backup / SECRETS, draft / SECRETS)
    shutil.copy2(backup / DOMAIN_FILE, draft / DOMAIN_FILE)
    for folder, _, names in os.walk(draft):
        Path(folder).chmod(0o700)
        for name in names:
            (Path(folder) / name).chmod(0o600)


def _demand_secrets(directory: Path) -> None:
    missing = [name for name in NEEDED if not (directory / name).is_file()]
    if missing:
        raise InvalidRequest(
            f"{directory} has no {missing[0]}: give --secrets DIR, a copy of the domain's own secrets/",
            field="secrets",
            rule="restore.secrets",
        )


def _bring_forward(draft: Path, exported: Path | None, checkpoints: Sequence[str], *, close_budgets: bool) -> Restored:
    domain = load_domain(draft)
    store = SqliteStore(draft / BOOKS, seal=log.sealer(domain.log_signers, now=clock.now))
    try:
        leaves = [leaf for _, leaf in store.read(lambda tx: list(log.entries(tx)))]
        copied = len(leaves)
        heads = [verify(note, log_key(draft)) for note in checkpoints]
        # What ends before the copy does says nothing of what came after it.
        shown = max((head.size for head in heads), default=-1)
        if exported is not None:
            entries = _exported(exported, log_key(draft))
            leaves, shown = _longer(leaves, entries, exported), max(shown, len(entries))
        _check_evidence(leaves, heads, shown=shown >= copied, anyway=close_budgets)
        published = _published(draft, leaves[copied:])
        here = draft / SNAPSHOTS if close_budgets else None
        closed, held = store.write_sync(lambda tx: _put_in_force(tx, leaves, copied, published, unproven_in=here))
    finally:
        store.close()
    return Restored(copied, len(leaves) - copied, closed, held)


def _exported(directory: Path, vkey: str) -> list[bytes]:
    """Every entry of the exported log, verified against its signed checkpoint."""
    head = verify(_read(directory / "checkpoint").decode("utf-8", errors="replace"), vkey)
    leaves: list[bytes] = []
    for first in range(0, head.size, TILE_WIDTH):
        width = min(TILE_WIDTH, head.size - first)
        whole = directory / "tile" / "entries" / tile_name(first // TILE_WIDTH)
        partial = whole.with_name(f"{whole.name}.p") / str(width)
        content = _read(partial if width < TILE_WIDTH and partial.is_file() else whole)
        leaves += entries_of(content, first=first, width=width)
    _require_root(leaves, head)
    return leaves


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_BUNDLE + 1)
    except OSError as error:
        raise VerificationError("a file of the exported log is missing", rule="log.file") from error


def _longer(copied: list[bytes], exported: list[bytes], directory: Path) -> list[bytes]:
    """The longer of two histories, one of which must begin with the other."""
    shorter = min(len(copied), len(exported))
    if copied[:shorter] != exported[:shorter]:
        note = _read(directory / "checkpoint").decode("utf-8", errors="replace")
        raise LogInconsistent("the backup is of another history than the exported log", older="", newer=note)
    return max(copied, exported, key=len)


def _check_evidence(leaves: list[bytes], heads: Sequence[Checkpoint], *, shown: bool, anyway: bool) -> None:
    for head in heads:
        if head.size <= len(leaves):
            _require_root(leaves[: head.size], head)
    if anyway:
        return
    if not shown:
        raise Unavailable(
            "nothing shows how far the log had got since the backup: give the exported log, or a checkpoint that a "
            "witness kept",
            rule="restore.evidence",
        )
    newest = max((head.size for head in heads), default=0)
    if newest > len(leaves):
        raise Unavailable(
            f"a checkpoint of {newest} entries is known, here are {len(leaves)}: budgets would come back",
            rule="restore.behind",
        )


def _require_root(leaves: list[bytes], head: Checkpoint) -> None:
    if root_of(map(leaf_hash, leaves)) != head.root:
        raise VerificationError("the entries do not hash to the signed checkpoint", rule="log.root")


def _published(draft: Path, leaves: list[bytes]) -> list[Snapshot]:
    """Snapshots that entries behind the copy made answerable. Without them the next version would be held against an
    older one, and what both released could be told apart.

    Raises:
        Unavailable: one is not there as it was.
    """
    found = []
    for event in map(json.loads, leaves):
        if event["type"] != "weir.dataset.published":
            continue
        name, data = str(event["subject"]).partition("/")[2], event["data"]
        version, manifest = int(data["version"]), str(data["manifest_digest"])
        try:
            found.append(open_snapshot(draft / SNAPSHOTS / name / str(version), expected_digest=manifest))
        except PublicationError as error:
            raise Unavailable(
                f"{name} version {version} was published after the backup: give the directory that holds it",
                rule="restore.snapshot",
            ) from error
    return found


def _put_in_force(
    tx: Transaction, leaves: list[bytes], copied: int, published: list[Snapshot], *, unproven_in: Path | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """One transaction: entries, what follows from them, closed budgets, the stop, and the entry that says so.

    `unproven_in`: directory of snapshots where entries may be missing; None where they are proven to be whole."""
    tx.execute_many(
        "INSERT INTO log_leaves (idx, type, requester, leaf, hash) VALUES (?, ?, ?, ?, ?)",
        [_row(index, leaf) for index, leaf in enumerate(leaves[copied:], start=copied)],
    )
    if len(leaves) > copied:
        _rebuild(tx, leaves)
        identity_leaves.rebuild(tx, leaves)
        conduct.rebuild(tx, leaves)
        agreements.rebuild(tx, leaves)
        agreements.rebuild_limits(tx, leaves)
        unproven.replace(tx, unproven_of(leaves))
    for snapshot in published:
        book.add_snapshot(tx, snapshot)
    now = clock.now()
    closed = () if unproven_in is None else unknown.close_budgets(tx, now)
    book.set_suspension(tx, "all", "", suspended=True, now=now)
    # Uses and withdrawals since the copy are not in it.
    ended = agreements.take_back_approvals(tx) if len(leaves) > copied or unproven_in is not None else 0
    told = {"copied": str(copied), "appended": str(len(leaves) - copied), "approvals_ended": str(ended)}
    # Numbers: names of thousands of budgets are more than an entry holds, and each budget has an entry of its own.
    told |= {"closed": str(len(closed)), "proof": "log" if unproven_in is None else "none", "actor": unknown.ACTOR}
    index = record(tx, "weir.store.restored", told, subject="store", now=now, entropy=os.urandom).leaf_index
    held: tuple[str, ...] = ()
    if unproven_in is not None:
        unproven.mark(tx, index)
        held = unknown.hold_datasets(tx, unproven_in, now)
    reason = {"reason": "restored from a backup", "actor": unknown.ACTOR}
    record(tx, "weir.suspension.set", reason, subject="all/", now=now, entropy=os.urandom)
    # Who restores has a person's eye on the time; the copy's own pulse is as old as the copy.
    pulse.beat(tx, pulse.Pulse(now, pulse.boot(), clock.steady_seconds()))
    return closed, held


def _row(index: int, leaf: bytes) -> tuple[SqlValue, ...]:
    event = parse_event(leaf)
    kind, data = str(event["type"]), event["data"]
    subject = data["subject"] if kind.startswith("weir.query.") and isinstance(data, dict) else {}
    return (index, kind, str(subject.get("requester", "")), leaf, leaf_hash(leaf))


def _rebuild(tx: Transaction, leaves: list[bytes]) -> None:
    """Reservations, limits, balances, meter and clock as the entries say."""
    books = follow_all(enumerate(leaves))
    for table in ("quotas", "quota_use", "meter", "namespaces"):
        tx.execute(f"DELETE FROM {table}")  # noqa: S608
    _write_reservations(tx, books, leaves)
    tx.execute_many(
        "INSERT INTO quotas (id, metric, requester, contract, dataset, lineage, namespace, period, zone, maximum) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(q.id, q.metric, *q.scope, q.window, q.zone, q.limit) for q in books.limits.values()],
    )
    tx.execute_many("INSERT INTO namespaces (lineage, namespace) VALUES (?, ?)", list(books.namespaces.items()))
    tx.execute_many(
        "INSERT INTO quota_use (quota, period_start, spent, held) VALUES (?, ?, ?, ?)",
        [(*key, use.spent, use.held) for key, use in books.use.items()],
    )
    tx.execute_many(
        "INSERT INTO meter (contract, requester, dataset, metric, used) VALUES (?, ?, ?, ?, ?)",
        [(*key, used) for key, used in books.totals.items()],
    )
    tx.execute(
        "UPDATE ledger_clock SET mark = ? WHERE id = 1 AND mark < ?", (to_micros(books.time), to_micros(books.time))
    )


def _write_reservations(tx: Transaction, books: Books, leaves: list[bytes]) -> None:
    tx.execute("DELETE FROM reservations")
    columns = f"id, state, requester, contract, dataset, lineage, reserved_at, held_until, {', '.join(METRICS)}"
    rows: list[tuple[SqlValue, ...]] = []
    for index, state in books.states.items():
        event = json.loads(leaves[index])
        data = event["data"]
        subject, charge = data["subject"], data["charge"]
        rows.append(
            (
                index,
                state,
                *(str(subject[name]) for name in ("requester", "contract", "dataset", "lineage")),
                to_micros(datetime.fromisoformat(str(event["time"]))),
                to_micros(datetime.fromisoformat(str(data["held_until"]))),
                *(int(charge.get(metric, "0")) for metric in METRICS),
            )
        )
    tx.execute_many(f"INSERT INTO reservations ({columns}) VALUES ({', '.join('?' * (8 + len(METRICS)))})", rows)  # noqa: S608
    # Asked before the copy and answered after it: the key would lead to an answer that is lost.
    tx.execute(
        "DELETE FROM idempotency WHERE reservation IN (SELECT id FROM reservations WHERE state = 'posted') "
        "AND reservation NOT IN (SELECT reservation FROM answers)"
    )
