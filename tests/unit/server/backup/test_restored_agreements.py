# SPDX-License-Identifier: Apache-2.0
"""A restore gives back no right that was taken after the backup: contracts, approvals, keys without answers."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.agreements import PARTIES, agree, attest, move, signed_document
from tests.support.domain import Domain, contract_document, quota_document
from tests.support.ledger import ALICE, Clock, posting, request, reserving
from tests.support.server import make_domain
from weir.errors import Unavailable
from weir_server import ledger, log
from weir_server.backup import back_up, restore
from weir_server.books import DIRECTORY, open_books
from weir_server.fsck import fsck
from weir_server.identity import pki
from weir_server.ledger import Quota, Replay, Reservation, set_quota
from weir_server.log.tiles import export_tiles
from weir_server.policy import approvals, book, lifecycle
from weir_server.state import State
from weir_server.store import Store, Transaction

DUTY = {"duty": "erase", "sentence": "Erase what was received.", "due": "2030-01-01T00:00:00Z"}


def make(folder: Path) -> Domain:
    """A domain with books and policy, without data."""
    data, clock, unused = make_domain(folder), Clock(datetime.now(UTC)), cast_any(None)
    store = open_books(data, pki.load_domain(data))
    return Domain(data, store, clock, State(store, data, clock=clock, entropy=os.urandom), unused, unused, unused)


def cast_any(value: object) -> Any:
    return value


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    return make(tmp_path)


def restored(domain: Domain, copy: Path, folder: Path, **more: Any) -> Store:
    """Books of the copy, brought forward with the log as it is now."""
    export_tiles(domain.store, domain.directory / "log")
    domain.store.close()
    restore(copy, folder / "new", exported=domain.directory / "log", **more)
    return open_books(folder / "new", pki.load_domain(folder / "new"))


def check(data: Path) -> None:
    assert fsck(data / DIRECTORY, vkey=pki.log_key(data), files=data / "log").findings == ()


def copied(domain: Domain, folder: Path) -> Path:
    back_up(domain.directory, folder / "copy", secrets=True)
    return folder / "copy"


async def test_a_contract_that_ended_after_the_backup_stays_ended(domain: Domain, tmp_path: Path) -> None:
    """Mutant: a restore that keeps the copy's states lets a terminated contract be used again."""
    await domain.apply(contract_document("c-1"), contract_document("c-2"))
    contracts = dict(domain.state.world.policy.contracts)
    copy = copied(domain, tmp_path)
    await move(domain, "terminated", contract="c-1")
    await move(domain, "suspended", contract="c-2")
    store = restored(domain, copy, tmp_path)
    lives = store.read(lambda tx: lifecycle.lives(tx, contracts.values()))
    assert {name: life.state for name, life in lives.items()} == {"c-1": "terminated", "c-2": "suspended"}
    store.close()
    check(tmp_path / "new")


async def test_a_contract_suspended_after_the_backup_stays_so_under_the_newest_policy(
    domain: Domain, tmp_path: Path
) -> None:
    """Attack: the copy's policy is older than the stop, and applying the newest again would lift it unannounced."""
    await domain.apply(contract_document("c-1"))
    copy = copied(domain, tmp_path)
    newest = contract_document("c-1", title="Newer terms")
    await domain.apply(newest)
    await move(domain, "suspended", contract="c-1", reason="misuse")
    store = restored(domain, copy, tmp_path)
    again = replace(
        domain,
        store=store,
        directory=tmp_path / "new",
        state=State(store, tmp_path / "new", clock=domain.clock, entropy=os.urandom),
    )
    domain.clock.moment = datetime.now(UTC)
    (change,) = (await again.apply(newest, dry_run=True)).changes
    assert "state: active → suspended" in change.fields
    await again.apply(newest)
    assert again.state.world.contract_states["c-1"] == "suspended"
    await move(again, "active", contract="c-1")
    assert again.state.world.contract_states["c-1"] == "active"
    store.close()
    check(tmp_path / "new")


async def test_signatures_and_duties_newer_than_the_backup_are_there_after_the_restore(
    domain: Domain, tmp_path: Path
) -> None:
    await domain.apply(signed_document("s-1", duties=[DUTY]), *PARTIES)
    contract = domain.state.world.policy.contracts["s-1"]
    copy = copied(domain, tmp_path)
    await agree(domain)
    await attest(domain, "erase")
    before = domain.store.read(lambda tx: lifecycle.lives(tx, [contract]))["s-1"]
    store = restored(domain, copy, tmp_path)
    after = store.read(lambda tx: lifecycle.lives(tx, [contract]))["s-1"]
    assert lifecycle.holds(contract, after)
    assert (after.state, set(after.attested)) == ("active", {"erase"})
    assert [item.terms for item in after.signatures] == [item.terms for item in before.signatures]
    store.close()
    check(tmp_path / "new")


async def test_limits_of_a_policy_newer_than_the_backup_are_the_policy_s_after_the_restore(
    domain: Domain, tmp_path: Path
) -> None:
    """Mutant: with the copy's own list the next policy removes a limit that a person has set since, unannounced, and
    leaves one in force that no document states."""
    await domain.apply(contract_document("c-1"), quota_document("dropped"), quota_document("kept"))
    copy = copied(domain, tmp_path)
    await domain.apply(contract_document("c-1"), quota_document("kept"), quota_document("added"))
    by_hand = Quota(id="dropped", metric="queries", limit=3, requester="alice")
    domain.store.write_sync(
        lambda tx: set_quota(tx, by_hand, reason="t", actor="olga", now=domain.clock(), entropy=os.urandom)
    )
    expected = domain.store.read(book.quota_ids)
    assert "added" in expected
    assert "dropped" not in expected
    store = restored(domain, copy, tmp_path)
    assert store.read(book.quota_ids) == expected
    store.close()
    check(tmp_path / "new")


async def test_a_limit_that_a_policy_took_over_as_it_was_is_the_policy_s_after_the_restore(
    domain: Domain, tmp_path: Path
) -> None:
    """Mutant: nothing changes, so nothing is logged; after a restore the limit stays when the policy drops it."""
    await domain.apply(contract_document("c-1"))
    copy = copied(domain, tmp_path)
    by_hand = Quota(id="same", metric="queries", limit=5, requester="alice")
    domain.store.write_sync(
        lambda tx: set_quota(tx, by_hand, reason="t", actor="olga", now=domain.clock(), entropy=os.urandom)
    )
    await domain.apply(contract_document("c-1"), quota_document("same"))
    entries = len(domain.store.read(lambda tx: list(log.entries(tx))))
    await domain.apply(contract_document("c-1"), quota_document("same"))
    assert len(domain.store.read(lambda tx: list(log.entries(tx)))) == entries, "said once"
    store = restored(domain, copy, tmp_path)
    assert "same" in store.read(book.quota_ids)
    store.close()
    check(tmp_path / "new")


def insert_approval(tx: Transaction, name: str, state: str, uses: int) -> None:
    tx.execute(
        "INSERT INTO approvals (id, state, requester, contract, query, plan_digest, contract_digest, epsilon_nano, "
        "price_micro, requested, expires, decided_by, purpose, mode, snapshot, key_id, key_owners, weight_bits, "
        "uses_left) VALUES (?, ?, 'alice', 'c-1', '{}', 'p', 'd', 0, 0, 1, 9000000000000000, '', '', 'exact', 1, '', "
        "'[]', 0, ?)",
        (name, state, uses),
    )


def note(domain: Domain) -> None:
    domain.store.write_sync(lambda tx: log.append(tx, "weir.test.note", {}, now=domain.clock(), entropy=os.urandom))


@pytest.mark.parametrize("newer", [True, False])
async def test_approvals_are_asked_for_again_where_entries_are_newer_than_the_backup(
    domain: Domain, tmp_path: Path, newer: bool
) -> None:
    """Mutant: an approval for one query, used after the backup, would allow another one."""

    def given(tx: Transaction) -> None:
        insert_approval(tx, "ap-once", "approved", 1)
        insert_approval(tx, "ap-waits", "waiting", 0)
        insert_approval(tx, "ap-used", "used", 0)

    domain.store.write_sync(given)
    note(domain)
    copy = copied(domain, tmp_path)
    if newer:
        note(domain)
    store = restored(domain, copy, tmp_path)
    found = {name: store.read(lambda tx, name=name: approvals.get(tx, name)) for name in ("ap-once", "ap-waits")}
    states = [(item.state, item.uses_left) for item in found.values()]
    assert states == ([("revoked", 0)] * 2 if newer else [("approved", 1), ("waiting", 0)])
    assert store.read(lambda tx: approvals.get(tx, "ap-used")).state == "used"
    store.close()


def test_a_log_that_is_older_than_the_backup_shows_nothing(domain: Domain, tmp_path: Path) -> None:
    """Mutant: an export of last week would do as proof that nothing was spent since the backup of yesterday."""
    note(domain)
    export_tiles(domain.store, tmp_path / "older")
    old = domain.store.read(log.latest_checkpoint)
    assert old is not None
    for _ in range(3):
        note(domain)
    copy = copied(domain, tmp_path)
    for evidence in ({"exported": tmp_path / "older"}, {"checkpoints": [old[1]]}):
        with pytest.raises(Unavailable) as caught:
            restore(copy, tmp_path / "new", **cast_any(evidence))
        assert caught.value.rule == "restore.evidence"
    domain.store.close()


def test_a_key_whose_answer_is_newer_than_the_backup_is_asked_and_charged_anew(domain: Domain, tmp_path: Path) -> None:
    """Mutant: the key would lead to an answer that is lost, and fail for ever."""
    quota = Quota(id="lineage-people-epsilon", metric="epsilon_nano", limit=100, lineage="people")
    domain.store.write_sync(
        lambda tx: ledger.set_quota(tx, quota, reason="t", actor="o", now=domain.clock(), entropy=os.urandom)
    )
    asked = request({"queries": 1, "epsilon_nano": 7}, key="key-of-the-lost-answer", subject=ALICE)
    held = domain.store.write_sync(reserving(asked, domain.clock))
    assert isinstance(held, Reservation)
    copy = copied(domain, tmp_path)
    domain.store.write_sync(posting(held, domain.clock))
    store = restored(domain, copy, tmp_path)
    again = store.write_sync(reserving(asked, domain.clock))
    assert not isinstance(again, Replay)
    used = store.read(lambda tx: ledger.find_balance(tx, quota.id, now=domain.clock()))
    assert used is not None
    assert used.used == 14
    store.close()
    check(tmp_path / "new")
