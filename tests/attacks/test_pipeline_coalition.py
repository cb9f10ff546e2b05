# SPDX-License-Identifier: Apache-2.0
"""What a coalition of requesters learns from everything but the released numbers, and how much loss it can buy."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.domain import (
    ALICE,
    BOB,
    DOMAIN,
    NANO,
    VISITS,
    Domain,
    by_site,
    contract_document,
    dp_contract_document,
    equals,
    numbers,
    open_domain,
    populate,
    running_domain,
    submit,
    submit_dp,
)
from weir.errors import BudgetExhausted, PolicyDenied, WeirError
from weir.query import Aggregate, Comparison, Function, Literal, Operator, Query
from weir.v1 import answer_pb2
from weir.wire import error_to_status
from weir_server import ledger
from weir_server.ledger import Subject
from weir_server.plan.values import Principal, Submission

DATA = ((7, 11, 13, 17), (0, 0, 0, 0), (10**6, 10**6, 1, 999))


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    async with running_domain(tmp_path) as running:
        yield running


def script() -> list[Submission]:
    """What two colluding requesters send, in order: answers, refusals of every kind, repeats, exhaustion."""
    wide = Query("census", (Aggregate(Function.AVG, "visits"),), ("site", "age"))
    return [
        submit(key="k" * 16),
        submit(who=BOB, contract="b-1"),
        submit(who=BOB, contract="c-1"),
        submit(by_site(VISITS), max_price=1),
        submit(wide),
        submit(by_site(where=equals("site", "nowhere"))),
        submit(by_site(where=Comparison("age", Operator.LESS, Literal(3)))),
        submit(Query("census", (VISITS,), ("planet",))),
        submit(key="k" * 16),
        submit(by_site(VISITS), key="k" * 16),
        submit_dp(epsilon=NANO),
        submit_dp(epsilon=NANO, who=BOB, contract="e-1"),
        submit_dp(epsilon=NANO - 1),
        submit_dp(epsilon=2),
        submit_dp(epsilon=NANO + 1),
        submit(purpose="sale"),
    ]


async def transcript(directory: Path, found: tuple[int, ...]) -> list[object]:
    """Everything the coalition hears but released numbers: shapes, flags, errors, estimates and balances."""
    domain = open_domain(directory)
    try:
        await populate(domain)
        domain.exact.found = domain.dp.found = found
        heard: list[object] = []
        for submission in script():
            heard += [await estimated(domain, submission), await heard_of(domain, submission), balances(domain)]
        return heard
    finally:
        domain.store.close()


async def heard_of(domain: Domain, submission: Submission) -> object:
    try:
        answered = await domain.pipeline.run(submission)
    except WeirError as error:
        error.receipt = None
        return error_to_status(error).SerializeToString(deterministic=True)
    answer = answer_pb2.Answer.FromString(answered.answer)
    for column in answer.values:
        count = len(column.numerators)
        column.ClearField("numerators")
        column.unit = str(count)
    return answer.SerializeToString(deterministic=True)


async def estimated(domain: Domain, submission: Submission) -> object:
    try:
        return (await domain.pipeline.estimate(submission)).SerializeToString(deterministic=True)
    except WeirError as error:
        return error_to_status(error).SerializeToString(deterministic=True)


def balances(domain: Domain) -> list[tuple[str, int, int]]:
    subjects = [Subject("alice", "d-1", "spending", "money"), Subject("bob", "e-1", "spending", "money")]
    found = domain.store.read(lambda tx: ledger.balances(tx, subjects, now=domain.clock()))
    return [(balance.quota.id, balance.spent, balance.held) for balance in found]


async def test_all_but_the_released_numbers_is_the_same_whatever_the_data(tmp_path: Path) -> None:
    directories = [tmp_path / str(at) for at in range(len(DATA))]
    for directory in directories:
        directory.mkdir()
    heard = [await transcript(directory, found) for directory, found in zip(directories, DATA, strict=True)]
    assert heard[0] == heard[1] == heard[2]
    assert len(heard[0]) == 3 * len(script())


async def test_a_coalition_cannot_buy_more_loss_than_the_lineage_has(domain: Domain) -> None:
    names = [f"mallory{at}" for at in range(8)]
    await domain.apply(*(dp_contract_document(f"m-{at}", requester=name) for at, name in enumerate(names)))
    parties = [Principal(name, "requester", DOMAIN) for name in names]
    # Epsilons that differ by one nano: no two are one release, so each would be a fresh draw to average.
    tries = [
        submit_dp(epsilon=NANO - draw, who=party, contract=f"m-{at}")
        for draw in range(3)
        for at, party in enumerate(parties)
    ]
    outcomes = await asyncio.gather(*(domain.pipeline.run(each) for each in tries), return_exceptions=True)
    answered = [numbers(outcome) for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert all(isinstance(outcome, BudgetExhausted) for outcome in outcomes if isinstance(outcome, BaseException))
    assert domain.used("lineage-money-epsilon") <= 4 * NANO
    assert domain.dp.draws <= 4
    assert len({tuple(found) for found in answered}) == domain.dp.draws


async def test_asking_again_and_again_averages_nothing(domain: Domain) -> None:
    answers = [
        await domain.pipeline.run(submit_dp(who=who, contract=c)) for who, c in [(ALICE, "d-1"), (BOB, "e-1")] * 15
    ]
    assert len({tuple(numbers(answer)) for answer in answers}) == 1
    assert domain.used("lineage-money-epsilon") == NANO // 2


async def test_failing_on_purpose_buys_no_free_draw(domain: Domain) -> None:
    def fail(bound: object) -> None:
        raise TimeoutError

    domain.dp.on_release = fail
    for _ in range(4):
        with pytest.raises(TimeoutError):
            await domain.pipeline.run(submit_dp())
    assert domain.used("contract-d-1-epsilon") == 2 * NANO
    assert isinstance(await domain.refused(submit_dp()), BudgetExhausted)


async def test_a_clock_set_back_revives_no_contract(domain: Domain) -> None:
    domain.clock.moment = datetime(2027, 1, 1, tzinfo=UTC)
    assert isinstance(await domain.refused(submit()), PolicyDenied)
    domain.clock.moment = datetime(2026, 11, 22, tzinfo=UTC)
    assert isinstance(await domain.refused(submit()), PolicyDenied)


async def test_a_clock_set_back_across_a_restart_revives_no_contract(domain: Domain, tmp_path: Path) -> None:
    domain.clock.moment = datetime(2027, 1, 1, tzinfo=UTC)
    assert isinstance(await domain.refused(submit()), PolicyDenied)
    domain.store.close()
    domain.clock.moment = datetime(2026, 11, 22, tzinfo=UTC)
    again = open_domain(tmp_path, clock=domain.clock)
    try:
        error = await again.refused(submit())
    finally:
        again.store.close()
    assert error.rule == "contract.expired"


async def test_a_price_beyond_all_books_is_a_typed_refusal(domain: Domain) -> None:
    await domain.apply(contract_document(rates={"per_query": "20000000000"}))
    error = await domain.refused(submit())
    assert error.rule == "charge.range"
    assert domain.exact.touches == 0


CANARY = "8675309"
LEAKS: dict[str, Any] = {
    "value error": ValueError(f"Could not convert '{CANARY}' to INT32"),
    "overflow": OverflowError(f"{CANARY} is out of range"),
    "key": KeyError(CANARY),
    "exception of its own": type(f"Boom{CANARY}", (Exception,), {})(CANARY),
}


@pytest.mark.parametrize("case", LEAKS)
@pytest.mark.parametrize("stage", ["on_execute", "on_release"])
async def test_a_value_in_an_engines_words_is_written_nowhere(domain: Domain, case: str, stage: str) -> None:
    def fail(bound: object) -> None:
        raise LEAKS[case]

    setattr(domain.dp, stage, fail)
    with pytest.raises(type(LEAKS[case])):
        await domain.pipeline.run(submit_dp())
    assert domain.kinds()[-1] == "weir.query.voided"
    domain.store.close()
    files = [path for path in domain.directory.rglob("*") if path.is_file()]
    assert any(path.name == "ledger.db" for path in files)
    for path in files:
        assert CANARY.encode() not in path.read_bytes(), path.name


async def test_numbers_that_were_touched_but_not_released_are_written_nowhere(domain: Domain) -> None:
    def fail(bound: object) -> None:
        raise RuntimeError

    domain.exact.found = (86753091, 86753092, 86753093, 86753094)
    domain.exact.on_release = fail
    with pytest.raises(RuntimeError):
        await domain.pipeline.run(submit())
    domain.store.close()
    for path in domain.directory.rglob("*"):
        assert not path.is_file() or b"8675309" not in path.read_bytes()
