# SPDX-License-Identifier: Apache-2.0
"""The tutorial contracts: cards without a fault, policies that fit them, and questions that end as the files say."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.domain import NANO
from tests.support.tutorial import (
    CASES,
    CERTIFIED_DAYS,
    FOLDER,
    documents,
    questions,
    seed_of,
    tutorial_domain,
    verdict,
)
from weir.agreements import public_key_of
from weir_server.catalog.card_file import load_card
from weir_server.catalog.card_rules import check_card
from weir_server.policy.consistency import check_policy
from weir_server.policy.contract import contract_json
from weir_server.policy.documents import parse_documents

ROOT = FOLDER.parents[1]
NOT_AGREED: dict[str, list[tuple[dict[str, Any], str]]] = {
    "credit": [
        ({"region": "DE"}, "contract.region"),
        ({"now": datetime(2027, 4, 1, tzinfo=UTC)}, "contract.expired"),
        ({"gate_epsilon_nano": NANO // 10}, "recipient.epsilon_per_query"),
    ],
    "health": [
        ({"region": "CN-11"}, "contract.region"),
        ({"contract_state": "accepted"}, "contract.state"),
        ({"functions": ("quantile",)}, "contract.aggregate"),
    ],
    "statistics": [
        ({"k": 10}, "contract.k"),
        ({"terms": "weights"}, "contract.mode"),
        ({"role": "auditor"}, "redline.roles"),
    ],
}
"""For each case, facts under which its first question would not be answered, and the reason."""


def test_the_folder_holds_the_three_cases_and_nothing_else() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == ["README.md", *CASES]
    for case in CASES:
        held = {path.name for path in (FOLDER / case).iterdir()}
        assert held - {"general.yaml"} == {"README.md", "card.yaml", "policy", "questions.sql"}


@pytest.mark.parametrize("case", CASES)
def test_cards_have_no_fault(case: str) -> None:
    assert check_card(load_card(FOLDER / case / "card.yaml")) == []


def test_the_derived_card_lacks_the_report_that_its_own_data_will_give_and_nothing_else() -> None:
    card = load_card(FOLDER / "health" / "general.yaml", to_assess=True)
    assert [found.rule for found in check_card(card)] == ["basis.missing"]


@pytest.mark.parametrize("case", CASES)
def test_keys_in_the_files_are_the_ones_of_which_the_readme_says_that_anybody_can_make_them(case: str) -> None:
    for party in parse_documents(documents(case)).parties.values():
        assert party.signing_keys == (public_key_of(seed_of(party.name)),)


@pytest.mark.parametrize("case", CASES)
async def test_questions_end_as_the_files_say(tmp_path: Path, case: str) -> None:
    asked = questions(case)
    assert 3 <= len(asked) <= 6
    async with tutorial_domain(tmp_path, case) as domain:
        world = domain.state.world
        assert check_policy(world.policy, world.catalogue, now=domain.clock()) == ()
        assert set(world.contract_states.values()) == {"active"}
        for question in asked:
            assert await verdict(domain, question) == question.verdict, question.sql
        for changed, code in NOT_AGREED[case]:
            assert await verdict(domain, asked[0], **changed) == f"refused: {code}", changed
        if case == "credit":
            spent = domain.used("namespace-national-id-epsilon")
            assert spent == domain.used("lineage-loan-book-epsilon")
            assert spent > NANO // 2, "both requesters draw on the account that datasets will share"
        if case == "health":
            *_, exact = asked
            domain.clock.forward(days=CERTIFIED_DAYS)
            assert await verdict(domain, exact) == "refused: grade.technique", "the certificate has lapsed"


def test_every_kind_of_verdict_is_shown() -> None:
    kinds = {re.split(r"[:\d]", question.verdict)[0].strip() for case in CASES for question in questions(case)}
    assert kinds == {"allowed", "allowed by template", "needs approval by", "refused"}


def test_every_term_of_a_contract_is_documented() -> None:
    page = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")
    written = set(re.findall(r"[a-z_]+", page))
    contract = parse_documents(documents("credit")).contracts["bureau-1"]
    terms = contract_json(contract)
    rates = terms["rates"]
    assert isinstance(rates, dict)
    assert sorted(({*terms} | set(rates)) - written) == []


@pytest.mark.parametrize("case", CASES)
def test_a_readme_names_what_its_files_hold(case: str) -> None:
    page = (FOLDER / case / "README.md").read_text(encoding="utf-8")
    policy = parse_documents(documents(case))
    for name in (*policy.contracts, *(contract.requester for contract in policy.contracts.values())):
        assert f"`{name}`" in page
