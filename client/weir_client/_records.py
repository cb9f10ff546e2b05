# SPDX-License-Identifier: Apache-2.0
"""What the service says about datasets, contracts, approvals, limits and prices, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from weir.amounts import MICRO, NANO, format_decimal
from weir.errors import DenialReason
from weir.v1 import (
    answer_pb2,
    catalogue_service_pb2,
    policy_service_pb2,
    query_pb2,
    query_service_pb2,
    quota_service_pb2,
)
from weir_client._asked import asked_query, sql_of, words_of

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

CellValue = bool | int | Decimal | str | None
"""Value of a dimension; None for the null cell."""

_MODES = {answer_pb2.MODE_EXACT: "exact", answer_pb2.MODE_DP: "dp", answer_pb2.MODE_ENCRYPTED: "encrypted"}


@dataclass(frozen=True, slots=True)
class Dimension:
    """A public attribute to filter and group by."""

    name: str
    title: str
    type: str
    """`integer`, `text` or `boolean`: type of its constants."""
    cells: tuple[CellValue, ...]
    """Declared values in order; for bins their lower ends."""
    labels: tuple[str, ...]
    """Labels of the cells for people; empty text where there is none."""
    row_level: bool
    """Whether one unit may have several values (dp only)."""
    coarsens: str
    """Finer dimension that this one coarsens; empty for a base dimension."""
    grade: str
    grading_scheme: str = ""
    """Scheme of the grade, where it is another than the dataset's."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A number with declared bounds."""

    name: str
    title: str
    unit: str
    lower: Decimal
    upper: Decimal
    scale: int
    """Decimal digits of its grid."""
    mode: str
    """Mode in which it is released."""
    buckets: tuple[tuple[Decimal, Decimal], ...]
    grade: str
    aggregates: tuple[str, ...]
    """What it can be asked for: `sum`, `avg`, …"""
    grading_scheme: str = ""
    """Scheme of the grade, where it is another than the dataset's."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One immutable version of a dataset."""

    version: int
    published: datetime | None
    manifest_digest: str


@dataclass(frozen=True, slots=True)
class PrivacyAccount:
    """How a dataset accounts its privacy losses."""

    accounting: str
    """`pure`: epsilon binds. `concentrated`: rho (zCDP) binds."""
    lifetime: int
    """Lifetime budget that the card gives its lineage: nano-epsilon, or micro-rho where the accounting is
    concentrated."""
    delta_digits: int
    """Concentrated: an epsilon stated in a query holds at delta = 10**-delta_digits; 0 for pure accounting."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Card of a dataset; it holds no data."""

    name: str
    title: str
    description: str
    grade: str
    """`general`, `important` or `core`."""
    grading_scheme: str
    personal_information: bool
    legal_basis: str
    responsible: str
    provenance: str
    unit: str
    """What the privacy unit is called."""
    dimensions: tuple[Dimension, ...]
    measures: tuple[Measure, ...]
    modes: tuple[str, ...]
    snapshots: tuple[Snapshot, ...]
    """Newest first."""
    lineage: str
    keywords: tuple[str, ...]
    privacy_account: PrivacyAccount | None
    """None where nothing is released with dp."""
    unit_namespace: str = ""
    """What the units' identifiers are names in: datasets that share it speak of the same units. Empty: of its own."""
    derived_from: tuple[str, ...] = ()
    """Datasets it was made from."""
    effective_grade: str = ""
    """Grade that holds now: its own, or that of a source where no valid certificate regrades it."""
    certified_until: datetime | None = None
    """Until when a regrading certificate holds; None without one."""
    processing_basis: str = ""
    """What personal information rests on: `consent`, `anonymisation`, or empty where there is none."""
    basis_digest: str = ""
    """SHA-256 of the consent register or the anonymisation report, hex."""
    quality: dict[str, str] = field(default_factory=dict)
    """Statements on quality: name and sentence."""
    update_frequency: str = ""
    """How often it is renewed: `daily`, `monthly`, …, or empty."""
    list_rates: RateCard | None = None
    """List prices; what a contract states is what is charged. None where none are declared."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise in one column."""

    column: str
    distribution: str
    """`discrete laplace`, `discrete gaussian`, `noisy max (exponential)` or `composite`."""
    scale: str
    """Scale in grid steps, exact decimal text."""
    sensitivity: str
    """Most that one unit can change, in grid steps."""
    epsilon_nano: int
    rho_micro: int
    interval95: Decimal | None
    """With probability at least 95 % a cell's noise is at most this, in the aggregate's unit; None for composites."""
    unit: str


@dataclass(frozen=True, slots=True)
class Exposure:
    """How far a privacy account is used, all datasets that share it taken together."""

    scope: str
    """`lineage` or `namespace`: what is shared."""
    name: str
    metric: str
    """`epsilon_nano` or `rho_micro`."""
    limit: int
    """Lifetime limit."""
    used: int
    """By everybody so far."""
    adds: int
    """What this query would add."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a query would do now; nothing is reserved by it."""

    verdict: str
    """`allow`, `needs_approval` or `deny`."""
    reasons: tuple[DenialReason, ...]
    epsilon_nano: int
    rho_micro: int
    """Loss in concentrated accounting, rounded up; what binds where the dataset accounts in rho."""
    cells: int
    price_micro: int
    sticky: bool
    """Whether an earlier release would be returned again."""
    noise: tuple[Noise, ...]
    """Per value column in canonical order; `column` is its position. Intervals are in grid steps."""
    snapshot: int
    policy_digest: str
    plan_digest: str
    exposures: tuple[Exposure, ...] = ()
    """Accounts that a dp query draws on; empty where the policy denies it."""

    @property
    def allowed(self) -> bool:
        """Whether the query would be answered."""
        return self.verdict == "allow"

    @property
    def epsilon(self) -> Decimal:
        """Privacy loss."""
        return Decimal(self.epsilon_nano) / NANO

    @property
    def price(self) -> Decimal:
        """Price in the contract's currency."""
        return Decimal(self.price_micro) / MICRO


@dataclass(frozen=True, slots=True)
class RateCard:
    """Prices in micro-units of `currency`."""

    currency: str
    per_query_micro: int
    per_cell_micro: int
    per_epsilon_micro: int
    per_encrypted_operation_micro: int


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


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `limit` of `metric` over all queries that fit the scope, in each window."""

    id: str
    metric: str
    """`queries`, `cells`, `epsilon_nano`, `rho_micro`, `encrypted_operations`, `bytes` or `price_micro`."""
    limit: int
    requester: str = ""
    """Only this requester; empty for any. The same for the other scopes."""
    contract: str = ""
    dataset: str = ""
    lineage: str = ""
    window: str = "lifetime"
    """`lifetime`, `day` or `month`."""
    zone: str = "UTC"
    """IANA zone of calendar windows."""

    @property
    def metric_name(self) -> str:
        """The metric as people say it: `epsilon`, `rho` and `price` without the unit they are counted in."""
        return self.metric.rpartition("_")[0] if self.metric in _UNITS else self.metric

    def amount(self, count: int) -> int | Decimal:
        """A count of this metric as people write it: epsilon, rho and price as exact decimals, the rest as it is."""
        unit = _UNITS.get(self.metric)
        return count if unit is None else Decimal(format_decimal(count, unit=unit))


@dataclass(frozen=True, slots=True)
class Balance:
    """A quota with what is used of it."""

    quota: Quota
    used: int
    """In the current window, holds included."""
    held: int
    """Of these, held by queries that run now."""
    resets: datetime | None
    """When the window ends; None for lifetime."""

    @property
    def remaining(self) -> int:
        """What still fits; 0 where more is used than the limit now allows."""
        return max(0, self.quota.limit - self.used)


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One difference between policies."""

    subject: str
    """`contract/c-1`, `quota/q-1`, `dataset/name`."""
    kind: str
    """`added`, `changed` or `removed`."""
    fields: tuple[str, ...]
    loosens: bool
    """Whether more becomes possible than before."""


@dataclass(frozen=True, slots=True)
class PolicyDifference:
    """What applying files changed, or would change."""

    changes: tuple[PolicyChange, ...]
    old_digest: str
    new_digest: str
    plan_hash: str = ""
    """Names exactly this difference: applying with it is refused where anything moved in between."""

    @property
    def loosens(self) -> bool:
        """Whether any change makes more possible."""
        return any(change.loosens for change in self.changes)


def exact_decimal(steps: int, scale: int) -> int | Decimal:
    """`steps` grid steps of 10^-scale: an int for scale 0, else a Decimal of all its digits.

    Built from text, since Decimal's arithmetic rounds at the context's precision.
    """
    return steps if scale == 0 else Decimal(f"{steps}e-{scale}")


def mode_name(number: int) -> str:
    """`exact`, `dp`, `encrypted`, or empty."""
    return _MODES.get(number, "")  # type: ignore[call-overload, no-any-return]


def literal_value(message: query_pb2.Literal) -> CellValue:
    """The value of a cell; None for the null cell."""
    kind = message.WhichOneof("value")
    if kind is None:
        return None
    value = getattr(message, kind)
    return Decimal(value) if kind == "decimal" else value


def dataset_of(message: catalogue_service_pb2.Dataset) -> Dataset:
    """A card."""
    return Dataset(
        **_texts(
            message,
            "name title description grading_scheme legal_basis responsible provenance unit lineage",
        ),
        grade=_grade(message.grade),
        personal_information=message.personal_information,
        dimensions=tuple(_dimension(item) for item in message.dimensions),
        measures=tuple(_measure(item) for item in message.measures),
        modes=tuple(mode_name(mode) for mode in message.modes),
        snapshots=tuple(
            Snapshot(item.version, _time(item, "published"), item.manifest_digest) for item in message.snapshots
        ),
        keywords=tuple(message.keywords),
        privacy_account=_privacy_account(message),
        **_texts(message, "unit_namespace processing_basis basis_digest update_frequency"),
        derived_from=tuple(message.derived_from),
        effective_grade=_grade(message.effective_grade or message.grade),
        certified_until=_time(message, "certified_until"),
        quality=dict(message.quality),
        list_rates=_rates(message.list_rates) if message.HasField("list_rates") else None,
    )


def _rates(message: policy_service_pb2.RateCard) -> RateCard:
    names = "currency per_query_micro per_cell_micro per_epsilon_micro per_encrypted_operation_micro"
    return RateCard(**_texts(message, names))


def _privacy_account(message: catalogue_service_pb2.Dataset) -> PrivacyAccount | None:
    if not message.HasField("privacy_account"):
        return None
    return PrivacyAccount(**_texts(message.privacy_account, "accounting lifetime delta_digits"))


def noise_of(message: answer_pb2.Noise, *, column: str, unit: str, scale: int) -> Noise:
    """Noise with its interval brought from grid steps of 10^-scale into the aggregate's unit."""
    interval = message.interval95
    return Noise(
        column=column,
        **_texts(message, "distribution scale sensitivity"),
        epsilon_nano=message.epsilon_nano,
        rho_micro=message.rho_micro,
        interval95=Decimal(f"{interval}e-{scale}") if interval else None,
        unit=unit,
    )


def estimate_of(message: query_service_pb2.EstimateQueryResponse) -> Estimate:
    """An estimate."""
    verdict = query_service_pb2.Verdict.Name(message.decision.verdict).removeprefix("VERDICT_").lower()
    return Estimate(
        verdict=verdict,
        reasons=tuple(DenialReason(item.code, item.sentence) for item in message.decision.reasons),
        noise=tuple(noise_of(item, column=str(index), unit="", scale=0) for index, item in enumerate(message.noise)),
        exposures=tuple(Exposure(**_texts(item, "scope name metric limit used adds")) for item in message.exposures),
        **_texts(message, "epsilon_nano rho_micro cells price_micro sticky snapshot policy_digest plan_digest"),
    )


def contract_of(message: policy_service_pb2.Contract) -> Contract:
    """A contract."""
    return Contract(
        **_texts(message, "id title provider requester dataset approval digest"),
        **_texts(message, "epsilon_nano epsilon_per_query_nano rho_micro rho_per_query_micro"),
        purposes=tuple(message.purposes),
        modes=tuple(message.modes),
        dimensions=tuple(message.dimensions),
        measures=tuple(message.measures),
        aggregates=tuple(_function(number) for number in message.aggregates),
        valid_from=_time(message, "valid_from"),
        valid_until=_time(message, "valid_until"),
        **_texts(message, "k approvers canonical signed"),
        seal_to=tuple(message.seal_to),
        regions=tuple(message.regions),
        duties=tuple(
            Duty(item.id, item.sentence, _time(item, "due"), _time(item, "attested")) for item in message.duties
        ),
        state=policy_service_pb2.ContractState.Name(message.state).removeprefix("CONTRACT_STATE_").lower(),
        signatures=tuple(
            ContractSignature(item.role, item.party, item.public_key, item.signature, _time(item, "signed"))
            for item in message.signatures
        ),
        rates=_rates(message.rates),
    )


def approval_of(message: policy_service_pb2.Approval) -> Approval:
    """An approval."""
    state = policy_service_pb2.ApprovalState.Name(message.state).removeprefix("APPROVAL_STATE_").lower()
    return Approval(
        state=state,
        **_texts(message, "id requester contract query plan_digest epsilon_nano price_micro decided_by"),
        **_texts(message, "purpose mode snapshot key_id weight_bits approvers uses_left"),
        key_owners=tuple(message.key_owners),
        approved_by=tuple(message.approved_by),
        standing=_standing_of(message.standing) if message.HasField("standing") else None,
        reasons=tuple(message.reasons),
        requested=_time(message, "requested"),
        expires=_time(message, "expires"),
    )


def standing_to_proto(terms: StandingTerms) -> policy_service_pb2.StandingTerms:
    """Wire form of terms that stand."""
    return policy_service_pb2.StandingTerms(**asdict(terms))


def _standing_of(message: policy_service_pb2.StandingTerms) -> StandingTerms:
    return StandingTerms(
        free_columns=tuple(message.free_columns), **_texts(message, "uses days epsilon_nano price_micro")
    )


def balance_of(message: quota_service_pb2.Balance) -> Balance:
    """A balance."""
    quota = Quota(**_texts(message.quota, _QUOTA))
    return Balance(quota, message.used, message.held, _time(message, "resets"))


def quota_to_proto(quota: Quota) -> quota_service_pb2.Quota:
    """Wire form of a quota."""
    return quota_service_pb2.Quota(**{name: getattr(quota, name) for name in _QUOTA.split()})


def difference_of(message: policy_service_pb2.ApplyPolicyResponse) -> PolicyDifference:
    """What changed."""
    changes = tuple(PolicyChange(item.subject, item.kind, tuple(item.fields), item.loosens) for item in message.changes)
    return PolicyDifference(changes, message.old_digest, message.new_digest, message.plan_hash)


_UNITS = {"epsilon_nano": NANO, "rho_micro": MICRO, "price_micro": MICRO}
_QUOTA = "id metric limit requester contract dataset lineage window zone"


def _texts(message: Any, names: str) -> dict[str, Any]:
    """Members that keep their name and value."""
    return {name: getattr(message, name) for name in names.split()}


def _time(message: Any, name: str) -> datetime | None:
    if not message.HasField(name):
        return None
    stamp: Timestamp = getattr(message, name)
    return datetime.fromisoformat(stamp.ToJsonString())


def _grade(number: int) -> str:
    return catalogue_service_pb2.Grade.Name(number).removeprefix("GRADE_").lower()


def _function(number: int) -> str:
    name = query_pb2.AggregateFunction.Name(number)
    return name.removeprefix("AGGREGATE_FUNCTION_").lower()


def _dimension(message: catalogue_service_pb2.Dimension) -> Dimension:
    return Dimension(
        **_texts(message, "name title type row_level coarsens grading_scheme"),
        cells=tuple(literal_value(cell.value) for cell in message.cells),
        labels=tuple(cell.label for cell in message.cells),
        grade=_grade(message.grade),
    )


def _measure(message: catalogue_service_pb2.Measure) -> Measure:
    return Measure(
        **_texts(message, "name title unit scale grading_scheme"),
        lower=Decimal(message.lower or "0"),
        upper=Decimal(message.upper or "0"),
        mode=mode_name(message.mode),
        buckets=tuple((Decimal(item.lower), Decimal(item.upper)) for item in message.buckets),
        grade=_grade(message.grade),
        aggregates=tuple(_function(number) for number in message.aggregates),
    )
