# SPDX-License-Identifier: Apache-2.0
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.domain import NANO, contract_document, dp_contract_document, quota_document
from weir.canonical import NotCanonical
from weir.errors import InvalidRequest
from weir.query import Function
from weir.v1 import query_pb2
from weir_server.catalog.card import Mode
from weir_server.catalog.rates import Rates
from weir_server.ledger.values import Quota
from weir_server.policy.contract import Contract, Duty, contract_of_terms
from weir_server.policy.documents import parse_documents
from weir_server.policy.encode import contract_to_proto
from weir_server.policy.lifecycle import ContractLife
from weir_server.policy.quota import QUOTA

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def read(*documents: str) -> tuple[tuple[Contract, ...], tuple[Quota, ...]]:
    policy = parse_documents(list(documents))
    return tuple(policy.contracts.values()), tuple(policy.of(QUOTA).values())


def faults(*documents: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read(*documents)
    assert (caught.value.field, caught.value.rule) == ("documents", "policy.document")
    return caught.value.message


def test_a_contract_is_read_as_it_was_written() -> None:
    (contract,), quotas = read(dp_contract_document())
    assert quotas == ()
    assert (contract.epsilon_nano, contract.epsilon_per_query_nano) == (2 * NANO, NANO)
    assert contract.modes == {Mode.DP, Mode.ENCRYPTED}
    assert contract.aggregates == {Function.COUNT, Function.SUM, Function.AVG}
    assert contract.rates == Rates(per_query_micro=500_000, per_epsilon_micro=10_000_000)
    assert contract.valid_until == datetime(2027, 1, 1, tzinfo=UTC)


def test_a_share_of_epsilon_is_a_lifetime_limit_of_the_contract() -> None:
    contract = read(dp_contract_document())[0][0]
    assert contract.quotas == (Quota(id="contract-d-1-epsilon", metric="epsilon_nano", limit=2 * NANO, contract="d-1"),)


@pytest.mark.parametrize("missing", ["contract", "title", "provider", "requester", "dataset", "valid_from", "modes"])
def test_what_is_missing_is_named(missing: str) -> None:
    assert missing in faults(contract_document(**dict[str, Any]({missing: None})))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"purposes": []}, "purposes"),
        ({"purposes": ["research", ""]}, "purposes"),
        ({"dimensions": [""]}, "dimensions"),
        ({"aggregates": []}, "aggregates"),
        ({"modes": []}, "modes"),
        ({"modes": ["exact", "raw"]}, "raw"),
        ({"aggregates": ["median"]}, "median"),
        ({"dimensions": "site"}, "dimensions must be a list"),
        ({"dimensions": [1]}, "dimensions must be a list"),
        ({"valid_until": "2026-01-01T00:00:00"}, "valid_until"),
        ({"valid_until": "soon"}, "valid_until"),
        ({"valid_until": "2025-01-01T00:00:00+00:00"}, "after valid_from"),
        ({"approval": "sometimes"}, "approval"),
        ({"approvers": 2}, "approvers are asked for only where"),
        ({"regions": ["China"]}, "regions must be ISO 3166"),
        ({"approvers": 3}, "approvers must be 1 or 2"),
        ({"k": 9}, "k must be at least 10"),
        ({"provider": "alice"}, "another than the provider"),
        ({"signatures": "later"}, "signatures must be one of"),
        ({"duties": [{"duty": "d-1", "sentence": "report", "due": "soon"}]}, "due"),
        ({"rates": {"per_query": "-1"}}, "per_query"),
        ({"rates": {"per_query": "0.0000001"}}, "per_query"),
        ({"rates": {"per_query": True}}, "per_query"),
        ({"rates": []}, "rates must be a mapping"),
        ({"rates": {"per_row": "1"}}, "unknown key 'per_row'"),
        ({"quotas": {}}, "quotas must be a list"),
        ({"quotas": [{"metric": "rows", "limit": 1}]}, "metric must be one of"),
        ({"quotas": [{"metric": "queries", "limit": -1}]}, "limit"),
        ({"quotas": [{"metric": "queries", "limit": True}]}, "limit"),
        ({"quotas": [{"metric": "queries", "limit": 1, "window": "week"}]}, "window must be one of"),
        ({"quotas": [{"metric": "queries", "limit": 1, "zone": "Mars/Olympus"}]}, "zone"),
        ({"quotas": [{"metric": "epsilon_nano", "limit": 1, "window": "day"}]}, "does not come back"),
        ({"quotas": [{"metric": "queries", "limit": 1}, {"metric": "queries", "limit": 2}]}, "defined twice"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"contract": "C-1"}, "contract must be small letters"),
        ({"contract": "x" * 64}, "contract must be"),
    ],
    ids=str,
)
def test_every_fault_is_named_by_its_key(change: dict[str, Any], word: str) -> None:
    assert word in faults(contract_document(**change))


@pytest.mark.parametrize(
    "epsilon",
    [None, {"total": "1"}, {"per_query": "1"}, {"total": "1", "per_query": "2"}, {"total": "0", "per_query": "0"},
     {"total": "1e-10", "per_query": "1e-10"}, {"total": "1", "per_query": "1", "per_day": "1"}],
    ids=str,
)  # fmt: skip
def test_dp_needs_a_share_and_a_ceiling_within_it(epsilon: object) -> None:
    assert "epsilon" in faults(dp_contract_document(epsilon=epsilon))


def test_several_documents_report_all_their_faults_together() -> None:
    message = faults(contract_document(modes=[]), quota_document(limit=-1), "kind: treaty")
    assert "document 1: modes" in message
    assert "document 2: limit" in message
    assert "document 3: kind must be one of" in message


@pytest.mark.parametrize("change", [{"requester": None}, {"quota": "lineage-money-epsilon"}, {"quota": "contract-x"}])
def test_a_limit_needs_a_scope_and_a_name_of_its_own(change: dict[str, Any]) -> None:
    content = quota_document(**change).replace("requester: null\n", "")
    assert "quota" in faults(content)


def test_a_limit_is_read_with_its_scope_and_window() -> None:
    assert read(quota_document(window="month", zone="Asia/Shanghai", dataset="census"))[1] == (
        Quota(
            id="q-1", metric="queries", limit=5, requester="alice", dataset="census", window="month",
            zone="Asia/Shanghai",
        ),
    )  # fmt: skip


def test_a_document_beyond_its_size_is_not_parsed() -> None:
    assert "too large" in faults("#" * (256 * 1024 + 1))


CHANGES: dict[str, Any] = {
    "id": "c-2",
    "title": "Other",
    "provider": "other",
    "requester": "bob",
    "dataset": "spending",
    "purposes": ("teaching",),
    "modes": frozenset({Mode.DP}),
    "dimensions": frozenset({"age"}),
    "measures": frozenset(),
    "aggregates": frozenset({Function.COUNT}),
    "epsilon_nano": 1,
    "epsilon_per_query_nano": 1,
    "rho_micro": 1,
    "rho_per_query_micro": 1,
    "valid_from": datetime(2026, 2, 1, tzinfo=UTC),
    "valid_until": datetime(2028, 2, 1, tzinfo=UTC),
    "approval": "per_query",
    "rates": Rates(currency="EUR"),
    "k": 20,
    "regions": ("CN-31",),
    "duties": (Duty("delete", "delete the extract", datetime(2027, 1, 1, tzinfo=UTC)),),
    "approvers": 2,
    "signatures": "required",
    "seal_to": ("carol",),
    "quotas": (),
}


def test_the_digest_covers_every_term() -> None:
    contract = read(contract_document())[0][0]
    assert set(CHANGES) == {field.name for field in fields(Contract) if field.init}
    digests = {replace(contract, **{name: value}).digest for name, value in CHANGES.items()}
    assert len(digests | {contract.digest}) == len(CHANGES) + 1


def test_the_order_in_which_a_contract_was_written_does_not_matter() -> None:
    one = contract_document(dimensions=["site", "age"], modes=["exact", "encrypted"])
    other = contract_document(dimensions=["age", "site"], modes=["encrypted", "exact"])
    assert read(one)[0][0].digest == read(other)[0][0].digest


def test_the_wire_form_names_every_aggregate() -> None:
    document = contract_document(aggregates=[function.value for function in Function])
    message = contract_to_proto(read(document)[0][0], life=ContractLife(), now=NOW)
    known = set(query_pb2.AggregateFunction.values()) - {query_pb2.AGGREGATE_FUNCTION_UNSPECIFIED}
    assert set(message.aggregates) == known
    assert message.digest == read(document)[0][0].digest


def test_a_share_in_rho_is_a_limit_in_rho_and_needs_no_epsilon() -> None:
    contract = read(dp_contract_document(epsilon=None, rho={"total": "0.02", "per_query": "0.0005"}))[0][0]
    assert (contract.rho_micro, contract.rho_per_query_micro, contract.epsilon_nano) == (20_000, 500, 0)
    assert [(q.id, q.metric, q.limit, q.window) for q in contract.quotas] == [
        ("contract-d-1-rho", "rho_micro", 20_000, "lifetime")
    ]
    message = contract_to_proto(contract, life=ContractLife(), now=NOW)
    assert (message.rho_micro, message.rho_per_query_micro) == (20_000, 500)


def test_both_shares_are_limits_where_both_are_stated() -> None:
    contract = read(dp_contract_document(rho={"total": "0.02", "per_query": "0.02"}))[0][0]
    assert {quota.metric for quota in contract.quotas} == {"epsilon_nano", "rho_micro"}


@pytest.mark.parametrize(
    "rho",
    [{"total": "0.02"}, {"per_query": "1", "total": "0.5"}, {"total": "0.0000001", "per_query": "0.0000001"}],
    ids=["one of two", "per query above total", "finer than micro"],
)
def test_half_a_share_in_rho_is_refused(rho: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="rho"):
        read(dp_contract_document(rho=rho))


@pytest.mark.parametrize(
    "document",
    [
        contract_document(),
        dp_contract_document(),
        dp_contract_document(rho={"total": "0.02", "per_query": "0.02"}),
        dp_contract_document(epsilon=None, rho={"total": "0.02", "per_query": "0.0005"}),
        dp_contract_document(quotas=[{"metric": "epsilon_nano", "limit": 2 * NANO}, {"metric": "queries", "limit": 3}]),
        contract_document(
            quotas=[{"metric": "queries", "limit": 2**60, "window": "day", "zone": "Asia/Shanghai"}],
            duties=[{"duty": "delete", "sentence": "löschen", "due": "2026-12-01T00:00:00+08:00"}],
            regions=["FR", "CN-31"],
            k=25,
            approval="per_query",
            approvers=2,
            signatures="required",
        ),
    ],
    ids=["exact", "epsilon", "both shares", "rho", "a limit like the share", "everything"],
)
def test_a_contract_is_read_back_from_its_canonical_form(document: str) -> None:
    contract = read(document)[0][0]
    again = contract_of_terms(contract.canonical)
    assert (again.digest, again.canonical) == (contract.digest, contract.canonical)
    assert {replace(quota) for quota in again.quotas} == set(contract.quotas)


@pytest.mark.parametrize("change", [b" ", b"x", b""], ids=["space", "text", "nothing"])
def test_bytes_that_are_no_canonical_form_are_no_contract(change: bytes) -> None:
    canonical = read(contract_document())[0][0].canonical
    for bent in (
        canonical + change if change else b"",
        b"[]",
        b"{}",
        b'{"quotas":[1]}',
        canonical.replace(b'"k":10', b'"k":9'),
    ):
        with pytest.raises(NotCanonical):
            contract_of_terms(bent)
