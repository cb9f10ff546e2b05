# SPDX-License-Identifier: Apache-2.0
"""Between the look at a plan and its application nothing may move: documents, limits, states."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.agreements import HOSPITAL, PARTIES, SIGNED_POLICY, agree, move, sign, signed_document
from tests.support.domain import (
    ALICE,
    OSCAR,
    Domain,
    contract_document,
    quota_document,
    running_domain,
)
from weir.errors import InvalidRequest
from weir.v1 import policy_service_pb2, quota_service_pb2
from weir_server.policy import agreeing

WANTED = (signed_document(k=20), quota_document(limit=7), *PARTIES)


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    async with running_domain(tmp_path, documents=(*SIGNED_POLICY, quota_document())) as running:
        yield running


def fields(response: policy_service_pb2.ApplyPolicyResponse, subject: str) -> list[str]:
    return next(list(change.fields) for change in response.changes if change.subject == subject)


async def raise_limit(domain: Domain) -> None:
    quota = quota_service_pb2.Quota(
        id="q-1", metric="queries", requester="alice", limit=50, window="lifetime", zone="UTC"
    )
    request = quota_service_pb2.SetQuotaRequest(quota=quota, reason="test", idempotency_key=domain.new_key())
    await domain.state.set_quota(OSCAR, request)


async def change_documents(domain: Domain) -> None:
    await domain.apply(*SIGNED_POLICY, quota_document(), contract_document("n-9"))


async def agree_meanwhile(domain: Domain) -> None:
    await agree(domain)


async def terminate(domain: Domain) -> None:
    await move(domain, "terminated")


@pytest.mark.parametrize("moved", [raise_limit, change_documents, agree_meanwhile, terminate])
async def test_a_plan_does_not_outlive_what_it_was_made_from(
    domain: Domain, moved: Callable[[Domain], Awaitable[None]]
) -> None:
    planned = await domain.apply(*WANTED, dry_run=True)
    await moved(domain)
    before, leaves = domain.state.world.policy, len(domain.events())
    with pytest.raises(InvalidRequest) as caught:
        await domain.apply(*WANTED, plan_hash=planned.plan_hash)
    assert (caught.value.rule, caught.value.field) == ("policy.moved", "plan_hash")
    assert domain.state.world.policy == before
    assert len(domain.events()) == leaves


async def test_other_documents_than_those_planned_are_refused(domain: Domain) -> None:
    planned = await domain.apply(*WANTED, dry_run=True)
    with pytest.raises(InvalidRequest):
        await domain.apply(*WANTED[:-1], plan_hash=planned.plan_hash)
    with pytest.raises(InvalidRequest):
        await domain.apply(signed_document(k=21), *WANTED[1:], plan_hash=planned.plan_hash)


async def test_what_was_planned_is_what_is_applied(domain: Domain) -> None:
    planned = await domain.apply(*WANTED, dry_run=True)
    applied = await domain.apply(*WANTED, plan_hash=planned.plan_hash)
    assert applied == planned
    assert {event["data"]["actor"] for event in domain.events("weir.policy.changed")} == {"olga"}


async def test_a_signature_that_decides_nothing_yet_leaves_the_plan(domain: Domain) -> None:
    planned = await domain.apply(*WANTED, dry_run=True)
    await sign(domain, HOSPITAL)
    await domain.apply(*WANTED, plan_hash=planned.plan_hash)


async def test_a_plan_says_what_becomes_of_states(domain: Domain) -> None:
    assert not any(
        text.startswith("state") for text in fields(await domain.apply(*WANTED, dry_run=True), "contract/s-1")
    )
    await agree(domain)
    assert "state: active → offered" in fields(await domain.apply(*WANTED, dry_run=True), "contract/s-1")
    assert fields(await domain.apply(*PARTIES, dry_run=True), "contract/s-1") == ["state: active → none"]
    added = await domain.apply(*SIGNED_POLICY, contract_document("n-1"), dry_run=True)
    assert fields(added, "contract/n-1") == ["state: none → active"]
    await move(domain, "terminated", who=ALICE)
    await domain.apply(*PARTIES)
    assert fields(await domain.apply(*SIGNED_POLICY, dry_run=True), "contract/s-1") == ["state: none → terminated"]


# ── what loosens ───────────────────────────────────────────────────────────────────────────────────────────────────


async def loosening(domain: Domain, *documents: str) -> bool:
    """Whether the plan marks the change of contract n-1."""
    changes = (await domain.apply(*documents, dry_run=True)).changes
    return next(change.loosens for change in changes if change.subject == "contract/n-1")


@pytest.mark.parametrize("state", ["suspended", "terminated"])
async def test_a_new_text_that_lets_a_stopped_contract_answer_again_loosens(domain: Domain, state: str) -> None:
    stopped = contract_document("n-1")
    await domain.apply(stopped)
    retitled = contract_document("n-1", title="Another title")
    assert not await loosening(domain, retitled)
    await move(domain, state, contract="n-1")
    assert await loosening(domain, retitled)
    assert not await loosening(domain, contract_document("n-1", title="Another title", signatures="required"), *PARTIES)


DUTY = {"duty": "delete", "sentence": "Delete what was derived.", "due": "2026-12-01T00:00:00+00:00"}
EPSILON, RHO = {"total": "2", "per_query": "1"}, {"total": "0.1", "per_query": "0.01"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"duties": [DUTY]}, {"duties": [DUTY | {"sentence": "Keep whatever you like."}]}),
        ({"duties": [DUTY]}, {"duties": []}),
        ({"duties": [DUTY]}, None),
        ({"epsilon": EPSILON, "rho": RHO}, {"rho": RHO}),
        ({"rates": {"per_query": "0.5"}}, {"rates": {"per_query": "0.4"}}),
        ({"rates": {"per_query": "0.5"}}, {"rates": {"per_query": "0.5", "currency": "JPY"}}),
    ],
    ids=["a duty that asks less", "a duty less", "duties gone", "a share no longer stated", "cheaper", "other money"],
)
async def test_what_a_contract_asks_no_longer_is_marked(
    domain: Domain, old: dict[str, object], new: dict[str, object] | None
) -> None:
    await domain.apply(contract_document("n-1", **old))
    wanted = () if new is None else (contract_document("n-1", **new),)
    assert await loosening(domain, *wanted)
    if new is not None:
        await domain.apply(*wanted)
        assert await loosening(domain) is bool(new.get("duties"))


async def test_terms_whose_open_duties_count_no_more_are_marked(domain: Domain) -> None:
    """A requester that owes something gains by a new offer, which it need not sign."""

    async def marked(*documents: str) -> bool:
        changes = (await domain.apply(*documents, *PARTIES, dry_run=True)).changes
        return next(change.loosens for change in changes if change.subject == "contract/s-1")

    await domain.apply(signed_document(duties=[DUTY]), *PARTIES)
    retitled = signed_document(duties=[DUTY], title="Another title")
    assert (await marked(retitled), await marked()) == (False, False)
    await agree(domain)
    assert (await marked(retitled), await marked()) == (True, True)
    request = policy_service_pb2.AttestDutyRequest(
        contract="s-1", duty="delete", statement="deleted", idempotency_key=domain.new_key()
    )
    await domain.state.mutate(ALICE, request, lambda acting: agreeing.attest(acting, request))
    assert (await marked(retitled), await marked()) == (False, False)
