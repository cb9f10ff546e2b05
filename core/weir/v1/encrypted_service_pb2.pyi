from weir.v1 import query_service_pb2 as _query_service_pb2
from weir.v1 import receipt_pb2 as _receipt_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RegisterPublicKeyRequest(_message.Message):
    __slots__ = ("modulus", "proof")
    MODULUS_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    modulus: bytes
    proof: bytes
    def __init__(self, modulus: _Optional[bytes] = ..., proof: _Optional[bytes] = ...) -> None: ...

class RegisterPublicKeyResponse(_message.Message):
    __slots__ = ("key_id",)
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    def __init__(self, key_id: _Optional[str] = ...) -> None: ...

class RunEncryptedQueryRequest(_message.Message):
    __slots__ = ("header", "weights")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    header: EncryptedQueryHeader
    weights: bytes
    def __init__(self, header: _Optional[_Union[EncryptedQueryHeader, _Mapping]] = ..., weights: _Optional[bytes] = ...) -> None: ...

class EncryptedQueryHeader(_message.Message):
    __slots__ = ("envelope", "idempotency_key", "key_id", "weights", "weight_bits")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BITS_FIELD_NUMBER: _ClassVar[int]
    envelope: _query_service_pb2.QueryEnvelope
    idempotency_key: str
    key_id: str
    weights: int
    weight_bits: int
    def __init__(self, envelope: _Optional[_Union[_query_service_pb2.QueryEnvelope, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., key_id: _Optional[str] = ..., weights: _Optional[int] = ..., weight_bits: _Optional[int] = ...) -> None: ...

class RunEncryptedQueryResponse(_message.Message):
    __slots__ = ("accepted", "results", "completed")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    accepted: HeaderAccepted
    results: bytes
    completed: EncryptedResult
    def __init__(self, accepted: _Optional[_Union[HeaderAccepted, _Mapping]] = ..., results: _Optional[bytes] = ..., completed: _Optional[_Union[EncryptedResult, _Mapping]] = ...) -> None: ...

class HeaderAccepted(_message.Message):
    __slots__ = ("cells",)
    CELLS_FIELD_NUMBER: _ClassVar[int]
    cells: int
    def __init__(self, cells: _Optional[int] = ...) -> None: ...

class EncryptedResult(_message.Message):
    __slots__ = ("answer", "receipt")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    answer: bytes
    receipt: _receipt_pb2.Receipt
    def __init__(self, answer: _Optional[bytes] = ..., receipt: _Optional[_Union[_receipt_pb2.Receipt, _Mapping]] = ...) -> None: ...

class EncryptedAnswer(_message.Message):
    __slots__ = ("table", "key_id", "reply_bits", "results_digest", "slots", "slot_bits", "max_addends")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    REPLY_BITS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    SLOT_BITS_FIELD_NUMBER: _ClassVar[int]
    MAX_ADDENDS_FIELD_NUMBER: _ClassVar[int]
    table: bytes
    key_id: str
    reply_bits: int
    results_digest: bytes
    slots: int
    slot_bits: int
    max_addends: int
    def __init__(self, table: _Optional[bytes] = ..., key_id: _Optional[str] = ..., reply_bits: _Optional[int] = ..., results_digest: _Optional[bytes] = ..., slots: _Optional[int] = ..., slot_bits: _Optional[int] = ..., max_addends: _Optional[int] = ...) -> None: ...

class RunSealedQueryRequest(_message.Message):
    __slots__ = ("envelope", "idempotency_key", "key_id", "max_addends")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_ADDENDS_FIELD_NUMBER: _ClassVar[int]
    envelope: _query_service_pb2.QueryEnvelope
    idempotency_key: str
    key_id: str
    max_addends: int
    def __init__(self, envelope: _Optional[_Union[_query_service_pb2.QueryEnvelope, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., key_id: _Optional[str] = ..., max_addends: _Optional[int] = ...) -> None: ...

class RunSealedQueryResponse(_message.Message):
    __slots__ = ("results", "completed")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    results: bytes
    completed: EncryptedResult
    def __init__(self, results: _Optional[bytes] = ..., completed: _Optional[_Union[EncryptedResult, _Mapping]] = ...) -> None: ...
