# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from typing import Any

import pytest

from tests.support.bound import catalogue
from tests.support.domain import (
    BOB,
    COUNT,
    NANO,
    VISITS,
    ScoringTechnique,
    by_site,
    contract_document,
    dp_contract_document,
    equals,
    spending_card,
    submit,
    submit_dp,
)
from weir.errors import InvalidQuery
from weir.query import Aggregate, AllOf, AnyOf, Function, Membership, Negation, Predicate, Query, canonicalise
from weir.query import Literal as L
from weir_server.catalog.card import Mode
from weir_server.plan.analyse import analyse, without_loss
from weir_server.plan.bind import bind
from weir_server.plan.values import EncryptedTerms, Plan, Submission
from weir_server.policy.contract import Contract, Rates
from weir_server.policy.documents import parse_documents

TECHNIQUES = {mode: ScoringTechnique(mode) for mode in (Mode.EXACT, Mode.DP)}
WEIGHTS = EncryptedTerms("weights", "sha256:" + "0" * 64, weights=4, weight_bits=20, key_bits=2048)
SEALED = EncryptedTerms("sealed", "sha256:" + "0" * 64, max_addends=3, key_bits=2048)


def contract(document: str | None = None) -> Contract:
    return next(iter(parse_documents([document or contract_document()]).contracts.values()))


def plan(submission: Submission, under: Contract | None = None, **cards: Any) -> Plan:
    bound = bind(submission, cards.get("catalogue") or catalogue())
    return analyse(bound, TECHNIQUES[bound.mode], under or contract())


def test_equal_plans_have_equal_digests_and_release_keys() -> None:
    first, second = plan(submit(key="a")), plan(submit(key="b"))
    assert (first.digest, first.release_key) == (second.digest, second.release_key)


SITE = equals("site", "north")
AGE = equals("age", 18)
REWRITINGS: list[Predicate] = [
    AllOf((SITE, AGE)),
    AllOf((AGE, SITE)),
    AllOf((SITE, AllOf((AGE, SITE)))),
    Negation(AnyOf((Negation(SITE), Negation(AGE)))),
    AllOf((Membership("site", (L("north"), L("north"))), AGE)),
    Negation(Negation(AllOf((SITE, AGE)))),
]


def test_rewritings_share_one_release_key() -> None:
    queries = [Query("census", (COUNT, VISITS), ("site", "age"), where) for where in REWRITINGS]
    queries += [
        Query("census", (VISITS, COUNT, COUNT), ("age", "site", "age"), REWRITINGS[0], 0),
        Query("census", (VISITS, COUNT), ("age", "site"), REWRITINGS[0], 1),
    ]
    assert len({plan(submit(canonicalise(query))).release_key for query in queries}) == 1


def test_who_asks_under_which_contract_and_why_does_not_change_the_release() -> None:
    other = contract(contract_document("b-1", requester="bob", rates={"per_query": "9"}))
    first, second = plan(submit()), plan(submit(who=BOB, contract="b-1", purpose="research"), other)
    assert first.release_key == second.release_key
    assert first.digest != second.digest


@pytest.mark.parametrize(
    "other",
    [
        submit_dp(epsilon=NANO // 2 + 1),
        submit_dp(by_site(Aggregate(Function.AVG, "dollars"), dataset="spending")),
        submit_dp(by_site(Aggregate(Function.SUM, "dollars", weight=2), dataset="spending")),
        submit_dp(canonicalise(Query("spending", (Aggregate(Function.SUM, "dollars"),), ("coast",)))),
        submit_dp(by_site(Aggregate(Function.SUM, "dollars"), dataset="spending", where=SITE)),
    ],
    ids=["epsilon", "aggregate", "weight", "groups", "filter"],
)
def test_what_could_release_differently_has_another_release_key(other: Submission) -> None:
    assert plan(other).release_key != plan(submit_dp()).release_key


def test_another_snapshot_is_another_release() -> None:
    newer = catalogue().with_snapshot(replace(catalogue().resolve("census", 1), version=2, manifest_digest="f" * 64))
    assert plan(submit(), catalogue=newer).release_key != plan(submit()).release_key
    pinned = submit(replace(by_site(), snapshot=1))
    assert plan(pinned, catalogue=newer).release_key == plan(submit()).release_key


VARIANTS: dict[str, Submission] = {
    "requester": submit(who=BOB),
    "purpose": submit(purpose="other"),
    "contract": submit(contract="c-2"),
    "weights": submit(encrypted=WEIGHTS),
    "sealed": submit(encrypted=SEALED),
    "key": submit(encrypted=replace(WEIGHTS, key_id="sha256:" + "1" * 64)),
    "bits": submit(encrypted=replace(WEIGHTS, weight_bits=21)),
    "addends": submit(encrypted=replace(SEALED, max_addends=4)),
}


def test_everything_an_approval_is_bound_to_changes_the_digest() -> None:
    digests = {
        plan(variant, replace(contract(), id=variant.contract)).digest for variant in [submit(), *VARIANTS.values()]
    }
    assert len(digests) == len(VARIANTS) + 1


def test_another_price_is_another_plan() -> None:
    dearer = replace(contract(), rates=Rates(per_query_micro=600_000))
    assert plan(submit(), dearer).digest != plan(submit()).digest


RATES = Rates(
    per_query_micro=7, per_cell_micro=3, per_epsilon_micro=1_000_000_001, per_encrypted_operation_micro=5
)  # fmt: skip


def test_a_price_adds_up_from_the_rate_card_and_rounds_epsilon_up() -> None:
    under = replace(contract(dp_contract_document()), rates=RATES)
    charge = plan(submit_dp(epsilon=1), under).charge
    assert charge["price_micro"] == 7 + 3 * 4 + 2
    assert plan(submit_dp(epsilon=NANO), under).charge["price_micro"] == 7 + 3 * 4 + 1_000_000_001
    assert (charge["queries"], charge["cells"], charge["epsilon_nano"]) == (1, 4, 1)


def test_a_release_that_exists_is_priced_without_its_loss() -> None:
    under = replace(contract(dp_contract_document()), rates=RATES)
    first = plan(submit_dp(epsilon=1), under)
    again = without_loss(first, RATES)
    assert (again["epsilon_nano"], again["rho_micro"], again["price_micro"]) == (0, 0, 7 + 3 * 4)
    assert again["cells"] == first.charge["cells"]


def test_secret_weights_are_metered_as_the_whole_table_that_packed_ones_could_read() -> None:
    under = replace(contract(), rates=RATES)
    charge = plan(submit(by_site(COUNT, VISITS), encrypted=WEIGHTS), under).charge
    assert (charge["cells"], charge["encrypted_operations"], charge["bytes"]) == (8, 8, (4 + 2) * 512)
    assert charge["price_micro"] == 7 + 3 * 8 + 5 * 8


def test_a_sealed_release_is_metered_as_the_whole_table_and_the_ciphertexts_it_packs_into() -> None:
    charge = plan(submit(by_site(COUNT, VISITS), encrypted=SEALED)).charge
    assert (charge["cells"], charge["encrypted_operations"], charge["bytes"]) == (8, 1, 512)


def test_secret_weights_lose_the_whole_tables_privacy() -> None:
    asked = submit_dp(encrypted=WEIGHTS)
    assert plan(asked).charge["epsilon_nano"] == plan(submit_dp()).charge["epsilon_nano"] == NANO // 2


def test_columns_that_are_no_integers_are_not_encrypted() -> None:
    query = by_site(Aggregate(Function.AVG, "visits"), COUNT)
    with pytest.raises(InvalidQuery) as caught:
        plan(submit(query, encrypted=WEIGHTS))
    assert caught.value.rule == "encrypted.integer"
    assert "avg(visits)" in caught.value.message
    assert plan(submit(query)).charge["cells"] == 8


def test_a_dp_query_without_a_loss_is_no_plan() -> None:
    with pytest.raises(InvalidQuery):
        plan(submit(by_site(Aggregate(Function.SUM, "dollars"), dataset=spending_card().name)))
