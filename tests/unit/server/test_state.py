# SPDX-License-Identifier: Apache-2.0
import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.cases import file_case
from tests.support.domain import (
    DOCUMENTS,
    NANO,
    OLGA,
    OSCAR,
    Domain,
    census_card,
    contract_document,
    dp_contract_document,
    numbers,
    open_domain,
    populate,
    quota_document,
    running_domain,
    spending_card,
    submit,
    submit_dp,
    write_snapshot,
)
from tests.support.ledger import Clock
from weir.errors import IdempotencyConflict, InvalidRequest, PublicationError, UnknownName
from weir.v1 import policy_service_pb2, quota_service_pb2
from weir_server import state
from weir_server.catalog.card import DatasetCard, Measure, Mode
from weir_server.catalog.snapshot import open_snapshot
from weir_server.policy.documents import Policy, parse_documents
from weir_server.state import snapshot_directory

KEY = "operation-of-the-test"


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    async with running_domain(tmp_path) as running:
        yield running


def changes(response: policy_service_pb2.ApplyPolicyResponse) -> dict[str, tuple[str, bool]]:
    return {change.subject: (change.kind, change.loosens) for change in response.changes}


def quota_request(limit: int, key: str = KEY, **fields: str) -> quota_service_pb2.SetQuotaRequest:
    quota = quota_service_pb2.Quota(id="o-1", metric="queries", requester="alice", limit=limit, **fields)
    return quota_service_pb2.SetQuotaRequest(quota=quota, reason="test", idempotency_key=key)


# ── policy ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_dry_run_shows_the_difference_and_changes_nothing(domain: Domain) -> None:
    before, leaves = domain.state.world, len(domain.events())
    shown = await domain.apply(contract_document(title="Other"), dry_run=True)
    assert changes(shown)["contract/c-1"] == ("changed", False)
    assert changes(shown)["contract/d-1"] == ("removed", False)
    assert domain.state.world == before
    assert len(domain.events()) == leaves
    applied = await domain.apply(contract_document(title="Other"))
    assert applied == shown
    assert applied.new_digest == domain.state.world.policy.digest


async def test_applying_what_is_in_force_changes_nothing(domain: Domain) -> None:
    leaves = len(domain.events())
    assert not (await domain.apply(*DOCUMENTS)).changes
    assert len(domain.events()) == leaves


@pytest.mark.parametrize(
    ("change", "loosens"),
    [
        ({"purposes": ["research", "sale"]}, True),
        ({"purposes": ["sale"]}, True),
        ({"modes": ["exact"]}, False),
        ({"dimensions": ["site", "age", "coast", "adult"]}, True),
        ({"dimensions": []}, False),
        ({"measures": []}, False),
        ({"aggregates": ["count", "sum", "avg", "variance"]}, True),
        ({"requester": "bob"}, True),
        ({"dataset": "spending"}, True),
        ({"valid_until": "2028-01-01T00:00:00+00:00"}, True),
        ({"valid_until": "2026-12-01T00:00:00+00:00"}, False),
        ({"valid_from": "2025-01-01T00:00:00+00:00"}, True),
        ({"approval": "per_query"}, False),
        ({"title": "Other words"}, False),
    ],
    ids=str,
)
async def test_a_change_is_marked_where_it_loosens(domain: Domain, change: dict[str, Any], loosens: bool) -> None:
    shown = await domain.apply(contract_document(**change), *DOCUMENTS[1:], dry_run=True)
    assert changes(shown) == {"contract/c-1": ("changed", loosens)}


async def test_lifting_approval_loosens(domain: Domain) -> None:
    await domain.apply(contract_document(approval="per_query"), *DOCUMENTS[1:])
    shown = await domain.apply(*DOCUMENTS, dry_run=True)
    assert changes(shown) == {"contract/c-1": ("changed", True)}


async def test_a_larger_share_of_epsilon_loosens_the_contract_and_its_limit(domain: Domain) -> None:
    larger = dp_contract_document(epsilon={"total": "3", "per_query": "1"})
    shown = await domain.apply(*DOCUMENTS[:2], larger, DOCUMENTS[3], dry_run=True)
    assert changes(shown) == {"contract/d-1": ("changed", True), "quota/contract-d-1-epsilon": ("changed", True)}


async def test_policy_that_moved_since_it_was_compared_is_not_applied(domain: Domain) -> None:
    seen = domain.state.world.policy.digest
    await domain.apply(*DOCUMENTS[:1])
    with pytest.raises(InvalidRequest) as caught:
        await domain.apply(*DOCUMENTS, expected_digest=seen)
    assert caught.value.rule == "policy.moved"
    assert set(domain.state.world.policy.contracts) == {"c-1"}
    await domain.apply(*DOCUMENTS, expected_digest=domain.state.world.policy.digest)


async def test_a_limit_that_moved_since_it_was_compared_counts_as_a_move(domain: Domain) -> None:
    seen = domain.state.world.policy.digest
    await domain.apply(*DOCUMENTS, quota_document())
    with pytest.raises(InvalidRequest) as caught:
        await domain.apply(*DOCUMENTS, expected_digest=seen)
    assert caught.value.rule == "policy.moved"
    assert domain.quotas()["q-1"] == 5


async def test_every_change_is_a_leaf_with_its_author_and_the_digest_of_the_terms(domain: Domain) -> None:
    await domain.apply(contract_document(title="Other"), *DOCUMENTS[1:])
    event = domain.events("weir.policy.changed")[-1]
    assert event["subject"] == "contract/c-1"
    assert event["data"]["actor"] == "olga"
    assert event["data"]["fields"] == ["title: Visits by site → Other"]
    assert event["data"]["contract_digest"] == domain.state.world.policy.contracts["c-1"].digest


async def test_one_malformed_document_stops_all_and_names_every_fault(domain: Domain) -> None:
    before = domain.state.world
    bad = contract_document("C 9", modes=["sideways"], colour="red", valid_until="2020-01-01T00:00:00+00:00")
    with pytest.raises(InvalidRequest) as caught:
        await domain.apply(contract_document("c-5"), bad)
    for word in ("contract must be", "sideways", "colour", "valid_until"):
        assert word in caught.value.message
    assert domain.state.world == before


@pytest.mark.parametrize(
    "document",
    ["", "- a list", "kind: treaty", "a: [", "!!python/object/apply:os.system ['true']", "kind: contract\nkind2: x"],
)
async def test_what_is_no_policy_document_is_refused(domain: Domain, document: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await domain.apply(document)
    assert caught.value.rule == "policy.document"


async def test_two_contracts_of_one_id_are_refused(domain: Domain) -> None:
    with pytest.raises(InvalidRequest):
        await domain.apply(contract_document(), contract_document(title="Twin"))


# ── limits ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_limits_come_and_go_with_their_documents(domain: Domain) -> None:
    daily = {"metric": "queries", "window": "day", "zone": "Asia/Shanghai", "limit": 3}
    await domain.apply(contract_document(quotas=[daily]), quota_document())
    assert domain.quotas() == {
        "contract-c-1-epsilon": 0,
        "contract-c-1-queries-day": 3,
        "lineage-money-epsilon": 4 * NANO,
        "q-1": 5,
    }
    await domain.apply(contract_document(quotas=[daily | {"limit": 9}]), quota_document(limit=2))
    assert (domain.quotas()["contract-c-1-queries-day"], domain.quotas()["q-1"]) == (9, 2)
    await domain.apply(contract_document())
    assert set(domain.quotas()) == {"contract-c-1-epsilon", "lineage-money-epsilon"}


async def test_a_limit_moved_to_another_zone_keeps_what_was_used(domain: Domain) -> None:
    daily = {"metric": "queries", "window": "day", "zone": "UTC", "limit": 3}
    await domain.apply(contract_document(quotas=[daily]))
    await domain.pipeline.run(submit())
    shown = await domain.apply(contract_document(quotas=[daily | {"zone": "Asia/Shanghai"}]))
    assert changes(shown)["quota/contract-c-1-queries-day"] == ("changed", True)
    assert domain.used("contract-c-1-queries-day") == 1


async def test_a_share_that_was_removed_and_set_again_still_counts_what_it_lost(domain: Domain) -> None:
    await domain.pipeline.run(submit_dp(epsilon=NANO))
    await domain.apply()
    assert "contract-d-1-epsilon" not in domain.quotas()
    await domain.apply(*DOCUMENTS)
    assert domain.used("contract-d-1-epsilon") == NANO


async def test_a_limit_that_somebody_changed_by_hand_shows_in_the_next_comparison(domain: Domain) -> None:
    quota = quota_service_pb2.Quota(id="contract-d-1-epsilon", metric="epsilon_nano", contract="d-1", limit=9 * NANO)
    await domain.state.set_quota(
        OLGA, quota_service_pb2.SetQuotaRequest(quota=quota, reason="test", idempotency_key=KEY)
    )
    shown = await domain.apply(*DOCUMENTS, dry_run=True)
    assert changes(shown) == {"quota/contract-d-1-epsilon": ("changed", False)}


@pytest.mark.parametrize("name", ["lineage-money-epsilon", "contract-d-1-epsilon"])
async def test_a_document_cannot_take_over_the_limits_of_lineages_and_contracts(domain: Domain, name: str) -> None:
    with pytest.raises(InvalidRequest):
        await domain.apply(*DOCUMENTS, quota_document(name, metric="epsilon_nano", limit=10**15))
    assert domain.quotas()["lineage-money-epsilon"] == 4 * NANO


async def test_a_limit_set_twice_under_one_key_is_set_once(domain: Domain) -> None:
    first = await domain.state.set_quota(OLGA, quota_request(3))
    leaves = len(domain.events())
    assert await domain.state.set_quota(OLGA, quota_request(3)) == first
    assert len(domain.events()) == leaves
    with pytest.raises(IdempotencyConflict):
        await domain.state.set_quota(OLGA, quota_request(4))
    await domain.state.set_quota(OSCAR, quota_request(4))
    assert domain.quotas()["o-1"] == 4


async def test_one_key_does_not_serve_two_kinds_of_mutation(domain: Domain) -> None:
    await domain.state.set_quota(OLGA, quota_request(3))
    with pytest.raises(IdempotencyConflict):
        await domain.apply(*DOCUMENTS, idempotency_key=KEY)


async def test_a_policy_applied_twice_under_one_key_is_applied_once(domain: Domain) -> None:
    first = await domain.apply(contract_document(), idempotency_key=KEY)
    await domain.apply(*DOCUMENTS)
    assert await domain.apply(contract_document(), idempotency_key=KEY) == first
    assert len(domain.state.world.policy.contracts) == len(DOCUMENTS)


async def test_a_suspension_without_scope_or_with_a_name_too_many_is_refused(domain: Domain) -> None:
    scope = policy_service_pb2.SuspensionScope
    for wrong in (
        policy_service_pb2.SetSuspensionRequest(name="alice", suspended=True, reason="r"),
        policy_service_pb2.SetSuspensionRequest(scope=scope.SUSPENSION_SCOPE_ALL, name="x", suspended=True, reason="r"),
        policy_service_pb2.SetSuspensionRequest(scope=scope.SUSPENSION_SCOPE_REQUESTER, suspended=True, reason="r"),
        policy_service_pb2.SetSuspensionRequest(scope=scope.SUSPENSION_SCOPE_ALL, suspended=True),
    ):
        with pytest.raises(InvalidRequest):
            await domain.state.set_suspension(OLGA, wrong)
    assert domain.state.world.suspensions == frozenset()


# ── restart ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_restart_loads_the_same_world(domain: Domain, tmp_path: Path) -> None:
    await domain.apply(contract_document(quotas=[{"metric": "cells", "limit": 9}]), quota_document(), *DOCUMENTS[2:])
    await domain.suspend("requester", "mallory")
    await domain.activate(census_card(title="Census, second"), 2)
    world = domain.state.world
    domain.store.close()
    reopened = open_domain(tmp_path, clock=domain.clock)
    try:
        assert reopened.state.world == world
        assert [s.version for s in reopened.state.world.catalogue.datasets["census"]] == [2, 1]
    finally:
        reopened.store.close()


async def test_an_answer_survives_a_restart_byte_for_byte(tmp_path: Path) -> None:
    clock = Clock()
    first = open_domain(tmp_path, clock=clock)
    await populate(first)
    answered = await first.pipeline.run(submit_dp(key=KEY))
    first.store.close()
    second = open_domain(tmp_path, clock=clock)
    try:
        assert await second.pipeline.run(submit_dp(key=KEY)) == answered
        other = await second.pipeline.run(submit_dp())
        assert numbers(other) == numbers(answered)
        assert second.dp.touches == 0
    finally:
        second.store.close()


async def test_a_snapshot_altered_on_disk_stops_the_start(domain: Domain, tmp_path: Path) -> None:
    domain.store.close()
    (snapshot_directory(tmp_path, "census", 1) / "atoms.bin").write_bytes(b"other atoms")
    with pytest.raises(PublicationError):
        open_domain(tmp_path)


# ── snapshots ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [1, 3, 0])
async def test_only_the_next_version_is_activated(domain: Domain, version: int) -> None:
    digest = write_snapshot(domain.directory, census_card(), 3)
    if version == 0:
        write_snapshot(domain.directory, census_card(), 0)
    known = domain.state.world.catalogue.datasets["census"][0].manifest_digest
    with pytest.raises(PublicationError):
        await domain.activate(census_card(), version, digest=known if version == 1 else digest)
    assert len(domain.state.world.catalogue.datasets["census"]) == 1


async def test_an_altered_file_or_manifest_is_not_activated(domain: Domain) -> None:
    digest = write_snapshot(domain.directory, census_card(), 2)
    directory = snapshot_directory(domain.directory, "census", 2)
    with pytest.raises(PublicationError):
        await domain.activate(census_card(), 2, digest="0" * 64)
    (directory / "atoms.bin").write_bytes(b"atomz")
    with pytest.raises(PublicationError) as caught:
        await domain.activate(census_card(), 2, digest=digest)
    assert caught.value.rule == "snapshot.file_digest"
    (directory / "atoms.bin").unlink()
    with pytest.raises(PublicationError):
        await domain.activate(census_card(), 2, digest=digest)


async def test_a_directory_that_holds_another_snapshot_is_not_activated(domain: Domain) -> None:
    digest = write_snapshot(domain.directory, census_card(), 7)
    snapshot_directory(domain.directory, "census", 7).rename(snapshot_directory(domain.directory, "census", 2))
    with pytest.raises(PublicationError) as caught:
        await domain.activate(census_card(), 2, digest=digest)
    assert caught.value.rule == "snapshot.name"


async def test_a_dataset_keeps_its_lineage(domain: Domain) -> None:
    with pytest.raises(PublicationError) as caught:
        await domain.activate(census_card(lineage="others"), 2)
    assert caught.value.rule == "snapshot.lineage"


def wide_card(mode: Mode, *, column: str = "dollars", lineage: str = "money", name: str = "wide") -> DatasetCard:
    measure = Measure("other_name", "Other", "", column, mode, 0, 0, 9)
    card = census_card() if mode is Mode.EXACT else spending_card()
    return replace(card, name=name, lineage=lineage, measures=(measure,), epsilon_lifetime=NANO)


async def test_a_lineage_never_releases_one_column_both_ways(domain: Domain) -> None:
    with pytest.raises(PublicationError) as caught:
        await domain.activate(wide_card(Mode.EXACT))
    assert caught.value.rule == "lineage.mode"
    await domain.activate(wide_card(Mode.EXACT, lineage="elsewhere", name="wider"))


async def test_what_an_older_version_released_exactly_is_never_offered_with_dp(domain: Domain) -> None:
    other = Measure("stays", "Stays", "", "stays", Mode.EXACT, 0, 0, 9)
    await domain.activate(census_card(measures=(other,)), 2)
    with pytest.raises(PublicationError) as caught:
        await domain.activate(wide_card(Mode.DP, column="visits", lineage="people"))
    assert caught.value.rule == "lineage.mode"


async def test_a_card_that_breaks_the_rules_of_cards_is_not_activated_however_it_was_made(domain: Domain) -> None:
    with pytest.raises(PublicationError) as caught:
        await domain.activate(census_card(k=1), 2)
    assert [violation.rule for violation in caught.value.violations] == ["exact.k", "exact.coalition"]


async def test_a_lineage_budget_is_set_once_and_no_later_card_raises_it(domain: Domain) -> None:
    assert domain.quotas()["lineage-money-epsilon"] == 4 * NANO
    await domain.activate(spending_card(epsilon_lifetime=100 * NANO), 2)
    await domain.activate(spending_card(name="spending_more", epsilon_lifetime=100 * NANO))
    assert domain.quotas()["lineage-money-epsilon"] == 4 * NANO


async def test_lineages_of_like_names_do_not_share_or_lack_a_budget(domain: Domain) -> None:
    await domain.activate(spending_card(name="first", lineage="a_b"))
    with pytest.raises(PublicationError) as caught:
        await domain.activate(spending_card(name="second", lineage="a-b"))
    assert caught.value.rule == "lineage.name"
    assert "second" not in domain.state.world.catalogue.datasets


async def test_a_snapshot_activated_twice_under_one_key_is_active_once(domain: Domain) -> None:
    digest = write_snapshot(domain.directory, census_card(), 2)
    index = await domain.activate(census_card(), 2, digest=digest, key=KEY)
    assert await domain.activate(census_card(), 2, digest=digest, key=KEY) == index
    assert [snapshot.version for snapshot in domain.state.world.catalogue.datasets["census"]] == [2, 1]
    assert domain.events()[index]["type"] == "weir.dataset.published"


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", ".", "名"])
def test_a_dataset_name_cannot_leave_the_data_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest):
        snapshot_directory(tmp_path, name, 1)


async def test_an_approval_nobody_asked_for_cannot_be_decided(domain: Domain) -> None:
    with pytest.raises(UnknownName):
        await domain.settle("ap-0000000000000000")


async def test_a_requester_s_act_does_not_read_every_document_again(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def counted(documents: Sequence[str]) -> Policy:
        read.append(len(documents))
        return parse_documents(documents)

    await file_case(domain)
    monkeypatch.setattr(state, "parse_documents", counted)
    await file_case(domain)
    assert read == []
    await domain.apply(contract_document(title="Other"))
    assert domain.state.world.policy.contracts["c-1"].title == "Other"


async def test_a_stop_does_not_wait_for_a_snapshot_that_is_being_hashed(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: an emergency stop would wait for as long as it takes to read a large publication."""
    hashing, go_on, opened = threading.Event(), threading.Event(), open_snapshot

    def slowly(*arguments: Any, **named: Any) -> Any:
        hashing.set()
        assert go_on.wait(30)
        return opened(*arguments, **named)

    monkeypatch.setattr("weir_server.state.open_snapshot", slowly)
    activating = asyncio.create_task(domain.activate(census_card(), 2))
    try:
        assert await asyncio.to_thread(hashing.wait, 30)
        await asyncio.wait_for(domain.suspend("all"), 5)
        assert ("all", "") in domain.state.world.suspensions
    finally:
        go_on.set()
    await activating
    assert ("all", "") in domain.state.world.suspensions
    assert domain.state.world.catalogue.datasets["census"][0].version == 2
