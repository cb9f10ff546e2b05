# SPDX-License-Identifier: Apache-2.0
"""What several records share: values of cells, exact decimals, names of enumerations, prices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from weir.v1 import (
    answer_pb2,
    catalogue_service_pb2,
    policy_service_pb2,
    query_pb2,
)

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp


CellValue = bool | int | Decimal | str | None
"""Value of a dimension; None for the null cell."""


_MODES = {answer_pb2.MODE_EXACT: "exact", answer_pb2.MODE_DP: "dp", answer_pb2.MODE_ENCRYPTED: "encrypted"}


@dataclass(frozen=True, slots=True)
class RateCard:
    """Prices in micro-units of `currency`."""

    currency: str
    per_query_micro: int
    per_cell_micro: int
    per_epsilon_micro: int
    per_encrypted_operation_micro: int


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


def rates_of(message: policy_service_pb2.RateCard) -> RateCard:
    """Prices as they are told."""
    names = "currency per_query_micro per_cell_micro per_epsilon_micro per_encrypted_operation_micro"
    return RateCard(**texts_of(message, names))


def texts_of(message: Any, names: str) -> dict[str, Any]:
    """Members that keep their name and value."""
    return {name: getattr(message, name) for name in names.split()}


def time_of(message: Any, name: str) -> datetime | None:
    """A time of a message; None where it is unset."""
    if not message.HasField(name):
        return None
    stamp: Timestamp = getattr(message, name)
    return datetime.fromisoformat(stamp.ToJsonString())


def grade_name(number: int) -> str:
    """`general`, `important`, `core` or `unspecified`."""
    return catalogue_service_pb2.Grade.Name(number).removeprefix("GRADE_").lower()


def function_name(number: int) -> str:
    """`count`, `sum`, …"""
    name = query_pb2.AggregateFunction.Name(number)
    return name.removeprefix("AGGREGATE_FUNCTION_").lower()
