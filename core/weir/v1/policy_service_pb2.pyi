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

class ApprovalState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APPROVAL_STATE_UNSPECIFIED: _ClassVar[ApprovalState]
    APPROVAL_STATE_WAITING: _ClassVar[ApprovalState]
    APPROVAL_STATE_APPROVED: _ClassVar[ApprovalState]
    APPROVAL_STATE_REJECTED: _ClassVar[ApprovalState]
    APPROVAL_STATE_USED: _ClassVar[ApprovalState]
    APPROVAL_STATE_EXPIRED: _ClassVar[ApprovalState]

class SuspensionScope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SUSPENSION_SCOPE_UNSPECIFIED: _ClassVar[SuspensionScope]
    SUSPENSION_SCOPE_REQUESTER: _ClassVar[SuspensionScope]
    SUSPENSION_SCOPE_CONTRACT: _ClassVar[SuspensionScope]
    SUSPENSION_SCOPE_DATASET: _ClassVar[SuspensionScope]
    SUSPENSION_SCOPE_ALL: _ClassVar[SuspensionScope]
APPROVAL_STATE_UNSPECIFIED: ApprovalState
APPROVAL_STATE_WAITING: ApprovalState
APPROVAL_STATE_APPROVED: ApprovalState
APPROVAL_STATE_REJECTED: ApprovalState
APPROVAL_STATE_USED: ApprovalState
APPROVAL_STATE_EXPIRED: ApprovalState
SUSPENSION_SCOPE_UNSPECIFIED: SuspensionScope
SUSPENSION_SCOPE_REQUESTER: SuspensionScope
SUSPENSION_SCOPE_CONTRACT: SuspensionScope
SUSPENSION_SCOPE_DATASET: SuspensionScope
SUSPENSION_SCOPE_ALL: SuspensionScope

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
    __slots__ = ("id", "title", "provider", "requester", "dataset", "purposes", "modes", "dimensions", "measures", "aggregates", "epsilon_nano", "epsilon_per_query_nano", "valid_from", "valid_until", "approval", "rates", "digest", "seal_to", "rho_micro", "rho_per_query_micro")
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
    def __init__(self, id: _Optional[str] = ..., title: _Optional[str] = ..., provider: _Optional[str] = ..., requester: _Optional[str] = ..., dataset: _Optional[str] = ..., purposes: _Optional[_Iterable[str]] = ..., modes: _Optional[_Iterable[str]] = ..., dimensions: _Optional[_Iterable[str]] = ..., measures: _Optional[_Iterable[str]] = ..., aggregates: _Optional[_Iterable[_Union[_query_pb2.AggregateFunction, str]]] = ..., epsilon_nano: _Optional[int] = ..., epsilon_per_query_nano: _Optional[int] = ..., valid_from: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., valid_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., approval: _Optional[str] = ..., rates: _Optional[_Union[RateCard, _Mapping]] = ..., digest: _Optional[str] = ..., seal_to: _Optional[_Iterable[str]] = ..., rho_micro: _Optional[int] = ..., rho_per_query_micro: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("id", "state", "requester", "contract", "query", "plan_digest", "epsilon_nano", "price_micro", "requested", "expires", "decided_by", "purpose", "mode", "snapshot", "key_id", "key_owners", "weight_bits")
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
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[ApprovalState, str]] = ..., requester: _Optional[str] = ..., contract: _Optional[str] = ..., query: _Optional[str] = ..., plan_digest: _Optional[str] = ..., epsilon_nano: _Optional[int] = ..., price_micro: _Optional[int] = ..., requested: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., decided_by: _Optional[str] = ..., purpose: _Optional[str] = ..., mode: _Optional[str] = ..., snapshot: _Optional[int] = ..., key_id: _Optional[str] = ..., key_owners: _Optional[_Iterable[str]] = ..., weight_bits: _Optional[int] = ...) -> None: ...

class ApplyPolicyRequest(_message.Message):
    __slots__ = ("documents", "dry_run", "expected_digest", "idempotency_key")
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_DIGEST_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedScalarFieldContainer[str]
    dry_run: bool
    expected_digest: str
    idempotency_key: str
    def __init__(self, documents: _Optional[_Iterable[str]] = ..., dry_run: bool = ..., expected_digest: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class ApplyPolicyResponse(_message.Message):
    __slots__ = ("changes", "old_digest", "new_digest")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    OLD_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NEW_DIGEST_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[PolicyChange]
    old_digest: str
    new_digest: str
    def __init__(self, changes: _Optional[_Iterable[_Union[PolicyChange, _Mapping]]] = ..., old_digest: _Optional[str] = ..., new_digest: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("approval", "approve", "reason", "idempotency_key")
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    APPROVE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    approval: str
    approve: bool
    reason: str
    idempotency_key: str
    def __init__(self, approval: _Optional[str] = ..., approve: bool = ..., reason: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

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
