# SPDX-License-Identifier: Apache-2.0
"""A data domain in one process: a real ledger, real State and Pipeline, two small datasets, and techniques that are
real in all but their data: they keep score of every touch and every draw of noise."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from tests.support.ledger import SIGNER, VKEY, Clock, open_store
from weir.canonical import canonical_json
from weir.errors import InvalidQuery, WeirError
from weir.query import Aggregate, Comparison, Function, Literal, Operator, Predicate, Query, canonicalise
from weir.receipts import VerifiedReceipt, parse_event, verify_receipt
from weir.v1 import answer_pb2, policy_service_pb2, query_pb2, receipt_pb2
from weir_server import ledger, log
from weir_server.catalog.card import Cell, DatasetCard, Dimension, Grade, Measure, Mode, Source
from weir_server.catalog.catalogue import Catalogue
from weir_server.catalog.codec import card_to_json
from weir_server.ledger import Balance
from weir_server.log.receipts import Receipts
from weir_server.pipeline import Answered, Pipeline
from weir_server.plan.values import (
    Analysis,
    BoundQuery,
    EncryptedTerms,
    Loss,
    Plan,
    Principal,
    Raw,
    Submission,
    Technique,
    open_raw,
)
from weir_server.policy import approvals
from weir_server.policy.approvals import Approval
from weir_server.policy.documents import Policy
from weir_server.policy.facts import Facts, facts_of
from weir_server.state import State, snapshot_directory
from weir_server.store import Store
from weir_server.world import World

SCOPES = {
    "requester": policy_service_pb2.SUSPENSION_SCOPE_REQUESTER,
    "contract": policy_service_pb2.SUSPENSION_SCOPE_CONTRACT,
    "dataset": policy_service_pb2.SUSPENSION_SCOPE_DATASET,
    "all": policy_service_pb2.SUSPENSION_SCOPE_ALL,
    "blacklist": policy_service_pb2.SUSPENSION_SCOPE_BLACKLIST,
}
DOMAIN = "weir.test"
ALICE, BOB = Principal("alice", "requester", DOMAIN), Principal("bob", "requester", DOMAIN)
OLGA, OSCAR = Principal("olga", "operator", DOMAIN), Principal("oscar", "operator", DOMAIN)
NANO = 10**9
COUNT = Aggregate(Function.COUNT)
VISITS = Aggregate(Function.SUM, "visits")
DOLLARS = Aggregate(Function.SUM, "dollars")
COUNT_CELLS = (7, 11, 13, 17)
"""What the techniques of this module find in the four cells of `site`."""

_SITE = Dimension("site", "Site", "text", tuple(Cell(v, v) for v in ("north", "south", "west", "east")), "site")
_COAST = Dimension(
    "coast", "Coast", "text", (Cell("inland", "inland"), Cell("sea", "sea")), coarsens="site", mapping=(0, 0, 1, 1)
)
_AGE = Dimension(
    "age", "Age", "integer", (Cell(0, "0-17"), Cell(18, "18-64"), Cell(65, "65+"), Cell(None, "unknown")), "age",
    edges=(0, 18, 65, 120),
)  # fmt: skip
_ADULT = Dimension(
    "adult", "Adult", "boolean", (Cell(False, "no"), Cell(True, "yes"), Cell(None, "unknown")),
    coarsens="age", mapping=(0, 1, 1, 2),
)  # fmt: skip
DIMENSIONS = (_SITE, _COAST, _AGE, _ADULT)


def census_card(**changes: Any) -> DatasetCard:
    """GENERAL, answered exactly."""
    visits = Measure("visits", "Visits", "", "visits", Mode.EXACT, 0, 0, 100)
    card = DatasetCard(
        name="census",
        title="Census",
        description="",
        grade=Grade.GENERAL,
        grading_scheme="GB/T 43697-2024",
        personal_information=False,
        legal_basis="",
        responsible="tests",
        provenance="made up",
        lineage="people",
        unit_name="person",
        unit_column="person",
        source=Source("csv", "none.csv"),
        dimensions=DIMENSIONS,
        measures=(visits,),
    )
    return replace(card, **changes)


def spending_card(**changes: Any) -> DatasetCard:
    """IMPORTANT, answered with dp; lifetime budget of epsilon 4."""
    dollars = Measure(
        "dollars", "Dollars", "USD", "dollars", Mode.DP, 2, 0, 100_000,
        statistics=frozenset({Function.SUM, Function.AVG}),
    )  # fmt: skip
    values: dict[str, Any] = {
        "name": "spending",
        "title": "Spending",
        "grade": Grade.IMPORTANT,
        "measures": (dollars,),
        "lineage": "money",
        "epsilon_lifetime": 4 * NANO,
    }
    return census_card(**(values | changes))


def contract_document(contract: str = "c-1", **changes: Any) -> str:
    """A contract of Alice for the census, as an operator writes it."""
    content: dict[str, Any] = {
        "kind": "contract",
        "contract": contract,
        "title": "Visits by site",
        "provider": "hospital",
        "signatures": "none",
        "requester": "alice",
        "dataset": "census",
        "purposes": ["research"],
        "modes": ["exact", "encrypted"],
        "dimensions": ["site", "age", "coast"],
        "measures": ["visits"],
        "aggregates": ["count", "sum", "avg"],
        "seal_to": ["alice", "bob"],
        "valid_from": "2026-01-01T00:00:00+00:00",
        "valid_until": "2027-01-01T00:00:00+00:00",
        "rates": {"per_query": "0.5", "per_cell": "0.01", "per_encrypted_operation": "0.001"},
    }
    content |= changes
    return yaml.safe_dump({key: value for key, value in content.items() if value is not None}, allow_unicode=True)


def facts_about(plan: Plan, *, now: datetime, **changes: Any) -> Facts:
    """Facts of a plan where every contract is active and nothing else is known of the requester."""
    states = {plan.bound.submission.contract: "active"}
    return replace(
        facts_of(plan, World(Catalogue(), Policy(), frozenset(), contract_states=states), now=now), **changes
    )


def dp_contract_document(contract: str = "d-1", **changes: Any) -> str:
    """A contract of Alice for the spending dataset: epsilon 2 in all, 1 a query."""
    values: dict[str, Any] = {
        "dataset": "spending",
        "modes": ["dp", "encrypted"],
        "measures": ["dollars"],
        "epsilon": {"total": "2", "per_query": "1"},
        "rates": {"per_query": "0.5", "per_epsilon": "10"},
    }
    return contract_document(contract, **(values | changes))


def quota_document(quota: str = "q-1", **changes: Any) -> str:
    """Five queries of Alice in her life."""
    content: dict[str, Any] = {"kind": "quota", "quota": quota, "metric": "queries", "requester": "alice", "limit": 5}
    return yaml.safe_dump(content | changes)


DOCUMENTS = (
    contract_document(),
    contract_document("b-1", requester="bob"),
    dp_contract_document(),
    dp_contract_document("e-1", requester="bob"),
)


class ScoringTechnique:
    """A technique over four made-up numbers that counts touches and draws, in one mode."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.found: tuple[int, ...] = COUNT_CELLS
        self.touches = 0
        self.draws = 0
        self.analyses = 0
        self.on_execute: Callable[[BoundQuery], None] = lambda bound: None
        self.on_release: Callable[[BoundQuery], None] = lambda bound: None

    def analyse(self, bound: BoundQuery) -> Analysis:
        self.analyses += 1
        epsilon = bound.submission.epsilon_nano or 0
        if self.mode is Mode.DP and epsilon == 0:
            raise InvalidQuery("state epsilon", field="epsilon_nano", rule="dp.loss")
        loss = Loss(epsilon_nano=epsilon if self.mode is Mode.DP else 0)
        return Analysis(
            mechanism={"technique": "test", "name": f"test {self.mode.value}", "epsilon_nano": str(loss.epsilon_nano)},
            loss=loss,
            columns=tuple(answer_pb2.ValueColumn(name=aggregate.name) for aggregate, _ in bound.aggregates),
            magnitudes=tuple(0 if a.function is Function.AVG else 10**6 for a, _ in bound.aggregates),
            work=bound.cells,
            body=None,
        )

    def execute(self, bound: BoundQuery, analysis: Analysis) -> Raw:
        self.touches += 1
        self.on_execute(bound)
        return Raw([self.found[at % len(self.found)] for at in range(bound.cells)])

    def release(self, bound: BoundQuery, analysis: Analysis, raw: Raw) -> answer_pb2.Answer:
        numbers = open_raw(raw)
        assert isinstance(numbers, list)
        if self.mode is Mode.DP:
            self.draws += 1
            numbers = [number + secrets.randbelow(1000) for number in numbers]
        self.on_release(bound)
        answer = answer_pb2.Answer(keys=_keys(bound))
        for column in analysis.columns:
            filled = answer.values.add()
            filled.CopyFrom(column)
            filled.numerators.extend(str(number) for number in numbers)
        return answer


def _keys(bound: BoundQuery) -> list[answer_pb2.KeyColumn]:
    rows = list(product(*(dimension.cells for dimension in bound.groups)))
    return [
        answer_pb2.KeyColumn(name=d.name, cells=[query_pb2.Literal(text=str(row[at].value)) for row in rows])
        for at, d in enumerate(bound.groups)
    ]


def write_snapshot(data_dir: Path, card: DatasetCard, version: int = 1, *, content: bytes = b"atoms") -> str:
    """A sealed snapshot directory as `publish` leaves it; gives the manifest's digest."""
    directory = snapshot_directory(data_dir, card.name, version)
    directory.mkdir(parents=True)
    (directory / "atoms.bin").write_bytes(content)
    manifest = canonical_json({
        "card": card_to_json(card),
        "version": version,
        "published": datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
        "files": {"atoms.bin": hashlib.sha256(content).hexdigest()},
        **_basis(card),
    })  # fmt: skip
    (directory / "manifest.json").write_bytes(manifest)
    return hashlib.sha256(manifest).hexdigest()


def _basis(card: DatasetCard) -> dict[str, Any]:
    if card.anonymisation is None:
        return {}
    return {"basis": {"kind": "anonymisation", "digest": card.anonymisation.report, "level": 3}}


def by_site(*aggregates: Aggregate, where: Predicate | None = None, dataset: str = "census") -> Query:
    """Aggregates (a count unless named) by site."""
    return canonicalise(Query(dataset, aggregates or (COUNT,), ("site",), where))


def equals(column: str, value: bool | int | str) -> Comparison:
    """`column = value`."""
    return Comparison(column, Operator.EQUAL, Literal(value))


def submit(
    query: Query | None = None,
    *,
    contract: str = "c-1",
    who: Principal = ALICE,
    key: str | None = None,
    epsilon: int | None = None,
    mode: Mode | None = None,
    purpose: str = "",
    max_price: int | None = None,
    encrypted: EncryptedTerms | None = None,
) -> Submission:
    """A decoded request; equal arguments have equal digests, whatever the key."""
    asked = by_site() if query is None else query
    parts = (asked, contract, purpose, mode, epsilon, max_price, encrypted)
    return Submission(
        principal=who,
        query=asked,
        contract=contract,
        purpose=purpose,
        mode=mode,
        epsilon_nano=epsilon,
        within=None,
        max_price_micro=max_price,
        idempotency_key=key or secrets.token_hex(12),
        request_digest=hashlib.sha256(repr(parts).encode()).hexdigest(),
        encrypted=encrypted,
    )


def submit_dp(
    query: Query | None = None, *, epsilon: int = NANO // 2, contract: str = "d-1", **more: Any
) -> Submission:
    """A dp request for dollars by site at epsilon 0.5."""
    asked = by_site(DOLLARS, dataset="spending") if query is None else query
    return submit(asked, contract=contract, epsilon=epsilon, **more)


@dataclass(slots=True)
class Domain:
    """An open domain."""

    directory: Path
    store: Store
    clock: Clock
    state: State
    pipeline: Pipeline
    exact: ScoringTechnique
    dp: ScoringTechnique
    operations: int = field(default=0)

    async def apply(
        self, *documents: str, dry_run: bool = False, **fields: Any
    ) -> policy_service_pb2.ApplyPolicyResponse:
        """Apply policy documents as Olga."""
        fields = {"idempotency_key": self.new_key()} | fields
        request = policy_service_pb2.ApplyPolicyRequest(documents=documents, dry_run=dry_run, **fields)
        return await self.state.apply_policy(OLGA, request)

    async def activate(self, card: DatasetCard, version: int = 1, *, digest: str | None = None, key: str = "") -> int:
        """Write (unless a digest is given) and activate a snapshot as Olga; the index of its leaf."""
        request = policy_service_pb2.ActivateSnapshotRequest(
            dataset=card.name,
            snapshot=version,
            manifest_digest=digest or write_snapshot(self.directory, card, version),
            idempotency_key=key or self.new_key(),
        )
        return int((await self.state.activate_snapshot(OLGA, request)).leaf_index)

    async def suspend(self, scope: str, name: str = "", *, suspended: bool = True) -> None:
        """Stop or resume as Olga."""
        await self.state.set_suspension(
            OLGA,
            policy_service_pb2.SetSuspensionRequest(
                scope=SCOPES[scope],
                name=name,
                suspended=suspended,
                reason="test",
                idempotency_key=self.new_key(),
            ),
        )

    async def settle(
        self, approval: str, *, approve: bool = True, who: Principal = OLGA, **fields: Any
    ) -> policy_service_pb2.DecideApprovalResponse:
        """Approve or reject; `fields` of the request beside."""
        request = policy_service_pb2.DecideApprovalRequest(
            approval=approval, approve=approve, reason="test", idempotency_key=self.new_key(), **fields
        )
        return await self.state.decide_approval(who, request)

    def approval(self, approval: str) -> Approval:
        """One approval as it stands."""
        return self.store.read(lambda tx: approvals.get(tx, approval))

    async def refused(self, submission: Submission) -> WeirError:
        """The error of a submission that must fail."""
        try:
            await self.pipeline.run(submission)
        except WeirError as error:
            return error
        raise AssertionError("the submission was answered")

    def new_key(self) -> str:
        """A fresh idempotency key."""
        self.operations += 1
        return f"operation-{self.operations:08d}-{secrets.token_hex(4)}"

    def balance(self, quota: str) -> Balance:
        """How a limit stands."""
        known = self.store.read(lambda tx: ledger.list_quotas(tx, now=self.clock()))
        return next(balance for balance in known if balance.quota.id == quota)

    def quotas(self) -> dict[str, int]:
        """Every limit in force."""
        known = self.store.read(lambda tx: ledger.list_quotas(tx, now=self.clock()))
        return {balance.quota.id: balance.quota.limit for balance in known}

    def used(self, quota: str) -> int:
        """Spent and held of a limit."""
        return self.balance(quota).used

    def metered(self, metric: str, contract: str) -> int:
        """Lifetime total of a metric under a contract."""
        totals = self.store.read(lambda tx: ledger.meter_totals(tx, contract=contract))
        return sum(total.used for total in totals if total.metric == metric)

    def events(self, *types: str) -> list[dict[str, Any]]:
        """Events of the log, in order; of these types, or all."""
        entries = self.store.read(lambda tx: [leaf for _, leaf in log.entries(tx)])
        events: list[dict[str, Any]] = [parse_event(leaf) for leaf in entries]
        return [event for event in events if not types or event["type"] in types]

    def kinds(self, *, since: int = 0) -> list[str]:
        """Types of the log's events from an index on."""
        return [str(event["type"]) for event in self.events()[since:]]


def open_domain(
    directory: Path, *, clock: Clock | None = None, techniques: Mapping[Mode, Technique] | None = None
) -> Domain:
    """Open the domain of a directory, new or not; whoever calls it closes `store`. `techniques` replace the scoring
    ones."""
    now = clock or Clock()
    store = open_store(directory, seal=log.sealer((SIGNER,), now=now))
    try:
        ledger.start(store, origin=SIGNER.name, now=now, entropy=os.urandom)
        state = State(store, directory, clock=now, entropy=os.urandom)
    except BaseException:
        store.close()
        raise
    exact, dp = ScoringTechnique(Mode.EXACT), ScoringTechnique(Mode.DP)
    used = techniques or {Mode.EXACT: exact, Mode.DP: dp}
    pipeline = Pipeline(
        state=state, store=store, techniques=used, receipts=Receipts((SIGNER,)), clock=now, entropy=os.urandom
    )
    return Domain(directory, store, now, state, pipeline, exact, dp)


async def populate(domain: Domain, *, documents: Sequence[str] = DOCUMENTS) -> None:
    """Publish both datasets and apply the contracts."""
    await domain.activate(census_card())
    await domain.activate(spending_card())
    await domain.apply(*documents)


@asynccontextmanager
async def running_domain(directory: Path, *, documents: Sequence[str] = DOCUMENTS) -> AsyncIterator[Domain]:
    """A populated domain, closed afterwards."""
    domain = open_domain(directory)
    try:
        await populate(domain, documents=documents)
        yield domain
        await domain.pipeline.turns.drain(seconds=10)
    finally:
        domain.store.close()


def check_receipt(receipt: object, **commitments: bytes) -> VerifiedReceipt:
    """What a receipt proves, checked as a client does."""
    assert isinstance(receipt, receipt_pb2.Receipt)
    return verify_receipt(receipt, vkey=VKEY, commitments=commitments)


def numbers(answered: Answered | bytes) -> list[int]:
    """First value column of an answer."""
    content = answered if isinstance(answered, bytes) else answered.answer
    return [int(text) for text in answer_pb2.Answer.FromString(content).values[0].numerators]
