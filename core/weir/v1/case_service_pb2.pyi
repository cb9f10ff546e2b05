import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CaseKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CASE_KIND_UNSPECIFIED: _ClassVar[CaseKind]
    CASE_KIND_COMPLAINT: _ClassVar[CaseKind]
    CASE_KIND_INCIDENT: _ClassVar[CaseKind]
    CASE_KIND_DISPUTE: _ClassVar[CaseKind]

class CaseState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CASE_STATE_UNSPECIFIED: _ClassVar[CaseState]
    CASE_STATE_RECEIVED: _ClassVar[CaseState]
    CASE_STATE_ACCEPTED: _ClassVar[CaseState]
    CASE_STATE_HANDLED: _ClassVar[CaseState]
    CASE_STATE_CLOSED: _ClassVar[CaseState]
CASE_KIND_UNSPECIFIED: CaseKind
CASE_KIND_COMPLAINT: CaseKind
CASE_KIND_INCIDENT: CaseKind
CASE_KIND_DISPUTE: CaseKind
CASE_STATE_UNSPECIFIED: CaseState
CASE_STATE_RECEIVED: CaseState
CASE_STATE_ACCEPTED: CaseState
CASE_STATE_HANDLED: CaseState
CASE_STATE_CLOSED: CaseState

class Case(_message.Message):
    __slots__ = ("id", "kind", "state", "opened_by", "opened_role", "contract", "dataset", "against", "entries", "statement", "opened", "frozen", "steps")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OPENED_BY_FIELD_NUMBER: _ClassVar[int]
    OPENED_ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    AGAINST_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: CaseKind
    state: CaseState
    opened_by: str
    opened_role: str
    contract: str
    dataset: str
    against: str
    entries: _containers.RepeatedScalarFieldContainer[int]
    statement: str
    opened: _timestamp_pb2.Timestamp
    frozen: bool
    steps: _containers.RepeatedCompositeFieldContainer[CaseStep]
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[_Union[CaseKind, str]] = ..., state: _Optional[_Union[CaseState, str]] = ..., opened_by: _Optional[str] = ..., opened_role: _Optional[str] = ..., contract: _Optional[str] = ..., dataset: _Optional[str] = ..., against: _Optional[str] = ..., entries: _Optional[_Iterable[int]] = ..., statement: _Optional[str] = ..., opened: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., frozen: bool = ..., steps: _Optional[_Iterable[_Union[CaseStep, _Mapping]]] = ...) -> None: ...

class CaseStep(_message.Message):
    __slots__ = ("state", "actor", "at", "note", "leaf_index")
    STATE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    LEAF_INDEX_FIELD_NUMBER: _ClassVar[int]
    state: CaseState
    actor: str
    at: _timestamp_pb2.Timestamp
    note: str
    leaf_index: int
    def __init__(self, state: _Optional[_Union[CaseState, str]] = ..., actor: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., note: _Optional[str] = ..., leaf_index: _Optional[int] = ...) -> None: ...

class OpenCaseRequest(_message.Message):
    __slots__ = ("kind", "contract", "dataset", "against", "entries", "statement", "idempotency_key")
    KIND_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    AGAINST_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    kind: CaseKind
    contract: str
    dataset: str
    against: str
    entries: _containers.RepeatedScalarFieldContainer[int]
    statement: str
    idempotency_key: str
    def __init__(self, kind: _Optional[_Union[CaseKind, str]] = ..., contract: _Optional[str] = ..., dataset: _Optional[str] = ..., against: _Optional[str] = ..., entries: _Optional[_Iterable[int]] = ..., statement: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class OpenCaseResponse(_message.Message):
    __slots__ = ("case",)
    CASE_FIELD_NUMBER: _ClassVar[int]
    case: Case
    def __init__(self, case: _Optional[_Union[Case, _Mapping]] = ...) -> None: ...

class ListCasesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListCasesResponse(_message.Message):
    __slots__ = ("cases", "next_page_token")
    CASES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    cases: _containers.RepeatedCompositeFieldContainer[Case]
    next_page_token: str
    def __init__(self, cases: _Optional[_Iterable[_Union[Case, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class AdvanceCaseRequest(_message.Message):
    __slots__ = ("case", "state", "note", "freeze", "idempotency_key")
    CASE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    FREEZE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    case: str
    state: CaseState
    note: str
    freeze: bool
    idempotency_key: str
    def __init__(self, case: _Optional[str] = ..., state: _Optional[_Union[CaseState, str]] = ..., note: _Optional[str] = ..., freeze: bool = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class AdvanceCaseResponse(_message.Message):
    __slots__ = ("case",)
    CASE_FIELD_NUMBER: _ClassVar[int]
    case: Case
    def __init__(self, case: _Optional[_Union[Case, _Mapping]] = ...) -> None: ...

class GetEvidenceRequest(_message.Message):
    __slots__ = ("case",)
    CASE_FIELD_NUMBER: _ClassVar[int]
    case: str
    def __init__(self, case: _Optional[str] = ...) -> None: ...

class GetEvidenceResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...
