# SPDX-License-Identifier: Apache-2.0
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.agreements import HOSPITAL, move
from tests.support.domain import (
    ALICE,
    BOB,
    DOCUMENTS,
    DOLLARS,
    NANO,
    OLGA,
    Domain,
    by_site,
    contract_document,
    open_domain,
    quota_document,
    running_domain,
    submit,
    submit_dp,
)
from tests.support.gates import assessment_document, gates_document
from weir.errors import ApprovalRequired, BudgetExhausted, InvalidQuery, PolicyDenied, QuotaExceeded
from weir.query import Query, canonicalise
from weir.v1 import quota_service_pb2
from weir_server.cases import book as cases
from weir_server.cases.values import Case, Step
from weir_server.policy import standing
from weir_server.policy.encode import quota_to_proto
from weir_server.policy.standing import CHANGED, Counts
from weir_server.policy.standings import standings
from weir_server.world import World

GOOD = (assessment_document("alice"), assessment_document("bob"))


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    async with running_domain(tmp_path) as running:
        await running.apply(*DOCUMENTS, *GOOD, gates_document())
        yield running


async def deny(domain: Domain, times: int = 1, **more: Any) -> None:
    for _ in range(times):
        assert isinstance(await domain.refused(submit(purpose="sale", **more)), PolicyDenied)


def counts(domain: Domain, requester: str = "alice") -> Counts:
    policy = domain.state.world.policy
    found = domain.store.read(lambda tx: standing.counts_now(tx, policy, now=domain.clock()))
    return found.get(requester, Counts())


def level(domain: Domain, requester: str = "alice") -> str:
    return domain.state.world.levels.get(requester, "good")


async def test_refusals_by_the_policy_lower_the_level_and_leave_a_leaf_with_their_count(domain: Domain) -> None:
    await deny(domain, 2)
    await domain.state.update_standings()
    assert (level(domain), domain.events(CHANGED)) == ("good", [])
    await deny(domain, 1)
    await domain.state.update_standings()
    assert level(domain) == "watched"
    (event,) = domain.events(CHANGED)
    assert event["subject"] == "requester/alice"
    told = {key: event["data"][key] for key in ("from", "to", "refusals", "disputes", "overdue_duties")}
    assert told == {"from": "good", "to": "watched", "refusals": 3, "disputes": 0, "overdue_duties": 0}


async def test_a_level_can_be_counted_again_from_the_leaves_alone(domain: Domain) -> None:
    await deny(domain, 4)
    await domain.state.update_standings()
    (event,) = domain.events(CHANGED)
    data = event["data"]
    counted = [
        item
        for item in domain.events("weir.query.refused")
        if item["data"]["subject"]["requester"] == "alice"
        and item["data"]["record"]["reason"] == "POLICY_DENIED"
        and int(item["id"]) < int(data["counted_to"])
        and item["time"][:10] >= data["since"]
    ]
    assert len(counted) == data["refusals"] == 4
    assert data["thresholds"] == {"watched": [3, 1, 1], "restricted": [6, 3, 3]}


async def test_a_watched_requester_needs_a_person_and_a_restricted_one_two_and_a_lower_cap(domain: Domain) -> None:
    await domain.pipeline.run(submit_dp(epsilon=NANO // 10))
    await deny(domain, 3)
    await domain.state.update_standings()
    assert isinstance(await domain.refused(submit_dp(by_site(DOLLARS, dataset="spending"))), ApprovalRequired)
    await deny(domain, 3)
    await domain.state.update_standings()
    assert level(domain) == "restricted"
    error = await domain.refused(submit_dp())
    assert isinstance(error, PolicyDenied)
    assert error.rule == "recipient.epsilon_per_query"


@pytest.mark.parametrize("what", ["malformed", "approval", "ceiling"])
async def test_honest_mistakes_count_nothing(domain: Domain, what: str) -> None:
    if what == "malformed":
        error = await domain.refused(submit_dp(epsilon=0))
        assert isinstance(error, InvalidQuery)
    elif what == "approval":
        await domain.apply(contract_document(approval="per_query"), *GOOD, gates_document())
        assert isinstance(await domain.refused(submit()), ApprovalRequired)
    else:
        error = await domain.refused(submit(max_price=1))
        assert error.rule == "price.limit"
    await domain.state.update_standings()
    assert counts(domain) == Counts()


async def test_a_provider_that_stops_its_contract_lowers_nobodys_standing(domain: Domain) -> None:
    await move(domain, "suspended", who=HOSPITAL, contract="c-1")
    for _ in range(3):
        error = await domain.refused(submit())
        assert error.rule == "contract.state"
    await domain.state.update_standings()
    assert (counts(domain), level(domain)) == (Counts(), "good")


async def test_a_denial_that_is_not_only_ones_own_ceiling_counts(domain: Domain) -> None:
    assert isinstance(await domain.refused(submit(max_price=1, purpose="sale")), PolicyDenied)
    await domain.state.update_standings()
    assert counts(domain).refusals == 1


async def test_a_limit_of_ones_own_counts(domain: Domain) -> None:
    await domain.apply(*DOCUMENTS, quota_document(limit=0))
    assert isinstance(await domain.refused(submit()), QuotaExceeded)
    await domain.state.update_standings()
    assert counts(domain).refusals == 1


async def test_a_limit_that_others_used_up_counts_nothing(domain: Domain) -> None:
    await domain.apply(
        *DOCUMENTS, quota_document("shared", requester=None, dataset="census", limit=1).replace("requester: null\n", "")
    )
    await domain.pipeline.run(submit(who=BOB, contract="b-1"))
    assert isinstance(await domain.refused(submit()), QuotaExceeded)
    await domain.state.update_standings()
    assert counts(domain) == Counts()


async def test_a_shared_privacy_budget_that_others_spent_counts_nothing(domain: Domain) -> None:
    assert domain.balance("lineage-money-epsilon").quota.limit == 4 * NANO
    await domain.state.set_quota(*lowered(domain, "lineage-money-epsilon", 0))
    assert isinstance(await domain.refused(submit_dp()), BudgetExhausted)
    await domain.state.update_standings()
    assert counts(domain) == Counts()


def lowered(domain: Domain, quota: str, limit: int) -> tuple[Any, Any]:
    message = quota_to_proto(domain.balance(quota).quota)
    message.limit = limit
    return OLGA, quota_service_pb2.SetQuotaRequest(quota=message, reason="test", idempotency_key=domain.new_key())


async def test_a_refusal_counts_for_thirty_days_and_then_no_more(domain: Domain) -> None:
    await deny(domain, 3)
    await domain.state.update_standings()
    domain.clock.forward(days=29)
    await domain.state.update_standings()
    assert level(domain) == "watched"
    domain.clock.forward(days=1)
    await domain.state.update_standings()
    assert (level(domain), counts(domain)) == ("good", Counts())
    assert [event["data"]["to"] for event in domain.events(CHANGED)] == ["watched", "good"]


async def test_a_clock_that_is_set_back_forgives_nothing_and_revives_nothing(domain: Domain) -> None:
    await deny(domain, 3)
    await domain.state.update_standings()
    domain.clock.forward(days=31)
    await domain.apply(*DOCUMENTS, *GOOD, gates_document())
    await deny(domain, 1)
    domain.clock.moment = datetime(2026, 11, 1, tzinfo=UTC)
    await domain.state.update_standings()
    assert counts(domain).refusals == 1


async def test_refusals_are_counted_once_however_often_and_by_whomever_they_are_read(domain: Domain) -> None:
    await deny(domain, 2)
    first = domain.store.read(standing.tally)
    again = domain.store.read(standing.tally)
    for found in (first, again):
        await domain.store.write(lambda tx, found=found: standing.book(tx, found))
    await domain.state.update_standings()
    assert counts(domain).refusals == 2


async def test_a_flood_is_read_in_pages_and_counts_for_its_author_alone(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "_PAGE", 4)
    await deny(domain, 9)
    await deny(domain, 1, who=BOB, contract="b-1")
    await domain.state.update_standings()
    assert (counts(domain).refusals, counts(domain, "bob").refusals) == (9, 1)
    assert (level(domain), level(domain, "bob")) == ("restricted", "good")
    await domain.pipeline.run(submit(who=BOB, contract="b-1"))


async def test_a_level_outlives_a_restart(domain: Domain) -> None:
    await deny(domain, 3)
    await domain.state.update_standings()
    domain.store.close()
    again = open_domain(domain.directory, clock=domain.clock)
    try:
        assert again.state.world.levels == {"alice": "watched"}
    finally:
        again.store.close()


async def test_without_gates_a_level_is_told_and_nothing_follows(domain: Domain) -> None:
    await deny(domain, 49)
    await domain.apply(*DOCUMENTS)
    await domain.state.update_standings()
    assert level(domain) == "good"
    await deny(domain, 1)
    await domain.state.update_standings()
    assert level(domain) == "watched"
    await domain.pipeline.run(submit())


async def test_an_apply_that_moves_thresholds_moves_levels_at_once(domain: Domain) -> None:
    await deny(domain, 3)
    await domain.state.update_standings()
    await domain.apply(*DOCUMENTS, *GOOD, gates_document(standing={}))
    assert level(domain) == "good"


async def test_a_quiet_minute_writes_nothing(domain: Domain) -> None:
    before = domain.kinds()
    await domain.state.update_standings()
    assert domain.kinds() == before


async def test_accepted_cases_count_until_they_are_closed(domain: Domain) -> None:
    def case(state: Any) -> Case:
        step = Step(state, "olga", "operator", domain.clock(), "", frozen=False, leaf_index=len(domain.events()))
        return Case("case-1", "dispute", "c-1", "census", "alice", (), "x", (step,))

    def move(state: Any, at: int) -> Any:
        step = Step(state, "olga", "operator", domain.clock(), "", frozen=False, leaf_index=10_000 + at)
        return lambda tx: cases.add_step(tx, "case-1", step)

    await domain.store.write(lambda tx: cases.add(tx, case("received")))
    assert counts(domain).disputes == 0
    for at, (state, expected) in enumerate([("accepted", 1), ("handled", 1), ("closed", 0)]):
        await domain.store.write(move(state, at))
        assert counts(domain).disputes == expected


async def test_overdue_duties_count_by_server_time_until_they_are_attested(domain: Domain) -> None:
    duty = {"duty": "delete", "sentence": "Delete what was received.", "due": "2026-11-30T00:00:00+00:00"}
    await domain.apply(contract_document(duties=[duty]), *GOOD, gates_document())
    assert counts(domain).overdue_duties == 0
    domain.clock.forward(days=9)
    await domain.state.update_standings()
    assert (counts(domain).overdue_duties, level(domain)) == (1, "watched")


# ── what is shown ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_standing_shows_score_tier_level_facts_and_what_follows(domain: Domain) -> None:
    await domain.apply(*DOCUMENTS, assessment_document("alice", answer=2), gates_document())
    await deny(domain, 3)
    await domain.suspend("blacklist", "bob")
    await domain.state.update_standings()
    alice, bob = shown(domain, domain.state.world)
    assert (alice.requester, alice.score, alice.tier, alice.level) == ("alice", 66, "middle", "watched")
    assert (alice.refusals, alice.k, alice.epsilon_cap_nano, alice.approvers) == (3, 10, NANO, 1)
    assert alice.assessed_until.ToDatetime(UTC) == datetime(2027, 1, 1, tzinfo=UTC)
    assert not alice.blacklisted
    assert (bob.requester, bob.score, bob.tier, bob.blacklisted) == ("bob", 0, "unassessed", True)
    assert not bob.HasField("assessed_until")


def shown(domain: Domain, world: World, requester: str | None = None) -> list[Any]:
    return domain.store.read(lambda tx: standings(tx, world, now=domain.clock(), requester=requester))


async def test_one_sees_ones_own_even_where_nothing_is_known(domain: Domain) -> None:
    (own,) = shown(domain, domain.state.world, "carol")
    assert (own.requester, own.level, own.tier) == ("carol", "good", "unassessed")


# ── tiers in decisions ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_assessment_lapses_by_server_time_between_two_queries(domain: Domain) -> None:
    await domain.apply(*DOCUMENTS, assessment_document(valid_until="2026-11-23T00:00:00+00:00"), gates_document())
    await domain.pipeline.run(submit_dp(epsilon=NANO))
    domain.clock.moment = datetime(2026, 11, 23, tzinfo=UTC)
    error = await domain.refused(submit_dp(epsilon=NANO))
    assert isinstance(error, PolicyDenied)
    assert [reason.code for reason in error.reasons] == ["recipient.epsilon_per_query"]


async def test_a_clock_that_is_set_back_revives_no_assessment(domain: Domain) -> None:
    await domain.apply(*DOCUMENTS, assessment_document(valid_until="2026-11-23T00:00:00+00:00"), gates_document())
    domain.clock.moment = datetime(2026, 11, 23, tzinfo=UTC)
    await domain.refused(submit_dp(epsilon=NANO))
    domain.clock.moment = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert isinstance(await domain.refused(submit_dp(epsilon=NANO)), PolicyDenied)


async def test_exact_answers_need_the_k_of_the_tier(domain: Domain) -> None:
    await domain.apply(*DOCUMENTS, gates_document())
    error = await domain.refused(submit(canonicalise(Query("census", by_site().aggregates, ("site",)))))
    assert isinstance(error, PolicyDenied)
    assert error.rule == "recipient.k"


async def test_who_has_no_assessment_needs_a_person_where_the_gates_say_so(domain: Domain) -> None:
    await domain.apply(*DOCUMENTS, gates_document())
    assert isinstance(await domain.refused(submit_dp(epsilon=NANO // 10, who=ALICE)), ApprovalRequired)
