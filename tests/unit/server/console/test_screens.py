# SPDX-License-Identifier: Apache-2.0
"""What the forms do: through the same functions as gRPC, with the same entries in the log."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.cases import file_case
from tests.support.console import Browser, ConsoleUnderTest, running_console
from tests.support.domain import DOCUMENTS, by_site, contract_document, equals, quota_document, submit
from weir.errors import PolicyDenied

ASKED = contract_document("w-1", approval="per_query")
TWICE = contract_document("w-2", approval="per_query", approvers=2)


@pytest_asyncio.fixture
async def console(tmp_path: Path) -> AsyncIterator[ConsoleUnderTest]:
    async with running_console(tmp_path, documents=(*DOCUMENTS, ASKED, TWICE, quota_document())) as running:
        yield running


async def waiting(console: ConsoleUnderTest, contract: str = "w-1") -> str:
    error = await console.domain.refused(submit(by_site(where=equals("site", "north")), contract=contract))
    return str(error.metadata["approval"])


async def decide(browser: Browser, approval: str, **fields: str) -> str:
    reply = await browser.act(
        f"/approvals/{approval}", f"/approvals/{approval}/decide", {"reason": "looked at", **fields}
    )
    assert reply.status_code == 303, reply.text
    return (await browser.get(f"/approvals/{approval}")).text


async def test_two_persons_approve_what_needs_two_and_nobody_counts_twice(console: ConsoleUnderTest) -> None:
    approval = await waiting(console, "w-2")
    olga, anna = await console.signed_in("operator", "olga"), await console.signed_in("approver", "anna")
    shown = await decide(olga, approval, act="approve")
    assert "1 of 2" in shown
    assert "2 different persons must approve, 1 did so far" in (await anna.get(f"/approvals/{approval}")).text
    assert 'value="approve"' not in shown, "who has approved is not asked again"
    again = await olga.act(f"/approvals/{approval}", f"/approvals/{approval}/decide", {"act": "approve", "reason": "x"})
    assert again.status_code == 400
    assert "2 of 2" in await decide(anna, approval, act="approve")
    await console.domain.pipeline.run(submit(by_site(where=equals("site", "north")), contract="w-2"))


async def test_a_template_allows_other_values_of_its_free_columns(console: ConsoleUnderTest) -> None:
    approval = await waiting(console)
    olga = await console.signed_in("operator", "olga")
    await decide(olga, approval, act="standing", **{"free-site": "yes"}, uses="3", days="30", price="1")
    await console.domain.pipeline.run(submit(by_site(where=equals("site", "south")), contract="w-1"))


async def test_a_rejection_and_a_taking_back_are_told_to_the_requester(console: ConsoleUnderTest) -> None:
    olga = await console.signed_in("operator", "olga")
    rejected = await waiting(console)
    await decide(olga, rejected, act="reject")
    error = await console.domain.refused(submit(by_site(where=equals("site", "north")), contract="w-1"))
    assert isinstance(error, PolicyDenied)
    other = await console.domain.refused(submit(by_site(where=equals("site", "west")), contract="w-1"))
    approval = str(other.metadata["approval"])
    await decide(olga, approval, act="approve")
    assert "took back" in await decide(olga, approval, act="revoke")
    assert [event["data"]["actor"] for event in console.domain.events("weir.approval.revoked")] == ["olga"]


async def test_a_contract_is_suspended_and_resumed_with_a_reason(console: ConsoleUnderTest) -> None:
    olga = await console.signed_in("operator", "olga")
    for state in ("suspended", "active"):
        fields = {"state": state, "reason": "looked at"}
        reply = await olga.act("/contracts/c-1", "/contracts/c-1/move", fields)
        assert reply.status_code == 303, reply.text
        assert console.domain.state.world.state_of("c-1") == state
    wrong = await olga.act("/contracts/c-1", "/contracts/c-1/move", {"state": "offered", "reason": "x"})
    assert wrong.status_code == 400


async def test_the_policy_is_compared_before_it_is_applied_and_applied_as_compared(console: ConsoleUnderTest) -> None:
    olga, page = await console.signed_in("operator", "olga"), "/policy/document?kind=quota&name=q-1"
    edited = {"kind": "quota", "name": "q-1", "act": "change", "document": quota_document(limit=50)}
    before = console.domain.state.world.policy.digest
    plan = await olga.act(page, "/policy/document/plan", edited)
    assert "quota/q-1" in plan.text
    assert "loosens</span>" in plan.text
    assert console.domain.state.world.policy.digest == before
    shown = re.search(r'name="plan_hash" value="([0-9a-f]{64})"', plan.text)
    assert shown is not None
    unseen = await olga.act(page, "/policy/document/apply", {**edited, "key": "k" * 20})
    assert unseen.status_code == 400
    other = {**edited, "document": quota_document(limit=60), "plan_hash": shown.group(1), "key": "k" * 20}
    assert (await olga.act(page, "/policy/document/apply", other)).status_code == 400
    assert console.domain.quotas()["q-1"] == 5
    applied = await olga.act(page, "/policy/document/apply", {**edited, "plan_hash": shown.group(1), "key": "l" * 20})
    assert applied.status_code == 303, applied.text
    assert console.domain.quotas()["q-1"] == 50
    assert console.domain.state.world.policy.digest != before


async def test_a_document_is_added_and_removed(console: ConsoleUnderTest) -> None:
    olga = await console.signed_in("operator", "olga")
    for fields in (
        {"kind": "quota", "name": "", "act": "change", "document": quota_document("q-2", limit=9)},
        {"kind": "quota", "name": "q-2", "act": "remove", "document": ""},
    ):
        plan = await olga.act("/policy/document?kind=quota", "/policy/document/plan", fields)
        shown = re.search(r'name="plan_hash" value="([0-9a-f]{64})"', plan.text)
        key = re.search(r'name="key" value="([^"]+)"', plan.text)
        assert shown is not None
        assert key is not None
        act = {**fields, "plan_hash": shown.group(1), "key": key.group(1)}
        assert (await olga.act("/policy/document?kind=quota", "/policy/document/apply", act)).status_code == 303
        assert ("q-2" in console.domain.quotas()) == (fields["act"] == "change")


async def test_a_limit_that_moved_since_it_was_seen_is_not_set(console: ConsoleUnderTest) -> None:
    olga = await console.signed_in("operator", "olga")
    stale = await olga.act("/quotas/q-1?limit=9", "/quotas/q-1/set", {"limit": "9", "seen": "4", "reason": "x"})
    assert stale.status_code == 400
    done = await olga.act("/quotas/q-1?limit=9", "/quotas/q-1/set", {"limit": "9", "seen": "5", "reason": "report"})
    assert done.status_code == 303
    assert console.domain.quotas()["q-1"] == 9
    assert console.domain.events("weir.quota.set")[-1]["data"]["reason"] == "report"


async def test_a_case_goes_on_and_holds_its_contract(console: ConsoleUnderTest) -> None:
    case = (await file_case(console.domain)).id
    olga = await console.signed_in("operator", "olga")
    fields = {"state": "accepted", "freeze": "yes", "reason": "looked at"}
    assert (await olga.act(f"/cases/{case}", f"/cases/{case}/advance", fields)).status_code == 303
    assert "contract held" in (await olga.get(f"/cases/{case}")).text
    skipped = await olga.act(f"/cases/{case}", f"/cases/{case}/advance", {"state": "received", "reason": "x"})
    assert skipped.status_code == 400
    evidence = await olga.get(f"/cases/{case}/evidence.json")
    assert evidence.headers["content-disposition"].startswith("attachment")
    assert evidence.content.startswith(b"{")
