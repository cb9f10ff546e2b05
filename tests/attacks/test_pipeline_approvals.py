# SPDX-License-Identifier: Apache-2.0
"""Variants of an approved query: nothing but the very query that a person saw may run on their word."""

from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import pytest

from tests.support.domain import (
    COUNT,
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
from weir.query import Aggregate, AllOf, AnyOf, Function, IsNull, Negation, Predicate, Query, canonicalise
from weir_server.plan.values import Submission

PURPOSES = ["research", "teaching"]
WATCHED = (
    contract_document(
        approval="per_query",
        purposes=PURPOSES,
        dimensions=["site", "coast", "age", "adult"],
        aggregates=["count", "sum", "avg", "count_units"],
    ),
    dp_contract_document(approval="per_query", purposes=PURPOSES),
)
AVG = Aggregate(Function.AVG, "visits")
SITE = equals("site", "north")
APPROVED = canonicalise(Query("census", (COUNT, VISITS), ("site",), SITE))
GROUPS: tuple[tuple[str, ...], ...] = (("site",), (), ("age",), ("site", "age"), ("coast",))
WHERES: tuple[Predicate | None, ...] = (
    SITE,
    None,
    equals("site", "south"),
    Negation(SITE),
    AllOf((SITE, IsNull("age"))),
    AnyOf((SITE, equals("age", 0))),
)
AGGREGATES = ((COUNT, VISITS), (COUNT,), (COUNT, VISITS, AVG))


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    async with running_domain(tmp_path, documents=WATCHED) as running:
        yield running


def variants() -> list[Submission]:
    queries = [
        canonicalise(Query("census", aggregates, groups, where))
        for aggregates, groups, where in product(AGGREGATES, GROUPS, WHERES)
    ]
    plain = [submit(query, purpose="research") for query in queries if query != APPROVED]
    return [*plain, submit(APPROVED, purpose="teaching")]


async def approve(domain: Domain, submission: Submission) -> None:
    error = await domain.refused(submission)
    assert isinstance(error, ApprovalRequired)
    await domain.settle(error.metadata["approval"])


async def test_no_variant_of_an_approved_query_runs(domain: Domain) -> None:
    await approve(domain, submit(APPROVED, purpose="research"))
    tried = variants()
    assert len(tried) >= 60
    for variant in tried:
        waiting = await domain.refused(variant)
        assert isinstance(waiting, ApprovalRequired)
        # Decided at once, since only so many may wait under one contract.
        await domain.settle(waiting.metadata["approval"], approve=False)
    assert domain.exact.touches == 0


async def test_rewritings_of_the_approved_query_are_that_query(domain: Domain) -> None:
    await approve(domain, submit(APPROVED, purpose="research"))
    rewritten = canonicalise(Query("census", (VISITS, COUNT, VISITS), ("site", "site"), AllOf((SITE, SITE))))
    await domain.pipeline.run(submit(rewritten, purpose="research"))
    assert domain.exact.touches == 1


async def test_an_approved_loss_is_neither_raised_nor_split(domain: Domain) -> None:
    await approve(domain, submit_dp(purpose="research"))
    for epsilon in (1, NANO // 4, NANO // 2 - 1, NANO // 2 + 1, NANO):
        assert isinstance(await domain.refused(submit_dp(epsilon=epsilon, purpose="research")), ApprovalRequired)
    assert domain.dp.touches == 0


async def test_an_approval_does_not_carry_over_to_a_newer_snapshot(domain: Domain) -> None:
    await approve(domain, submit(APPROVED, purpose="research"))
    await domain.activate(census_card(title="Second"), 2)
    assert isinstance(await domain.refused(submit(APPROVED, purpose="research")), ApprovalRequired)
    pinned = canonicalise(Query("census", (COUNT, VISITS), ("site",), SITE, snapshot=1))
    await domain.pipeline.run(submit(pinned, purpose="research"))
