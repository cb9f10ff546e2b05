# SPDX-License-Identifier: Apache-2.0
"""Contracts and approvals, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from weir.v1 import (
    policy_service_pb2,
)
from weir_client._asked import asked_query, sql_of, words_of

if TYPE_CHECKING:
    pass
from weir_client._values import RateCard, function_name, rates_of, texts_of, time_of


@dataclass(frozen=True, slots=True)
class Duty:
    """Something that the requester owes beside payment."""

    id: str
    sentence: str
    due: datetime | None
    attested: datetime | None
    """When the requester said that it was met; None while open."""


@dataclass(frozen=True, slots=True)
class ContractSignature:
    """One party's signature over a contract's canonical form."""

    role: str
    """`requester` or `provider`."""
    party: str
    public_key: bytes
    """Ed25519, 32 bytes."""
    signature: bytes
    signed: datetime | None


@dataclass(frozen=True, slots=True)
class Contract:
    """Who may ask what of which dataset, for which purpose, how, how often, until when."""

    id: str
    title: str
    provider: str
    requester: str
    dataset: str
    purposes: tuple[str, ...]
    modes: tuple[str, ...]
    dimensions: tuple[str, ...]
    measures: tuple[str, ...]
    aggregates: tuple[str, ...]
    epsilon_nano: int
    epsilon_per_query_nano: int
    rho_micro: int
    """The same share in micro-rho, for datasets with concentrated accounting; 0 where none is stated."""
    rho_per_query_micro: int
    valid_from: datetime | None
    valid_until: datetime | None
    approval: str
    """`none` or `per_query`."""
    rates: RateCard
    digest: str
    """Hex digest of `canonical`: names these terms in every decision."""
    seal_to: tuple[str, ...] = ()
    """Holders to whose keys a release may be sealed."""
    k: int = 0
    """Least k that the dataset must keep where it is answered exactly."""
    regions: tuple[str, ...] = ()
    """ISO 3166 codes, in one of which the requester must be registered; empty for any."""
    duties: tuple[Duty, ...] = ()
    approvers: int = 0
    """Persons who must approve each query where approval is `per_query`."""
    state: str = ""
    """`offered`, `accepted`, `active`, `suspended`, `expired` or `terminated`."""
    canonical: bytes = b""
    """The terms in RFC 8785 JSON: what is signed, and what `digest` is of."""
    signatures: tuple[ContractSignature, ...] = ()
    signed: bool = False
    """Whether both parties' signatures are needed before it can be active."""


@dataclass(frozen=True, slots=True)
class StandingTerms:
    """What makes an approval stand for more than one very query: the query is the template."""

    free_columns: tuple[str, ...]
    """Columns whose literals in conditions are free; everything else is fixed."""
    uses: int = 100
    """Queries it may allow, 1 to 10,000."""
    days: int = 30
    """Days it stands, 1 to 366."""
    epsilon_nano: int = 0
    """Most that one query may spend; at most what the query itself asks for, and 0 only where that is nothing."""
    price_micro: int = 0
    """Most that one query may cost."""


@dataclass(frozen=True, slots=True)
class Approval:
    """A query that waits, or waited, for persons."""

    id: str
    state: str
    """`waiting`, `approved`, `rejected`, `used`, `expired` or `revoked`."""
    requester: str
    contract: str
    query: str
    """Canonical query in JSON."""
    plan_digest: str
    epsilon_nano: int
    price_micro: int
    requested: datetime | None
    expires: datetime | None
    decided_by: str
    purpose: str = ""
    """The purpose that counts: stated, or the contract's only one."""
    mode: str = ""
    """What would leave: `exact`, `dp`, `encrypted` or `sealed`."""
    snapshot: int = 0
    """Version of the dataset that would answer."""
    key_id: str = ""
    """Key that an encrypted or sealed reply would be under; else empty."""
    key_owners: tuple[str, ...] = ()
    """Who had registered that key: whoever could read the reply."""
    weight_bits: int = 0
    """Encrypted: bound on the weights; else 0."""
    approvers: int = 1
    """Persons who must approve."""
    approved_by: tuple[str, ...] = ()
    """Who has approved so far, in order."""
    uses_left: int = 0
    """Queries that it still allows, once approved."""
    standing: StandingTerms | None = None
    """Set where it stands for every query of a template."""
    reasons: tuple[str, ...] = ()
    """Given by those who decided, in order."""

    @property
    def sql(self) -> str:
        """The query in the query language."""
        return sql_of(asked_query(self.query).query)

    @property
    def words(self) -> str:
        """The query in one sentence."""
        return words_of(asked_query(self.query).query)


def contract_of(message: policy_service_pb2.Contract) -> Contract:
    """A contract."""
    return Contract(
        **texts_of(message, "id title provider requester dataset approval digest"),
        **texts_of(message, "epsilon_nano epsilon_per_query_nano rho_micro rho_per_query_micro"),
        purposes=tuple(message.purposes),
        modes=tuple(message.modes),
        dimensions=tuple(message.dimensions),
        measures=tuple(message.measures),
        aggregates=tuple(function_name(number) for number in message.aggregates),
        valid_from=time_of(message, "valid_from"),
        valid_until=time_of(message, "valid_until"),
        **texts_of(message, "k approvers canonical signed"),
        seal_to=tuple(message.seal_to),
        regions=tuple(message.regions),
        duties=tuple(
            Duty(item.id, item.sentence, time_of(item, "due"), time_of(item, "attested")) for item in message.duties
        ),
        state=policy_service_pb2.ContractState.Name(message.state).removeprefix("CONTRACT_STATE_").lower(),
        signatures=tuple(
            ContractSignature(item.role, item.party, item.public_key, item.signature, time_of(item, "signed"))
            for item in message.signatures
        ),
        rates=rates_of(message.rates),
    )


def approval_of(message: policy_service_pb2.Approval) -> Approval:
    """An approval."""
    state = policy_service_pb2.ApprovalState.Name(message.state).removeprefix("APPROVAL_STATE_").lower()
    return Approval(
        state=state,
        **texts_of(message, "id requester contract query plan_digest epsilon_nano price_micro decided_by"),
        **texts_of(message, "purpose mode snapshot key_id weight_bits approvers uses_left"),
        key_owners=tuple(message.key_owners),
        approved_by=tuple(message.approved_by),
        standing=_standing_of(message.standing) if message.HasField("standing") else None,
        reasons=tuple(message.reasons),
        requested=time_of(message, "requested"),
        expires=time_of(message, "expires"),
    )


def standing_to_proto(terms: StandingTerms) -> policy_service_pb2.StandingTerms:
    """Wire form of terms that stand."""
    return policy_service_pb2.StandingTerms(**asdict(terms))


def _standing_of(message: policy_service_pb2.StandingTerms) -> StandingTerms:
    return StandingTerms(
        free_columns=tuple(message.free_columns), **texts_of(message, "uses days epsilon_nano price_micro")
    )
