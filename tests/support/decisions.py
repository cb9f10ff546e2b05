# SPDX-License-Identifier: Apache-2.0
"""Decisions of every kind, made by the real pipeline in one store, and ways to falsify what was kept of them."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.domain import (
    ALICE,
    BOB,
    COUNT,
    DOLLARS,
    OLGA,
    OSCAR,
    VISITS,
    Domain,
    census_card,
    contract_document,
    dp_contract_document,
    equals,
    quota_document,
    submit,
)
from weir.canonical import canonical_json
from weir.errors import ApprovalRequired, WeirError
from weir.query import Aggregate, Function, Query, canonicalise
from weir_server.audit.replay_decisions import Replayed, replay
from weir_server.catalog.card import Grade, Mode
from weir_server.plan.values import EncryptedTerms, Submission
from weir_server.store.sqlite import FILE_NAME, read_only

CONTRACTS = (
    contract_document(purposes=["research", "teaching"]),
    contract_document("c-2", approval="per_query"),
    contract_document("c-3", approval="per_query", approvers=2),
    contract_document("c-4", k=50),
    contract_document("c-5", dimensions=["coast"], aggregates=["count"], measures=[]),
    contract_document("c-6", valid_until="2026-06-01T00:00:00+00:00"),
    contract_document("c-7", regions=["CN-31"]),
    contract_document("c-8", signatures="none", dataset="vault"),
    dp_contract_document(epsilon={"total": "3", "per_query": "0.001"}),
    dp_contract_document("d-2", approval="per_query"),
    contract_document("b-1", requester="bob"),
)
PARTIES = ("kind: party\nparty: alice\nrole: requester\norganisation: Alice\nresponsible: Alice\nregion: CN-11\n",)
GATES = "kind: gates\nunassessed: {k: 5, epsilon_per_query: '0.0005', approvers: 1}\n"
_NAMES = ("c-1", "c-2", "c-3", "c-4", "c-5", "c-6", "c-7", "c-8", "d-1", "d-2", "b-1", "none")
_CONDITIONS = (
    None, equals("site", "north"), equals("site", "west"), equals("coast", "sea"), equals("age", 18),
    equals("adult", True),
)  # fmt: skip
_AGGREGATES = ((COUNT,), (COUNT, VISITS), (VISITS,), (Aggregate(Function.AVG, "visits"),))
_KEY = EncryptedTerms("sealed", "sha256:" + "0" * 64, key_bits=2048, key_owners=frozenset({"bob"}))


async def prepare(domain: Domain) -> None:
    """A dataset that nobody may ask, and contracts that refuse and ask for persons in every way."""
    await domain.activate(census_card(name="vault", grade=Grade.CORE, lineage="vault", measures=()))
    await domain.apply(*CONTRACTS, *PARTIES, quota_document(contract="c-1", requester="alice", limit=3))


async def decide_many(domain: Domain, count: int, *, seed: int) -> None:
    """Ask `count` questions of every kind; persons approve and reject some, and the policy changes on the way."""
    chance = random.Random(seed)
    for number in range(0, count, 10):
        if number == count // 2:
            await domain.apply(*CONTRACTS, *PARTIES, GATES)
        asked = [_submission(chance) for _ in range(10)]
        outcomes = await asyncio.gather(*(_outcome(domain, submission) for submission in asked))
        for submission, outcome in zip(asked, outcomes, strict=True):
            if isinstance(outcome, ApprovalRequired) and chance.random() < 0.7:
                await _decide(domain, outcome.metadata["approval"], approve=chance.random() < 0.8)
                await _outcome(domain, submission)
        domain.clock.forward(minutes=1)


def _submission(chance: random.Random) -> Submission:
    contract = chance.choice(_NAMES)
    groups = tuple(name for name in ("site", "coast", "age") if chance.random() < 0.4)
    dp = contract.startswith("d")
    dataset = "spending" if dp else "vault" if contract == "c-8" else "census"
    aggregates = (COUNT, DOLLARS) if dp else (COUNT,) if contract == "c-8" else chance.choice(_AGGREGATES)
    query = canonicalise(Query(dataset, aggregates, groups, chance.choice(_CONDITIONS)))
    plain = all(aggregate.function is not Function.AVG for aggregate in aggregates)
    return submit(
        query,
        contract=contract,
        who=chance.choice((ALICE, ALICE, ALICE, BOB)) if contract == "b-1" else ALICE,
        epsilon=chance.choice((1, 400_000, 1_000_000, 2_000_000, 5_000_000)) if dp else None,
        mode=Mode.DP if dp else None,
        purpose=chance.choice(("", "research", "teaching", "sale")),
        max_price=chance.choice((None, None, None, 0, 10**7)),
        encrypted=_KEY if plain and chance.random() < 0.1 else None,
    )


async def _outcome(domain: Domain, submission: Submission) -> WeirError | None:
    try:
        await domain.pipeline.run(submission)
    except WeirError as error:
        return error
    return None


async def _decide(domain: Domain, approval: str, *, approve: bool) -> None:
    known = domain.approval(approval)
    if known.state != "waiting":  # Two of the same questions wait for one approval.
        return
    for who in (OLGA, OSCAR)[: known.approvers if approve else 1]:
        await domain.settle(approval, approve=approve, who=who)


def replayed(directory: Path, **bounds: Any) -> Replayed:
    """Replay of a store that may be open."""
    with read_only(directory) as tx:
        return replay(tx, **bounds)


def falsify(directory: Path, sql: str, *parameters: Any) -> int:
    """Change the store behind everybody's back; gives how many rows."""
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection, connection:
        return connection.execute(sql, parameters).rowcount


def change_leaf(
    directory: Path, index: int, change: Callable[[dict[str, Any]], object], *, time: str | None = None
) -> None:
    """Rewrite what a leaf says, and when."""
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection, connection:
        (leaf,) = connection.execute("SELECT leaf FROM log_leaves WHERE idx = ?", (index,)).fetchone()
        event = json.loads(leaf)
        change(event["data"])
        event["time"] = time or event["time"]
        connection.execute("UPDATE log_leaves SET leaf = ? WHERE idx = ?", (canonical_json(event), index))


def approved_by(directory: Path, approval: str) -> list[tuple[int, str]]:
    """Leaf and person of every act that approves."""
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        rows = connection.execute("SELECT idx, leaf FROM log_leaves WHERE type = 'weir.approval.approved' ORDER BY idx")
        events = [(index, json.loads(leaf)) for index, leaf in rows.fetchall()]
    return [(index, event["data"]["actor"]) for index, event in events if event["subject"] == f"approval/{approval}"]


def leaves_of(directory: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Index and data of every leaf that a decision made."""
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        rows = connection.execute("SELECT idx, leaf FROM log_leaves JOIN decisions ON idx = leaf_index ORDER BY idx")
        for index, leaf in rows.fetchall():
            yield index, json.loads(leaf)["data"]
