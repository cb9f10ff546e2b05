# SPDX-License-Identifier: Apache-2.0
"""The tutorial contracts: every file is read, they fit each other and their card, and decide as their README says."""

import re
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.support.domain import DOMAIN, NANO, ScoringTechnique, facts_about, submit
from weir_client._sql import parse
from weir_server.catalog.card import DatasetCard, Mode
from weir_server.catalog.card_file import load_card
from weir_server.catalog.catalogue import Catalogue
from weir_server.catalog.snapshot import Snapshot
from weir_server.plan.analyse import analyse
from weir_server.plan.bind import bind
from weir_server.plan.values import EncryptedTerms, Principal
from weir_server.policy.consistency import check_policy
from weir_server.policy.contract import Contract, contract_json
from weir_server.policy.decide import Allow, Decision, Deny, NeedsApproval, decide
from weir_server.policy.documents import Policy, parse_documents

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "contracts"
CASES = ("credit", "health", "statistics")
NOW = datetime(2026, 9, 1, tzinfo=UTC)
WEIGHTS = EncryptedTerms("weights", "sha256:" + "0" * 64, weights=4, weight_bits=20, key_bits=3072)


def policy_of(case: str) -> Policy:
    return parse_documents((FOLDER / case / "policy.yaml").read_text(encoding="utf-8").split("\n---\n"))


def contract_of(case: str) -> Contract:
    (contract,) = policy_of(case).contracts.values()
    return contract


def card_of(case: str) -> DatasetCard:
    return load_card(FOLDER / case / "card.yaml")


def catalogue_of(case: str) -> Catalogue:
    card = card_of(case)
    snapshot = Snapshot(card=card, version=1, published=NOW, directory=FOLDER, manifest_digest="0" * 64, files=())
    return Catalogue(MappingProxyType({card.name: (snapshot,)}))


def asked(case: str, sql: str, *, encrypted: EncryptedTerms | None = None, **facts: Any) -> Decision:
    contract, policy = contract_of(case), policy_of(case)
    asker = Principal(contract.requester, "requester", DOMAIN)
    purpose = facts.pop("purpose", contract.purposes[0])
    epsilon = facts.pop("epsilon", NANO // 4)
    submission = submit(
        parse(sql).query, contract=contract.id, who=asker, epsilon=epsilon, purpose=purpose, encrypted=encrypted
    )
    bound = bind(submission, catalogue_of(case))
    plan = analyse(bound, ScoringTechnique(bound.mode), contract)
    region = policy.parties[f"requester/{contract.requester}"].region
    known = facts_about(plan, now=facts.pop("now", NOW), **({"region": region} | facts))
    return decide(known, contract, policy_digest=policy.digest)


def test_the_folder_holds_the_three_cases_and_nothing_else() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == ["README.md", *CASES]


@pytest.mark.parametrize("case", CASES)
def test_card_and_policy_fit_each_other(case: str) -> None:
    assert check_policy(policy_of(case), catalogue_of(case)) == ()
    assert {party.role for party in policy_of(case).parties.values()} == {"provider", "requester"}


@pytest.mark.parametrize(
    ("case", "sql", "verdict", "codes"),
    [
        ("health", "SELECT age, AVG(cost) FROM hospital_stays GROUP BY age", NeedsApproval, {"contract.approval"}),
        ("health", "SELECT year, COUNT(*) FROM hospital_stays WHERE age >= 65 GROUP BY year", NeedsApproval, None),
        ("credit", "SELECT income, AVG(defaulted) FROM loan_book GROUP BY income", Allow, None),
        ("credit", "SELECT region, AVG(balance) FROM loan_book GROUP BY region", Deny, {"contract.measure"}),
        ("statistics", "SELECT industry, SUM(revenue) FROM enterprise_survey GROUP BY industry", Allow, None),
    ],
)
def test_questions_are_decided_as_the_case_says(
    case: str, sql: str, verdict: type[Decision], codes: set[str] | None
) -> None:
    decision = asked(case, sql)
    assert isinstance(decision, verdict)
    if codes is not None:
        assert not isinstance(decision, Allow)
        assert {reason.code for reason in decision.reasons} == codes


@pytest.mark.parametrize(
    ("case", "changed", "code"),
    [
        ("health", {"purpose": "marketing"}, "contract.purpose"),
        ("health", {"region": "CN-11"}, "contract.region"),
        ("health", {"epsilon": NANO}, "contract.epsilon_per_query"),
        ("credit", {"region": "DE"}, "contract.region"),
        ("credit", {"now": datetime(2027, 4, 1, tzinfo=UTC)}, "contract.expired"),
        ("credit", {"contract_state": "offered"}, "contract.state"),
        ("statistics", {"k": 10}, "contract.k"),
        ("statistics", {"encrypted": WEIGHTS}, "contract.mode"),
    ],
    ids=str,
)
def test_what_is_not_agreed_is_refused(case: str, changed: dict[str, Any], code: str) -> None:
    sql = {
        "health": "SELECT COUNT(*) FROM hospital_stays",
        "credit": "SELECT COUNT(*) FROM loan_book",
        "statistics": "SELECT COUNT(*) FROM enterprise_survey",
    }[case]
    decision = asked(case, sql, **changed)
    assert isinstance(decision, Deny)
    assert [reason.code for reason in decision.reasons] == [code]


def test_two_persons_look_at_each_query_of_the_health_case() -> None:
    decision = asked("health", "SELECT COUNT(*) FROM hospital_stays")
    assert isinstance(decision, NeedsApproval)
    assert decision.persons == 2


def test_the_credit_case_allows_secret_weights() -> None:
    assert isinstance(
        asked("credit", "SELECT region, SUM(defaulted) FROM loan_book GROUP BY region", encrypted=WEIGHTS), Allow
    )
    assert Mode.ENCRYPTED in contract_of("credit").modes


def test_every_term_of_a_contract_is_documented() -> None:
    page = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")
    written = set(re.findall(r"[a-z_]+", page))
    rates = contract_json(contract_of("credit"))["rates"]
    assert isinstance(rates, dict)
    assert sorted(({*contract_json(contract_of("health"))} | set(rates)) - written) == []
