# SPDX-License-Identifier: Apache-2.0
import asyncio

import pytest

from tests.support.client import identity_file
from weir import errors
from weir.v1 import policy_service_pb2
from weir_client import _operations, aio, cli

SQL = "SELECT region, COUNT(*) AS n FROM census GROUP BY region"


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(_operations, "_FIRST_POLL", 0.01)


def states(domain, monkeypatch, *given):
    """What the service says about ap-1, poll by poll; the last for ever."""
    left = list(given)

    def handle(request):
        state = left.pop(0) if len(left) > 1 else left[0]
        approval = policy_service_pb2.Approval(
            id="ap-1", state=policy_service_pb2.ApprovalState.Value(f"APPROVAL_STATE_{state}")
        )
        return policy_service_pb2.ListApprovalsResponse(approvals=[approval])

    monkeypatch.setattr(domain, "ListApprovals", handle, raising=False)


def asked(domain):
    return [request.idempotency_key for name, request in domain.requests if name == "RunQuery"]


def needs_approval():
    return errors.ApprovalRequired("a person must approve", metadata={"approval": "ap-1"})


def test_an_approved_query_is_sent_again_under_the_same_key(client, domain, monkeypatch):
    domain.refuse["RunQuery"] = [needs_approval()]
    states(domain, monkeypatch, "WAITING", "WAITING", "APPROVED")
    job = client.query(SQL, contract="c-1", wait_for_approval=20)
    assert job.result(20).rows() == [("north", 100), ("south", 107)]
    assert asked(domain) == [job.idempotency_key] * 2
    assert [name for name, _ in domain.requests].count("ListApprovals") == 3


def test_what_the_service_says_after_the_decision_counts(client, domain, monkeypatch):
    domain.refuse["RunQuery"] = [needs_approval(), errors.PolicyDenied("rejected", rule="approval.rejected")]
    states(domain, monkeypatch, "REJECTED")
    with pytest.raises(errors.PolicyDenied):
        client.query(SQL, contract="c-1", wait_for_approval=20).result(20)


def test_a_lapsed_approval_is_asked_for_again(client, domain, monkeypatch):
    domain.refuse["RunQuery"] = [needs_approval(), needs_approval()]
    states(domain, monkeypatch, "EXPIRED", "WAITING", "APPROVED")
    assert client.query(SQL, contract="c-1", wait_for_approval=20).result(20)
    assert len(asked(domain)) == 3


def test_waiting_ends_with_the_refusal_when_nobody_decides(client, domain, monkeypatch):
    domain.refuse["RunQuery"] = [needs_approval()] * 5
    states(domain, monkeypatch, "WAITING")
    with pytest.raises(errors.ApprovalRequired):
        client.query(SQL, contract="c-1", wait_for_approval=0.1).result(20)
    assert len(asked(domain)) == 1


def test_without_being_told_to_wait_nobody_does(client, domain):
    domain.refuse["RunQuery"] = [needs_approval()]
    with pytest.raises(errors.ApprovalRequired):
        client.query(SQL, contract="c-1").result(20)
    assert "ListApprovals" not in {name for name, _ in domain.requests}


@pytest.mark.parametrize("seconds", [0, -1, 7 * 86_400 + 1, float("nan"), float("inf")])
def test_a_wait_has_an_end(client, seconds):
    with pytest.raises(errors.InvalidRequest) as caught:
        client.query(SQL, contract="c-1", wait_for_approval=seconds)
    assert caught.value.rule == "approval.wait"


def test_the_event_loop_s_client_waits_too(client, domain, state, monkeypatch):
    domain.refuse["RunQuery"] = [needs_approval()]
    states(domain, monkeypatch, "WAITING", "APPROVED")

    async def ask():
        async with aio.connect(identity=client.identity, state_dir=state) as other:
            return await other.query(SQL, contract="c-1", wait_for_approval=20)

    assert asyncio.run(ask()).rows() == [("north", 100), ("south", 107)]


def test_the_command_line_waits(domain, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WEIR_IDENTITY", str(identity_file(domain, tmp_path)))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    domain.refuse["RunQuery"] = [needs_approval()]
    states(domain, monkeypatch, "WAITING", "APPROVED")
    assert cli.run(["query", SQL, "-c", "c-1", "--wait", "20"]) == 0
    captured = capsys.readouterr()
    assert "north" in captured.out
    assert captured.err == ""
    assert cli.run(["query", SQL, "-c", "c-1", "--wait", "0"]) == 2
