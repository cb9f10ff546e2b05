# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.domain import census_card, write_snapshot
from tests.support.ledger import ALICE, BOB, Clock, posting, request, reserving
from tests.support.server import make_domain
from weir.errors import InvalidRequest, LogInconsistent, Unavailable, VerificationError, WeirError
from weir.receipts import parse_event
from weir_server import ledger, log
from weir_server.backup import back_up, restore
from weir_server.books import DIRECTORY, open_books
from weir_server.config import load_config
from weir_server.fsck import fsck
from weir_server.identity import identities, pki
from weir_server.identity.leaves import known_acts, log_acts, logged_revocations
from weir_server.identity.revocation import read_revoked
from weir_server.ledger import Quota, Reservation
from weir_server.log.tiles import export_tiles
from weir_server.policy import book
from weir_server.store import Store, Transaction

CHARGE = {"queries": 1, "cells": 4, "epsilon_nano": 10, "price_micro": 3}
BUDGET = 10_000


class Business:
    """A domain with books, in which queries are answered."""

    def __init__(self, folder: Path) -> None:
        self.data = make_domain(folder)
        (self.data / "snapshots" / "census" / "1").mkdir(parents=True)
        (self.data / "snapshots" / "census" / "1" / "manifest.json").write_text("{}")
        (self.data / "private" / "census").mkdir(parents=True)
        (self.data / "private" / "census" / "members").write_text("who is where")
        self.clock, self.keys = Clock(datetime.now(UTC)), 0
        self.store = self.open()
        self.limit("lineage-people-epsilon", "epsilon_nano", BUDGET)
        self.limit("daily", "queries", 500)

    def open(self) -> Store:
        return open_books(self.data, pki.load_domain(self.data))

    def limit(self, name: str, metric: str, amount: int) -> None:
        quota = Quota(id=name, metric=metric, limit=amount, lineage="people")  # type: ignore[arg-type]
        self.store.write_sync(
            lambda tx: ledger.set_quota(tx, quota, reason="t", actor="olga", now=self.clock(), entropy=os.urandom)
        )

    def answer(self, times: int = 1) -> None:
        for _ in range(times):
            self.keys += 1
            who = ALICE if self.keys % 2 else BOB
            asked = request(CHARGE, key=f"key-{self.keys:012d}", subject=who)
            held = self.store.write_sync(reserving(asked, self.clock))
            assert isinstance(held, Reservation)
            if self.keys % 5:
                self.store.write_sync(posting(held, self.clock))

    def export(self) -> Path:
        export_tiles(self.store, self.data / "log")
        return self.data / "log"

    def checkpoint(self) -> str:
        newest = self.store.read(log.latest_checkpoint)
        assert newest is not None
        return newest[1]


@pytest.fixture
def business(tmp_path: Path) -> Business:
    return Business(tmp_path)


def use(store: Store) -> Mapping[str, int]:
    return {item.quota.id: item.used for item in store.read(lambda tx: ledger.list_quotas(tx, now=datetime.now(UTC)))}


def left(store: Store) -> Mapping[str, int]:
    return {item.quota.id: item.left for item in store.read(lambda tx: ledger.list_quotas(tx, now=datetime.now(UTC)))}


def check(data: Path) -> None:
    assert fsck(data / DIRECTORY, vkey=pki.log_key(data), files=data / "log").findings == ()


def backed_up(business: Business, folder: Path) -> Path:
    business.answer(3)
    back_up(business.data, folder / "copy", secrets=True)
    business.answer(300)
    return folder / "copy"


def test_a_backup_of_a_running_server_is_one_moment_of_it(business: Business, tmp_path: Path) -> None:
    business.answer(3)
    size = back_up(business.data, tmp_path / "copy")
    business.answer(1)
    check_dir = tmp_path / "copy"
    assert size == fsck(check_dir / DIRECTORY, vkey=pki.log_key(check_dir)).entries
    assert (check_dir / "snapshots" / "census" / "1" / "manifest.json").read_text() == "{}"
    assert not (check_dir / "secrets").exists()
    assert (check_dir / "checkpoint").read_text().split("\n")[1] == str(size)


def test_a_backup_never_lands_on_something(business: Business, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with pytest.raises(InvalidRequest, match="must not exist"):
        back_up(business.data, tmp_path / "copy")


def test_what_was_spent_after_the_backup_is_spent_after_the_restore(business: Business, tmp_path: Path) -> None:
    copy, exported = backed_up(business, tmp_path), business.export()
    spent, newest = use(business.store), business.checkpoint()
    entries = [leaf for _, leaf in business.store.read(lambda tx: list(log.entries(tx)))]
    business.store.close()
    restored = restore(copy, tmp_path / "new", exported=exported, checkpoints=[newest])
    assert restored.copied + restored.appended == len(entries)
    assert restored.appended > 256  # more than one tile
    store = open_books(tmp_path / "new", pki.load_domain(tmp_path / "new"))
    again = [leaf for _, leaf in store.read(lambda tx: list(log.entries(tx)))]
    assert again[: len(entries)] == entries
    kinds = [str(parse_event(leaf)["type"]) for leaf in again[len(entries) :]]
    assert kinds[:2] == ["weir.store.restored", "weir.suspension.set"]
    assert set(kinds[2:]) <= {"weir.query.expired"}  # The next start gives back what nobody can finish.
    assert use(store)["lineage-people-epsilon"] == spent["lineage-people-epsilon"]
    assert ("all", "") in store.read(book.suspensions)
    assert (tmp_path / "new" / "private" / "census" / "members").read_text() == "who is where"
    store.close()
    check(tmp_path / "new")


def test_blacklist_and_shared_accounts_newer_than_the_backup_are_there_after_the_restore(
    business: Business, tmp_path: Path
) -> None:
    copy, now = backed_up(business, tmp_path), business.clock()
    shared = Quota(id="namespace-residents-epsilon", metric="epsilon_nano", limit=BUDGET, namespace="residents")

    def act(tx: Transaction) -> None:
        ledger.set_quota(tx, shared, reason="t", actor="olga", now=now, entropy=os.urandom)
        ledger.join_namespace(tx, "people", "residents", now=now, entropy=os.urandom)
        book.set_suspension(tx, "blacklist", "mallory", suspended=True, now=now)
        told = {"reason": "t", "actor": "olga", "role": "operator"}
        ledger.record(tx, "weir.suspension.set", told, subject="blacklist/mallory", now=now, entropy=os.urandom)

    business.store.write_sync(act)
    business.answer(1)
    exported, spent = business.export(), use(business.store)
    business.store.close()
    restore(copy, tmp_path / "new", exported=exported)
    store = open_books(tmp_path / "new", pki.load_domain(tmp_path / "new"))
    assert store.read(book.suspensions) == {("all", ""), ("blacklist", "mallory")}
    assert store.read(lambda tx: ledger.namespace_of(tx, "people")) == "residents"
    assert use(store)[shared.id] == spent[shared.id] == spent["lineage-people-epsilon"] > 0
    store.close()
    check(tmp_path / "new")


def test_a_restored_domain_goes_on_exactly_where_the_log_ended(business: Business, tmp_path: Path) -> None:
    copy, exported = backed_up(business, tmp_path), business.export()
    business.store.close()
    shutil.rmtree(business.data / DIRECTORY)
    restore(copy, tmp_path / "new", exported=exported)
    business.data = tmp_path / "new"
    business.store = business.open()
    business.answer(2)
    with pytest.raises(WeirError):
        business.limit("lineage-people-epsilon", "cells", 5)
    business.store.close()
    check(tmp_path / "new")


def test_a_backup_alone_is_not_put_in_force(business: Business, tmp_path: Path) -> None:
    copy = backed_up(business, tmp_path)
    with pytest.raises(Unavailable) as caught:
        restore(copy, tmp_path / "new")
    assert caught.value.rule == "restore.evidence"
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "new.part").exists()


def test_a_checkpoint_kept_elsewhere_shows_that_entries_are_missing(business: Business, tmp_path: Path) -> None:
    copy, exported = backed_up(business, tmp_path), business.export()
    kept = shutil.copytree(exported, tmp_path / "kept")
    business.answer(1)
    with pytest.raises(Unavailable) as caught:
        restore(copy, tmp_path / "new", exported=kept, checkpoints=[business.checkpoint()])
    assert caught.value.rule == "restore.behind"


def test_without_proof_every_privacy_budget_is_closed_for_good(business: Business, tmp_path: Path) -> None:
    copy = backed_up(business, tmp_path)
    newest = business.checkpoint()
    restored = restore(copy, tmp_path / "new", checkpoints=[newest], close_budgets=True)
    assert restored.closed == ("lineage-people-epsilon",)
    store = open_books(tmp_path / "new", pki.load_domain(tmp_path / "new"))
    assert left(store)["lineage-people-epsilon"] == 0
    assert left(store)["daily"] > 0
    store.close()
    check(tmp_path / "new")


def test_a_log_of_another_history_is_refused(business: Business, tmp_path: Path) -> None:
    copy = backed_up(business, tmp_path)
    shutil.copytree(copy, tmp_path / "fork")
    fork = open_books(tmp_path / "fork", pki.load_domain(tmp_path / "fork"))
    fork.write_sync(lambda tx: log.append(tx, "weir.test.note", {}, now=business.clock(), entropy=os.urandom))
    for _ in range(3):
        fork.write_sync(lambda tx: log.append(tx, "weir.test.note", {}, now=business.clock(), entropy=os.urandom))
    export_tiles(fork, tmp_path / "forked")
    fork.close()
    back_up(business.data, tmp_path / "later", secrets=True)
    with pytest.raises(LogInconsistent):
        restore(tmp_path / "later", tmp_path / "new", exported=tmp_path / "forked")


@pytest.mark.parametrize("damage", ["entries", "checkpoint", "missing"])
def test_a_damaged_log_is_refused(business: Business, tmp_path: Path, damage: str) -> None:
    copy, exported = backed_up(business, tmp_path), business.export()
    bundle = exported / "tile" / "entries" / "000"
    if damage == "entries":
        content = bytearray(bundle.read_bytes())
        content[100] ^= 1
        bundle.write_bytes(content)
    elif damage == "checkpoint":
        note = (exported / "checkpoint").read_text()
        (exported / "checkpoint").write_text(note.replace(note.split("\n")[1], "7", 1))
    else:
        bundle.unlink()
    with pytest.raises(VerificationError):
        restore(copy, tmp_path / "new", exported=exported)
    assert not (tmp_path / "new").exists()


def test_what_was_issued_and_revoked_goes_along_and_what_was_revoked_later_stays_so(
    business: Business, tmp_path: Path
) -> None:
    now = datetime.now(UTC)

    def follow() -> None:
        acts = known_acts(business.data)
        business.store.write_sync(lambda tx: log_acts(tx, acts=acts, now=business.clock(), entropy=os.urandom))

    for name in ("alice", "bob"):
        identities.issue(business.data, role="requester", name=name, now=now, days=7)
    identities.revoke(business.data, "requester/alice", reason="left", now=now)
    follow()
    back_up(business.data, tmp_path / "copy", secrets=True)
    identities.revoke(business.data, "requester/bob", reason="left", now=now)
    follow()
    exported, both = business.export(), read_revoked(business.data)
    business.store.close()
    restore(tmp_path / "copy", tmp_path / "new", exported=exported)
    assert len(identities.issued(tmp_path / "new")) == len(both) == 2
    assert len(read_revoked(tmp_path / "new")) == 1
    store = open_books(tmp_path / "new", pki.load_domain(tmp_path / "new"))
    assert store.read(logged_revocations) == set(both)
    store.close()


def test_an_older_exported_log_takes_nothing_from_a_newer_backup(business: Business, tmp_path: Path) -> None:
    business.answer(3)
    exported = shutil.copytree(business.export(), tmp_path / "older")
    business.answer(3)
    spent = use(business.store)
    back_up(business.data, tmp_path / "copy", secrets=True)
    newest = business.checkpoint()
    business.store.close()
    restored = restore(tmp_path / "copy", tmp_path / "new", exported=exported, checkpoints=[newest])
    assert restored.appended == 0
    store = open_books(tmp_path / "new", pki.load_domain(tmp_path / "new"))
    assert use(store)["lineage-people-epsilon"] == spent["lineage-people-epsilon"]
    store.close()


def test_a_restore_is_on_disk_before_it_has_its_name(
    business: Business, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: without syncs, a power cut after the restore leaves a directory with its name and half of its files."""
    back_up(business.data, tmp_path / "copy", secrets=True)
    copy = tmp_path / "copy"
    business.answer(3)
    target, synced, told = tmp_path / "new", dict[int, bool](), os.fsync

    def noted(descriptor: int) -> None:
        synced[os.fstat(descriptor).st_ino] = target.exists()
        told(descriptor)

    exported = business.export()
    monkeypatch.setattr(os, "fsync", noted)
    restore(copy, target, exported=exported)
    inside = {path.stat().st_ino: path.name for path in (target, *target.rglob("*"))}
    assert {name for inode, name in inside.items() if synced.get(inode) is not False} == set()
    assert synced[tmp_path.stat().st_ino], "and the name after it was given"
    business.store.close()


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match="no backup"):
        restore(tmp_path / "empty", tmp_path / "new")


def published(business: Business, version: int, *, digest: str) -> None:
    event = {"version": version, "manifest_digest": digest}
    business.store.write_sync(
        lambda tx: ledger.record(
            tx, "weir.dataset.published", event, subject="dataset/census", now=business.clock(), entropy=os.urandom
        )
    )


def test_a_version_published_after_the_backup_must_be_there(business: Business, tmp_path: Path) -> None:
    """Mutant: without it the next publication would be a second version 2, free of what the first one released."""
    shutil.rmtree(business.data / "snapshots" / "census")
    copy = backed_up(business, tmp_path)
    published(business, 2, digest=write_snapshot(business.data, census_card(), 2))
    exported = business.export()
    with pytest.raises(Unavailable) as caught:
        restore(copy, tmp_path / "new", exported=exported)
    assert caught.value.rule == "restore.snapshot"
    restore(copy, tmp_path / "new", exported=exported, newer=business.data)
    store = open_books(tmp_path / "new", pki.load_domain(tmp_path / "new"))
    assert [row[:2] for row in store.read(book.snapshots)] == [("census", 2)]
    store.close()
    check(tmp_path / "new")


@pytest.mark.parametrize("given", [None, "empty"], ids=["none", "a folder without them"])
def test_a_backup_without_secrets_says_what_to_give_before_anything_is_made(
    business: Business, tmp_path: Path, given: str | None
) -> None:
    back_up(business.data, tmp_path / "copy")
    exported = business.export()
    business.store.close()
    (tmp_path / "empty").mkdir()
    there = set(tmp_path.iterdir())
    with pytest.raises(InvalidRequest, match="give --secrets DIR") as caught:
        restore(
            tmp_path / "copy", tmp_path / "new", exported=exported, secrets=None if given is None else tmp_path / given
        )
    assert caught.value.rule == "restore.secrets"
    assert set(tmp_path.iterdir()) == there
    restore(tmp_path / "copy", tmp_path / "new", exported=exported, secrets=business.data / "secrets")
    assert pki.load_domain(tmp_path / "new").name == pki.load_domain(business.data).name


def test_settings_come_back_with_the_books(business: Business, tmp_path: Path) -> None:
    """Without them, a restored server would listen and limit as one that was never set up."""
    (business.data / "weir.toml").write_text("[limits]\nburst = 7\n")
    back_up(business.data, tmp_path / "copy", secrets=True)
    exported = business.export()
    business.store.close()
    restore(tmp_path / "copy", tmp_path / "new", exported=exported)
    assert load_config(None, data_dir=tmp_path / "new").limits.burst == 7
