from weir.v1 import answer_pb2 as _answer_pb2
from weir.v1 import query_pb2 as _query_pb2
from weir.v1 import receipt_pb2 as _receipt_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_ALLOW: _ClassVar[Verdict]
    VERDICT_NEEDS_APPROVAL: _ClassVar[Verdict]
    VERDICT_DENY: _ClassVar[Verdict]
VERDICT_UNSPECIFIED: Verdict
VERDICT_ALLOW: Verdict
VERDICT_NEEDS_APPROVAL: Verdict
VERDICT_DENY: Verdict

class QueryEnvelope(_message.Message):
    __slots__ = ("query", "contract", "purpose", "mode", "epsilon_nano", "accuracy", "max_price_micro")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    EPSILON_NANO_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    MAX_PRICE_MICRO_FIELD_NUMBER: _ClassVar[int]
    query: _query_pb2.Query
    contract: str
    purpose: str
    mode: _answer_pb2.Mode
    epsilon_nano: int
    accuracy: Accuracy
    max_price_micro: int
    def __init__(self, query: _Optional[_Union[_query_pb2.Query, _Mapping]] = ..., contract: _Optional[str] = ..., purpose: _Optional[str] = ..., mode: _Optional[_Union[_answer_pb2.Mode, str]] = ..., epsilon_nano: _Optional[int] = ..., accuracy: _Optional[_Union[Accuracy, _Mapping]] = ..., max_price_micro: _Optional[int] = ...) -> None: ...

class Accuracy(_message.Message):
    __slots__ = ("within",)
    WITHIN_FIELD_NUMBER: _ClassVar[int]
    within: str
    def __init__(self, within: _Optional[str] = ...) -> None: ...

class EstimateQueryRequest(_message.Message):
    __slots__ = ("envelope",)
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    envelope: QueryEnvelope
    def __init__(self, envelope: _Optional[_Union[QueryEnvelope, _Mapping]] = ...) -> None: ...

class EstimateQueryResponse(_message.Message):
    __slots__ = ("decision", "epsilon_nano", "cells", "price_micro", "sticky", "noise", "snapshot", "policy_digest", "plan_digest", "rho_micro", "exposures")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    EPSILON_NANO_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    PRICE_MICRO_FIELD_NUMBER: _ClassVar[int]
    STICKY_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PLAN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RHO_MICRO_FIELD_NUMBER: _ClassVar[int]
    EXPOSURES_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    epsilon_nano: int
    cells: int
    price_micro: int
    sticky: bool
    noise: _containers.RepeatedCompositeFieldContainer[_answer_pb2.Noise]
    snapshot: int
    policy_digest: str
    plan_digest: str
    rho_micro: int
    exposures: _containers.RepeatedCompositeFieldContainer[Exposure]
    def __init__(self, decision: _Optional[_Union[Decision, _Mapping]] = ..., epsilon_nano: _Optional[int] = ..., cells: _Optional[int] = ..., price_micro: _Optional[int] = ..., sticky: bool = ..., noise: _Optional[_Iterable[_Union[_answer_pb2.Noise, _Mapping]]] = ..., snapshot: _Optional[int] = ..., policy_digest: _Optional[str] = ..., plan_digest: _Optional[str] = ..., rho_micro: _Optional[int] = ..., exposures: _Optional[_Iterable[_Union[Exposure, _Mapping]]] = ...) -> None: ...

class Exposure(_message.Message):
    __slots__ = ("scope", "name", "metric", "limit", "used", "adds", "datasets")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    ADDS_FIELD_NUMBER: _ClassVar[int]
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    scope: str
    name: str
    metric: str
    limit: int
    used: int
    adds: int
    datasets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, scope: _Optional[str] = ..., name: _Optional[str] = ..., metric: _Optional[str] = ..., limit: _Optional[int] = ..., used: _Optional[int] = ..., adds: _Optional[int] = ..., datasets: _Optional[_Iterable[str]] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("verdict", "reasons")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    verdict: Verdict
    reasons: _containers.RepeatedCompositeFieldContainer[DecisionReason]
    def __init__(self, verdict: _Optional[_Union[Verdict, str]] = ..., reasons: _Optional[_Iterable[_Union[DecisionReason, _Mapping]]] = ...) -> None: ...

class DecisionReason(_message.Message):
    __slots__ = ("code", "sentence")
    CODE_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    code: str
    sentence: str
    def __init__(self, code: _Optional[str] = ..., sentence: _Optional[str] = ...) -> None: ...

class RunQueryRequest(_message.Message):
    __slots__ = ("envelope", "idempotency_key")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    envelope: QueryEnvelope
    idempotency_key: str
    def __init__(self, envelope: _Optional[_Union[QueryEnvelope, _Mapping]] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class RunQueryResponse(_message.Message):
    __slots__ = ("answer", "receipt")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    answer: bytes
    receipt: _receipt_pb2.Receipt
    def __init__(self, answer: _Optional[bytes] = ..., receipt: _Optional[_Union[_receipt_pb2.Receipt, _Mapping]] = ...) -> None: ...

class RunSandboxQueryRequest(_message.Message):
    __slots__ = ("envelope",)
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    envelope: QueryEnvelope
    def __init__(self, envelope: _Optional[_Union[QueryEnvelope, _Mapping]] = ...) -> None: ...

class RunSandboxQueryResponse(_message.Message):
    __slots__ = ("answer",)
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    answer: bytes
    def __init__(self, answer: _Optional[bytes] = ...) -> None: ...

class ListReceiptsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListReceiptsResponse(_message.Message):
    __slots__ = ("receipts", "next_page_token")
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    receipts: _containers.RepeatedCompositeFieldContainer[_receipt_pb2.Receipt]
    next_page_token: str
    def __init__(self, receipts: _Optional[_Iterable[_Union[_receipt_pb2.Receipt, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
