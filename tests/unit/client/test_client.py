# SPDX-License-Identifier: Apache-2.0
from decimal import Decimal

import pytest

import weir_client
from tests.support.client import FakeDomain, fake_domain, identity_document, identity_file
from weir import errors
from weir.v1 import answer_pb2, query_service_pb2
from weir_client._identity import identity_from_json

SQL = "SELECT region, COUNT(*) AS n, SUM(income) FROM census GROUP BY region ORDER BY n DESC"


def last(domain: FakeDomain, name: str):
    return next(request for called, request in reversed(domain.requests) if called == name)


def test_a_query_comes_back_in_the_columns_and_order_asked_for(client):
    answer = client.query(SQL, contract="c-1").result(10)
    assert answer.column_names == ("region", "n", "sum(income)")
    assert answer.rows() == [("south", 107, Decimal("1.07")), ("north", 100, Decimal("1.00"))]
    assert answer.mode == "exact"
    assert answer.price == Decimal("1.12")


def test_what_travels_is_the_canonical_typed_query_and_no_text_of_the_requester(client, domain):
    client.query(
        "SELECT SUM(income) AS secret_alias, COUNT(*) FROM census WHERE NOT region <> 'north' LIMIT 1", contract="c-1"
    ).result(10)
    request = last(domain, "RunQuery")
    assert b"secret_alias" not in request.SerializeToString()
    assert [item.function for item in request.envelope.query.aggregates] == [1, 3]
    assert request.envelope.query.where.WhichOneof("node") == "comparison"


def test_the_terms_of_a_question_travel_exactly(client, domain):
    job = client.query(
        "SELECT COUNT(*) FROM census@3",
        contract="c-1",
        mode="dp",
        epsilon=0.1,
        purpose="p",
        max_price="2.50",
        idempotency_key="k" * 20,
    )
    job.result(10)
    envelope = last(domain, "RunQuery").envelope
    assert envelope.epsilon_nano == 100_000_000
    assert envelope.max_price_micro == 2_500_000
    assert envelope.mode == answer_pb2.MODE_DP
    assert (envelope.contract, envelope.purpose, envelope.query.snapshot) == ("c-1", "p", 3)
    assert job.idempotency_key == "k" * 20
    client.query("SELECT COUNT(*) FROM census", contract="c-1", within="2.5", snapshot=4).result(10)
    envelope = last(domain, "RunQuery").envelope
    assert (envelope.accuracy.within, envelope.query.snapshot) == ("2.5", 4)
    assert not envelope.HasField("max_price_micro")


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"mode": "fast"}, "mode"),
        ({"epsilon": "0.5", "within": 3}, "epsilon"),
        ({"epsilon": 0}, "epsilon"),
        ({"epsilon": "1e-10"}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"within": "-1"}, "within"),
        ({"within": "much"}, "within"),
        ({"max_price": -1}, "max_price"),
        ({"snapshot": 2}, "snapshot"),
        ({"snapshot": -1}, "snapshot"),
    ],
    ids=str,
)
def test_malformed_terms_are_refused_at_once_by_field(client, domain, terms, field):
    with pytest.raises(errors.InvalidRequest) as caught:
        client.query("SELECT COUNT(*) FROM census@3", contract="c-1", **terms)
    assert caught.value.field == field
    assert domain.requests == []


def test_a_statement_outside_the_language_is_refused_before_anything_is_sent(client, domain):
    with pytest.raises(errors.InvalidQuery):
        client.query("SELECT * FROM census", contract="c-1")
    assert domain.requests == []


def test_count_distinct_must_name_the_dataset_s_unit(client, domain):
    client.query("SELECT COUNT(DISTINCT person) FROM census", contract="c-1").result(10)
    job = client.query("SELECT COUNT(DISTINCT household) FROM census", contract="c-1")
    with pytest.raises(errors.InvalidQuery, match=r"COUNT\(DISTINCT person\)"):
        job.result(10)
    assert [name for name, _ in domain.requests].count("GetDataset") == 1


def test_every_call_has_a_deadline(client, domain):
    client.datasets()
    client.query(SQL, contract="c-1").result(10)
    client.balance()
    list(client.entries())
    assert domain.deadlines
    assert all(0 < seconds <= 21 for seconds in domain.deadlines)


def test_a_lost_reply_is_asked_for_again_with_the_same_key_and_charged_once(client, domain):
    domain.lose_replies = 2
    answer = client.query(SQL, contract="c-1").result(10)
    sent = [request for name, request in domain.requests if name == "RunQuery"]
    assert len(sent) == 3
    assert len({request.SerializeToString() for request in sent}) == 1
    assert domain.metered == 1
    assert answer.verify().index == 1


def test_retries_are_bounded(domain, tmp_path, state):
    domain.lose_replies = 100
    connected = weir_client.connect(identity=identity_file(domain, tmp_path), retries=2, state_dir=state)
    with connected as client, pytest.raises(errors.Unavailable):
        client.query(SQL, contract="c-1").result(10)
    assert [name for name, _ in domain.requests] == ["RunQuery"] * 3


def test_overload_is_waited_out_but_a_refusal_is_not_repeated(client, domain):
    domain.refuse["RunQuery"] = [errors.Overloaded("busy"), errors.PolicyDenied("no", rule="contract.none")]
    with pytest.raises(errors.PolicyDenied):
        client.query(SQL, contract="c-1").result(10)
    assert len(domain.requests) == 2


def test_an_unreachable_service_is_unavailable_within_the_timeout(domain, tmp_path, state):
    identity = identity_file(domain, tmp_path)
    connected = weir_client.connect("127.0.0.1:1", identity=identity, timeout=1, state_dir=state)
    with connected as client, pytest.raises(errors.Unavailable, match="cannot be reached"):
        client.datasets()


def test_a_deadline_is_not_retried(client, domain, monkeypatch):
    def slow(request):
        import time

        time.sleep(2)

    monkeypatch.setattr(domain, "GetBalance", slow, raising=False)
    impatient = weir_client.connect(identity=client.identity, timeout=0.5, state_dir="/nonexistent")
    with impatient, pytest.raises(errors.Unavailable) as caught:
        impatient.balance()
    assert caught.value.rule == "deadline"
    assert [name for name, _ in domain.requests] == ["GetBalance"]


def test_a_typed_refusal_arrives_whole(client, domain):
    hit = errors.LimitHit("q-1", "queries", 6, 6, 1, "2026-01-02T00:00:00Z")
    reason = errors.DenialReason("contract.mode", "ask exactly")
    domain.refuse["RunQuery"] = [
        errors.QuotaExceeded("limit reached: q-1", limits=[hit]),
        errors.PolicyDenied("not allowed", reasons=[reason], metadata={"x": "y"}),
        errors.ApprovalRequired("a person must approve", metadata={"approval": "ap-1"}),
        errors.InvalidQuery("no measure x", field="query.aggregates", rule="name.measure"),
    ]
    with pytest.raises(errors.QuotaExceeded) as quota:
        client.query(SQL, contract="c-1").result(10)
    assert quota.value.limits == (hit,)
    with pytest.raises(errors.PolicyDenied) as denied:
        client.query(SQL, contract="c-1").result(10)
    assert denied.value.reasons == (reason,)
    with pytest.raises(errors.ApprovalRequired) as approval:
        client.query(SQL, contract="c-1").result(10)
    assert approval.value.metadata["approval"] == "ap-1"
    with pytest.raises(errors.InvalidQuery) as query:
        client.query(SQL, contract="c-1").result(10)
    assert (query.value.field, query.value.rule) == ("query.aggregates", "name.measure")


def test_jobs_are_futures(client):
    job = client.query(SQL, contract="c-1")
    seen = []
    job.add_done_callback(seen.append)
    assert job.exception(10) is None
    assert job.done()
    assert len(job.result()) == 2
    assert seen == [job]
    assert len(job.idempotency_key) == 32
    assert job.idempotency_key in repr(job)


def test_the_catalogue_is_read_over_all_pages(client):
    assert [card.name for card in client.datasets()] == ["census", "census_b", "census_c"]
    assert [card.name for card in client.datasets("_b")] == ["census_b"]
    card = client.dataset("census")
    assert card.grade == "general"
    assert card.modes == ("exact", "encrypted")
    assert card.dimensions[0].cells == ("north", "south")
    assert card.dimensions[1].cells == (2024, 2025, None)
    assert card.measures[0].upper == Decimal("100.00")
    with pytest.raises(errors.UnknownName):
        client.dataset("nowhere")


def test_an_estimate_says_verdict_cost_and_noise(client):
    found = client.estimate(SQL, contract="c-1", epsilon="0.5")
    assert (found.verdict, found.allowed) == ("deny", False)
    assert found.reasons == (errors.DenialReason("contract.mode", "ask exactly"),)
    assert (found.epsilon, found.price, found.cells) == (Decimal("0.5"), Decimal("1.5"), 2)
    assert found.noise[0].interval95 == 6


def test_the_noise_of_an_estimate_has_the_query_s_own_names_and_units(client, domain, monkeypatch):
    laplace = answer_pb2.Noise(distribution="discrete laplace", scale="2", interval95="600")
    ratio = answer_pb2.Noise(distribution="composite", epsilon_nano=1)

    def estimate(request):
        return query_service_pb2.EstimateQueryResponse(snapshot=domain.shown, noise=[ratio, laplace, laplace])

    monkeypatch.setattr(domain, "EstimateQuery", estimate)
    sql = "SELECT SUM(income) AS total, COUNT(*), AVG(income) AS mean, region FROM census GROUP BY region"
    domain.shown = 1
    noise = {item.column: (item.interval95, item.unit) for item in client.estimate(sql, contract="c-1").noise}
    assert noise == {"mean": (None, "CNY"), "count": (600, ""), "total": (6, "CNY")}
    # The card is that of the newest version: what an older one's grid is cannot be told from it.
    domain.shown = 7
    noise = {item.column: (item.interval95, item.unit) for item in client.estimate(sql, contract="c-1").noise}
    assert noise == {"mean": (None, "grid steps"), "count": (600, ""), "total": (600, "grid steps")}


def test_own_books_are_plain_values(client):
    client.query(SQL, contract="c-1").result(10)
    assert client.contracts()[0].aggregates == ("sum",)
    assert client.contracts()[0].valid_until.year == 2030
    assert client.contracts()[0].valid_from is None
    assert client.approvals()[0].state == "waiting"
    balance = client.balance("c-1")[0]
    assert (balance.quota.id, balance.used, balance.held, balance.remaining) == ("q-1", 2, 1, 4)
    assert balance.resets.isoformat() == "2026-01-02T00:00:00+00:00"
    assert [receipt.index for receipt in client.receipts()] == [1]


def test_operators_calls_carry_what_they_are_given(client, domain):
    difference = client.apply_policy(["kind: contract"], dry_run=True)
    assert (difference.loosens, difference.changes[0].fields) == (True, ("k: 10 → 5",))
    assert last(domain, "ApplyPolicy").idempotency_key == ""
    client.apply_policy(["kind: contract"], expected_digest="aa")
    assert len(last(domain, "ApplyPolicy").idempotency_key) == 32
    with pytest.raises(errors.InvalidRequest):
        client.apply_policy([], expected_digest="zz")
    quota = weir_client.Quota("q-9", "queries", 40, contract="c-1")
    assert client.set_quota(quota, reason="report due").quota == quota
    assert last(domain, "SetQuota").reason == "report due"
    assert client.list_quotas()[0].quota.id == "q-1"
    assert client.decide_approval("ap-1", approve=True, reason="fine").state == "approved"
    client.set_suspension("contract", "c-1", reason="misuse")
    assert last(domain, "SetSuspension").suspended
    with pytest.raises(errors.InvalidRequest):
        client.set_suspension("planet", "earth", reason="misuse")
    assert client.activate_snapshot("census", 2, "ab") == 7


def test_a_closed_client_says_so(domain, tmp_path, state):
    client = weir_client.connect(identity=identity_file(domain, tmp_path), state_dir=state)
    client.datasets()
    client.close()
    client.close()
    with pytest.raises(errors.InvalidRequest) as caught:
        client.datasets()
    assert caught.value.rule == "client.closed"


def test_a_service_of_another_authority_is_not_trusted(domain, tmp_path, state):
    with fake_domain() as other:
        document = identity_document(domain) | {"ca": other.authority.certificate.decode()}
        identity = identity_from_json(document)
        connected = weir_client.connect(identity=identity, timeout=2, retries=0, state_dir=state)
        with connected as client, pytest.raises(errors.Unavailable):
            client.datasets()
    assert domain.requests == []


def test_a_wrong_server_name_is_not_trusted(domain, state):
    identity = identity_from_json(identity_document(domain) | {"server_name": "elsewhere"})
    connected = weir_client.connect(identity=identity, timeout=2, retries=0, state_dir=state)
    with connected as client, pytest.raises(errors.Unavailable):
        client.datasets()


def test_settings_outside_their_range_are_refused(domain):
    identity = identity_from_json(identity_document(domain))
    for settings in ({"timeout": 0}, {"timeout": 601}, {"retries": -1}):
        with pytest.raises(errors.InvalidRequest):
            weir_client.connect(identity=identity, **settings)
    no_address = identity_from_json(identity_document(domain) | {"address": None})
    with pytest.raises(errors.InvalidRequest, match="no address"):
        weir_client.connect(identity=no_address)


def test_an_unknown_call_on_this_listener_is_named_so(client, domain):
    from weir_client._calls import Call, Method

    method = Method("PolicyService", "Nothing", *(type(request) for request in (domain._balance(),) * 2))
    with pytest.raises(errors.InvalidRequest, match="served on the admin address"):
        client._transport.call(Call(method, domain._balance(), 5))
