from weir.v1 import query_pb2 as _query_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_EXACT: _ClassVar[Mode]
    MODE_DP: _ClassVar[Mode]
    MODE_ENCRYPTED: _ClassVar[Mode]
MODE_UNSPECIFIED: Mode
MODE_EXACT: Mode
MODE_DP: Mode
MODE_ENCRYPTED: Mode

class Answer(_message.Message):
    __slots__ = ("dataset", "snapshot", "mode", "keys", "values", "coverage", "epsilon_nano", "sticky", "rho_micro", "delta_digits", "sandbox")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    EPSILON_NANO_FIELD_NUMBER: _ClassVar[int]
    STICKY_FIELD_NUMBER: _ClassVar[int]
    RHO_MICRO_FIELD_NUMBER: _ClassVar[int]
    DELTA_DIGITS_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    snapshot: int
    mode: Mode
    keys: _containers.RepeatedCompositeFieldContainer[KeyColumn]
    values: _containers.RepeatedCompositeFieldContainer[ValueColumn]
    coverage: Coverage
    epsilon_nano: int
    sticky: bool
    rho_micro: int
    delta_digits: int
    sandbox: bool
    def __init__(self, dataset: _Optional[str] = ..., snapshot: _Optional[int] = ..., mode: _Optional[_Union[Mode, str]] = ..., keys: _Optional[_Iterable[_Union[KeyColumn, _Mapping]]] = ..., values: _Optional[_Iterable[_Union[ValueColumn, _Mapping]]] = ..., coverage: _Optional[_Union[Coverage, _Mapping]] = ..., epsilon_nano: _Optional[int] = ..., sticky: bool = ..., rho_micro: _Optional[int] = ..., delta_digits: _Optional[int] = ..., sandbox: bool = ...) -> None: ...

class KeyColumn(_message.Message):
    __slots__ = ("name", "cells")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    name: str
    cells: _containers.RepeatedCompositeFieldContainer[_query_pb2.Literal]
    def __init__(self, name: _Optional[str] = ..., cells: _Optional[_Iterable[_Union[_query_pb2.Literal, _Mapping]]] = ...) -> None: ...

class ValueColumn(_message.Message):
    __slots__ = ("name", "unit", "numerators", "denominators", "scale", "square_root", "noise", "bucket")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    NUMERATORS_FIELD_NUMBER: _ClassVar[int]
    DENOMINATORS_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    SQUARE_ROOT_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    name: str
    unit: str
    numerators: _containers.RepeatedScalarFieldContainer[str]
    denominators: _containers.RepeatedScalarFieldContainer[str]
    scale: int
    square_root: bool
    noise: Noise
    bucket: Bucket
    def __init__(self, name: _Optional[str] = ..., unit: _Optional[str] = ..., numerators: _Optional[_Iterable[str]] = ..., denominators: _Optional[_Iterable[str]] = ..., scale: _Optional[int] = ..., square_root: bool = ..., noise: _Optional[_Union[Noise, _Mapping]] = ..., bucket: _Optional[_Union[Bucket, _Mapping]] = ...) -> None: ...

class Bucket(_message.Message):
    __slots__ = ("lower", "upper")
    LOWER_FIELD_NUMBER: _ClassVar[int]
    UPPER_FIELD_NUMBER: _ClassVar[int]
    lower: str
    upper: str
    def __init__(self, lower: _Optional[str] = ..., upper: _Optional[str] = ...) -> None: ...

class Noise(_message.Message):
    __slots__ = ("distribution", "scale", "epsilon_nano", "sensitivity", "interval95", "rho_micro")
    DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    EPSILON_NANO_FIELD_NUMBER: _ClassVar[int]
    SENSITIVITY_FIELD_NUMBER: _ClassVar[int]
    INTERVAL95_FIELD_NUMBER: _ClassVar[int]
    RHO_MICRO_FIELD_NUMBER: _ClassVar[int]
    distribution: str
    scale: str
    epsilon_nano: int
    sensitivity: str
    interval95: str
    rho_micro: int
    def __init__(self, distribution: _Optional[str] = ..., scale: _Optional[str] = ..., epsilon_nano: _Optional[int] = ..., sensitivity: _Optional[str] = ..., interval95: _Optional[str] = ..., rho_micro: _Optional[int] = ...) -> None: ...

class Coverage(_message.Message):
    __slots__ = ("covered", "left_out", "covered_total", "left_out_total")
    COVERED_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    COVERED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_TOTAL_FIELD_NUMBER: _ClassVar[int]
    covered: _containers.RepeatedScalarFieldContainer[str]
    left_out: _containers.RepeatedScalarFieldContainer[str]
    covered_total: str
    left_out_total: str
    def __init__(self, covered: _Optional[_Iterable[str]] = ..., left_out: _Optional[_Iterable[str]] = ..., covered_total: _Optional[str] = ..., left_out_total: _Optional[str] = ...) -> None: ...
