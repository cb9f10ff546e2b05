# SPDX-License-Identifier: Apache-2.0
"""Checks of the ledger: reservations, quotas and their use, meter, answers, releases and keys, against the entries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from weir.errors import ReplayError
from weir.replay import Books, follow
from weir_server.fsck.findings import Finding
from weir_server.fsck.rows import Rows

_METRICS = (
    "queries",
    "cells",
    "epsilon_nano",
    "rho_micro",
    "encrypted_operations",
    "bytes",
    "price_micro",
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_books(connection: Rows, leaves: Sequence[bytes]) -> Iterator[Finding]:
    """Compares every table of the ledger with the books that the leaves give."""
    books = Books()
    for index, leaf in enumerate(leaves):
        try:
            follow(books, index, leaf)
        except ReplayError as error:
            # What comes behind cannot be judged: balances would differ for this reason alone.
            yield Finding(index, error.rule or "replay", error.message)
            return
    yield from _check_reservations(connection, books, leaves)
    yield from _check_quotas(connection, books)
    yield from _check_meter(connection, books)
    yield from _check_answers(connection, books, leaves)
    yield from _check_releases(connection, leaves)
    yield from _check_clock(connection, books)


def _check_reservations(connection: Rows, books: Books, leaves: Sequence[bytes]) -> Iterator[Finding]:
    columns = f"id, state, requester, contract, dataset, lineage, reserved_at, held_until, {', '.join(_METRICS)}"
    stored = {
        row[0]: row[1:]
        for row in connection.execute(f"SELECT {columns} FROM reservations")  # noqa: S608
    }
    for index, state in books.states.items():
        if stored.pop(index, None) != _reservation(leaves[index], state):
            yield Finding(index, "fsck.reservation", "the reservation differs from its entries")
    for index in stored:
        yield Finding(index, "fsck.reservation", "the reservation has no entry")
    yield from _check_keys(connection, books, leaves)


def _reservation(leaf: bytes, state: str) -> tuple[object, ...] | None:
    """The row that an entry makes; None where a damaged one makes none."""
    try:
        event = json.loads(leaf)
        data = event["data"]
        return (
            state,
            *(data["subject"][name] for name in ("requester", "contract", "dataset", "lineage")),
            _micros(event["time"]),
            _micros(data["held_until"]),
            *(int(data["charge"].get(metric, "0")) for metric in _METRICS),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _check_keys(connection: Rows, books: Books, leaves: Sequence[bytes]) -> Iterator[Finding]:
    salts = _salts(connection)
    rows = connection.execute("SELECT requester, request_digest, reservation FROM idempotency")
    for requester, request_digest, reservation in rows:
        if reservation not in books.states:
            yield Finding(None, "fsck.idempotency", "an idempotency key points to no reservation")
            continue
        data = json.loads(leaves[reservation])["data"]
        if data["subject"]["requester"] != requester:
            yield Finding(reservation, "fsck.idempotency", "the idempotency key is another requester's")
        elif not _opens(data, "request", salts.get(reservation), str(request_digest).encode()):
            yield Finding(reservation, "fsck.idempotency", "the request digest differs from its commitment")


def _check_quotas(connection: Rows, books: Books) -> Iterator[Finding]:
    limits = {
        row[0]: tuple(row[1:])
        for row in connection.execute(
            "SELECT id, metric, requester, contract, dataset, lineage, namespace, period, zone, maximum FROM quotas"
        )
    }
    for limit in books.limits.values():
        expected = (limit.metric, *limit.scope, limit.window, limit.zone, limit.limit)
        if limits.pop(limit.id, None) != expected:
            yield Finding(None, "fsck.quota", f"quota {limit.id} differs from its entries")
    for unknown in limits:
        yield Finding(None, "fsck.quota", f"quota {unknown} has no entry")
    members = dict(connection.execute("SELECT lineage, namespace FROM namespaces"))
    for lineage in sorted(members.keys() | books.namespaces.keys()):
        if members.get(lineage) != books.namespaces.get(lineage):
            yield Finding(None, "fsck.namespace", f"the namespace of lineage {lineage} differs from its entries")
    stored = {
        (quota, period): (spent, held)
        for quota, period, spent, held in connection.execute("SELECT quota, period_start, spent, held FROM quota_use")
    }
    expected_use = {key: (use.spent, use.held) for key, use in books.use.items()}
    for key in sorted(stored.keys() | expected_use.keys()):
        if stored.get(key, (0, 0)) != expected_use.get(key, (0, 0)):
            yield Finding(None, "fsck.balance", f"the balance of quota {key[0]} differs from its entries")


def _check_meter(connection: Rows, books: Books) -> Iterator[Finding]:
    stored = {
        tuple(row[:4]): row[4]
        for row in connection.execute("SELECT contract, requester, dataset, metric, used FROM meter")
    }
    for key in sorted(stored.keys() | books.totals.keys()):
        if stored.get(key, 0) != books.totals.get(key, 0):
            what = f"the meter of contract {key[0]} differs from its entries in {key[3]}"
            yield Finding(None, "fsck.meter", what)


def _check_answers(connection: Rows, books: Books, leaves: Sequence[bytes]) -> Iterator[Finding]:
    salts = _salts(connection)
    stored = {
        row[0]: (row[1], row[2]) for row in connection.execute("SELECT leaf_index, reservation, answer FROM answers")
    }
    for index, reservation in books.answers.items():
        row = stored.pop(index, None)
        if row is None and index not in salts:
            continue  # Erased, salt and answer together.
        if row is None or row[0] != reservation:
            yield Finding(index, "fsck.answer", "the answer is missing or of another reservation")
        elif index in salts and not _opens(json.loads(leaves[index])["data"], "answer", salts[index], row[1]):
            yield Finding(index, "fsck.answer", "the answer differs from its commitment")
    for index in stored:
        yield Finding(index, "fsck.answer", "the answer has no entry")
    if salts and not 0 <= min(salts) <= max(salts) < len(leaves):
        yield Finding(None, "fsck.salt", "a salt has no entry")


def _check_releases(connection: Rows, leaves: Sequence[bytes]) -> Iterator[Finding]:
    salts = _salts(connection)
    for index, release in connection.execute("SELECT leaf_index, release_bytes FROM releases"):
        if not 0 <= index < len(leaves):
            yield Finding(None, "fsck.release", "a release has no entry")
        elif index in salts:
            data = json.loads(leaves[index])["data"]
            if not _opens(data, "release", salts[index], release):
                yield Finding(index, "fsck.release", "the release differs from its commitment")


def _check_clock(connection: Rows, books: Books) -> Iterator[Finding]:
    ((mark,),) = connection.execute("SELECT mark FROM ledger_clock")
    if books.size and mark < _to_micros(books.time):
        yield Finding(None, "fsck.clock", "ledger time is behind the last entry")


def _salts(connection: Rows) -> dict[int, bytes]:
    return dict(connection.execute("SELECT idx, salt FROM log_salts"))


def _opens(data: dict[str, object], label: str, salt: object, value: object) -> bool:
    """Whether the commitment opens; hashed here, not by the code that made it. An erased salt opens anything."""
    if salt is None:
        return True
    made = data.get("commitments")
    if not (isinstance(made, dict) and isinstance(salt, bytes) and isinstance(value, bytes)):
        return False
    return bool(made.get(label) == sha256(salt + label.encode() + b"\x00" + value).hexdigest())


def _micros(text: str) -> int:
    return _to_micros(datetime.fromisoformat(text))


def _to_micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
