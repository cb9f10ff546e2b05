# SPDX-License-Identifier: Apache-2.0
"""Collusion against the lifetime budget of a lineage, in either account, and the mutant that would let it through."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import RHO, answering, budget_per_account, concentrated_card, rho_contract
from tests.support.domain import (
    ALICE,
    BOB,
    NANO,
    Domain,
    dp_contract_document,
    spending_card,
    submit_dp,
)
from weir.errors import BudgetExhausted, PolicyDenied, WeirError
from weir.v1 import answer_pb2
from weir_server.catalog.card import DatasetCard
from weir_server.ledger import operations
from weir_server.plan.values import Principal

CAROL = Principal("carol", "requester", ALICE.domain)
PARTIES = ((ALICE, "d-1"), (BOB, "e-1"), (CAROL, "f-1"))
Account = tuple[DatasetCard, list[str], str]


def accounts() -> list[Any]:
    """Per account: a card, three contracts whose shares together pass its budget, and the metric."""
    names = [("d-1", "alice"), ("e-1", "bob"), ("f-1", "carol")]
    pure = [dp_contract_document(contract, requester=who) for contract, who in names]
    rho = [rho_contract(contract, requester=who) for contract, who in names]
    return [
        pytest.param((spending_card(), pure, "epsilon_nano"), id="pure"),
        pytest.param((concentrated_card(), rho, "rho_micro"), id="concentrated"),
    ]


async def spent_together(domain: Domain, metric: str) -> tuple[int, list[WeirError]]:
    """What three requesters lose together, each asking what nobody asked before until refused twice; by the answers
    they hold, not by the books."""
    lost, refusals = 0, []
    for draw in range(4):
        for at, (who, contract) in enumerate(PARTIES):
            try:
                answered = await domain.pipeline.run(
                    submit_dp(epsilon=NANO // 2 - (3 * draw + at) * 10**6, who=who, contract=contract)
                )
            except WeirError as error:
                refusals.append(error)
            else:
                lost += int(getattr(answer_pb2.Answer.FromString(answered.answer), metric))
    return lost, refusals


@pytest.mark.parametrize("account", accounts())
async def test_three_requesters_together_cannot_overspend_their_lineage(tmp_path: Path, account: Account) -> None:
    card, documents, metric = account
    async with answering(tmp_path, card, *documents) as domain:
        lost, refusals = await spent_together(domain, metric)
        used = domain.used(f"lineage-money-{metric.partition('_')[0]}")
    assert 0 < lost <= card.budget_lifetime
    assert used == lost
    assert refusals
    assert all(isinstance(error, BudgetExhausted) for error in refusals)


@pytest.mark.parametrize("account", accounts())
async def test_the_mutant_with_a_budget_per_account_is_caught_twice(
    tmp_path: Path, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, documents, metric = account
    async with answering(tmp_path, card, *documents) as domain:
        budget_per_account(domain, "alice", "bob", "carol")
        # A budget of one requester is none of the lineage's, so nothing is answered at all …
        error = await domain.refused(submit_dp())
        assert (type(error), error.rule) == (BudgetExhausted, "quota.no_budget")
        # … and without that check the coalition's own count shows the overspending.
        monkeypatch.setattr(operations, "check_budget", lambda quotas, metric: None)
        lost, _ = await spent_together(domain, metric)
    assert lost > card.budget_lifetime


async def test_a_concentrated_answer_states_rho_and_delta_and_charges_that_rho(tmp_path: Path) -> None:
    async with answering(tmp_path, concentrated_card(), rho_contract()) as domain:
        estimate = await domain.pipeline.estimate(submit_dp())
        answer = answer_pb2.Answer.FromString((await domain.pipeline.run(submit_dp())).answer)
        assert (answer.epsilon_nano, answer.rho_micro, answer.delta_digits) == (NANO // 2, 2981, 9)
        assert (estimate.epsilon_nano, estimate.rho_micro) == (NANO // 2, 2981)
        assert answer.values[0].noise.distribution == "discrete gaussian"
        for quota in ("lineage-money-rho", "contract-d-1-rho"):
            assert domain.used(quota) == 2981
        assert set(domain.quotas()) == {"lineage-money-rho", "contract-d-1-rho"}
        # Both columns are metered, whichever binds.
        assert (domain.metered("epsilon_nano", "d-1"), domain.metered("rho_micro", "d-1")) == (NANO // 2, 2981)
        again = answer_pb2.Answer.FromString((await domain.pipeline.run(submit_dp())).answer)
        assert again.values[0].numerators == answer.values[0].numerators
        assert domain.used("lineage-money-rho") == 2981


async def test_exhaustion_in_rho_says_what_is_left_before_anything_is_touched(tmp_path: Path) -> None:
    async with answering(tmp_path, concentrated_card(rho_lifetime=3_000), rho_contract()) as domain:
        await domain.pipeline.run(submit_dp())
        before = len(domain.events())
        error = await domain.refused(submit_dp(epsilon=NANO // 4))
        assert isinstance(error, BudgetExhausted)
        assert "lineage-money-rho has rho 0.000019 left, this asks 0.00075" in error.message
        assert [event["type"] for event in domain.events()[before:]] == ["weir.query.refused"]


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (dp_contract_document(), "contract.rho_per_query"),
        (rho_contract(rho=RHO | {"per_query": "0.002"}), "contract.rho_per_query"),
        (
            rho_contract(epsilon={"total": "0.4", "per_query": "0.4"}),
            "contract.epsilon_per_query",
        ),
    ],
    ids=["a share in epsilon alone", "too much rho for one query", "a stated epsilon binds as well"],
)
async def test_a_contract_without_the_share_that_binds_entitles_to_nothing(
    tmp_path: Path, document: str, code: str
) -> None:
    async with answering(tmp_path, concentrated_card(), document) as domain:
        error = await domain.refused(submit_dp())
    assert isinstance(error, PolicyDenied)
    assert [reason.code for reason in error.reasons] == [code]


async def test_a_share_in_rho_alone_buys_nothing_of_a_pure_dataset(tmp_path: Path) -> None:
    async with answering(tmp_path, spending_card(), rho_contract()) as domain:
        error = await domain.refused(submit_dp())
    assert isinstance(error, PolicyDenied)
    assert "contract.epsilon_per_query" in [reason.code for reason in error.reasons]


@pytest.mark.parametrize("account", accounts())
async def test_a_wished_accuracy_is_quoted_as_the_loss_that_is_then_charged(tmp_path: Path, account: Account) -> None:
    card, documents, metric = account
    wish = replace(submit_dp(), epsilon_nano=None, within="30000")  # dollars, on a grid of cents
    async with answering(tmp_path, card, *documents) as domain:
        quoted = await domain.pipeline.estimate(wish)
        answer = answer_pb2.Answer.FromString((await domain.pipeline.run(wish)).answer)
        assert 0 < getattr(quoted, metric) == getattr(answer, metric)
        assert domain.used(f"lineage-money-{metric.partition('_')[0]}") == getattr(quoted, metric)
    assert int(quoted.noise[0].interval95) <= 3_000_000
    assert quoted.noise[0] == answer.values[0].noise


async def test_exhaustion_in_epsilon_says_what_is_left_and_that_much_fits(tmp_path: Path) -> None:
    async with answering(tmp_path, spending_card(epsilon_lifetime=NANO * 7 // 10), dp_contract_document()) as domain:
        await domain.pipeline.run(submit_dp())
        error = await domain.refused(submit_dp(epsilon=NANO // 4))
        assert "lineage-money-epsilon has epsilon 0.2 left, this asks 0.25" in error.message
        await domain.pipeline.run(submit_dp(epsilon=NANO // 5))
