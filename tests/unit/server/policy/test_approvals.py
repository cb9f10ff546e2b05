# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.domain import (
    ALICE,
    BOB,
    NANO,
    OLGA,
    OSCAR,
    VISITS,
    Domain,
    by_site,
    check_receipt,
    contract_document,
    dp_contract_document,
    equals,
    quota_document,
    running_domain,
    submit,
    submit_dp,
)
from weir.errors import (
    ApprovalRequired,
    IdempotencyConflict,
    InternalError,
    InvalidRequest,
    PermissionDenied,
    PolicyDenied,
    QuotaExceeded,
    UnknownName,
    WeirError,
)
from weir.v1 import policy_service_pb2
from weir_server.plan.values import Principal
from weir_server.policy import approvals, approving

KEY = "key-0123456789abcdef"
WATCHED = (contract_document(approval="per_query"), dp_contract_document(approval="per_query"))


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    async with running_domain(tmp_path, documents=WATCHED) as running:
        yield running


async def asked(domain: Domain, **request: Any) -> str:
    error = await domain.refused(submit(**request))
    assert isinstance(error, ApprovalRequired)
    return error.metadata["approval"]


async def approved(domain: Domain, **request: Any) -> str:
    approval = await asked(domain, **request)
    await domain.settle(approval)
    return approval


async def waiting(domain: Domain, number: int) -> str:
    """Id of a request that waits under d-1: another query for each number."""
    error = await domain.refused(submit_dp(epsilon=NANO // 4 + number * 1_000_000))
    assert isinstance(error, ApprovalRequired)
    return error.metadata["approval"]


def states(domain: Domain, requester: str | None = None) -> list[str]:
    found = domain.store.read(lambda tx: approvals.page(tx, requester=requester, before="", limit=100))
    return [approval.state for approval in found]


async def test_a_query_waits_for_a_person_touches_nothing_and_leaves_a_request_and_a_refusal(domain: Domain) -> None:
    before = len(domain.events())
    error = await domain.refused(submit())
    assert isinstance(error, ApprovalRequired)
    assert domain.kinds(since=before) == ["weir.approval.requested", "weir.query.refused"]
    check_receipt(error.receipt)
    assert domain.exact.touches == 0
    assert states(domain) == ["waiting"]


async def test_the_same_query_asked_again_waits_for_the_same_approval(domain: Domain) -> None:
    assert len({await asked(domain) for _ in range(3)}) == 1
    assert states(domain) == ["waiting"]


async def test_an_approved_query_runs_once_and_its_replay_needs_no_other(domain: Domain) -> None:
    await approved(domain)
    answered = await domain.pipeline.run(submit(key=KEY))
    assert states(domain) == ["used"]
    assert await domain.pipeline.run(submit(key=KEY)) == answered
    assert isinstance(await domain.refused(submit()), ApprovalRequired)


async def test_a_release_that_exists_needs_an_approval_all_the_same_and_uses_it(domain: Domain) -> None:
    for _ in range(2):
        await approved(domain)
        await domain.pipeline.run(submit())
    assert domain.exact.touches == 1
    assert states(domain) == ["used", "used"]


async def test_two_runs_at_once_share_no_approval(domain: Domain) -> None:
    await approved(domain)
    outcomes = await asyncio.gather(*(domain.pipeline.run(submit()) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(outcome, ApprovalRequired) for outcome in outcomes) == 7
    assert domain.metered("queries", "c-1") == 1


async def test_a_rejected_query_is_denied(domain: Domain) -> None:
    await domain.settle(await asked(domain), approve=False)
    error = await domain.refused(submit())
    assert isinstance(error, PolicyDenied)
    assert error.rule == "approval.rejected"


@pytest.mark.parametrize("role", ["requester", "operator"])
async def test_nobody_approves_their_own_query_in_whatever_role(domain: Domain, role: str) -> None:
    approval = await asked(domain)
    with pytest.raises(PermissionDenied):
        await domain.settle(approval, who=Principal("alice", role, ALICE.domain))
    assert states(domain) == ["waiting"]


async def test_an_approval_is_decided_once(domain: Domain) -> None:
    approval = await approved(domain)
    for approve in (True, False):
        with pytest.raises(InvalidRequest):
            await domain.settle(approval, approve=approve, who=OSCAR)
    assert states(domain) == ["approved"]


async def test_two_operators_at_once_decide_once(domain: Domain) -> None:
    approval = await asked(domain)
    outcomes = await asyncio.gather(
        domain.settle(approval, who=OLGA), domain.settle(approval, approve=False, who=OSCAR), return_exceptions=True
    )
    assert sum(isinstance(outcome, InvalidRequest) for outcome in outcomes) == 1


async def test_the_decision_is_a_leaf_with_its_author_and_no_guessable_digest(domain: Domain) -> None:
    await approved(domain)
    requested, decided = domain.events("weir.approval.requested", "weir.approval.approved")
    assert decided["data"]["actor"] == "olga"
    for event in (requested, decided):
        assert set(event["data"]["commitments"]) == {"plan"}
        assert "plan_digest" not in event["data"]


async def test_a_decision_repeated_under_its_key_is_the_same(domain: Domain) -> None:
    request = policy_service_pb2.DecideApprovalRequest(
        approval=await asked(domain), approve=True, reason="test", idempotency_key=KEY
    )
    first = await domain.state.decide_approval(OLGA, request)
    assert await domain.state.decide_approval(OLGA, request) == first
    request.approve = False
    with pytest.raises(IdempotencyConflict):
        await domain.state.decide_approval(OLGA, request)


async def test_a_lapsed_request_is_not_decided_and_a_lapsed_approval_not_used(domain: Domain) -> None:
    approval = await asked(domain)
    domain.clock.forward(days=14)
    with pytest.raises(InvalidRequest):
        await domain.settle(approval)
    await approved(domain)
    domain.clock.forward(days=14)
    assert isinstance(await domain.refused(submit()), ApprovalRequired)
    assert states(domain) == ["waiting", "approved", "waiting"]


async def test_the_contract_that_was_changed_after_approval_needs_another(domain: Domain) -> None:
    await approved(domain)
    await domain.apply(contract_document(approval="per_query", title="Other"), WATCHED[1])
    assert isinstance(await domain.refused(submit()), ApprovalRequired)
    assert domain.exact.touches == 0


async def test_a_refusal_by_a_limit_leaves_the_approval_unused(domain: Domain) -> None:
    await domain.apply(*WATCHED, quota_document(limit=0))
    await approved(domain)
    assert isinstance(await domain.refused(submit()), QuotaExceeded)
    assert states(domain) == ["approved"]
    await domain.apply(*WATCHED)
    await domain.pipeline.run(submit())


async def test_a_failed_run_has_used_its_approval_since_data_may_have_been_touched(domain: Domain) -> None:
    await domain.settle((await domain.refused(submit_dp())).metadata["approval"])

    def fail(bound: object) -> None:
        raise InternalError("the engine failed")

    domain.dp.on_execute = fail
    with pytest.raises(InternalError):
        await domain.pipeline.run(submit_dp())
    assert states(domain) == ["used"]


async def test_so_many_wait_under_one_contract_and_no_more(domain: Domain) -> None:
    first, *_ = [await waiting(domain, number) for number in range(approvals.MAX_WAITING)]
    before = len(domain.events())
    error = await domain.refused(submit_dp(epsilon=NANO // 2))
    assert isinstance(error, QuotaExceeded)
    assert error.rule == "approval.waiting_limit"
    check_receipt(error.receipt)
    assert domain.kinds(since=before) == ["weir.query.refused"]
    assert len(states(domain)) == approvals.MAX_WAITING
    assert await waiting(domain, 0) == first, "what waits already goes on waiting"
    await asked(domain)  # Under another contract.
    await domain.settle(first)
    await waiting(domain, approvals.MAX_WAITING)


async def test_what_has_lapsed_waits_no_longer(domain: Domain) -> None:
    for number in range(approvals.MAX_WAITING):
        await waiting(domain, number)
    domain.clock.forward(days=14)
    await waiting(domain, approvals.MAX_WAITING)


async def test_the_purpose_shown_is_the_one_that_counts_and_a_dp_query_says_so(domain: Domain) -> None:
    await domain.refused(submit_dp())
    found = domain.store.read(lambda tx: approvals.page(tx, requester="alice", before="", limit=1))[0]
    assert (found.purpose, found.mode, found.snapshot, found.key_owners) == ("research", "dp", 1, ())


async def test_requesters_see_their_own_approvals_newest_first_page_by_page(domain: Domain) -> None:
    ids = []
    for age in (0, 18, 65):
        ids.append(await asked(domain, query=by_site(where=equals("age", age))))
        ids.append(await asked(domain, query=by_site(VISITS, where=equals("age", age))))
        domain.clock.forward(seconds=1)
    read = domain.store.read
    first = read(lambda tx: approvals.page(tx, requester="alice", before="", limit=2))
    token = approvals.page_token(first[-1])
    rest = read(lambda tx: approvals.page(tx, requester="alice", before=token, limit=10))
    newest_first = sorted((*first, *rest), key=lambda approval: (approval.requested, approval.id), reverse=True)
    assert [*first, *rest] == newest_first
    assert sorted(approval.id for approval in (*first, *rest)) == sorted(ids)
    assert states(domain, "bob") == []


async def test_what_a_requester_sees_of_an_approval_is_its_state_and_the_query_they_asked(domain: Domain) -> None:
    approval = await approved(domain)
    found = domain.store.read(lambda tx: approvals.page(tx, requester="alice", before="", limit=1))[0]
    shown = approving.approval_to_proto(found, now=domain.clock())
    assert (shown.id, shown.state) == (approval, policy_service_pb2.APPROVAL_STATE_APPROVED)
    assert '"dataset":"census"' in shown.query
    domain.clock.forward(days=14)
    assert approving.approval_to_proto(found, now=domain.clock()).state == policy_service_pb2.APPROVAL_STATE_EXPIRED


async def test_somebody_elses_approval_of_the_same_query_is_of_no_use(domain: Domain) -> None:
    await domain.apply(*WATCHED, contract_document("b-1", requester="bob", approval="per_query"))
    await approved(domain)
    error: WeirError = await domain.refused(submit(who=BOB, contract="b-1"))
    assert isinstance(error, ApprovalRequired)
    assert isinstance(await domain.refused(submit(who=BOB)), UnknownName)
