# SPDX-License-Identifier: Apache-2.0
"""What a publication does to its lineage's account."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.accounts import answering, concentrated_card, publish_card
from tests.support.domain import DOMAIN, NANO, Domain, open_domain, quota_document, spending_card
from tests.support.ledger import VKEY
from weir.errors import BudgetExhausted, PublicationError
from weir.replay import follow_all
from weir.statement import statement
from weir.v1 import policy_service_pb2
from weir_server import log
from weir_server.catalog.card import DatasetCard
from weir_server.fsck import fsck
from weir_server.identity.holder import NAME
from weir_server.plan.values import Principal
from weir_server.policy.lineage import lineage_quota_id

TENTH = NANO // 10
BOOKED = ["weir.quota.set", "weir.query.reserved", "weir.query.released", "weir.dataset.published"]


def since_start(domain: Domain) -> list[str]:
    return [kind for kind in domain.kinds() if not kind.startswith("weir.log")]


@pytest.mark.parametrize(
    ("card", "quota", "loss"),
    [
        (spending_card(report_epsilon=TENTH), "lineage-money-epsilon", TENTH),
        (concentrated_card(report_epsilon=TENTH), "lineage-money-rho", 5_000),
    ],
    ids=["pure", "concentrated"],
)
async def test_the_report_is_booked_on_the_lineage_with_its_publication(
    tmp_path: Path, card: DatasetCard, quota: str, loss: int
) -> None:
    async with answering(tmp_path, card) as domain:
        assert domain.used(quota) == loss
        assert since_start(domain)[-4:] == BOOKED
        released = domain.events("weir.query.released")[0]["data"]
        assert released["charge"]["epsilon_nano"] == str(TENTH)
        assert released["record"]["purpose"] == "report of a publication"
        assert released["subject"] == {
            "requester": "operator/olga", "contract": "", "dataset": "spending", "lineage": "money"
        }  # fmt: skip
        leaves = domain.store.read(lambda tx: list(log.entries(tx)))
        assert follow_all(leaves).totals["", "operator/olga", "spending", "epsilon_nano"] == TENTH
    assert fsck(tmp_path, vkey=VKEY).ok


async def test_an_operator_s_publication_is_not_the_requester_s_of_the_same_name(tmp_path: Path) -> None:
    """Attack: an operator named alice spends the limits of the requester alice, who reads the salt of the entry."""
    domain = open_domain(tmp_path)
    try:
        await domain.apply(quota_document(metric="epsilon_nano", limit=TENTH // 2))
        published = publish_card(domain, spending_card(report_epsilon=TENTH))
        request = policy_service_pb2.ActivateSnapshotRequest(
            dataset="spending",
            snapshot=1,
            manifest_digest=published.manifest_digest,
            idempotency_key=domain.new_key(),
        )
        await domain.state.activate_snapshot(Principal("alice", "operator", DOMAIN), request)
        assert (domain.used("q-1"), domain.used("lineage-money-epsilon")) == (0, TENTH)
        assert domain.store.read(lambda tx: log.receipts_of(tx, "alice")) == []
        leaves = domain.store.read(lambda tx: list(log.entries(tx)))
        assert statement([leaf for _, leaf in leaves]) == []
        owners = domain.store.read(lambda tx: tx.execute("SELECT requester FROM idempotency"))
        assert not [name for (name,) in owners if NAME.fullmatch(str(name))], "no requester's key can meet it"
    finally:
        domain.store.close()
    assert fsck(tmp_path, vkey=VKEY).findings == ()


async def test_what_was_booked_is_what_the_publisher_shows(tmp_path: Path) -> None:
    domain = open_domain(tmp_path)
    try:
        published = publish_card(domain, spending_card(report_epsilon=TENTH))
        await domain.activate(spending_card(), digest=published.manifest_digest)
        kept = domain.store.read(lambda tx: tx.execute("SELECT answer FROM answers"))
    finally:
        domain.store.close()
    assert [row[0] for row in kept] == [(published.directory / "bounds.json").read_bytes()]
    assert published.report.effects_epsilon_nano == TENTH


async def test_each_version_pays_for_its_own_report(tmp_path: Path) -> None:
    card = spending_card(report_epsilon=TENTH)
    async with answering(tmp_path, card) as domain:
        await domain.activate(card, version=2, digest=publish_card(domain, card, version=2).manifest_digest)
        assert domain.used("lineage-money-epsilon") == 2 * TENTH


async def test_a_lineage_that_cannot_pay_for_the_report_publishes_nothing(tmp_path: Path) -> None:
    card = spending_card(report_epsilon=TENTH, epsilon_lifetime=TENTH)
    async with answering(tmp_path, card) as domain:
        published = publish_card(domain, card, version=2)
        before = domain.kinds()
        with pytest.raises(BudgetExhausted, match=r"has epsilon 0 left, this asks 0\.1"):
            await domain.activate(card, version=2, digest=published.manifest_digest)
        assert domain.kinds() == before
        assert [snapshot.version for snapshot in domain.state.world.catalogue.datasets["spending"]] == [1]


async def test_without_a_loss_for_it_nothing_is_booked(tmp_path: Path) -> None:
    async with answering(tmp_path, spending_card()) as domain:
        assert domain.used("lineage-money-epsilon") == 0
        assert domain.events("weir.query.released") == []


async def test_a_snapshot_without_the_report_that_its_card_pays_for_is_refused(tmp_path: Path) -> None:
    domain = open_domain(tmp_path)
    try:
        with pytest.raises(PublicationError) as refused:
            await domain.activate(spending_card(report_epsilon=TENTH))
    finally:
        domain.store.close()
    assert refused.value.rule == "snapshot.report"


async def test_a_lineage_keeps_one_account(tmp_path: Path) -> None:
    async with answering(tmp_path, spending_card()) as domain:
        with pytest.raises(PublicationError) as refused:
            await domain.activate(replace(concentrated_card(), name="other"))
        assert refused.value.rule == "lineage.accounting"
        assert lineage_quota_id("money", "rho_micro") not in domain.quotas()
