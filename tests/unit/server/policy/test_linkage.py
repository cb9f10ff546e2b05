# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.domain import (
    DOCUMENTS,
    DOLLARS,
    NANO,
    OLGA,
    Domain,
    by_site,
    dp_contract_document,
    equals,
    running_domain,
    spending_card,
    submit,
    submit_dp,
)
from weir.errors import BudgetExhausted, InvalidRequest, PublicationError
from weir.replay import follow_all
from weir.v1 import quota_service_pb2
from weir_server import ledger, log
from weir_server.fsck.books import check_books
from weir_server.fsck.rows import Rows
from weir_server.ledger import Quota
from weir_server.ledger.quotas import check_budget
from weir_server.policy.documents import parse_documents
from weir_server.policy.encode import quota_to_proto
from weir_server.policy.linkage import LINKAGE, Linkage, loosens

NAMESPACE = "resident-id"
QUOTA = "namespace-residents-epsilon"


def linkage_document(**changes: Any) -> str:
    content: dict[str, Any] = {"kind": "linkage", "linkage": "residents", "namespace": NAMESPACE, "epsilon": "1"}
    return yaml.safe_dump({key: value for key, value in (content | changes).items() if value is not None})


OTHER = dp_contract_document("o-1", dataset="other")
SHARED = (*DOCUMENTS, OTHER, linkage_document())


def other_card(**changes: Any) -> Any:
    """Another dataset about the same units, of a lineage of its own."""
    return spending_card(**({"name": "other", "lineage": "other", "unit_namespace": NAMESPACE} | changes))


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    """The census and spending of nobody's namespace, and another dataset within it."""
    async with running_domain(tmp_path) as running:
        await running.activate(other_card())
        yield running


async def spend(domain: Domain, site: str, *, epsilon: int = NANO // 2, dataset: str = "spending") -> None:
    contract = "d-1" if dataset == "spending" else "o-1"
    query = by_site(DOLLARS, where=equals("site", site), dataset=dataset)
    await domain.pipeline.run(submit_dp(query, epsilon=epsilon, contract=contract))


async def refused(domain: Domain, site: str, *, epsilon: int = NANO // 2, dataset: str = "spending") -> Exception:
    with pytest.raises(BudgetExhausted) as caught:
        await spend(domain, site, epsilon=epsilon, dataset=dataset)
    return caught.value


def check_consistent(domain: Domain) -> None:
    """The books are what the leaves say, by the auditor's own arithmetic."""
    leaves = domain.store.read(lambda tx: [leaf for _, leaf in log.entries(tx)])
    books = follow_all(enumerate(leaves))
    assert {limit.id: limit.limit for limit in books.limits.values()} == domain.quotas()
    for quota in domain.quotas():
        assert sum(use.spent + use.held for key, use in books.use.items() if key[0] == quota) == domain.used(quota)


# ── the document ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_linkage_is_one_limit_in_each_account_it_states() -> None:
    policy = parse_documents([linkage_document(rho="0.5")])
    assert dict(policy.quotas) == {
        QUOTA: Quota(id=QUOTA, metric="epsilon_nano", limit=NANO, namespace=NAMESPACE),
        "namespace-residents-rho": Quota(
            id="namespace-residents-rho", metric="rho_micro", limit=500_000, namespace=NAMESPACE
        ),
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epsilon": None}, "must be stated"),
        ({"epsilon": "0"}, "greater than 0"),
        ({"namespace": "Resident"}, "small letters"),
        ({"linkage": "A"}, "small letters"),
        ({"window": "day"}, "unknown key"),
    ],
)
def test_a_linkage_that_makes_no_sense_is_a_fault(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        parse_documents([linkage_document(**change)])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, False),
        ({"epsilon": "0.5"}, False),
        ({"epsilon": "2"}, True),
        ({"rho": "0.1"}, False),
        ({"epsilon": None, "rho": "0.1"}, True),
        ({"namespace": "company-id"}, True),
    ],
)
def test_more_room_for_the_same_units_loosens(change: dict[str, Any], expected: bool) -> None:
    assert loosens(linkage(), linkage(**change)) is expected


def linkage(**changes: Any) -> Linkage:
    found: Linkage = parse_documents([linkage_document(**changes)]).of(LINKAGE)["residents"]
    return found


def test_a_linkage_that_goes_loosens_and_a_new_one_does_not() -> None:
    assert loosens(linkage(), None)
    assert not loosens(None, linkage())


async def test_a_difference_says_so_for_the_document_and_for_its_limit(domain: Domain) -> None:
    await domain.apply(*SHARED)
    changed = await domain.apply(*DOCUMENTS, OTHER, linkage_document(namespace="company-id"), dry_run=True)
    assert {(c.subject, c.kind, c.loosens) for c in changed.changes} == {
        ("linkage/residents", "changed", True),
        (f"quota/{QUOTA}", "changed", True),
    }
    gone = await domain.apply(*DOCUMENTS, OTHER, dry_run=True)
    assert {(c.subject, c.kind, c.loosens) for c in gone.changes} == {
        ("linkage/residents", "removed", True),
        (f"quota/{QUOTA}", "removed", True),
    }


# ── the account ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_datasets_in_a_namespace_spend_from_one_account_and_others_do_not(domain: Domain) -> None:
    await domain.activate(spending_card(unit_namespace=NAMESPACE), 2)
    await domain.apply(*SHARED)
    await spend(domain, "north")
    await spend(domain, "north", dataset="other")
    assert domain.used(QUOTA) == NANO
    error = await refused(domain, "south", dataset="other")
    assert [hit.quota for hit in error.limits] == [QUOTA]  # type: ignore[attr-defined]
    await domain.pipeline.run(submit())
    check_consistent(domain)


async def test_what_a_lineage_used_before_the_limit_was_set_counts(domain: Domain) -> None:
    await domain.apply(*DOCUMENTS, OTHER)
    await spend(domain, "north", dataset="other")
    await domain.apply(*SHARED)
    assert domain.used(QUOTA) == NANO // 2
    check_consistent(domain)


async def test_what_a_lineage_used_before_it_joined_counts(domain: Domain) -> None:
    await domain.apply(*SHARED)
    await spend(domain, "north")
    assert domain.used(QUOTA) == 0
    await domain.activate(spending_card(unit_namespace=NAMESPACE), 2)
    assert domain.used(QUOTA) == NANO // 2
    await spend(domain, "north", dataset="other")
    await refused(domain, "south")
    check_consistent(domain)


async def test_a_limit_that_goes_and_comes_back_remembers(domain: Domain) -> None:
    await domain.apply(*SHARED)
    await spend(domain, "north", dataset="other")
    await domain.apply(*DOCUMENTS, OTHER)
    await spend(domain, "south", dataset="other")
    await domain.apply(*SHARED)
    assert domain.used(QUOTA) == NANO
    await refused(domain, "west", dataset="other")
    check_consistent(domain)


async def test_old_versions_of_a_lineage_count_as_well(domain: Domain) -> None:
    await domain.activate(spending_card(unit_namespace=NAMESPACE), 2)
    await domain.apply(*SHARED)
    query = by_site(DOLLARS, where=equals("site", "north"), dataset="spending")
    await domain.pipeline.run(submit_dp(replace(query, snapshot=1)))
    assert domain.used(QUOTA) == NANO // 2


async def test_a_later_card_that_names_no_namespace_does_not_leave_it(domain: Domain) -> None:
    await domain.activate(other_card(unit_namespace=""), 2)
    await domain.apply(*SHARED)
    await spend(domain, "north", dataset="other")
    assert domain.used(QUOTA) == NANO // 2


async def test_a_lineage_keeps_its_namespace(domain: Domain) -> None:
    before = domain.kinds()
    with pytest.raises(PublicationError) as caught:
        await domain.activate(other_card(unit_namespace="company-id"), 2)
    assert caught.value.rule == "lineage.namespace"
    assert domain.kinds() == before


async def test_a_lineage_joins_once_and_leaves_one_leaf(domain: Domain) -> None:
    await domain.activate(other_card(), 2)
    (event,) = domain.events("weir.quota.joined")
    assert event["data"] == {"lineage": "other", "namespace": NAMESPACE}


async def test_privacy_that_failed_queries_spent_counts(domain: Domain) -> None:
    await domain.apply(*SHARED)

    def fail(bound: object) -> None:
        raise RuntimeError

    domain.dp.on_execute = fail
    with pytest.raises(RuntimeError):
        await spend(domain, "north", dataset="other")
    domain.dp.on_execute = lambda bound: None
    assert domain.used(QUOTA) == NANO // 2
    check_consistent(domain)


async def test_two_datasets_cannot_overdraw_the_account_by_asking_at_once(domain: Domain) -> None:
    await domain.activate(spending_card(unit_namespace=NAMESPACE), 2)
    await domain.apply(*SHARED)
    asked = [
        spend(domain, site, epsilon=NANO // 5, dataset=dataset)
        for site in ("north", "south", "west", "east")
        for dataset in ("spending", "other")
    ]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(outcome is None for outcome in outcomes) == 5
    assert {type(outcome) for outcome in outcomes if outcome is not None} == {BudgetExhausted}
    assert domain.used(QUOTA) == NANO
    check_consistent(domain)


def test_the_account_alone_is_no_budget_of_the_lineage() -> None:
    shared = Quota(id=QUOTA, metric="epsilon_nano", limit=NANO, namespace=NAMESPACE)
    with pytest.raises(BudgetExhausted) as caught:
        check_budget([shared], "epsilon_nano")
    assert caught.value.rule == "quota.no_budget"
    check_budget([shared, Quota(id="l", metric="epsilon_nano", limit=NANO, lineage="money")], "epsilon_nano")


async def test_an_operator_may_move_the_limit_by_name(domain: Domain) -> None:
    await domain.apply(*SHARED)
    message = quota_to_proto(domain.balance(QUOTA).quota)
    message.limit = 7
    request = quota_service_pb2.SetQuotaRequest(quota=message, reason="test", idempotency_key=domain.new_key())
    await domain.state.set_quota(OLGA, request)
    assert domain.balance(QUOTA).quota == Quota(id=QUOTA, metric="epsilon_nano", limit=7, namespace=NAMESPACE)


@pytest.mark.parametrize("change", [{"window": "day"}, {"lineage": "other"}, {"requester": "alice"}])
async def test_a_limit_of_a_namespace_is_for_life_and_for_everybody(domain: Domain, change: dict[str, Any]) -> None:
    quota = Quota(id="q", metric="epsilon_nano", limit=1, namespace=NAMESPACE, **change)
    with pytest.raises(InvalidRequest) as caught:
        await domain.store.write(
            lambda tx: ledger.set_quota(tx, quota, reason="x", actor="x", now=domain.clock(), entropy=bytes)
        )
    assert caught.value.rule == "quota.namespace"


# ── what estimates show ────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_estimate_shows_the_combined_exposure(domain: Domain) -> None:
    await domain.activate(spending_card(unit_namespace=NAMESPACE), 2)
    await domain.apply(*SHARED)
    await spend(domain, "north", dataset="other", epsilon=NANO // 4)
    found = (await domain.pipeline.estimate(submit_dp())).exposures
    assert [(e.scope, e.name, e.metric, e.limit, e.used, e.adds) for e in found] == [
        ("lineage", "money", "epsilon_nano", 4 * NANO, 0, NANO // 2),
        ("namespace", NAMESPACE, "epsilon_nano", NANO, NANO // 4, NANO // 2),
    ]


async def test_an_answer_that_exists_adds_nothing(domain: Domain) -> None:
    await domain.pipeline.run(submit_dp())
    (found,) = (await domain.pipeline.estimate(submit_dp())).exposures
    assert (found.used, found.adds) == (NANO // 2, 0)


async def test_whom_the_policy_denies_and_who_asks_exactly_learn_of_no_account(domain: Domain) -> None:
    assert not (await domain.pipeline.estimate(submit_dp(purpose="sale"))).exposures
    assert not (await domain.pipeline.estimate(submit())).exposures


# ── fsck ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        ("DELETE FROM namespaces", "fsck.namespace"),
        ("UPDATE namespaces SET namespace = 'x'", "fsck.namespace"),
        ("INSERT INTO namespaces (lineage, namespace) VALUES ('money', 'resident-id')", "fsck.namespace"),
        ("UPDATE quotas SET namespace = '' WHERE namespace <> ''", "fsck.quota"),
    ],
)
async def test_fsck_finds_a_namespace_that_differs_from_the_entries(domain: Domain, damage: str, rule: str) -> None:
    await domain.apply(*SHARED)
    leaves = domain.store.read(lambda tx: [leaf for _, leaf in log.entries(tx)])
    check: Any = lambda tx: [finding.rule for finding in check_books(_rows(tx), leaves)]  # noqa: E731
    assert domain.store.read(check) == []
    await domain.store.write(lambda tx: tx.execute(damage))
    assert rule in domain.store.read(check)


def _rows(tx: Any) -> Rows:
    return tx  # type: ignore[no-any-return]
