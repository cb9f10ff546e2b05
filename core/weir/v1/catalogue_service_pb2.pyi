import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from weir.v1 import answer_pb2 as _answer_pb2
from weir.v1 import policy_service_pb2 as _policy_service_pb2
from weir.v1 import query_pb2 as _query_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Grade(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GRADE_UNSPECIFIED: _ClassVar[Grade]
    GRADE_GENERAL: _ClassVar[Grade]
    GRADE_IMPORTANT: _ClassVar[Grade]
    GRADE_CORE: _ClassVar[Grade]
GRADE_UNSPECIFIED: Grade
GRADE_GENERAL: Grade
GRADE_IMPORTANT: Grade
GRADE_CORE: Grade

class ExportCatalogueRequest(_message.Message):
    __slots__ = ("format", "dataset")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    format: str
    dataset: str
    def __init__(self, format: _Optional[str] = ..., dataset: _Optional[str] = ...) -> None: ...

class ExportCatalogueResponse(_message.Message):
    __slots__ = ("document",)
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    document: str
    def __init__(self, document: _Optional[str] = ...) -> None: ...

class ListDatasetsRequest(_message.Message):
    __slots__ = ("search", "page_size", "page_token")
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    search: str
    page_size: int
    page_token: str
    def __init__(self, search: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDatasetsResponse(_message.Message):
    __slots__ = ("datasets", "next_page_token")
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    datasets: _containers.RepeatedCompositeFieldContainer[Dataset]
    next_page_token: str
    def __init__(self, datasets: _Optional[_Iterable[_Union[Dataset, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetDatasetRequest(_message.Message):
    __slots__ = ("dataset",)
    DATASET_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    def __init__(self, dataset: _Optional[str] = ...) -> None: ...

class GetDatasetResponse(_message.Message):
    __slots__ = ("dataset",)
    DATASET_FIELD_NUMBER: _ClassVar[int]
    dataset: Dataset
    def __init__(self, dataset: _Optional[_Union[Dataset, _Mapping]] = ...) -> None: ...

class Dataset(_message.Message):
    __slots__ = ("name", "title", "description", "grade", "grading_scheme", "personal_information", "legal_basis", "responsible", "provenance", "unit", "dimensions", "measures", "modes", "snapshots", "lineage", "keywords", "privacy_account", "unit_namespace", "derived_from", "effective_grade", "certified_until", "processing_basis", "basis_digest", "quality", "update_frequency", "list_rates")
    class QualityEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    GRADE_FIELD_NUMBER: _ClassVar[int]
    GRADING_SCHEME_FIELD_NUMBER: _ClassVar[int]
    PERSONAL_INFORMATION_FIELD_NUMBER: _ClassVar[int]
    LEGAL_BASIS_FIELD_NUMBER: _ClassVar[int]
    RESPONSIBLE_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    MODES_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    KEYWORDS_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    UNIT_NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    DERIVED_FROM_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_GRADE_FIELD_NUMBER: _ClassVar[int]
    CERTIFIED_UNTIL_FIELD_NUMBER: _ClassVar[int]
    PROCESSING_BASIS_FIELD_NUMBER: _ClassVar[int]
    BASIS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FREQUENCY_FIELD_NUMBER: _ClassVar[int]
    LIST_RATES_FIELD_NUMBER: _ClassVar[int]
    name: str
    title: str
    description: str
    grade: Grade
    grading_scheme: str
    personal_information: bool
    legal_basis: str
    responsible: str
    provenance: str
    unit: str
    dimensions: _containers.RepeatedCompositeFieldContainer[Dimension]
    measures: _containers.RepeatedCompositeFieldContainer[Measure]
    modes: _containers.RepeatedScalarFieldContainer[_answer_pb2.Mode]
    snapshots: _containers.RepeatedCompositeFieldContainer[Snapshot]
    lineage: str
    keywords: _containers.RepeatedScalarFieldContainer[str]
    privacy_account: PrivacyAccount
    unit_namespace: str
    derived_from: _containers.RepeatedScalarFieldContainer[str]
    effective_grade: Grade
    certified_until: _timestamp_pb2.Timestamp
    processing_basis: str
    basis_digest: str
    quality: _containers.ScalarMap[str, str]
    update_frequency: str
    list_rates: _policy_service_pb2.RateCard
    def __init__(self, name: _Optional[str] = ..., title: _Optional[str] = ..., description: _Optional[str] = ..., grade: _Optional[_Union[Grade, str]] = ..., grading_scheme: _Optional[str] = ..., personal_information: bool = ..., legal_basis: _Optional[str] = ..., responsible: _Optional[str] = ..., provenance: _Optional[str] = ..., unit: _Optional[str] = ..., dimensions: _Optional[_Iterable[_Union[Dimension, _Mapping]]] = ..., measures: _Optional[_Iterable[_Union[Measure, _Mapping]]] = ..., modes: _Optional[_Iterable[_Union[_answer_pb2.Mode, str]]] = ..., snapshots: _Optional[_Iterable[_Union[Snapshot, _Mapping]]] = ..., lineage: _Optional[str] = ..., keywords: _Optional[_Iterable[str]] = ..., privacy_account: _Optional[_Union[PrivacyAccount, _Mapping]] = ..., unit_namespace: _Optional[str] = ..., derived_from: _Optional[_Iterable[str]] = ..., effective_grade: _Optional[_Union[Grade, str]] = ..., certified_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., processing_basis: _Optional[str] = ..., basis_digest: _Optional[str] = ..., quality: _Optional[_Mapping[str, str]] = ..., update_frequency: _Optional[str] = ..., list_rates: _Optional[_Union[_policy_service_pb2.RateCard, _Mapping]] = ...) -> None: ...

class PrivacyAccount(_message.Message):
    __slots__ = ("accounting", "lifetime", "delta_digits")
    ACCOUNTING_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_FIELD_NUMBER: _ClassVar[int]
    DELTA_DIGITS_FIELD_NUMBER: _ClassVar[int]
    accounting: str
    lifetime: int
    delta_digits: int
    def __init__(self, accounting: _Optional[str] = ..., lifetime: _Optional[int] = ..., delta_digits: _Optional[int] = ...) -> None: ...

class Dimension(_message.Message):
    __slots__ = ("name", "title", "type", "cells", "row_level", "coarsens", "grade", "grading_scheme")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    ROW_LEVEL_FIELD_NUMBER: _ClassVar[int]
    COARSENS_FIELD_NUMBER: _ClassVar[int]
    GRADE_FIELD_NUMBER: _ClassVar[int]
    GRADING_SCHEME_FIELD_NUMBER: _ClassVar[int]
    name: str
    title: str
    type: str
    cells: _containers.RepeatedCompositeFieldContainer[DimensionCell]
    row_level: bool
    coarsens: str
    grade: Grade
    grading_scheme: str
    def __init__(self, name: _Optional[str] = ..., title: _Optional[str] = ..., type: _Optional[str] = ..., cells: _Optional[_Iterable[_Union[DimensionCell, _Mapping]]] = ..., row_level: bool = ..., coarsens: _Optional[str] = ..., grade: _Optional[_Union[Grade, str]] = ..., grading_scheme: _Optional[str] = ...) -> None: ...

class DimensionCell(_message.Message):
    __slots__ = ("value", "label")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    value: _query_pb2.Literal
    label: str
    def __init__(self, value: _Optional[_Union[_query_pb2.Literal, _Mapping]] = ..., label: _Optional[str] = ...) -> None: ...

class Measure(_message.Message):
    __slots__ = ("name", "title", "unit", "lower", "upper", "scale", "mode", "buckets", "grade", "aggregates", "grading_scheme")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    LOWER_FIELD_NUMBER: _ClassVar[int]
    UPPER_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    GRADE_FIELD_NUMBER: _ClassVar[int]
    AGGREGATES_FIELD_NUMBER: _ClassVar[int]
    GRADING_SCHEME_FIELD_NUMBER: _ClassVar[int]
    name: str
    title: str
    unit: str
    lower: str
    upper: str
    scale: int
    mode: _answer_pb2.Mode
    buckets: _containers.RepeatedCompositeFieldContainer[_answer_pb2.Bucket]
    grade: Grade
    aggregates: _containers.RepeatedScalarFieldContainer[_query_pb2.AggregateFunction]
    grading_scheme: str
    def __init__(self, name: _Optional[str] = ..., title: _Optional[str] = ..., unit: _Optional[str] = ..., lower: _Optional[str] = ..., upper: _Optional[str] = ..., scale: _Optional[int] = ..., mode: _Optional[_Union[_answer_pb2.Mode, str]] = ..., buckets: _Optional[_Iterable[_Union[_answer_pb2.Bucket, _Mapping]]] = ..., grade: _Optional[_Union[Grade, str]] = ..., aggregates: _Optional[_Iterable[_Union[_query_pb2.AggregateFunction, str]]] = ..., grading_scheme: _Optional[str] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("version", "published", "manifest_digest")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    version: int
    published: _timestamp_pb2.Timestamp
    manifest_digest: str
    def __init__(self, version: _Optional[int] = ..., published: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., manifest_digest: _Optional[str] = ...) -> None: ...
