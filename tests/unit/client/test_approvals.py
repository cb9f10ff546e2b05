# SPDX-License-Identifier: Apache-2.0
import asyncio
import json
from datetime import UTC, datetime

import pytest

import weir_client
from tests.support.client import identity_file
from weir import errors
from weir.canonical import canonical_json
from weir.query import query_json
from weir.v1 import answer_pb2, policy_service_pb2, quota_service_pb2
from weir.wire import query_from_proto
from weir_client import StandingTerms, _operations, aio, cli
from weir_client._sql import parse

SQL = "SELECT region, COUNT(*) AS n FROM census GROUP BY region"
ASKED = "SELECT region, COUNT(*) FROM \"census@1\" WHERE year = 2020 AND region IN ('north', 'south') GROUP BY region"


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(_operations, "_FIRST_POLL", 0.01)


def shown(**fields):
    query = canonical_json(query_json(parse(ASKED).query)).decode()
    given = {
        "id": "ap-1", "state": "APPROVAL_STATE_APPROVED", "requester": "alice", "contract": "c-1", "query": query,
        "purpose": "research", "mode": "exact", "snapshot": 1, "price_micro": 2_500_000, "approvers": 2,
        "approved_by": ["olga"], "reasons": ["looked at it"],
    } | fields  # fmt: skip
    message = policy_service_pb2.Approval(**given)
    message.requested.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    return message


@pytest.fixture
def approvals(domain, monkeypatch):
    """Sets what the service says of the caller's approvals, list by list; the last for ever."""

    def say(*lists):
        left = list(lists)

        def handle(request):
            found = left.pop(0) if len(left) > 1 else left[0]
            return policy_service_pb2.ListApprovalsResponse(approvals=found)

        monkeypatch.setattr(domain, "ListApprovals", handle)

    say([shown()])
    return say


@pytest.fixture
def weir(domain, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WEIR_IDENTITY", str(identity_file(domain, tmp_path)))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def run(*arguments):
        code = cli.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def sent(domain, name):
    return [request for called, request in domain.requests if called == name]


def needs_approval():
    return errors.ApprovalRequired("two persons must approve", metadata={"approval": "ap-1"})


def test_an_approved_question_is_resumed_by_its_id_alone(client, domain, approvals):
    job = client.resume("ap-1")
    answer = job.result(20)
    assert answer.column_names == ("region", "count")
    (request,) = sent(domain, "RunQuery")
    assert request.idempotency_key == job.idempotency_key
    envelope = request.envelope
    assert (envelope.contract, envelope.purpose, envelope.mode) == ("c-1", "research", answer_pb2.MODE_EXACT)
    assert envelope.query.snapshot == 1
    assert query_from_proto(envelope.query) == parse(ASKED).query
    assert list(envelope.query.group_by) == ["region"]
    answer.verify()


def test_resuming_again_gives_the_stored_answer_and_no_second_charge(client, domain, approvals):
    # A key drawn anew would find the approval used, and ask another person.
    first, again = client.resume("ap-1").result(20), client.resume("ap-1").result(20)
    assert again.receipt.index == first.receipt.index
    keys = {request.idempotency_key for request in sent(domain, "RunQuery")}
    assert len(keys) == 1
    assert _operations.resuming_key("ap-2") not in keys


def test_a_dp_question_is_resumed_with_its_loss(client, domain, approvals):
    approvals([shown(mode="dp", epsilon_nano=250_000_000)])
    client.resume("ap-1").result(20)
    (request,) = sent(domain, "RunQuery")
    assert (request.envelope.epsilon_nano, request.envelope.mode) == (250_000_000, answer_pb2.MODE_DP)


def test_resuming_waits_for_the_persons_too(client, domain, approvals):
    domain.refuse["RunQuery"] = [needs_approval()]
    waiting = [shown(state="APPROVAL_STATE_WAITING")]
    approvals(waiting, waiting, [shown()], [shown()])
    job = client.resume("ap-1", wait_for_approval=20)
    assert job.result(20)
    assert {request.idempotency_key for request in sent(domain, "RunQuery")} == {job.idempotency_key}


def test_an_earlier_key_is_kept(client, domain, approvals):
    client.resume("ap-1", idempotency_key="key-0123456789abcdef").result(20)
    assert [request.idempotency_key for request in sent(domain, "RunQuery")] == ["key-0123456789abcdef"]


@pytest.mark.parametrize(("fields", "kind", "rule"), [
    ({"id": "ap-2"}, errors.UnknownName, "name.approval"),
    ({"mode": "encrypted"}, errors.InvalidRequest, "approval.resume"),
    ({"mode": "sealed"}, errors.InvalidRequest, "approval.resume"),
    ({"mode": "dp"}, errors.InvalidRequest, "approval.resume"),
    ({"query": "{}"}, errors.InvalidReceipt, "approval.query"),
], ids=["unknown", "encrypted", "sealed", "no loss", "no query"])  # fmt: skip
def test_what_an_approval_does_not_show_is_not_guessed(client, domain, approvals, fields, kind, rule):
    approvals([shown(**fields)])
    with pytest.raises(kind) as caught:
        client.resume("ap-1").result(20)
    assert caught.value.rule == rule
    assert sent(domain, "RunQuery") == []


def test_encrypted_questions_wait_and_ask_with_the_same_key(client, domain, approvals, keypair):
    domain.refuse["RunEncryptedQuery"] = [needs_approval()]
    job = client.encrypted_query(SQL, weights={("north",): 3}, keypair=keypair, contract="c-1", wait_for_approval=20)
    assert job.result(60).decrypt(keypair) == {"n": 300}
    assert sent(domain, "ListApprovals")


def test_sealed_questions_wait_and_ask_with_the_same_key(client, domain, approvals):
    domain.refuse["RunSealedQuery"] = [needs_approval(), errors.PolicyDenied("rejected", rule="approval.rejected")]
    job = client.sealed_query(SQL, to="sha256:" + "ab" * 32, contract="c-1", wait_for_approval=20)
    with pytest.raises(errors.PolicyDenied):
        job.result(20)
    assert [request.idempotency_key for request in sent(domain, "RunSealedQuery")] == [job.idempotency_key] * 2


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_waits_of_every_kind_have_an_end(client, keypair, seconds):
    for ask in (
        lambda: client.resume("ap-1", wait_for_approval=seconds),
        lambda: client.sealed_query(SQL, to="k", contract="c-1", wait_for_approval=seconds),
        lambda: client.encrypted_query(SQL, weights=[], keypair=keypair, contract="c-1", wait_for_approval=seconds),
    ):
        with pytest.raises(errors.InvalidRequest) as caught:
            ask()
        assert caught.value.rule == "approval.wait"


def test_the_event_loop_s_client_resumes_waits_and_decides(client, domain, state, approvals, keypair):
    domain.refuse["RunEncryptedQuery"] = [needs_approval()]
    domain.refuse["RunSealedQuery"] = [needs_approval(), errors.PolicyDenied("rejected", rule="approval.rejected")]

    async def ask():
        async with aio.connect(identity=client.identity, state_dir=state) as other:
            assert (await other.resume("ap-1")).column_names == ("region", "count")
            waited = other.encrypted_query(
                SQL, weights={("north",): 3}, keypair=keypair, contract="c-1", wait_for_approval=20
            )
            assert (await waited).decrypt(keypair) == {"n": 300}
            with pytest.raises(errors.PolicyDenied):
                await other.sealed_query(SQL, to="sha256:" + "ab" * 32, contract="c-1", wait_for_approval=20)
            await other.decide_approval("ap-1", approve=True, reason="r", standing=StandingTerms(("year",), uses=3))
            await other.revoke_approval("ap-1", reason="over")

    asyncio.run(ask())
    first, second = sent(domain, "DecideApproval")
    assert (first.standing.uses, list(first.standing.free_columns), first.revoke) == (3, ["year"], False)
    assert (second.revoke, second.reason) == (True, "over")


def test_approvals_show_their_query_as_sql_and_in_words(client, approvals):
    (found,) = client.approvals()
    assert found.sql.startswith('SELECT region, COUNT(*) FROM "census@1" WHERE ')
    assert found.words.startswith("how many in census version 1, for each region, where ")
    assert (found.approvers, found.approved_by, found.reasons) == (2, ("olga",), ("looked at it",))


def test_one_page_says_all_that_a_decision_needs(weir, approvals):
    code, out, _ = weir("approvals", "show", "ap-1")
    assert code == 0
    for part in ("how many in census", "SELECT region", "price 2.5", "olga", "looked at it", "research"):
        assert part in out
    assert weir("approvals", "show", "ap-9")[0] == 2
    document = json.loads(weir("approvals", "show", "ap-1", "--json")[1])
    assert document["words"].startswith("how many")
    assert document["after"] == [{"quota": "q-1", "metric": "queries", "left": "4", "after": "3", "enough": True}]


def test_limits_as_they_would_be_are_shown_and_a_lack_is_marked(weir, domain, approvals, monkeypatch):
    quotas = [
        quota_service_pb2.Quota(id="money", metric="price_micro", requester="alice", limit=2_000_000),
        quota_service_pb2.Quota(id="others", metric="price_micro", requester="bob", limit=1),
    ]
    reply = quota_service_pb2.ListQuotasResponse(
        balances=[quota_service_pb2.Balance(quota=quota, used=0) for quota in quotas]
    )
    monkeypatch.setattr(domain, "ListQuotas", lambda request: reply)
    out = weir("approvals", "show", "ap-1")[1]
    assert "money: price 2 left, 0 after  NOT ENOUGH" in out
    assert "others" not in out


def test_who_may_not_see_limits_sees_the_rest_and_is_told_so(weir, domain, approvals):
    domain.refuse["ListQuotas"] = [errors.PermissionDenied("not your call")] * 2
    code, out, _ = weir("approvals", "show", "ap-1")
    assert code == 0
    assert "for each region" in out
    # Silence would read as no limit at all.
    assert "limits      not shown to you; operators see them" in out
    assert json.loads(weir("approvals", "show", "ap-1", "--json")[1])["after"] is None


def test_templates_are_approved_with_columns_uses_days_and_ceilings(weir, domain, approvals):
    approvals([shown(state="APPROVAL_STATE_WAITING", epsilon_nano=500_000_000)])
    weir("approvals", "approve", "ap-1", "--reason", "r", "--standing")
    weir("approvals", "approve", "ap-1", "--reason", "r", "--free", "year", "--uses", 3, "--days", 7,
         "--max-epsilon", "0.25", "--max-price", "1.5")  # fmt: skip
    weir("approvals", "approve", "ap-1", "--reason", "r")
    whole, narrow, once = [request.standing for request in sent(domain, "DecideApproval")]
    assert (list(whole.free_columns), whole.uses, whole.days) == (["region", "year"], 100, 30)
    assert (whole.epsilon_nano, whole.price_micro) == (500_000_000, 2_500_000)
    assert (list(narrow.free_columns), narrow.uses, narrow.days) == (["year"], 3, 7)
    assert (narrow.epsilon_nano, narrow.price_micro) == (250_000_000, 1_500_000)
    assert not sent(domain, "DecideApproval")[2].HasField("standing")
    assert once.uses == 0


def test_a_query_without_literals_is_no_template(weir, domain, approvals):
    plain = canonical_json(query_json(parse(SQL).query)).decode()
    approvals([shown(query=plain)])
    assert weir("approvals", "approve", "ap-1", "--reason", "r", "--standing")[0] == 2
    assert sent(domain, "DecideApproval") == []


def test_the_command_line_takes_back_and_resumes(weir, domain, approvals):
    assert weir("approvals", "revoke", "ap-1", "--reason", "over")[0] == 0
    assert sent(domain, "DecideApproval")[0].revoke
    code, out, _ = weir("approvals", "resume", "ap-1")
    assert code == 0
    assert "verified" in out
    assert weir("approvals", "resume", "ap-9")[0] == 2


@pytest.mark.parametrize(("fields", "state"), [
    ({"state": "APPROVAL_STATE_WAITING"}, "waiting, 1 of 2 persons"),
    ({"state": "APPROVAL_STATE_REVOKED"}, "revoked"),
    ({"uses_left": 4, "standing": policy_service_pb2.StandingTerms(free_columns=["year"], uses=9, days=30)},
     "approved, 4 of 9 uses left"),
])  # fmt: skip
def test_the_list_says_how_far_it_is(weir, approvals, fields, state):
    approvals([shown(**fields)])
    assert state in weir("approvals")[1]


def test_a_question_of_a_newer_service_is_shown_as_it_was_sent(weir, approvals):
    approvals([shown(query='{"like":"nothing"}')])
    assert '{"like":"nothing"}' in weir("approvals")[1]
    assert json.loads(weir("approvals", "list", "--json")[1])[0]["sql"] is None


def test_terms_that_stand_are_public(approvals, client):
    assert weir_client.StandingTerms is StandingTerms
    approvals([shown(standing=policy_service_pb2.StandingTerms(free_columns=["year"], uses=9, days=30))])
    assert client.approvals()[0].standing == StandingTerms(("year",), uses=9, days=30)
