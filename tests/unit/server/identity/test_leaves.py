# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.support.server import make_domain
from weir.receipts import parse_event
from weir_server import log
from weir_server.books import open_books
from weir_server.fsck import fsck
from weir_server.identity import identities, pki, revocation
from weir_server.identity.holder import read_certificate
from weir_server.identity.leaves import keep_logged, known_acts, log_acts, logged_revocations, rebuild
from weir_server.store import Store

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return make_domain(tmp_path, now=NOW)


@pytest.fixture
def store(data_dir: Path) -> Iterator[Store]:
    opened = open_books(data_dir, pki.load_domain(data_dir))
    yield opened
    opened.close()


def leaves(store: Store) -> list[dict[str, object]]:
    found = store.read(lambda tx: tx.execute("SELECT leaf FROM log_leaves ORDER BY idx"))
    return [dict(parse_event(bytes(leaf))) for (leaf,) in found]  # type: ignore[arg-type]


async def follow(store: Store, data_dir: Path) -> int:
    acts = known_acts(data_dir)
    return await store.write(partial(log_acts, acts=acts, now=NOW, entropy=os.urandom))


async def test_issuing_and_revoking_leave_one_leaf_each_however_often_one_looks(data_dir: Path, store: Store) -> None:
    issued = identities.issue(data_dir, role="requester", name="alice", now=NOW, days=7, by="ada")
    assert [await follow(store, data_dir) for _ in range(2)] == [1, 0]
    identities.revoke(data_dir, "requester/alice", reason="left", now=NOW, by="ada")
    assert [await follow(store, data_dir) for _ in range(2)] == [1, 0]
    serial = f"{read_certificate(str(issued['certificate']).encode()).serial:x}"
    first, second = leaves(store)
    assert (first["type"], first["subject"]) == ("weir.identity.issued", "requester/alice")
    assert (second["type"], second["subject"]) == ("weir.identity.revoked", "requester/alice")
    at = NOW.isoformat()
    who = {"actor": "ada", "role": "authority"}
    until = (NOW + timedelta(days=7)).isoformat()
    assert first["data"] == {"serial": serial, "at": at, "until": until, **who}
    assert second["data"] == {"serial": serial, "at": at, "reason": "left", **who}


async def test_a_list_that_was_carried_here_is_logged_by_its_numbers(data_dir: Path, store: Store) -> None:
    issued = identities.issue(data_dir, role="requester", name="alice", now=NOW, days=7)
    (data_dir / identities.FILE_NAME).unlink()
    serial = read_certificate(str(issued["certificate"]).encode()).serial
    revocation.revoke(data_dir, [serial], now=NOW)
    assert await follow(store, data_dir) == 1
    (leaf,) = leaves(store)
    assert (leaf["type"], leaf["subject"]) == ("weir.identity.revoked", f"certificate/{serial:x}")
    assert leaf["data"] == {"serial": f"{serial:x}", "at": NOW.isoformat(), "actor": "", "role": "authority"}


async def test_a_record_that_was_copied_twice_leaves_nothing_twice(data_dir: Path, store: Store) -> None:
    identities.issue(data_dir, role="requester", name="alice", now=NOW, days=7)
    path = data_dir / identities.FILE_NAME
    assert await follow(store, data_dir) == 1
    shutil.copy(path, path.with_suffix(".old"))
    path.write_text(path.read_text() * 2)
    identities.issue(data_dir, role="requester", name="bob", now=NOW, days=7)
    assert await follow(store, data_dir) == 1
    assert [leaf["subject"] for leaf in leaves(store)] == ["requester/alice", "requester/bob"]


async def test_what_the_log_calls_revoked_is_known_without_the_list_and_after_a_restore(
    data_dir: Path, store: Store
) -> None:
    issued = identities.issue(data_dir, role="requester", name="alice", now=NOW, days=7)
    identities.revoke(data_dir, "requester/alice", reason="left", now=NOW)
    await follow(store, data_dir)
    for name in (identities.FILE_NAME, revocation.FILE_NAME):
        (data_dir / name).unlink()
    serial = read_certificate(str(issued["certificate"]).encode()).serial
    assert store.read(logged_revocations) == {serial}
    entries = [leaf for _, leaf in store.read(lambda tx: list(log.entries(tx)))]
    await store.write(lambda tx: tx.execute("DELETE FROM identity_acts"))
    assert store.read(logged_revocations) == frozenset()
    await store.write(lambda tx: rebuild(tx, entries))
    assert store.read(logged_revocations) == {serial}


async def test_the_books_are_whole_with_such_leaves(data_dir: Path, store: Store) -> None:
    identities.issue(data_dir, role="operator", name="olga", now=NOW, days=7)
    identities.revoke(data_dir, "operator/olga", reason="left", now=NOW)
    assert await follow(store, data_dir) == 2
    store.close()
    report = fsck(data_dir / "ledger", vkey=pki.log_key(data_dir))
    assert (report.ok, report.entries) == (True, 2)


async def test_a_damaged_record_is_tried_again_until_it_can_be_read(
    data_dir: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weir_server.identity.leaves._LOOK_SECONDS", 0.01)
    path = data_dir / identities.FILE_NAME
    path.write_text("damage\n")
    task = asyncio.create_task(keep_logged(store, data_dir, now=lambda: NOW, entropy=os.urandom))
    await asyncio.sleep(0.1)
    assert leaves(store) == []
    path.unlink()
    identities.issue(data_dir, role="requester", name="alice", now=NOW, days=7)
    for _ in range(200):
        await asyncio.sleep(0.02)
        if leaves(store):
            break
    task.cancel()
    assert [leaf["subject"] for leaf in leaves(store)] == ["requester/alice"]
