# SPDX-License-Identifier: Apache-2.0
"""Who may approve, how many must, how often an approval serves, and how it is taken back.

Each test names the mutant of `approving` or `approvals` that it kills, where it defends something.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.approvals import approved, standing, waiting
from tests.support.decisions import replayed
from tests.support.domain import (
    ALICE,
    DOLLARS,
    NANO,
    OLGA,
    OSCAR,
    VISITS,
    Domain,
    by_site,
    census_card,
    contract_document,
    dp_contract_document,
    equals,
    running_domain,
    submit,
    submit_dp,
)
from weir.errors import ApprovalRequired, InvalidRequest, PermissionDenied, PolicyDenied
from weir.query import Query
from weir_server.plan.values import BoundQuery, Principal, Submission
from weir_server.policy import approvals, approving, book

WATCHED = (contract_document(approval="per_query"), dp_contract_document(approval="per_query"))
TWO = (contract_document(approval="per_query", approvers=2), WATCHED[1])
GATES = "kind: gates\nunassessed: {{approvers: {}}}\n"
ANNE = Principal("anne", "approver", ALICE.domain)


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    async with running_domain(tmp_path, documents=WATCHED) as running:
        yield running


def aged(age: int) -> Query:
    return by_site(where=equals("age", age))


# ── persons ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_two_persons_approve_one_after_the_other_and_the_first_is_not_enough(domain: Domain) -> None:
    """Kills: comparing with 1 instead of the persons needed."""
    await domain.apply(*TWO)
    approval = await waiting(domain, submit())
    shown = (await domain.settle(approval, who=OLGA)).approval
    assert (shown.approvers, list(shown.approved_by), shown.decided_by) == (2, ["olga"], "")
    assert domain.approval(approval).state == "waiting"
    assert await waiting(domain, submit()) == approval
    shown = (await domain.settle(approval, who=ANNE)).approval
    assert (list(shown.approved_by), shown.decided_by, list(shown.reasons)) == (["olga", "anne"], "anne", ["test"] * 2)
    await domain.pipeline.run(submit())
    assert domain.approval(approval).state == "used"


@pytest.mark.parametrize("role", ["operator", "approver"])
async def test_one_person_does_not_count_twice_in_whatever_role(domain: Domain, role: str) -> None:
    """Kills: comparing role and name, or not comparing."""
    await domain.apply(*TWO)
    approval = await waiting(domain, submit())
    await domain.settle(approval, who=OLGA)
    with pytest.raises(InvalidRequest) as caught:
        await domain.settle(approval, who=Principal("olga", role, ALICE.domain))
    assert caught.value.rule == "approval.twice"
    assert domain.approval(approval).approved_by == ("olga",)


async def test_the_books_themselves_hold_one_approval_of_a_person(domain: Domain) -> None:
    approval = await approved(domain, submit())
    row = "INSERT INTO approval_acts (approval, position, person, act, reason, acted) VALUES (?, 9, 'olga', ?, '', 0)"
    with pytest.raises(sqlite3.IntegrityError):
        domain.store.write_sync(lambda tx: tx.execute(row, (approval, "approve")))


@pytest.mark.parametrize("role", ["operator", "approver", "requester"])
async def test_the_requester_is_never_one_of_two(domain: Domain, role: str) -> None:
    await domain.apply(*TWO)
    approval = await waiting(domain, submit())
    await domain.settle(approval, who=OLGA)
    for fields in ({}, {"revoke": True}, {"approve": False}):
        with pytest.raises(PermissionDenied):
            await domain.settle(approval, who=Principal("alice", role, ALICE.domain), **fields)
    assert domain.approval(approval).state == "waiting"


@pytest.mark.parametrize("role", ["requester", "provider", "auditor"])
async def test_other_roles_have_no_word(domain: Domain, role: str) -> None:
    with pytest.raises(PermissionDenied):
        await domain.settle(await waiting(domain, submit()), who=Principal("rob", role, ALICE.domain))


async def test_one_rejection_rejects_whoever_approved_before(domain: Domain) -> None:
    await domain.apply(*TWO)
    approval = await waiting(domain, submit())
    await domain.settle(approval, who=OLGA)
    await domain.settle(approval, approve=False, who=OSCAR)
    error = await domain.refused(submit())
    assert isinstance(error, PolicyDenied)
    with pytest.raises(InvalidRequest):
        await domain.settle(approval, who=ANNE)


async def test_two_persons_at_once_are_both_counted_once(domain: Domain) -> None:
    await domain.apply(*TWO)
    approval = await waiting(domain, submit())
    tried = [domain.settle(approval, who=who) for who in (OLGA, OLGA, OSCAR, OSCAR, OLGA)]
    outcomes = await asyncio.gather(*tried, return_exceptions=True)
    assert sum(isinstance(outcome, InvalidRequest) for outcome in outcomes) == 3
    assert domain.approval(approval).approved_by == ("olga", "oscar")


async def test_what_one_person_approved_does_not_do_once_the_requester_s_gate_asks_for_two(domain: Domain) -> None:
    """Kills: `use` and `usable` that do not count who approved."""
    approval = await approved(domain, submit())
    await domain.apply(*WATCHED, GATES.format(2))
    again = await waiting(domain, submit())
    assert again != approval
    assert domain.approval(again).approvers == 2
    assert domain.approval(approval).state == "approved"
    await domain.apply(*WATCHED)
    await domain.pipeline.run(submit())
    assert domain.approval(approval).state == "used"


async def test_what_waits_for_one_waits_for_two_once_the_gate_asks_for_two(domain: Domain) -> None:
    approval = await waiting(domain, submit())
    await domain.apply(*WATCHED, GATES.format(2))
    await domain.settle(approval)
    assert domain.approval(approval).state == "waiting"
    await domain.settle(approval, who=OSCAR)
    await domain.pipeline.run(submit())


async def test_a_gate_that_rises_between_decision_and_charge_is_seen(domain: Domain) -> None:
    """Kills: using what was decided before waiting for an equal query."""
    await domain.apply(contract_document(), WATCHED[1])
    judged = domain.pipeline.judge_here(submit())
    await domain.apply(contract_document(), WATCHED[1], GATES.format(1))
    with pytest.raises(ApprovalRequired) as caught:
        domain.pipeline.judge_again(judged)
    assert caught.value.rule == "approval.changed"


async def test_a_gate_that_asks_for_a_second_person_before_the_charge_is_seen(domain: Domain) -> None:
    """Kills: a `use` that does not count who approved."""
    approval = await approved(domain, submit())
    judged = await domain.pipeline.require_allowed(await domain.pipeline.judge(submit()))
    await domain.apply(*WATCHED, GATES.format(2))
    with pytest.raises(ApprovalRequired):
        await domain.pipeline.reserve(domain.pipeline.judge_again(judged))
    assert domain.approval(approval).state == "approved"


async def test_a_gate_alone_asks_for_persons_and_says_so(domain: Domain) -> None:
    await domain.apply(contract_document(), WATCHED[1], GATES.format(2))
    approval = await waiting(domain, submit())
    for who in (OLGA, OSCAR):
        await domain.settle(approval, who=who)
    await domain.pipeline.run(submit())
    reserved = domain.events("weir.query.reserved")[-1]["data"]["record"]
    assert (reserved["verdict"], reserved["persons"]) == ("needs_approval", 2)
    assert (reserved["reasons"], reserved["approval"]) == (["recipient.approval"], approval)


async def test_terms_that_changed_are_not_approved_any_more(domain: Domain) -> None:
    approval = await waiting(domain, submit())
    await domain.apply(contract_document(approval="per_query", title="Other"), WATCHED[1])
    with pytest.raises(InvalidRequest) as caught:
        await domain.settle(approval)
    assert caught.value.rule == "approval.contract"


async def test_each_act_is_a_leaf_with_person_role_and_reason(domain: Domain) -> None:
    await domain.apply(*TWO)
    approval = await waiting(domain, submit())
    await domain.settle(approval, who=OLGA, standing=None)
    await domain.settle(approval, who=ANNE)
    await domain.settle(approval, who=OSCAR, revoke=True)
    told = [
        (event["type"], event["data"]["actor"], event["data"]["role"], event["data"]["state"])
        for event in domain.events("weir.approval.approved", "weir.approval.revoked")
    ]
    assert told == [
        ("weir.approval.approved", "olga", "operator", "waiting"),
        ("weir.approval.approved", "anne", "approver", "approved"),
        ("weir.approval.revoked", "oscar", "operator", "revoked"),
    ]


# ── standing approvals ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_standing_approval_answers_other_literals_until_its_uses_are_gone(domain: Domain) -> None:
    approval = await approved(domain, submit(aged(0)), standing=standing("age", uses=3))
    for age in (18, 65, 0):
        await domain.pipeline.run(submit(aged(age)))
    assert (domain.approval(approval).state, domain.approval(approval).uses_left) == ("used", 0)
    assert replayed(domain.directory).differences == ()
    assert await waiting(domain, submit(aged(18))) != approval


async def test_sticky_answers_use_it_too(domain: Domain) -> None:
    approval = await approved(domain, submit(aged(0)), standing=standing("age", uses=3))
    for _ in range(2):
        await domain.pipeline.run(submit(aged(18)))
    assert domain.exact.touches == 1
    assert domain.approval(approval).uses_left == 1


async def test_a_replay_uses_nothing(domain: Domain) -> None:
    approval = await approved(domain, submit(aged(0)), standing=standing("age", uses=3))
    for _ in range(3):
        await domain.pipeline.run(submit(aged(18), key="key-0123456789abcdef"))
    assert domain.approval(approval).uses_left == 2


@pytest.mark.parametrize("ages", [(18,), (0, 18, 65)], ids=["one query", "three queries"])
async def test_fifty_at_once_use_exactly_what_is_there(domain: Domain, ages: tuple[int, ...]) -> None:
    """Kills: reading the uses first and writing them afterwards."""
    await approved(domain, submit(aged(0)), standing=standing("age", uses=7))
    asked = [submit(aged(ages[number % len(ages)])) for number in range(50)]
    outcomes = await asyncio.gather(*(domain.pipeline.run(item) for item in asked), return_exceptions=True)
    assert sum(isinstance(outcome, ApprovalRequired) for outcome in outcomes) == 43
    assert domain.metered("queries", "c-1") == 7


async def test_parallel_runs_on_one_use_give_exactly_one(domain: Domain) -> None:
    """Kills: an UPDATE of `use` without its state."""
    await approved(domain, submit())
    outcomes = await asyncio.gather(*(domain.pipeline.run(submit()) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(outcome, ApprovalRequired) for outcome in outcomes) == 19
    assert domain.metered("queries", "c-1") == 1


async def test_a_standing_approval_lapses_after_its_days_to_the_second(domain: Domain) -> None:
    approval = await approved(domain, submit(aged(0)), standing=standing("age", days=30))
    domain.clock.forward(days=30, seconds=-1)
    await domain.pipeline.run(submit(aged(18)))
    domain.clock.forward(seconds=1)
    await waiting(domain, submit(aged(65)))
    shown = approving.approval_to_proto(domain.approval(approval), now=domain.clock())
    assert shown.state == 5
    assert shown.uses_left == 0


async def test_expiry_between_finding_and_using_is_seen(domain: Domain) -> None:
    """Kills: a `use` that trusts what was found."""
    approval = await approved(domain, submit())
    judged = await domain.pipeline.require_allowed(domain.pipeline.judge_here(submit()))
    domain.clock.forward(days=14)
    with pytest.raises(ApprovalRequired) as caught:
        await domain.pipeline.reserve(judged)
    assert caught.value.metadata == {"approval": approval}
    assert domain.kinds()[-1] != "weir.query.reserved"


async def test_the_ceiling_of_loss_holds_for_each_query(domain: Domain) -> None:
    def ask(age: int, epsilon: int) -> Submission:
        return submit_dp(Query("spending", (DOLLARS,), ("site",), equals("age", age)), epsilon=epsilon)

    await approved(domain, ask(18, NANO // 2), standing=standing("age", epsilon_nano=NANO // 4))
    await domain.pipeline.run(ask(65, NANO // 4))
    await domain.pipeline.run(ask(0, NANO // 8))
    await waiting(domain, ask(65, NANO // 4 + 1))
    await waiting(domain, ask(18, NANO // 2))


async def test_the_ceiling_of_price_holds_for_each_query(domain: Domain) -> None:
    price = domain.pipeline.judge_here(submit(aged(0))).plan.charge["price_micro"]
    await approved(domain, submit(aged(0)), standing=standing("age", price_micro=price - 1))
    await waiting(domain, submit(aged(18)))
    await approved(domain, submit(aged(65)), standing=standing("age", price_micro=price))
    await domain.pipeline.run(submit(aged(18)))


async def test_a_newer_snapshot_is_answered_and_an_older_one_is_not(domain: Domain) -> None:
    await domain.activate(census_card(title="Second"), 2)
    await approved(domain, submit(aged(0)), standing=standing("age"))
    await domain.activate(census_card(title="Third"), 3)
    await domain.pipeline.run(submit(aged(18)))
    pinned = Query("census", aged(18).aggregates, ("site",), equals("age", 18), snapshot=1)
    await waiting(domain, submit(pinned))


async def test_changed_terms_end_a_standing_approval(domain: Domain) -> None:
    await approved(domain, submit(aged(0)), standing=standing("age"))
    await domain.apply(contract_document(approval="per_query", title="Other"), WATCHED[1])
    await waiting(domain, submit(aged(18)))


async def test_a_rejection_of_the_very_query_outweighs_a_template(domain: Domain) -> None:
    await domain.settle(await waiting(domain, submit(aged(18))), approve=False)
    await approved(domain, submit(aged(0)), standing=standing("age"))
    assert isinstance(await domain.refused(submit(aged(18))), PolicyDenied)
    await domain.pipeline.run(submit(aged(65)))


async def test_two_persons_must_state_equal_terms(domain: Domain) -> None:
    """Kills: taking the terms of the last, or of the first."""
    await domain.apply(*TWO)
    approval = await waiting(domain, submit(aged(0)))
    shown = (await domain.settle(approval, who=OLGA, standing=standing("age", uses=5))).approval
    assert shown.standing.uses == 5
    for other in (standing("age", uses=6), standing("age", uses=5, days=31), None):
        with pytest.raises(InvalidRequest) as caught:
            await domain.settle(approval, who=OSCAR, standing=other)
        assert caught.value.rule == "approval.terms"
    await waiting(domain, submit(aged(0)))
    await domain.settle(approval, who=OSCAR, standing=standing("age", "age", uses=5))
    assert domain.approval(approval).uses_left == 5


async def test_terms_after_a_single_approval_are_other_terms(domain: Domain) -> None:
    await domain.apply(*TWO)
    approval = await waiting(domain, submit(aged(0)))
    await domain.settle(approval, who=OLGA)
    with pytest.raises(InvalidRequest):
        await domain.settle(approval, who=OSCAR, standing=standing("age"))


BAD_TERMS = {
    "approval.free": [standing(), standing("site"), standing("age", "nothing")],
    "approval.uses": [standing("age", uses=0), standing("age", uses=10_001)],
    "approval.days": [standing("age", days=0), standing("age", days=367)],
    "approval.epsilon": [standing("age", epsilon_nano=1)],
}


@pytest.mark.parametrize("rule", BAD_TERMS)
async def test_terms_that_do_not_fit_the_query_are_refused(domain: Domain, rule: str) -> None:
    approval = await waiting(domain, submit(aged(0)))
    for terms in BAD_TERMS[rule]:
        with pytest.raises(InvalidRequest) as caught:
            await domain.settle(approval, standing=terms)
        assert caught.value.rule == rule
    assert domain.approval(approval).state == "waiting"


async def test_so_many_stand_under_one_contract_and_no_more(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approving, "MAX_STANDING", 1)
    await approved(domain, submit(aged(0)), standing=standing("age"))
    other = await waiting(domain, submit(by_site(VISITS, where=equals("age", 0))))
    with pytest.raises(InvalidRequest) as caught:
        await domain.settle(other, standing=standing("age"))
    assert caught.value.rule == "approval.standing_limit"
    await domain.settle(other)


async def test_free_columns_are_committed_to_and_not_told(domain: Domain) -> None:
    await approved(domain, submit(aged(0)), standing=standing("age"))
    data = domain.events("weir.approval.approved")[-1]["data"]
    assert set(data["commitments"]) == {"plan", "standing"}
    assert "age" not in repr({key: value for key, value in data.items() if key != "commitments"})


# ── taking back ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_was_taken_back_does_not_run_and_can_be_asked_for_again(domain: Domain) -> None:
    approval = await approved(domain, submit(aged(0)), standing=standing("age"))
    await domain.pipeline.run(submit(aged(18)))
    await domain.settle(approval, revoke=True, who=OSCAR)
    assert await waiting(domain, submit(aged(65))) != approval
    assert domain.approval(approval).uses_left == 0


@pytest.mark.parametrize("template", [False, True], ids=["single", "standing"])
async def test_taking_back_stops_what_runs_at_its_next_stage(domain: Domain, template: bool) -> None:
    """Kills: checking only when the use is spent. The answer that was computed is not stored and never told."""
    fields = {"standing": standing("age")} if template else {}
    approval = await approved(domain, submit(aged(0)), **fields)
    loop = asyncio.get_running_loop()

    def take_back(bound: BoundQuery) -> None:
        asyncio.run_coroutine_threadsafe(domain.settle(approval, revoke=True), loop).result(10)

    domain.exact.on_execute = take_back
    error = await domain.refused(submit(aged(0), key="key-0123456789abcdef"))
    assert isinstance(error, PolicyDenied)
    assert error.rule == "approval.revoked"
    assert domain.kinds()[-2:] == ["weir.query.voided", "weir.query.refused"]
    # A code of its own, since it says nothing against who asked (`weir.standing.HONEST`).
    assert domain.events("weir.query.refused")[-1]["data"]["record"]["reasons"] == ["approval.revoked"]
    assert domain.metered("queries", "c-1") == 0


async def test_taking_back_stops_before_data_is_touched(domain: Domain) -> None:
    """Kills: looking only when the answer is stored."""
    approval = await approved(domain, submit())
    reserve = domain.pipeline.reserve

    async def then_take_back(*args: object, **more: object) -> object:
        done = await reserve(*args, **more)  # type: ignore[arg-type]
        await domain.settle(approval, revoke=True)
        return done

    domain.pipeline.reserve = then_take_back  # type: ignore[assignment,method-assign]
    assert isinstance(await domain.refused(submit()), PolicyDenied)
    assert domain.exact.touches == 0


async def test_only_what_was_approved_is_taken_back(domain: Domain) -> None:
    approval = await waiting(domain, submit())
    with pytest.raises(InvalidRequest):
        await domain.settle(approval, revoke=True)
    await domain.settle(approval, approve=False)
    with pytest.raises(InvalidRequest):
        await domain.settle(approval, revoke=True)


async def test_approvals_from_before_keep_who_decided_them(tmp_path: Path) -> None:
    from weir_server.store.schema import MIGRATIONS

    moved = next(sql for table in MIGRATIONS for sql in table if sql.startswith("INSERT INTO approval_acts"))
    async with running_domain(tmp_path, documents=WATCHED) as domain:
        approval = await approved(domain, submit())
        domain.store.write_sync(lambda tx: tx.execute("DELETE FROM approval_acts"))
        assert isinstance(await domain.refused(submit()), ApprovalRequired)
        domain.store.write_sync(lambda tx: tx.execute(moved))
        assert domain.store.read(lambda tx: approvals.get(tx, approval)).approved_by == ("olga",)
        await domain.pipeline.run(submit())


@pytest.mark.parametrize("template", [False, True], ids=["single", "standing"])
async def test_an_approval_does_not_survive_that_its_terms_go_and_come_back(domain: Domain, template: bool) -> None:
    in_force = list(domain.store.read(book.documents))
    approval = await approved(domain, submit(aged(0)), **({"standing": standing("age")} if template else {}))
    await domain.apply(*(text for text in in_force if "contract: c-1" not in text))
    await domain.apply(*in_force)
    assert await waiting(domain, submit(aged(0))) != approval
