# SPDX-License-Identifier: Apache-2.0
"""Sixty queries, each an approved one with one thing changed: none runs on the approval, and none fits its template
unless the change is a literal that was left free.

Mutants that this kills: leaving any one of query, snapshot, mechanism, mode, purpose, contract, requester, key, owners,
bits, addends or charge out of `analyse._plan_digest` or `template.fixed_of`; dropping operators, kinds or lengths in
`template.blanked`; dropping a ceiling in `template.fits`.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.approvals import approved, standing, waiting
from tests.support.domain import (
    BOB,
    COUNT,
    DOLLARS,
    NANO,
    VISITS,
    Domain,
    census_card,
    contract_document,
    dp_contract_document,
    equals,
    running_domain,
    submit,
    submit_dp,
)
from weir.errors import ApprovalRequired
from weir.query import (
    Aggregate,
    AllOf,
    AnyOf,
    Comparison,
    Function,
    IsNull,
    Literal,
    Membership,
    Negation,
    Operator,
    Predicate,
    Query,
    canonicalise,
)
from weir_server.catalog.card import Mode
from weir_server.plan.values import EncryptedTerms, Submission

WIDE: dict[str, Any] = {
    "approval": "per_query",
    "purposes": ["research", "teaching"],
    "dimensions": ["site", "coast", "age", "adult"],
    "aggregates": ["count", "sum", "avg", "count_units"],
    "seal_to": ["alice", "bob", "carol"],
}
DOCUMENTS = (
    contract_document(**WIDE),
    contract_document("c-2", **WIDE),
    contract_document("b-1", **WIDE, requester="bob"),
    contract_document("n-1", **WIDE, dataset="newcomers"),
    dp_contract_document(**WIDE),
    dp_contract_document("d-2", **WIDE),
)
IN_TWO = Membership("site", (Literal("north"), Literal("south")))
ADULTS = Comparison("age", Operator.GREATER_OR_EQUAL, Literal(18))
KEY = EncryptedTerms(
    "sealed", "sha256:" + "a" * 64, key_bits=2048, key_owners=frozenset({"alice"}), max_addends=2
)  # fmt: skip
WEIGHTS = EncryptedTerms(
    "weights", "sha256:" + "a" * 64, weights=4, weight_bits=16, key_bits=2048, key_owners=frozenset({"alice"})
)


def ask(where: Predicate | None = None, *, groups: tuple[str, ...] = ("site",), **change: object) -> Query:
    base = Query("census", (COUNT, VISITS), groups, AllOf((IN_TWO, ADULTS)) if where is None else where)
    return canonicalise(replace(base, **change))  # type: ignore[arg-type]


def both(site: Predicate = IN_TWO, age: Predicate = ADULTS) -> Query:
    return ask(AllOf((site, age)))


def sites(*names: str) -> Membership:
    return Membership("site", tuple(Literal(name) for name in names))


def aged(operator: Operator, age: int = 18) -> Comparison:
    return Comparison("age", operator, Literal(age))


EXACT = submit(ask(), purpose="research")
LITERALS = {
    "another value of IN": both(site=sites("north", "west")),
    "both values of IN": both(site=sites("west", "east")),
    "another edge": both(age=aged(Operator.GREATER_OR_EQUAL, 65)),
    "edge and value": both(site=sites("south", "east"), age=aged(Operator.GREATER_OR_EQUAL, 0)),
}
"""Changes that a template with site and age free lets pass."""
QUERIES: dict[str, Query] = {
    "a value less": both(site=sites("north")),
    "a value more": both(site=sites("north", "south", "west")),
    "all values": both(site=sites("north", "south", "west", "east")),
    "IN negated": both(site=Negation(IN_TWO)),
    "IN as OR with a third": both(
        site=AnyOf((equals("site", "north"), equals("site", "west"), equals("site", "east")))
    ),
    "less than": both(age=aged(Operator.LESS)),
    "less or equal edge": both(age=aged(Operator.LESS, 65)),
    "unknown ages beside": both(age=AnyOf((ADULTS, IsNull("age")))),
    "null ages": both(age=IsNull("age")),
    "known ages": both(age=IsNull("age", negated=True)),
    "IN on age": both(age=Membership("age", (Literal(18), Literal(65)))),
    "equal age": both(age=aged(Operator.EQUAL)),
    "another age": both(age=aged(Operator.NOT_EQUAL)),
    "coarser column": both(site=equals("coast", "sea")),
    "coarser age": both(age=equals("adult", True)),
    "OR for AND": ask(AnyOf((IN_TWO, ADULTS))),
    "first condition alone": ask(IN_TWO),
    "second condition alone": ask(ADULTS),
    "no condition": canonicalise(Query("census", (COUNT, VISITS), ("site",))),
    "a condition more": ask(AllOf((IN_TWO, ADULTS, equals("coast", "sea")))),
    "a condition twice over": ask(AllOf((IN_TWO, ADULTS, aged(Operator.GREATER_OR_EQUAL, 0)))),
    "an alternative": ask(AnyOf((AllOf((IN_TWO, ADULTS)), equals("site", "east")))),
    "negated": ask(Negation(AllOf((IN_TWO, ADULTS)))),
    "no group": ask(groups=()),
    "another group": ask(groups=("age",)),
    "a group more": ask(groups=("site", "age")),
    "a coarser group": ask(groups=("coast",)),
    "two other groups": ask(groups=("age", "coast")),
    "an aggregate less": ask(aggregates=(COUNT,)),
    "the other aggregate": ask(aggregates=(VISITS,)),
    "an aggregate more": ask(aggregates=(COUNT, VISITS, Aggregate(Function.AVG, "visits"))),
    "another aggregate": ask(aggregates=(COUNT, Aggregate(Function.AVG, "visits"))),
    "units for rows": ask(aggregates=(Aggregate(Function.COUNT_UNITS), VISITS)),
    "another weight": ask(aggregates=(COUNT, replace(VISITS, weight=2))),
    "an older snapshot": ask(snapshot=1),
    **LITERALS,
}
SUBMISSIONS: dict[str, Submission] = {
    **{name: submit(query, purpose="research") for name, query in QUERIES.items()},
    "another dataset": submit(ask(dataset="newcomers"), contract="n-1", purpose="research"),
    "another purpose": submit(ask(), purpose="teaching"),
    "another contract": submit(ask(), contract="c-2", purpose="research"),
    "another requester": submit(ask(), contract="b-1", who=BOB, purpose="research"),
    "sealed": submit(ask(), purpose="research", encrypted=KEY),
    "with secret weights": submit(ask(), purpose="research", encrypted=WEIGHTS),
}
DP = submit_dp(purpose="research")
DP_SUBMISSIONS: dict[str, Submission] = {
    "more loss": submit_dp(epsilon=NANO // 2 + 1, purpose="research"),
    "twice the loss": submit_dp(epsilon=NANO, purpose="research"),
    "dp in another purpose": submit_dp(purpose="teaching"),
    "dp under another contract": submit_dp(purpose="research", contract="d-2"),
    "dp of one number less": submit_dp(
        canonicalise(Query("spending", (COUNT,), ("site",))), purpose="research", mode=Mode.DP
    ),
    "dp with another share": submit_dp(
        canonicalise(Query("spending", (replace(DOLLARS, weight=3),), ("site",))), purpose="research"
    ),
    "dp with a condition": submit_dp(
        canonicalise(Query("spending", (DOLLARS,), ("site",), equals("age", 18))), purpose="research"
    ),
    "dp by another group": submit_dp(canonicalise(Query("spending", (DOLLARS,), ("age",))), purpose="research"),
    "dp in one cell": submit_dp(canonicalise(Query("spending", (DOLLARS,))), purpose="research"),
}
SEALED = submit(ask(), purpose="research", encrypted=KEY)


def sealed(**change: object) -> Submission:
    return submit(ask(), purpose="research", encrypted=replace(KEY, **change))  # type: ignore[arg-type]


SEALED_SUBMISSIONS: dict[str, Submission] = {
    "in the clear": EXACT,
    "another key": sealed(key_id="sha256:" + "b" * 64),
    "another holder": sealed(key_owners=frozenset({"bob"})),
    "a holder more": sealed(key_owners=frozenset({"alice", "carol"})),
    "more addends": sealed(max_addends=3),
}
BLIND = submit(ask(), purpose="research", encrypted=WEIGHTS)


def blind(**change: object) -> Submission:
    return submit(ask(), purpose="research", encrypted=replace(WEIGHTS, **change))  # type: ignore[arg-type]


BLIND_SUBMISSIONS: dict[str, Submission] = {
    "weights under another key": blind(key_id="sha256:" + "b" * 64),
    "larger weights": blind(weight_bits=17),
    "weights with another holder": blind(key_owners=frozenset({"alice", "bob"})),
    "sealed instead of weighed": SEALED,
}


def cases() -> Iterator[tuple[str, Submission, Submission]]:
    for base, variants in (
        (EXACT, SUBMISSIONS),
        (DP, DP_SUBMISSIONS),
        (SEALED, SEALED_SUBMISSIONS),
        (BLIND, BLIND_SUBMISSIONS),
    ):
        for name, variant in variants.items():
            yield name, base, variant


CASES = list(cases())


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    async with running_domain(tmp_path, documents=DOCUMENTS) as running:
        await running.activate(census_card(title="Second"), 2)
        await running.activate(census_card(name="newcomers", lineage="newcomers"))
        yield running


def test_there_are_sixty() -> None:
    assert len({name for name, _, _ in CASES}) == len(CASES) >= 60


async def settle_all(domain: Domain, base: Submission, *, free: tuple[str, ...] = ()) -> list[str]:
    """Names of the variants that run on an approval of `base`, standing with `free` columns or for it alone."""
    terms = {"standing": standing(*free, epsilon_nano=base.epsilon_nano or 0)} if free else {}
    approval = await approved(domain, base, **terms)
    ran = []
    for name, other, variant in CASES:
        if other is not base:
            continue
        try:
            await domain.pipeline.run(replace(variant, idempotency_key=domain.new_key()[:40]))
        except ApprovalRequired as error:
            # Decided at once, since only so many may wait under one contract.
            await domain.settle(error.metadata["approval"], approve=False)
            continue
        ran.append(name)
    assert domain.approval(approval).state == "approved"
    return ran


@pytest.mark.parametrize("base", [EXACT, DP, SEALED, BLIND], ids=["exact", "dp", "sealed", "weights"])
async def test_no_variant_of_an_approved_query_runs_and_the_query_itself_does(domain: Domain, base: Submission) -> None:
    assert await settle_all(domain, base) == []
    assert domain.exact.touches == domain.dp.touches == 0
    await domain.pipeline.run(replace(base, idempotency_key=domain.new_key()[:40]))


@pytest.mark.parametrize("base", [EXACT, SEALED, BLIND], ids=["exact", "sealed", "weights"])
async def test_of_a_template_only_free_literals_may_change(domain: Domain, base: Submission) -> None:
    allowed = set(LITERALS) if base is EXACT else set()
    assert set(await settle_all(domain, base, free=("site", "age"))) == allowed


async def test_a_literal_of_a_column_that_is_not_free_is_fixed(domain: Domain) -> None:
    await approved(domain, EXACT, standing=standing("site"))
    await domain.pipeline.run(submit(LITERALS["both values of IN"], purpose="research"))
    for name in ("another edge", "edge and value"):
        await waiting(domain, submit(LITERALS[name], purpose="research"))


async def test_a_literal_of_another_kind_does_not_fit(domain: Domain) -> None:
    """Kills: blanking a literal to nothing instead of its kind."""
    query = canonicalise(Query("census", (COUNT,), ("site",), equals("adult", True)))
    await approved(domain, submit(query, purpose="research"), standing=standing("adult"))
    await domain.pipeline.run(submit(canonicalise(replace(query, where=equals("adult", False))), purpose="research"))


async def test_operands_in_another_order_are_the_same_template(domain: Domain) -> None:
    """Operands are ordered by their literals in the canonical form, so that other literals may turn them round.

    Kills: blanking without ordering anew.
    """

    def ask_of(unknown: str, known: str) -> Submission:
        first = AllOf((equals("site", unknown), IsNull("age")))
        return submit(ask(AnyOf((first, AllOf((equals("site", known), IsNull("age", negated=True)))))))

    await approved(domain, replace(ask_of("north", "south"), purpose="research"), standing=standing("site"))
    await domain.pipeline.run(replace(ask_of("west", "east"), purpose="research"))
    await waiting(domain, replace(ask_of("west", "west"), purpose="teaching"))


async def test_a_price_limit_of_one_s_own_is_no_part_of_what_is_approved(domain: Domain) -> None:
    await approved(domain, EXACT)
    await domain.pipeline.run(submit(ask(), purpose="research", max_price=10**9))


async def test_nobody_else_uses_an_approval_under_the_same_contract_id(domain: Domain) -> None:
    first = await approved(domain, EXACT)
    await domain.apply(contract_document(**WIDE | {"requester": "bob"}), *DOCUMENTS[1:])
    second = await waiting(domain, submit(ask(), purpose="research", who=BOB))
    assert (domain.approval(first).requester, domain.approval(second).requester) == ("alice", "bob")
