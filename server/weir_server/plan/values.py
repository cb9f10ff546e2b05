# SPDX-License-Identifier: Apache-2.0
"""The values that travel through the pipeline, one per stage. Each is frozen; nothing here has behaviour.

Submission → BoundQuery → Plan → Decision → Reservation → Raw → Release → Posted. (DESIGN §6)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol

from weir.query import Aggregate, LiteralValue, Operator, Query
from weir.v1 import answer_pb2
from weir_server.catalog.card import DatasetCard, Dimension, Measure, Mode
from weir_server.catalog.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: as its certificate says, or as a token says that came over a gateway's connection."""

    name: str
    role: str
    """`requester`, `provider`, `operator`, `approver` or `auditor`."""
    domain: str


@dataclass(frozen=True, slots=True)
class EncryptedTerms:
    """What an encrypted query adds to a plain one."""

    kind: str
    """`weights` (secret weights) or `sealed` (release sealed to another key)."""
    key_id: str
    weights: int = 0
    """Ciphertexts announced by the header; 0 for sealed."""
    weight_bits: int = 0
    """Every weight lies in (-2**weight_bits, 2**weight_bits); 0 for sealed."""
    max_addends: int = 1
    """Sealed: tables that may be added up."""
    key_owners: frozenset[str] = frozenset()
    """Who registered the key; filled in from the book before anything is decided."""
    key_bits: int = 0
    """Length of the key's modulus; filled in likewise."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A decoded, well-formed request; nothing in it is trusted but its shape."""

    principal: Principal
    query: Query
    """Canonical."""
    contract: str
    purpose: str
    """Empty where the caller left it to the contract."""
    mode: Mode | None
    """EXACT, DP or None (by the measures)."""
    epsilon_nano: int | None
    """dp: loss to spend, > 0."""
    within: str | None
    """dp: wished half-width of the 95 % interval instead, decimal text in the unit of the first noisy aggregate."""
    max_price_micro: int | None
    idempotency_key: str
    request_digest: str
    """Hex digest of the whole request but its idempotency key."""
    encrypted: EncryptedTerms | None = None


@dataclass(frozen=True, slots=True)
class CellTest:
    """A condition on a dimension: true for these cells, false for all others, the null cell included unless listed."""

    dimension: str
    """Name of a base dimension: a condition on a coarser one is mapped down to it."""
    cells: frozenset[int]
    """Indexes into the base dimension's cells."""


@dataclass(frozen=True, slots=True)
class ValueTest:
    """A condition on a measure's row value (dp only): `value operator literal`, both in grid steps."""

    measure: str
    operator: Operator
    literal: int


@dataclass(frozen=True, slots=True)
class NullTest:
    """A condition on a measure being null (dp only)."""

    measure: str
    negated: bool


@dataclass(frozen=True, slots=True)
class Every:
    """AND; true when empty."""

    operands: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """OR; false when empty."""

    operands: tuple[Condition, ...]


Condition = CellTest | ValueTest | NullTest | Every | Some
"""A bound predicate: two-valued, since nulls are settled at binding."""


@dataclass(frozen=True, slots=True)
class BoundQuery:
    """A query whose names and types are settled against one snapshot."""

    submission: Submission
    query: Query
    """Canonical, with the snapshot version filled in."""
    snapshot: Snapshot
    mode: Mode
    """EXACT or DP: mode of the release, also underneath an encrypted query."""
    groups: tuple[Dimension, ...]
    """Dimensions of query.group_by, in that order."""
    aggregates: tuple[tuple[Aggregate, Measure | None], ...]
    """In canonical order."""
    condition: Condition
    """Every(()) where the query has no WHERE."""

    @property
    def card(self) -> DatasetCard:
        """Card of the snapshot."""
        return self.snapshot.card

    @property
    def cells(self) -> int:
        """Number of cells of the answer: product of the group dimensions' declared cells."""
        count = 1
        for dimension in self.groups:
            count *= len(dimension.cells)
        return count


@dataclass(frozen=True, slots=True)
class Loss:
    """Privacy loss of a release."""

    epsilon_nano: int = 0
    rho_micro: int = 0


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a technique says about a bound query, from public facts alone."""

    mechanism: Mapping[str, object]
    """JSON object naming the mechanism and every parameter that shapes the release; part of plan digest and release
    key, so two analyses that could release differently differ here."""
    loss: Loss
    columns: tuple[answer_pb2.ValueColumn, ...]
    """Value columns of the answer without cells: names, units, scales, noise, buckets; canonical order."""
    magnitudes: tuple[int, ...]
    """Per value column: public bound on |numerator| of any cell, for encrypted headroom. 0 where the column is no
    plain integer (has denominators or a root), which makes it unfit for encrypted queries."""
    work: int
    """Pre-declared units of work, from public facts (cells of the store looked at)."""
    body: object
    """The technique's own compiled plan, opaque to the pipeline."""
    brief: bool = False
    """Whether execution and release take well under a millisecond by public facts and wait for nothing: they then run
    on the event loop instead of in a worker thread."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A bound query with its mechanism, loss and price: what is decided, approved, charged and logged."""

    bound: BoundQuery
    analysis: Analysis
    charge: Mapping[str, int]
    """Metric to amount, by the contract's rate card (metrics of the ledger)."""
    release_key: str
    """Digest of snapshot, canonical query and mechanism: equal keys share one sticky release."""
    digest: str
    """Digest of everything an approval is bound to: release key, encrypted terms, contract, purpose, charge."""
    query: bytes
    """Canonical JSON of `bound.query`, which leaves commit to."""
    mechanism: bytes
    """Canonical JSON of `analysis.mechanism`, which leaves commit to."""


class Raw:
    """Aggregates before release. It has no text, no wire and no stored form; only a technique's `release` takes it."""

    __slots__ = ("_payload",)

    def __init__(self, payload: object) -> None:
        self._payload = payload

    def __repr__(self) -> str:
        return "<Raw>"

    def __str__(self) -> NoReturn:
        raise TypeError("a Raw value has no text form")

    def __format__(self, spec: str) -> NoReturn:
        raise TypeError("a Raw value has no text form")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Raw value has no wire form")


def open_raw(raw: Raw) -> object:
    """The payload; for the `release` function of the technique that made it and for nothing else."""
    return raw._payload


class Technique(Protocol):
    """One way to answer: `exact` or `dp`. Stages 2, 5 and 6 of the pipeline."""

    def analyse(self, bound: BoundQuery) -> Analysis:
        """Compile and account, from public facts alone.

        Raises:
            InvalidQuery: this technique cannot answer it; the text names the rule and the nearest allowed form.
        """
        ...

    def execute(self, bound: BoundQuery, analysis: Analysis) -> Raw:
        """Compute the aggregates; the only stage that touches data. Runs in a worker thread, or on the event loop
        where the analysis says `brief`. MUST raise nothing that carries a value; engine errors are replaced here."""
        ...

    def release(self, bound: BoundQuery, analysis: Analysis, raw: Raw) -> answer_pb2.Answer:
        """Turn aggregates into what may leave, drawing noise exactly once where the mechanism has any. Fills keys,
        values and coverage; the pipeline adds the rest."""
        ...


def literal_of(value: LiteralValue | None) -> tuple[str, LiteralValue | None]:
    """Kind and value of a cell, for encoding: (`null`, None) for the null cell."""
    if value is None:
        return "null", None
    kinds: dict[type, str] = {bool: "boolean", int: "integer", str: "text"}
    return kinds.get(type(value), "decimal"), value
