# SPDX-License-Identifier: Apache-2.0
import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.domain import (
    ALICE,
    BOB,
    COUNT,
    DOLLARS,
    NANO,
    OLGA,
    VISITS,
    Domain,
    by_site,
    check_receipt,
    contract_document,
    dp_contract_document,
    equals,
    numbers,
    quota_document,
    running_domain,
    spending_card,
    submit,
    submit_dp,
)
from tests.support.garbage import left_behind
from weir.canonical import canonical_json
from weir.errors import (
    BudgetExhausted,
    IdempotencyConflict,
    InternalError,
    InvalidQuery,
    PolicyDenied,
    QuotaExceeded,
    Suspended,
    UnknownName,
    WeirError,
)
from weir.query import AllOf, AnyOf, Negation, Predicate, Query, canonicalise, query_json
from weir.v1 import answer_pb2, query_service_pb2
from weir_server.catalog.card import Grade
from weir_server.judged import Judged
from weir_server.plan.values import Analysis, BoundQuery, Loss, Submission

KEY = "key-0123456789abcdef"


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    async with running_domain(tmp_path) as running:
        yield running


def reserved_on_disk(directory: Path) -> list[tuple[str, int]]:
    """State and loss of every reservation, read by another connection than the service's."""
    with sqlite3.connect(f"file:{directory}/ledger.db?mode=ro", uri=True) as other:
        return list(other.execute("SELECT state, epsilon_nano FROM reservations"))


async def test_an_answer_holds_the_release_and_a_receipt_that_verifies(domain: Domain) -> None:
    answered = await domain.pipeline.run(submit())
    assert numbers(answered) == [7, 11, 13, 17]
    proven = check_receipt(answered.receipt, answer=answered.answer, query=canonical_json(query_json(bound_query())))
    assert proven.event["type"] == "weir.query.released"


def bound_query() -> Query:
    return replace(by_site(), snapshot=1)


async def test_the_reservation_is_durable_before_data_is_touched(domain: Domain) -> None:
    seen: list[list[tuple[str, int]]] = []
    domain.dp.on_execute = lambda bound: seen.append(reserved_on_disk(domain.directory))
    await domain.pipeline.run(submit_dp())
    assert seen == [[("held", NANO // 2)]]
    assert reserved_on_disk(domain.directory) == [("posted", NANO // 2)]


async def test_noise_is_drawn_only_under_a_reservation_still_held(domain: Domain) -> None:
    seen: list[list[tuple[str, int]]] = []
    domain.dp.on_release = lambda bound: seen.append(reserved_on_disk(domain.directory))
    await domain.pipeline.run(submit_dp())
    assert seen == [[("held", NANO // 2)]]


async def test_the_same_key_gives_the_same_bytes_and_charges_nothing_more(domain: Domain) -> None:
    first = await domain.pipeline.run(submit_dp(key=KEY))
    before = (domain.used("contract-d-1-epsilon"), domain.metered("price_micro", "d-1"), len(domain.events()))
    again = await domain.pipeline.run(submit_dp(key=KEY))
    assert again == first
    assert (domain.used("contract-d-1-epsilon"), domain.metered("price_micro", "d-1"), len(domain.events())) == before
    assert domain.dp.touches == domain.dp.draws == 1


async def test_the_same_key_with_another_request_is_a_metered_conflict(domain: Domain) -> None:
    await domain.pipeline.run(submit(key=KEY))
    error = await domain.refused(submit(by_site(VISITS), key=KEY))
    assert isinstance(error, IdempotencyConflict)
    assert domain.exact.touches == 1
    check_receipt(error.receipt)


async def test_two_requesters_may_use_the_same_key(domain: Domain) -> None:
    await domain.pipeline.run(submit(key=KEY))
    other = await domain.pipeline.run(submit(by_site(VISITS), key=KEY, who=BOB, contract="b-1"))
    assert answer_pb2.Answer.FromString(other.answer).values[0].name == "sum(visits)"


async def test_a_sticky_release_costs_another_requester_no_epsilon_and_no_touch(domain: Domain) -> None:
    first = await domain.pipeline.run(submit_dp())
    second = await domain.pipeline.run(submit_dp(who=BOB, contract="e-1"))
    assert numbers(second) == numbers(first)
    assert answer_pb2.Answer.FromString(second.answer).sticky
    assert not answer_pb2.Answer.FromString(first.answer).sticky
    assert domain.dp.touches == domain.dp.draws == 1
    assert domain.used("contract-e-1-epsilon") == 0
    assert domain.used("lineage-money-epsilon") == NANO // 2


async def test_a_sticky_release_is_still_charged_as_a_query_but_not_for_its_loss(domain: Domain) -> None:
    await domain.pipeline.run(submit_dp())
    await domain.pipeline.run(submit_dp(who=BOB, contract="e-1"))
    assert domain.metered("price_micro", "d-1") == 500_000 + 5_000_000
    assert domain.metered("price_micro", "e-1") == 500_000
    assert domain.metered("queries", "e-1") == 1


async def test_rewritings_of_one_query_share_one_release(domain: Domain) -> None:
    north, age = equals("site", "north"), equals("age", 18)
    rewritings: list[Predicate] = [
        AllOf((north, age)),
        AllOf((age, north, age)),
        Negation(AnyOf((Negation(north), Negation(age)))),
    ]
    answers = [
        await domain.pipeline.run(submit_dp(canonicalise(Query("spending", (DOLLARS,), ("site",), where)), who=ALICE))
        for where in rewritings
    ]
    assert len({tuple(numbers(answer)) for answer in answers}) == 1
    assert domain.dp.draws == 1
    assert domain.used("lineage-money-epsilon") == NANO // 2


async def test_twenty_equal_queries_at_once_draw_noise_once(domain: Domain) -> None:
    parties = [(ALICE, "d-1"), (BOB, "e-1")] * 10
    answers = await asyncio.gather(
        *(domain.pipeline.run(submit_dp(who=who, contract=contract)) for who, contract in parties)
    )
    assert len({tuple(numbers(answer)) for answer in answers}) == 1
    assert domain.dp.touches == domain.dp.draws == 1
    assert domain.used("lineage-money-epsilon") == NANO // 2
    assert sum(not answer_pb2.Answer.FromString(answer.answer).sticky for answer in answers) == 1
    assert domain.metered("queries", "d-1") + domain.metered("queries", "e-1") == 20


def commits_on_disk(directory: Path) -> int:
    with sqlite3.connect(f"file:{directory}/ledger.db?mode=ro", uri=True) as other:
        return int(other.execute("SELECT count(*) FROM log_checkpoints").fetchone()[0])


async def test_twenty_sticky_answers_at_once_share_commits_instead_of_waiting_for_each_other(domain: Domain) -> None:
    await domain.pipeline.run(submit_dp())
    before = commits_on_disk(domain.directory)
    answers = await asyncio.gather(*(domain.pipeline.run(submit_dp(who=BOB, contract="e-1")) for _ in range(20)))
    assert all(answer_pb2.Answer.FromString(answer.answer).sticky for answer in answers)
    assert domain.metered("queries", "e-1") == 20
    assert commits_on_disk(domain.directory) - before < 20


@pytest.mark.parametrize("brief", [True, False])
async def test_brief_work_stays_on_the_event_loop_and_all_else_leaves_it(domain: Domain, brief: bool) -> None:
    honest, seen = domain.dp.analyse, list[threading.Thread]()

    def analyse(bound: BoundQuery) -> Analysis:
        return replace(honest(bound), brief=brief)

    domain.dp.analyse = analyse  # type: ignore[method-assign]
    domain.dp.on_execute = lambda bound: seen.append(threading.current_thread())
    await domain.pipeline.run(submit_dp())
    assert [thread is threading.current_thread() for thread in seen] == [brief]


async def test_queries_that_take_long_keep_nobody_from_reading_the_books(domain: Domain) -> None:
    """Mutant: data is touched in the threads in which stops, quotas and other machines' acts are read."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    touching, go_on = asyncio.Event(), threading.Event()

    def takes_long(bound: BoundQuery) -> None:
        loop.call_soon_threadsafe(touching.set)
        go_on.wait(30)

    domain.dp.on_execute = takes_long
    running = asyncio.create_task(domain.pipeline.run(submit_dp()))
    try:
        await touching.wait()
        await asyncio.wait_for(asyncio.to_thread(domain.store.read, lambda tx: tx.execute("SELECT 1")), 5)
    finally:
        go_on.set()
    assert numbers(await running)


async def test_twenty_requests_under_one_key_are_one_answer(domain: Domain) -> None:
    answers = await asyncio.gather(*(domain.pipeline.run(submit_dp(key=KEY)) for _ in range(20)))
    assert len({answer.answer for answer in answers}) == 1
    assert domain.metered("queries", "d-1") == 1


async def test_a_failure_while_touching_gives_money_back_and_keeps_the_loss(domain: Domain) -> None:
    def fail(bound: object) -> None:
        raise InternalError("the engine failed", rule="engine.failed")

    domain.dp.on_execute = fail
    with pytest.raises(InternalError):
        await domain.pipeline.run(submit_dp(key=KEY))
    assert domain.used("contract-d-1-epsilon") == domain.used("lineage-money-epsilon") == NANO // 2
    assert domain.metered("price_micro", "d-1") == domain.metered("queries", "d-1") == 0
    assert domain.kinds()[-2:] == ["weir.query.reserved", "weir.query.voided"]


async def test_after_a_failure_the_same_key_tries_again_and_is_charged_anew(domain: Domain) -> None:
    failures = [InternalError("the engine failed")]

    def fail_once(bound: object) -> None:
        if failures:
            raise failures.pop()

    domain.dp.on_execute = fail_once
    with pytest.raises(InternalError):
        await domain.pipeline.run(submit_dp(key=KEY))
    answered = await domain.pipeline.run(submit_dp(key=KEY))
    check_receipt(answered.receipt, answer=answered.answer)
    assert domain.used("lineage-money-epsilon") == NANO


async def test_a_loss_that_grew_between_charge_and_touch_is_refused_untouched(domain: Domain) -> None:
    honest = domain.dp.analyse

    def growing(bound: object) -> Analysis:
        analysis = honest(bound)  # type: ignore[arg-type]
        return analysis if domain.dp.analyses == 1 else replace(analysis, loss=Loss(analysis.loss.epsilon_nano + 1))

    domain.dp.analyse = growing  # type: ignore[method-assign]
    with pytest.raises(InternalError) as caught:
        await domain.pipeline.run(submit_dp())
    assert caught.value.rule == "plan.recheck"
    assert domain.dp.touches == 0


async def test_a_caller_that_goes_away_leaves_its_answer_to_be_fetched(domain: Domain) -> None:
    loop, touched, release = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def wait(bound: object) -> None:
        loop.call_soon_threadsafe(touched.set)
        release.wait(10)

    domain.dp.on_execute = wait
    caller = asyncio.create_task(domain.pipeline.run(submit_dp(key=KEY)))
    await touched.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    release.set()
    await domain.pipeline.turns.drain(seconds=10)
    assert domain.kinds()[-1] == "weir.query.released"
    fetched = await domain.pipeline.run(submit_dp(key=KEY))
    check_receipt(fetched.receipt, answer=fetched.answer)
    assert domain.dp.touches == 1


async def test_a_stop_reaches_a_query_that_is_running(domain: Domain) -> None:
    loop = asyncio.get_running_loop()

    def stop(bound: object) -> None:
        asyncio.run_coroutine_threadsafe(domain.suspend("dataset", "spending"), loop).result(10)

    domain.dp.on_execute = stop
    error = await domain.refused(submit_dp())
    assert isinstance(error, Suspended)
    assert domain.kinds()[-2:] == ["weir.query.voided", "weir.query.refused"]
    assert domain.used("lineage-money-epsilon") == NANO // 2
    assert domain.metered("price_micro", "d-1") == 0


@pytest.mark.parametrize("scope", ["requester", "contract", "dataset", "all"])
async def test_a_stop_reaches_new_queries_and_ends_with_its_lifting(domain: Domain, scope: str) -> None:
    name = {"requester": "alice", "contract": "c-1", "dataset": "census", "all": ""}[scope]
    await domain.suspend(scope, name)
    error = await domain.refused(submit())
    assert isinstance(error, Suspended)
    assert error.metadata == {"scope": scope}
    await domain.suspend(scope, name, suspended=False)
    await domain.pipeline.run(submit())


async def test_a_stop_also_holds_back_answers_already_stored(domain: Domain) -> None:
    first = await domain.pipeline.run(submit(key=KEY))
    await domain.suspend("dataset", "census")
    assert isinstance(await domain.refused(submit(key=KEY)), Suspended)
    await domain.suspend("dataset", "census", suspended=False)
    assert await domain.pipeline.run(submit(key=KEY)) == first


REFUSALS = {
    "unknown dataset": (submit(Query("nothing", (COUNT,))), UnknownName),
    "unknown dimension": (submit(Query("census", (COUNT,), ("planet",))), UnknownName),
    "unknown contract": (submit(contract="c-9"), UnknownName),
    "contract of another": (submit(contract="b-1"), UnknownName),
    "wrong literal": (submit(by_site(where=equals("site", 3))), InvalidQuery),
    "not covered": (submit(Query("census", (COUNT,), ("adult",))), PolicyDenied),
    "price limit": (submit(max_price=1), PolicyDenied),
    "no epsilon": (submit(by_site(DOLLARS, dataset="spending"), contract="d-1"), InvalidQuery),
    "too much epsilon": (submit_dp(epsilon=NANO + 1), PolicyDenied),
    "wrong role": (submit(who=replace(ALICE, role="operator")), PolicyDenied),
    "foreign name": (submit(who=OLGA), UnknownName),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_refusal_leaves_one_leaf_with_a_receipt_and_charges_nothing(domain: Domain, case: str) -> None:
    submission, kind = REFUSALS[case]
    before = len(domain.events())
    error = await domain.refused(submission)
    assert type(error) is kind
    assert domain.kinds(since=before) == ["weir.query.refused"]
    proven = check_receipt(error.receipt, query=canonical_json(query_json(submission.query)))
    assert proven.index == before
    assert domain.exact.touches == domain.dp.touches == 0
    assert all(domain.used(quota) == 0 for quota in domain.quotas())


async def test_an_exhausted_share_refuses_before_touch_and_says_what_is_left(domain: Domain) -> None:
    await domain.pipeline.run(submit_dp(epsilon=NANO))
    await domain.pipeline.run(submit_dp(epsilon=NANO - 1))
    error = await domain.refused(submit_dp(epsilon=2))
    assert isinstance(error, BudgetExhausted)
    assert [(hit.quota, hit.limit, hit.used) for hit in error.limits] == [
        ("contract-d-1-epsilon", 2 * NANO, 2 * NANO - 1)
    ]
    assert domain.dp.touches == 2
    assert domain.kinds()[-1] == "weir.query.refused"
    check_receipt(error.receipt)


async def test_the_lineage_budget_binds_all_requesters_together(domain: Domain) -> None:
    shares = {"total": "3", "per_query": "3"}
    await domain.apply(
        dp_contract_document(epsilon=shares), dp_contract_document("e-1", requester="bob", epsilon=shares)
    )
    await domain.pipeline.run(submit_dp(epsilon=3 * NANO))
    error = await domain.refused(submit_dp(epsilon=NANO + 1, who=BOB, contract="e-1"))
    assert isinstance(error, BudgetExhausted)
    assert [hit.quota for hit in error.limits] == ["lineage-money-epsilon"]


async def test_a_quota_met_by_many_at_once_lets_exactly_its_number_through(domain: Domain) -> None:
    await domain.apply(contract_document(), quota_document(limit=5))
    sites = [by_site(VISITS if at % 2 else COUNT, where=equals("age", (0, 18, 65)[at % 3])) for at in range(12)]
    outcomes = await asyncio.gather(
        *(domain.pipeline.run(submit(sites[at])) for at in range(12)), return_exceptions=True
    )
    assert sum(isinstance(outcome, QuotaExceeded) for outcome in outcomes) == 7
    assert domain.used("q-1") == 5


async def test_queries_leave_nothing_in_memory_whether_refused_or_answered(domain: Domain) -> None:
    """They did: the error of one refused query held all that were written in the same group."""
    await domain.apply(contract_document(), quota_document(limit=5))
    with left_behind(Judged, Submission, QuotaExceeded) as left:
        await asyncio.gather(
            *(domain.pipeline.run(submit(by_site(COUNT), key=f"{KEY}{at}")) for at in range(12)), return_exceptions=True
        )
        assert domain.used("q-1") == 5
        await asyncio.sleep(0.1)
        assert left() == {}


async def test_an_estimate_charges_logs_and_touches_nothing(domain: Domain) -> None:
    before = domain.events()
    estimate = await domain.pipeline.estimate(submit_dp())
    assert estimate.decision.verdict == query_service_pb2.VERDICT_ALLOW
    assert (estimate.epsilon_nano, estimate.price_micro, estimate.sticky) == (NANO // 2, 5_500_000, False)
    assert domain.events() == before
    assert domain.dp.touches == 0
    assert domain.used("contract-d-1-epsilon") == 0


async def test_an_estimate_is_what_the_run_then_charges(domain: Domain) -> None:
    estimate = await domain.pipeline.estimate(submit())
    await domain.pipeline.run(submit())
    assert domain.metered("price_micro", "c-1") == estimate.price_micro
    again = await domain.pipeline.estimate(submit_dp())
    await domain.pipeline.run(submit_dp())
    sticky = await domain.pipeline.estimate(submit_dp())
    assert (again.sticky, sticky.sticky, sticky.epsilon_nano) == (False, True, 0)


async def test_an_estimate_of_what_is_denied_does_not_say_whether_others_asked_it(domain: Domain) -> None:
    await domain.pipeline.run(submit_dp())
    denied = submit_dp(purpose="marketing")
    estimate = await domain.pipeline.estimate(denied)
    assert estimate.decision.verdict == query_service_pb2.VERDICT_DENY
    assert (estimate.sticky, estimate.epsilon_nano) == (False, NANO // 2)


async def test_an_estimate_of_what_is_denied_says_why(domain: Domain) -> None:
    estimate = await domain.pipeline.estimate(submit(max_price=1))
    assert estimate.decision.verdict == query_service_pb2.VERDICT_DENY
    assert [reason.code for reason in estimate.decision.reasons] == ["price.limit"]


async def test_an_estimate_of_what_a_limit_cannot_take_says_so_as_the_run_does(domain: Domain) -> None:
    await domain.apply(contract_document(), quota_document(limit=1))
    await domain.pipeline.run(submit())
    before = domain.events()
    estimate = await domain.pipeline.estimate(submit(by_site(VISITS)))
    assert domain.events() == before
    error = await domain.refused(submit(by_site(VISITS)))
    assert estimate.decision.verdict == query_service_pb2.VERDICT_DENY
    assert [(reason.code, reason.sentence) for reason in estimate.decision.reasons] == [("quota.limit", error.message)]
    assert "q-1 has queries 0 left, this asks 1 (1 of 1 used)" in error.message


async def test_an_estimate_of_what_a_budget_cannot_take_says_so_and_a_release_that_exists_is_free(
    domain: Domain,
) -> None:
    await domain.pipeline.run(submit_dp(epsilon=NANO))
    await domain.pipeline.run(submit_dp(epsilon=NANO - 1))
    estimate = await domain.pipeline.estimate(submit_dp(epsilon=2))
    assert estimate.decision.verdict == query_service_pb2.VERDICT_DENY
    assert [reason.code for reason in estimate.decision.reasons] == ["quota.privacy"]
    assert "contract-d-1-epsilon has epsilon 0.000000001 left" in estimate.decision.reasons[0].sentence
    again = await domain.pipeline.estimate(submit_dp(epsilon=NANO))
    assert (again.decision.verdict, again.sticky) == (query_service_pb2.VERDICT_ALLOW, True)


async def test_an_estimate_names_no_limit_that_the_balance_does_not_show(domain: Domain) -> None:
    await domain.apply(
        contract_document(),
        quota_document(limit=1),
        quota_document("q-bob", requester="bob", limit=0),
    )
    await domain.pipeline.run(submit())
    estimate = await domain.pipeline.estimate(submit(by_site(VISITS)))
    assert "q-1 has" in str(estimate)
    assert "q-bob" not in str(estimate)
    # Whom the policy denies is told nothing of limits at all.
    denied = await domain.pipeline.estimate(submit(by_site(VISITS), max_price=1))
    assert [reason.code for reason in denied.decision.reasons] == ["price.limit"]


async def test_what_waits_for_a_person_is_told_before_it_is_asked_that_nothing_is_left(domain: Domain) -> None:
    await domain.apply(contract_document(approval="per_query"), quota_document(limit=0))
    estimate = await domain.pipeline.estimate(submit())
    assert estimate.decision.verdict == query_service_pb2.VERDICT_NEEDS_APPROVAL
    assert [reason.code for reason in estimate.decision.reasons][1:] == ["quota.limit"]


async def test_the_contract_of_another_looks_like_none_byte_for_byte(domain: Domain) -> None:
    def shown(error: WeirError) -> tuple[object, ...]:
        return (type(error), error.message, error.field, error.rule, error.metadata)

    foreign, unknown = await domain.refused(submit(contract="b-1")), await domain.refused(submit(contract="z-1"))
    assert shown(foreign) == shown(unknown)
    leaves = [dict(event["data"], commitments=None) for event in domain.events("weir.query.refused")]
    assert leaves[0] == leaves[1]


async def test_the_stop_of_a_foreign_contract_does_not_show_that_it_exists(domain: Domain) -> None:
    await domain.suspend("contract", "b-1")
    assert isinstance(await domain.refused(submit(contract="b-1")), UnknownName)


async def test_a_contract_that_ends_while_the_query_waits_is_not_served(domain: Domain) -> None:
    loop = asyncio.get_running_loop()

    def revoke(bound: object) -> None:
        asyncio.run_coroutine_threadsafe(domain.apply(dp_contract_document()), loop).result(10)

    domain.dp.on_execute = revoke
    first = asyncio.create_task(domain.pipeline.run(submit_dp()))
    waiting = asyncio.create_task(domain.pipeline.run(submit_dp(who=BOB, contract="e-1")))
    await first
    with pytest.raises(PolicyDenied) as caught:
        await waiting
    assert caught.value.rule == "contract.changed"
    assert domain.metered("queries", "e-1") == 0


async def test_a_contract_that_lapses_while_the_query_waits_is_not_served(domain: Domain) -> None:
    await domain.apply(
        dp_contract_document(),
        dp_contract_document("e-1", requester="bob", valid_until="2026-11-22T12:05:00+00:00"),
    )
    domain.dp.on_execute = lambda bound: domain.clock.forward(minutes=5)
    first = asyncio.create_task(domain.pipeline.run(submit_dp()))
    waiting = asyncio.create_task(domain.pipeline.run(submit_dp(who=BOB, contract="e-1")))
    await first
    with pytest.raises(PolicyDenied) as caught:
        await waiting
    assert caught.value.rule == "contract.expired"


async def test_a_refusal_names_every_reason_and_the_policy_in_its_leaf(domain: Domain) -> None:
    error = await domain.refused(submit(max_price=1, purpose="curiosity"))
    event = check_receipt(error.receipt).event["data"]
    assert isinstance(event, dict)
    assert event["record"]["reasons"] == ["contract.purpose", "price.limit"]
    assert event["record"]["policy_digest"] == domain.state.world.policy.digest


async def test_core_data_is_refused_by_the_red_line_whatever_is_asked(domain: Domain) -> None:
    await domain.activate(spending_card(name="secrets", grade=Grade.CORE, lineage="secrets"))
    await domain.apply(dp_contract_document(dataset="secrets"))
    for query in (by_site(DOLLARS, dataset="secrets"), by_site(dataset="secrets")):
        error = await domain.refused(submit_dp(query))
        assert isinstance(error, PolicyDenied)
        assert error.rule == "grade.technique"
