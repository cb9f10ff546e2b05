# SPDX-License-Identifier: Apache-2.0
"""Books that were restored without proof release nothing over what they cannot know any more."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.support.domain import NANO, OLGA, SCOPES, census_card, spending_card, write_snapshot
from tests.support.sample import publish, write_sources
from tests.support.server import make_domain
from weir.canonical import canonical_json
from weir.errors import PublicationError
from weir.receipts import parse_event
from weir.v1 import policy_service_pb2
from weir_server import ledger, log, publication
from weir_server.backup import back_up, restore
from weir_server.books import DIRECTORY, open_books
from weir_server.catalog.card import DatasetCard
from weir_server.catalog.codec import card_to_json
from weir_server.fsck import fsck
from weir_server.identity import pki
from weir_server.ledger import Quota, set_quota
from weir_server.log.tiles import export_tiles
from weir_server.policy import book
from weir_server.state import State
from weir_server.store import Store, Transaction

MONEY = "lineage-money-epsilon"


class Open:
    """The books of a data directory, and what operators do."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.store: Store = open_books(data, pki.load_domain(data))
        self.state = State(self.store, data, clock=lambda: datetime.now(UTC), entropy=os.urandom)

    def __enter__(self) -> Open:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def activate(self, card: DatasetCard, version: int = 1) -> None:
        if not (self.data / "snapshots" / card.name / str(version)).exists():
            write_snapshot(self.data, card, version)
        manifest = (self.data / "snapshots" / card.name / str(version) / "manifest.json").read_bytes()
        asyncio.run(
            self.state.activate_snapshot(
                OLGA,
                policy_service_pb2.ActivateSnapshotRequest(
                    dataset=card.name,
                    snapshot=version,
                    manifest_digest=digest(manifest),
                    idempotency_key=secrets.token_hex(12),
                ),
            )
        )

    def resume(self, scope: str, name: str) -> None:
        request = policy_service_pb2.SetSuspensionRequest(
            scope=SCOPES[scope], name=name, suspended=False, reason="new", idempotency_key=secrets.token_hex(12)
        )
        asyncio.run(self.state.set_suspension(OLGA, request))

    def limit(self, quota: Quota) -> None:
        self.write(lambda tx: set_quota(tx, quota, reason="t", actor="olga", now=now(), entropy=os.urandom))

    def write(self, act: Callable[[Transaction], object]) -> None:
        self.store.write_sync(act)

    def limits(self) -> dict[str, int]:
        found = self.store.read(lambda tx: ledger.list_quotas(tx, now=now()))
        return {balance.quota.id: balance.quota.limit for balance in found}

    def events(self, kind: str) -> list[dict[str, Any]]:
        leaves = [parse_event(leaf) for _, leaf in self.store.read(lambda tx: list(log.entries(tx)))]
        return [dict(event) for event in leaves if event["type"] == kind]


def now() -> datetime:
    return datetime.now(UTC)


def digest(manifest: bytes) -> str:
    return sha256(manifest).hexdigest()


def check(data: Path) -> None:
    assert fsck(data / DIRECTORY, vkey=pki.log_key(data), files=data / "log").findings == ()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A domain with a census, and a copy of it in `copy`."""
    made = make_domain(tmp_path)
    with Open(made) as domain:
        domain.activate(census_card())
    back_up(made, tmp_path / "copy", secrets=True)
    return made


def test_a_lineage_that_is_newer_than_the_copy_starts_with_nothing_until_an_operator_raises_it(
    data: Path, tmp_path: Path
) -> None:
    """Attack: its budget was spent behind the copy. Mutant: to publish it again opens the whole of it once more."""
    restore(tmp_path / "copy", tmp_path / "new", close_budgets=True)
    with Open(tmp_path / "new") as domain:
        domain.activate(spending_card())
        assert domain.limits()[MONEY] == 0
        assert domain.events("weir.quota.set")[-1]["data"]["limit"] == "0"
        domain.limit(Quota(MONEY, "epsilon_nano", NANO, lineage="money"))
        domain.activate(spending_card(), 2)
        assert domain.limits()[MONEY] == NANO
        assert ("dataset", "spending") not in domain.state.world.suspensions, "dp is bound by its budget"
    check(tmp_path / "new")


def test_a_new_lineage_that_must_pay_for_its_report_says_which_limit_to_set_first(data: Path, tmp_path: Path) -> None:
    card = spending_card(report_epsilon=NANO // 10)
    restore(tmp_path / "copy", tmp_path / "new", close_budgets=True)
    with Open(tmp_path / "new") as domain:
        with pytest.raises(PublicationError) as caught:
            domain.activate(sealed(card, tmp_path / "new"))
        assert caught.value.rule == "restore.budget"
        assert MONEY in caught.value.message
        domain.limit(Quota(MONEY, "epsilon_nano", NANO, lineage="money"))
        domain.activate(card)
        assert domain.limits()[MONEY] == NANO
    check(tmp_path / "new")


def sealed(card: DatasetCard, data: Path) -> DatasetCard:
    """The card of a snapshot that holds a report of its bounds."""
    directory = data / "snapshots" / card.name / "1"
    directory.mkdir(parents=True)
    (directory / "bounds.json").write_bytes(b"{}")
    content = {
        "card": card_to_json(card),
        "version": 1,
        "published": now().isoformat(),
        "files": {"bounds.json": digest(b"{}")},
    }
    (directory / "manifest.json").write_bytes(canonical_json(content))
    return card


def test_books_that_are_proven_whole_open_new_budgets_and_versions(data: Path, tmp_path: Path) -> None:
    with Open(data) as domain:
        export_tiles(domain.store, data / "log")
    done = restore(tmp_path / "copy", tmp_path / "new", exported=data / "log")
    assert done.held == ()
    with Open(tmp_path / "new") as domain:
        domain.activate(spending_card())
        domain.activate(census_card(), 2)
        assert domain.limits()[MONEY] == 4 * NANO
        assert domain.events("weir.store.restored")[0]["data"]["proof"] == "log"


def test_a_dataset_answered_exactly_gets_no_further_version(data: Path, tmp_path: Path) -> None:
    """Attack: version 2 was answered behind the copy, and the next one, carried from version 1, differs by one
    person."""
    with Open(data) as domain:
        domain.activate(census_card(), 2)
        domain.activate(census_card(name="later", lineage="later"))
        domain.activate(spending_card())
    done = restore(tmp_path / "copy", tmp_path / "new", newer=data, close_budgets=True)
    assert done.held == ("census", "later")
    with Open(tmp_path / "new") as domain:
        for card, version in ((census_card(), 2), (census_card(name="later", lineage="later"), 1)):
            with pytest.raises(PublicationError, match="new dataset name") as caught:
                domain.activate(card, version)
            assert caught.value.rule == "restore.unsettled"
        domain.activate(spending_card())  # Nothing of it is exact: its budget of 0 is enough.
        assert [event["subject"] for event in domain.events("weir.dataset.held")] == ["dataset/census", "dataset/later"]
        assert [row[:2] for row in domain.store.read(book.snapshots)] == [("census", 1), ("spending", 1)]
    check(tmp_path / "new")


def test_a_dataset_answered_exactly_under_a_new_name_starts_stopped(data: Path, tmp_path: Path) -> None:
    """Attack: the name was published and answered behind the copy, and is published again from the present source."""
    restore(tmp_path / "copy", tmp_path / "new", close_budgets=True)
    card = census_card(name="census_2", lineage="people_2")
    with Open(tmp_path / "new") as domain:
        domain.activate(card)
        assert ("dataset", "census_2") in domain.state.world.suspensions
        domain.resume("dataset", "census_2")
        domain.activate(card, 2)
        assert ("dataset", "census_2") not in domain.state.world.suspensions
    check(tmp_path / "new")


def test_publishing_refuses_a_held_dataset_before_it_touches_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: it would take the newer snapshot for a leftover and remove it, with its record of members."""
    made, source = make_domain(tmp_path), tmp_path / "sources"
    clinic, _ = write_sources(source)
    publish(clinic, data_dir=made)
    back_up(made, tmp_path / "copy", secrets=True)
    publish(clinic, data_dir=made)
    new = tmp_path / "new"
    restore(tmp_path / "copy", new, newer=made, close_budgets=True)
    held = {path for folder in ("snapshots", "private") for path in (new / folder / "clinic").rglob("*")}
    with pytest.raises(PublicationError) as caught:
        publish(clinic, data_dir=new)
    assert caught.value.rule == "restore.unsettled"
    monkeypatch.setattr(publication, "_identity", lambda file, domain: {})
    with pytest.raises(PublicationError) as caught:
        publication.publish_to_server(
            clinic, data_dir=new, source=None, server="127.0.0.1:1", identity_file=clinic, progress=lambda line: None
        )
    assert caught.value.rule == "restore.unsettled"
    assert (
        held - {path for folder in ("snapshots", "private") for path in (new / folder / "clinic").rglob("*")} == set()
    )


def test_what_books_may_lack_outlasts_the_next_restore_and_cannot_be_taken_out_of_them(
    data: Path, tmp_path: Path
) -> None:
    restore(tmp_path / "copy", tmp_path / "new", close_budgets=True)
    with Open(tmp_path / "new") as domain:
        export_tiles(domain.store, tmp_path / "new" / "log")
    again = tmp_path / "again"
    restore(tmp_path / "copy", again, exported=tmp_path / "new" / "log")
    check(again)
    with Open(again) as domain:
        with pytest.raises(PublicationError):
            domain.activate(census_card(), 2)
        domain.write(lambda tx: tx.execute("DELETE FROM unproven"))
    rules = [finding.rule for finding in fsck(again / DIRECTORY, vkey=pki.log_key(again)).findings]
    assert rules == ["fsck.unproven"] * 2


def test_any_number_of_budgets_can_be_closed(tmp_path: Path) -> None:
    """Mutant: their names are more than one entry holds, and the restore fails."""
    made = make_domain(tmp_path)
    with Open(made) as domain:

        def many(tx: Transaction) -> None:
            for n in range(700):
                quota = Quota(f"contract-{'c' * 90}-{n:04d}-epsilon", "epsilon_nano", 10, contract=f"c-{n}")
                set_quota(tx, quota, reason="t", actor="olga", now=now(), entropy=os.urandom)

        domain.write(many)
    back_up(made, tmp_path / "copy", secrets=True)
    done = restore(tmp_path / "copy", tmp_path / "new", close_budgets=True)
    assert len(done.closed) == 700
    with Open(tmp_path / "new") as domain:
        assert set(domain.limits().values()) == {0}
        assert domain.events("weir.store.restored")[0]["data"]["closed"] == "700"
