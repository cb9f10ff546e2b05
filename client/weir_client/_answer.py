# SPDX-License-Identifier: Apache-2.0
"""An answer as its requester asked to see it.

Values are exact. `rows()` renders them: counts and sums over whole numbers as int, sums and quantiles over a decimal
grid as Decimal, ratios and roots (AVG, VARIANCE, STDDEV) as float, no value as None. `column(name).exact` holds every
value as a Fraction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from weir.amounts import MICRO, NANO, format_rho
from weir.errors import InvalidReceipt
from weir.v1 import answer_pb2
from weir_client import _tables
from weir_client._estimates import Noise, noise_of
from weir_client._receipts import Receipt
from weir_client._sql import Order, Output, Presentation
from weir_client._values import CellValue, exact_decimal, literal_value, mode_name

if TYPE_CHECKING:
    import pandas

_SYNTHETIC = "SANDBOX: synthetic rows, drawn from the card alone; the numbers mean nothing"
Value = CellValue | float
"""What a cell of a presented column holds."""


@dataclass(frozen=True, slots=True)
class Column:
    """One presented column."""

    name: str
    """As the SELECT list has it; HISTOGRAM adds the bucket."""
    values: tuple[Value, ...]
    """Rendered values, a row each."""
    exact: tuple[Fraction | None, ...] | None
    """Exact values; for STDDEV their squares. None for group keys."""
    unit: str = ""
    """Unit of measurement; empty for keys and counts."""
    squared: bool = False
    """True for STDDEV: `exact` holds variances."""
    noise: Noise | None = None
    """Noise in every cell; None in exact mode and for keys."""
    bucket: tuple[Decimal, Decimal] | None = None
    """For HISTOGRAM: lower and upper end."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many units an exact answer stands on, and how many lie in atoms that it only touches."""

    covered: tuple[int, ...]
    """Per row: units in atoms wholly inside filter and cell."""
    left_out: tuple[int, ...]
    """Per row: units in atoms partly inside, which do not count."""
    covered_total: int
    left_out_total: int

    @property
    def share(self) -> float:
        """Part of the touched units that is covered, 0 to 1; 1 where nothing was touched."""
        touched = self.covered_total + self.left_out_total
        return self.covered_total / touched if touched else 1.0


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """A release, presented: columns, noise, coverage, cost, and the receipt that proves its metering."""

    columns: tuple[Column, ...]
    """In the order of the SELECT list."""
    dataset: str
    snapshot: int
    mode: str
    """`exact` or `dp`."""
    epsilon_nano: int
    """Privacy loss of the release; where `delta_digits` is not 0, at delta = 10**-delta_digits."""
    rho_micro: int
    """Loss in concentrated accounting (zCDP), rounded up: what was charged; 0 under pure accounting."""
    delta_digits: int
    """0 under pure accounting, where delta is 0."""
    sticky: bool
    """Whether an earlier release was returned again, at no further privacy loss."""
    coverage: Coverage | None
    """Exact mode only."""
    sandbox: bool = False
    """True where the rows were synthetic: the numbers say nothing about anybody, and there is no receipt."""
    _receipt: Receipt | None = None
    _verify: Callable[[], Any] | None = field(default=None, compare=False)

    @property
    def receipt(self) -> Receipt:
        """Proof that the answer was metered.

        Raises:
            InvalidReceipt: the rows were synthetic; nothing was metered.
        """
        if self._receipt is None:
            raise _nothing_metered()
        return self._receipt

    @property
    def epsilon(self) -> Decimal:
        """Privacy loss of the release."""
        return Decimal(self.epsilon_nano) / NANO

    @property
    def price_micro(self) -> int | None:
        """Price charged, by the receipt's meter record, in micro-units; None where it states none."""
        if self._receipt is None:
            return None
        data = self.receipt.event.get("data")
        charge = data.get("charge") if isinstance(data, dict) else None
        price = charge.get("price_micro") if isinstance(charge, dict) else None
        return int(price) if isinstance(price, int | str) else None

    @property
    def price(self) -> Decimal | None:
        """Price charged, in the contract's currency."""
        micro = self.price_micro
        return None if micro is None else Decimal(micro) / MICRO

    @property
    def noise(self) -> dict[str, Noise]:
        """Noise by column name; empty in exact mode."""
        return {column.name: column.noise for column in self.columns if column.noise is not None}

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises:
            KeyError: there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def rows(self) -> list[tuple[Value, ...]]:
        """Rows of plain Python values (see the module's docstring for their types)."""
        return list(zip(*(column.values for column in self.columns), strict=True))

    def to_dicts(self) -> list[dict[str, Value]]:
        """Rows as dictionaries by column name."""
        return [dict(zip(self.column_names, row, strict=True)) for row in self.rows()]

    def to_pandas(self, *, exact: bool = False) -> pandas.DataFrame:
        """A data frame. Decimals become floats; with `exact=True` every value stays as it is and ratios are Fractions.
        Of a sandbox's answer, `attrs["sandbox"]` says so.

        Raises:
            ImportError: pandas is not installed; the text names the extra.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("to_pandas() needs pandas: pip install 'dataweir[pandas]'") from None
        frame = pandas.DataFrame({column.name: _series(column, exact=exact) for column in self.columns})
        if self.sandbox:
            frame.attrs["sandbox"] = _SYNTHETIC
        return frame

    def verify(self) -> Any:
        """Checks the receipt, and that its log extends the newest checkpoint this client has kept.

        Returns what `client.verify(answer)` returns: a VerifiedReceipt, or under `weir_client.aio` an awaitable of it.

        Raises:
            InvalidReceipt: the receipt is not for this answer, or does not verify; or the rows were synthetic, so that
                there is nothing to verify.
            LogInconsistent: the log was rolled back or forked; the error holds both signed checkpoints.
        """
        if self.sandbox:
            raise _nothing_metered()
        if self._verify is None:
            raise InvalidReceipt("this answer has no client; use receipt.check(log_key)", rule="receipt.client")
        return self._verify()

    def __len__(self) -> int:
        return len(self.columns[0].values)

    def __iter__(self) -> Iterator[tuple[Value, ...]]:
        return iter(self.rows())

    def __str__(self) -> str:
        return _tables.text_table(self.column_names, self.rows()) + "\n" + self._caption()

    def __repr__(self) -> str:
        names = ", ".join(self.column_names)
        kind = "SANDBOX answer of synthetic rows," if self.sandbox else "Answer"
        return f"<{kind} {self.dataset}@{self.snapshot} {self.mode}: {len(self)} rows of {names}>"

    def _repr_html_(self) -> str:
        return _tables.html_table(self.column_names, self.rows(), caption=self._caption())

    def _caption(self) -> str:
        parts = [_SYNTHETIC] if self.sandbox else []
        parts += [f"{self.dataset}@{self.snapshot}", self.mode]
        if self.mode == "dp":
            delta = f" at δ = 1e-{self.delta_digits} (ρ = {format_rho(self.rho_micro)})" if self.delta_digits else ""
            parts.append(f"ε = {self.epsilon.normalize():f}{delta}" + (" (released before)" if self.sticky else ""))
        parts += [f"{name}: ± {noise.interval95} (95 %)" for name, noise in self.noise.items() if noise.interval95]
        if self.coverage is not None and self.coverage.left_out_total:
            parts.append(f"coverage {self.coverage.share:.1%}")
        return " · ".join(parts)


def present(
    message: answer_pb2.Answer,
    presentation: Presentation,
    *,
    receipt: Receipt | None = None,
    verify: Callable[[], Any] | None = None,
) -> Answer:
    """The answer of a wire message, in the requester's columns and order. `receipt`: None for a sandbox's answer.

    Raises:
        InvalidReceipt: the message lacks a column that was asked for, or its columns differ in length.
    """
    source = _Source(message)
    order = _row_order(source, presentation)
    return Answer(
        columns=tuple(column for output in presentation.columns for column in source.columns(output, order)),
        dataset=message.dataset,
        snapshot=message.snapshot,
        mode=mode_name(message.mode),
        epsilon_nano=message.epsilon_nano,
        rho_micro=message.rho_micro,
        delta_digits=message.delta_digits,
        sticky=message.sticky,
        coverage=_coverage(message, order),
        sandbox=message.sandbox,
        _receipt=receipt,
        _verify=verify,
    )


def _nothing_metered() -> InvalidReceipt:
    return InvalidReceipt(
        "the rows were synthetic: nothing was metered, so there is no receipt and nothing to verify",
        rule="sandbox.receipt",
    )


class _Source:
    """Columns of a wire answer by name, checked for shape once."""

    def __init__(self, message: answer_pb2.Answer) -> None:
        self.keys = {column.name: [literal_value(cell) for cell in column.cells] for column in message.keys}
        self.values = {column.name: column for column in message.values}
        sizes = {len(cells) for cells in self.keys.values()} | {len(c.numerators) for c in message.values}
        if len(sizes) != 1:
            raise _malformed("its columns differ in length")
        self.size = sizes.pop()

    def key(self, dimension: str) -> list[CellValue]:
        """Values of a group key."""
        if dimension not in self.keys:
            raise _malformed(f"it has no column {dimension}")
        return self.keys[dimension]

    def parts(self, aggregate: str) -> list[answer_pb2.ValueColumn]:
        """Value columns of an aggregate: one, or one per bucket."""
        if aggregate in self.values:
            return [self.values[aggregate]]
        parts = [column for name, column in self.values.items() if name.startswith(f"{aggregate}[")]
        if not parts:
            raise _malformed(f"it has no column {aggregate}")
        return parts

    def columns(self, output: Output, order: Sequence[int]) -> list[Column]:
        """Presented columns of one item of the SELECT list."""
        if output.dimension is not None:
            cells = self.key(output.dimension)
            return [Column(output.name, tuple(cells[index] for index in order), None)]
        return [_value_column(output.name, part, order) for part in self.parts(output.aggregate or "")]


def _value_column(name: str, message: answer_pb2.ValueColumn, order: Sequence[int]) -> Column:
    values = exact_values(message)
    exact = tuple(values[index] for index in order)
    bucket = None
    if message.HasField("bucket"):
        bucket = (Decimal(message.bucket.lower), Decimal(message.bucket.upper))
        name = f"{name} [{message.bucket.lower}, {message.bucket.upper})"
    noise = noise_of(message.noise, column=name, unit=message.unit, scale=message.scale)
    return Column(
        name=name,
        values=tuple(_rendered(value, message) for value in exact),
        exact=exact,
        unit=message.unit,
        squared=message.square_root,
        noise=noise if message.HasField("noise") else None,
        bucket=bucket,
    )


def exact_values(message: answer_pb2.ValueColumn) -> list[Fraction | None]:
    """Exact values of a column (of a STDDEV column: their squares), in the order of the wire.

    Raises:
        InvalidReceipt: a number is malformed.
    """
    denominators: Sequence[str] = message.denominators or ["1"] * len(message.numerators)
    grid = 10**message.scale
    try:
        return [
            Fraction(int(numerator), int(denominator) * grid) if numerator else None
            for numerator, denominator in zip(message.numerators, denominators, strict=True)
        ]
    except (ValueError, ZeroDivisionError):
        raise _malformed("a number is malformed") from None


def _rendered(value: Fraction | None, message: answer_pb2.ValueColumn) -> Value:
    if value is None:
        return None
    if message.square_root:
        return math.sqrt(value) if value >= 0 else math.nan
    if message.denominators:
        return float(value)
    return exact_decimal(int(value * 10**message.scale), message.scale)


def _series(column: Column, *, exact: bool) -> list[Any]:
    if not exact:
        return [float(value) if isinstance(value, Decimal) else value for value in column.values]
    return list(column.values if column.exact is None or column.squared else column.exact)


def _row_order(source: _Source, presentation: Presentation) -> list[int]:
    """Row indexes as ORDER BY and LIMIT want them; ties keep the canonical order, what has no value comes last."""
    order = list(range(source.size))
    for term in reversed(presentation.order):
        keys = _sort_keys(source, term)
        present = [index for index in order if keys[index] is not None]
        absent = [index for index in order if keys[index] is None]
        order = sorted(present, key=keys.__getitem__, reverse=term.descending) + absent
    return order[: presentation.limit] if presentation.limit is not None else order


def _sort_keys(source: _Source, term: Order) -> list[Any]:
    if term.key.dimension is not None:
        return source.key(term.key.dimension)
    return exact_values(source.parts(term.key.aggregate or "")[0])


def _coverage(message: answer_pb2.Answer, order: Sequence[int]) -> Coverage | None:
    if not message.HasField("coverage"):
        return None
    wire = message.coverage
    return Coverage(
        covered=tuple(int(wire.covered[index]) for index in order) if wire.covered else (),
        left_out=tuple(int(wire.left_out[index]) for index in order) if wire.left_out else (),
        covered_total=int(wire.covered_total or 0),
        left_out_total=int(wire.left_out_total or 0),
    )


def _malformed(what: str) -> InvalidReceipt:
    return InvalidReceipt(f"the answer does not fit the question: {what}", rule="answer.form")
