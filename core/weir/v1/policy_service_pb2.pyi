import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from weir.v1 import query_pb2 as _query_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ContractState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONTRACT_STATE_UNSPECIFIED: _ClassVar[ContractState]
    CONTRACT_STATE_OFFERED: _ClassVar[ContractState]
    CONTRACT_STATE_ACCEPTED: _ClassVar[ContractState]
    CONTRACT_STATE_ACTIVE: _ClassVar[ContractState]
    CONTRACT_STATE_SUSPENDED: _ClassVar[ContractState]
    CONTRACT_STATE_EXPIRED: _ClassVar[ContractState]
    CONTRACT_STATE_TERMINATED: _ClassVar[ContractState]

class ApprovalState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APPROVAL_STATE_UNSPECIFIED: _ClassVar[ApprovalState]
    APPROVAL_STATE_WAITING: _ClassVar[ApprovalState]
    APPROVAL_STATE_APPROVED: _ClassVar[ApprovalState]
    APPROVAL_STATE_REJECTED: _ClassVar[ApprovalState]
    APPROVAL_STATE_USED: _ClassVar[ApprovalState]
    APPROVAL_STATE_EXPIRED: _ClassVar[ApprovalState]
    APPROVAL_STATE_REVOKED: _ClassVar[ApprovalState]

class SuspensionScope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SUSPENSION_SCOPE_UNSPECIFIED: _ClassVar[SuspensionScope]
    SUSPENSION_SCOPE_REQUESTER: _ClassVar[SuspensionScope]
    SUSPENSION_SCOPE_CONTRACT: _ClassVar[SuspensionScope]
    SUSPENSION_SCOPE_DATASET: _ClassVar[SuspensionScope]
    SUSPENSION_SCOPE_ALL: _ClassVar[SuspensionScope]
    SUSPENSION_SCOPE_BLACKLIST: _ClassVar[SuspensionScope]
CONTRACT_STATE_UNSPECIFIED: ContractState
CONTRACT_STATE_OFFERED: ContractState
CONTRACT_STATE_ACCEPTED: ContractState
CONTRACT_STATE_ACTIVE: ContractState
CONTRACT_STATE_SUSPENDED: ContractState
CONTRACT_STATE_EXPIRED: ContractState
CONTRACT_STATE_TERMINATED: ContractState
APPROVAL_STATE_UNSPECIFIED: ApprovalState
APPROVAL_STATE_WAITING: ApprovalState
APPROVAL_STATE_APPROVED: ApprovalState
APPROVAL_STATE_REJECTED: ApprovalState
APPROVAL_STATE_USED: ApprovalState
APPROVAL_STATE_EXPIRED: ApprovalState
APPROVAL_STATE_REVOKED: ApprovalState
SUSPENSION_SCOPE_UNSPECIFIED: SuspensionScope
SUSPENSION_SCOPE_REQUESTER: SuspensionScope
SUSPENSION_SCOPE_CONTRACT: SuspensionScope
SUSPENSION_SCOPE_DATASET: SuspensionScope
SUSPENSION_SCOPE_ALL: SuspensionScope
SUSPENSION_SCOPE_BLACKLIST: SuspensionScope

class ListContractsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListContractsResponse(_message.Message):
    __slots__ = ("contracts", "next_page_token")
    CONTRACTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    contracts: _containers.RepeatedCompositeFieldContainer[Contract]
    next_page_token: str
    def __init__(self, contracts: _Optional[_Iterable[_Union[Contract, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Contract(_message.Message):
    __slots__ = ("id", "title", "provider", "requester", "dataset", "purposes", "modes", "dimensions", "measures", "aggregates", "epsilon_nano", "epsilon_per_query_nano", "valid_from", "valid_until", "approval", "rates", "digest", "seal_to", "rho_micro", "rho_per_query_micro", "k", "regions", "duties", "approvers", "state", "canonical", "signatures", "signed")
    ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    PURPOSES_FIELD_NUMBER: _ClassVar[int]
    MODES_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    AGGREGATES_FIELD_NUMBER: _ClassVar[int]
    EPSILON_NANO_FIELD_NUMBER: _ClassVar[int]
    EPSILON_PER_QUERY_NANO_FIELD_NUMBER: _ClassVar[int]
    VALID_FROM_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    RATES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SEAL_TO_FIELD_NUMBER: _ClassVar[int]
    RHO_MICRO_FIELD_NUMBER: _ClassVar[int]
    RHO_PER_QUERY_MICRO_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    DUTIES_FIELD_NUMBER: _ClassVar[int]
    APPROVERS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CANONICAL_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    id: str
    title: str
    provider: str
    requester: str
    dataset: str
    purposes: _containers.RepeatedScalarFieldContainer[str]
    modes: _containers.RepeatedScalarFieldContainer[str]
    dimensions: _containers.RepeatedScalarFieldContainer[str]
    measures: _containers.RepeatedScalarFieldContainer[str]
    aggregates: _containers.RepeatedScalarFieldContainer[_query_pb2.AggregateFunction]
    epsilon_nano: int
    epsilon_per_query_nano: int
    valid_from: _timestamp_pb2.Timestamp
    valid_until: _timestamp_pb2.Timestamp
    approval: str
    rates: RateCard
    digest: str
    seal_to: _containers.RepeatedScalarFieldContainer[str]
    rho_micro: int
    rho_per_query_micro: int
    k: int
    regions: _containers.RepeatedScalarFieldContainer[str]
    duties: _containers.RepeatedCompositeFieldContainer[Duty]
    approvers: int
    state: ContractState
    canonical: bytes
    signatures: _containers.RepeatedCompositeFieldContainer[ContractSignature]
    signed: bool
    def __init__(self, id: _Optional[str] = ..., title: _Optional[str] = ..., provider: _Optional[str] = ..., requester: _Optional[str] = ..., dataset: _Optional[str] = ..., purposes: _Optional[_Iterable[str]] = ..., modes: _Optional[_Iterable[str]] = ..., dimensions: _Optional[_Iterable[str]] = ..., measures: _Optional[_Iterable[str]] = ..., aggregates: _Optional[_Iterable[_Union[_query_pb2.AggregateFunction, str]]] = ..., epsilon_nano: _Optional[int] = ..., epsilon_per_query_nano: _Optional[int] = ..., valid_from: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., valid_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., approval: _Optional[str] = ..., rates: _Optional[_Union[RateCard, _Mapping]] = ..., digest: _Optional[str] = ..., seal_to: _Optional[_Iterable[str]] = ..., rho_micro: _Optional[int] = ..., rho_per_query_micro: _Optional[int] = ..., k: _Optional[int] = ..., regions: _Optional[_Iterable[str]] = ..., duties: _Optional[_Iterable[_Union[Duty, _Mapping]]] = ..., approvers: _Optional[int] = ..., state: _Optional[_Union[ContractState, str]] = ..., canonical: _Optional[bytes] = ..., signatures: _Optional[_Iterable[_Union[ContractSignature, _Mapping]]] = ..., signed: bool = ...) -> None: ...

class Duty(_message.Message):
    __slots__ = ("id", "sentence", "due", "attested")
    ID_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    DUE_FIELD_NUMBER: _ClassVar[int]
    ATTESTED_FIELD_NUMBER: _ClassVar[int]
    id: str
    sentence: str
    due: _timestamp_pb2.Timestamp
    attested: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., sentence: _Optional[str] = ..., due: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attested: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ContractSignature(_message.Message):
    __slots__ = ("role", "party", "public_key", "signature", "signed")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PARTY_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    role: str
    party: str
    public_key: bytes
    signature: bytes
    signed: _timestamp_pb2.Timestamp
    def __init__(self, role: _Optional[str] = ..., party: _Optional[str] = ..., public_key: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., signed: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SignContractRequest(_message.Message):
    __slots__ = ("contract", "digest", "public_key", "signature", "idempotency_key")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    contract: str
    digest: str
    public_key: bytes
    signature: bytes
    idempotency_key: str
    def __init__(self, contract: _Optional[str] = ..., digest: _Optional[str] = ..., public_key: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class SignContractResponse(_message.Message):
    __slots__ = ("contract",)
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    contract: Contract
    def __init__(self, contract: _Optional[_Union[Contract, _Mapping]] = ...) -> None: ...

class AttestDutyRequest(_message.Message):
    __slots__ = ("contract", "duty", "statement", "idempotency_key")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    DUTY_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    contract: str
    duty: str
    statement: str
    idempotency_key: str
    def __init__(self, contract: _Optional[str] = ..., duty: _Optional[str] = ..., statement: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class AttestDutyResponse(_message.Message):
    __slots__ = ("contract",)
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    contract: Contract
    def __init__(self, contract: _Optional[_Union[Contract, _Mapping]] = ...) -> None: ...

class ListStandingsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListStandingsResponse(_message.Message):
    __slots__ = ("standings", "next_page_token")
    STANDINGS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    standings: _containers.RepeatedCompositeFieldContainer[Standing]
    next_page_token: str
    def __init__(self, standings: _Optional[_Iterable[_Union[Standing, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("requester", "score", "tier", "assessed_until", "level", "refusals", "disputes", "overdue_duties", "blacklisted", "k", "epsilon_cap_nano", "approvers")
    REQUESTER_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    ASSESSED_UNTIL_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    DISPUTES_FIELD_NUMBER: _ClassVar[int]
    OVERDUE_DUTIES_FIELD_NUMBER: _ClassVar[int]
    BLACKLISTED_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    EPSILON_CAP_NANO_FIELD_NUMBER: _ClassVar[int]
    APPROVERS_FIELD_NUMBER: _ClassVar[int]
    requester: str
    score: int
    tier: str
    assessed_until: _timestamp_pb2.Timestamp
    level: str
    refusals: int
    disputes: int
    overdue_duties: int
    blacklisted: bool
    k: int
    epsilon_cap_nano: int
    approvers: int
    def __init__(self, requester: _Optional[str] = ..., score: _Optional[int] = ..., tier: _Optional[str] = ..., assessed_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., level: _Optional[str] = ..., refusals: _Optional[int] = ..., disputes: _Optional[int] = ..., overdue_duties: _Optional[int] = ..., blacklisted: bool = ..., k: _Optional[int] = ..., epsilon_cap_nano: _Optional[int] = ..., approvers: _Optional[int] = ...) -> None: ...

class RateCard(_message.Message):
    __slots__ = ("currency", "per_query_micro", "per_cell_micro", "per_epsilon_micro", "per_encrypted_operation_micro")
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    PER_QUERY_MICRO_FIELD_NUMBER: _ClassVar[int]
    PER_CELL_MICRO_FIELD_NUMBER: _ClassVar[int]
    PER_EPSILON_MICRO_FIELD_NUMBER: _ClassVar[int]
    PER_ENCRYPTED_OPERATION_MICRO_FIELD_NUMBER: _ClassVar[int]
    currency: str
    per_query_micro: int
    per_cell_micro: int
    per_epsilon_micro: int
    per_encrypted_operation_micro: int
    def __init__(self, currency: _Optional[str] = ..., per_query_micro: _Optional[int] = ..., per_cell_micro: _Optional[int] = ..., per_epsilon_micro: _Optional[int] = ..., per_encrypted_operation_micro: _Optional[int] = ...) -> None: ...

class ListApprovalsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListApprovalsResponse(_message.Message):
    __slots__ = ("approvals", "next_page_token")
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    approvals: _containers.RepeatedCompositeFieldContainer[Approval]
    next_page_token: str
    def __init__(self, approvals: _Optional[_Iterable[_Union[Approval, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Approval(_message.Message):
    __slots__ = ("id", "state", "requester", "contract", "query", "plan_digest", "epsilon_nano", "price_micro", "requested", "expires", "decided_by", "purpose", "mode", "snapshot", "key_id", "key_owners", "weight_bits", "approvers", "approved_by", "uses_left", "standing", "reasons")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    PLAN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EPSILON_NANO_FIELD_NUMBER: _ClassVar[int]
    PRICE_MICRO_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_OWNERS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BITS_FIELD_NUMBER: _ClassVar[int]
    APPROVERS_FIELD_NUMBER: _ClassVar[int]
    APPROVED_BY_FIELD_NUMBER: _ClassVar[int]
    USES_LEFT_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: ApprovalState
    requester: str
    contract: str
    query: str
    plan_digest: str
    epsilon_nano: int
    price_micro: int
    requested: _timestamp_pb2.Timestamp
    expires: _timestamp_pb2.Timestamp
    decided_by: str
    purpose: str
    mode: str
    snapshot: int
    key_id: str
    key_owners: _containers.RepeatedScalarFieldContainer[str]
    weight_bits: int
    approvers: int
    approved_by: _containers.RepeatedScalarFieldContainer[str]
    uses_left: int
    standing: StandingTerms
    reasons: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[ApprovalState, str]] = ..., requester: _Optional[str] = ..., contract: _Optional[str] = ..., query: _Optional[str] = ..., plan_digest: _Optional[str] = ..., epsilon_nano: _Optional[int] = ..., price_micro: _Optional[int] = ..., requested: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., decided_by: _Optional[str] = ..., purpose: _Optional[str] = ..., mode: _Optional[str] = ..., snapshot: _Optional[int] = ..., key_id: _Optional[str] = ..., key_owners: _Optional[_Iterable[str]] = ..., weight_bits: _Optional[int] = ..., approvers: _Optional[int] = ..., approved_by: _Optional[_Iterable[str]] = ..., uses_left: _Optional[int] = ..., standing: _Optional[_Union[StandingTerms, _Mapping]] = ..., reasons: _Optional[_Iterable[str]] = ...) -> None: ...

class StandingTerms(_message.Message):
    __slots__ = ("free_columns", "uses", "days", "epsilon_nano", "price_micro")
    FREE_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    EPSILON_NANO_FIELD_NUMBER: _ClassVar[int]
    PRICE_MICRO_FIELD_NUMBER: _ClassVar[int]
    free_columns: _containers.RepeatedScalarFieldContainer[str]
    uses: int
    days: int
    epsilon_nano: int
    price_micro: int
    def __init__(self, free_columns: _Optional[_Iterable[str]] = ..., uses: _Optional[int] = ..., days: _Optional[int] = ..., epsilon_nano: _Optional[int] = ..., price_micro: _Optional[int] = ...) -> None: ...

class ApplyPolicyRequest(_message.Message):
    __slots__ = ("documents", "dry_run", "expected_digest", "idempotency_key", "plan_hash")
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_DIGEST_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    PLAN_HASH_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedScalarFieldContainer[str]
    dry_run: bool
    expected_digest: str
    idempotency_key: str
    plan_hash: str
    def __init__(self, documents: _Optional[_Iterable[str]] = ..., dry_run: bool = ..., expected_digest: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., plan_hash: _Optional[str] = ...) -> None: ...

class ApplyPolicyResponse(_message.Message):
    __slots__ = ("changes", "old_digest", "new_digest", "plan_hash")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    OLD_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NEW_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PLAN_HASH_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[PolicyChange]
    old_digest: str
    new_digest: str
    plan_hash: str
    def __init__(self, changes: _Optional[_Iterable[_Union[PolicyChange, _Mapping]]] = ..., old_digest: _Optional[str] = ..., new_digest: _Optional[str] = ..., plan_hash: _Optional[str] = ...) -> None: ...

class PolicyChange(_message.Message):
    __slots__ = ("subject", "kind", "fields", "loosens")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    LOOSENS_FIELD_NUMBER: _ClassVar[int]
    subject: str
    kind: str
    fields: _containers.RepeatedScalarFieldContainer[str]
    loosens: bool
    def __init__(self, subject: _Optional[str] = ..., kind: _Optional[str] = ..., fields: _Optional[_Iterable[str]] = ..., loosens: bool = ...) -> None: ...

class DecideApprovalRequest(_message.Message):
    __slots__ = ("approval", "approve", "reason", "idempotency_key", "standing", "revoke")
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    APPROVE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    REVOKE_FIELD_NUMBER: _ClassVar[int]
    approval: str
    approve: bool
    reason: str
    idempotency_key: str
    standing: StandingTerms
    revoke: bool
    def __init__(self, approval: _Optional[str] = ..., approve: bool = ..., reason: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., standing: _Optional[_Union[StandingTerms, _Mapping]] = ..., revoke: bool = ...) -> None: ...

class DecideApprovalResponse(_message.Message):
    __slots__ = ("approval",)
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    approval: Approval
    def __init__(self, approval: _Optional[_Union[Approval, _Mapping]] = ...) -> None: ...

class SetSuspensionRequest(_message.Message):
    __slots__ = ("scope", "name", "suspended", "reason", "idempotency_key")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SUSPENDED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    scope: SuspensionScope
    name: str
    suspended: bool
    reason: str
    idempotency_key: str
    def __init__(self, scope: _Optional[_Union[SuspensionScope, str]] = ..., name: _Optional[str] = ..., suspended: bool = ..., reason: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class SetSuspensionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSuspensionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSuspensionsResponse(_message.Message):
    __slots__ = ("suspensions",)
    SUSPENSIONS_FIELD_NUMBER: _ClassVar[int]
    suspensions: _containers.RepeatedCompositeFieldContainer[Suspension]
    def __init__(self, suspensions: _Optional[_Iterable[_Union[Suspension, _Mapping]]] = ...) -> None: ...

class Suspension(_message.Message):
    __slots__ = ("scope", "name", "since")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    scope: SuspensionScope
    name: str
    since: _timestamp_pb2.Timestamp
    def __init__(self, scope: _Optional[_Union[SuspensionScope, str]] = ..., name: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SetContractStateRequest(_message.Message):
    __slots__ = ("contract", "state", "reason", "idempotency_key")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    contract: str
    state: ContractState
    reason: str
    idempotency_key: str
    def __init__(self, contract: _Optional[str] = ..., state: _Optional[_Union[ContractState, str]] = ..., reason: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class SetContractStateResponse(_message.Message):
    __slots__ = ("contract",)
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    contract: Contract
    def __init__(self, contract: _Optional[_Union[Contract, _Mapping]] = ...) -> None: ...

class ActivateSnapshotRequest(_message.Message):
    __slots__ = ("dataset", "snapshot", "manifest_digest", "idempotency_key")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    snapshot: int
    manifest_digest: str
    idempotency_key: str
    def __init__(self, dataset: _Optional[str] = ..., snapshot: _Optional[int] = ..., manifest_digest: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class ActivateSnapshotResponse(_message.Message):
    __slots__ = ("leaf_index",)
    LEAF_INDEX_FIELD_NUMBER: _ClassVar[int]
    leaf_index: int
    def __init__(self, leaf_index: _Optional[int] = ...) -> None: ...
