# SPDX-License-Identifier: Apache-2.0
"""Source columns are read to the same integers on every engine, and as Python reads the same texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, localcontext
from typing import Any

import pytest

from weir_server.catalog.card import Cell, Dimension, Measure, Mode
from weir_server.engine.port import RowEngine
from weir_server.engine.relational import statement
from weir_server.publish.grid import (
    at_level,
    cell_index,
    clipped_steps,
    grid_steps,
    no_number,
    not_finite,
    number_of,
    off_grid,
    order_key,
    out_of_bins,
)

_WIDE = Context(prec=20_000)
_SATURATED = 2**63
_NUMBER = re.compile(
    r"[\t-\r ]*([+-]?)(?=[.]?[0-9])([0-9]+(?:_[0-9]+)*)?(?:[.]([0-9]+(?:_[0-9]+)*)?)?"
    r"(?:[eE]([+-]?)0*([0-9](?:_?[0-9]){0,3}))?[\t-\r ]*"
)
_NAMES = re.compile(r"[\t-\r ]*[+-]?(nan|inf|infinity)[\t-\r ]*", re.IGNORECASE)
TEXTS = (
    None, "", " ", "0", "-0", "+5", "-5", "5", " 7 ", "7\n", "\t7", "\x0b7\x0c", "\u00a07", "１２", "٣", "1e3", "1E3",
    "1e+3", "1E-3", "1e", "e3", "1e3.5", "1 e3", "5e 3", ".5", "-.5", "5.", ".", "-", "+", "-.", "--5", "+-5", "1_000",
    "1__000", "_1", "1_", "1._5", "1.5_0", "1e1_0", "0x10", "0b11", "1d", "1f", "1L", "$5", "5 6", "1,000", "1.2.3",
    "NaN", "nan", "-nan", "inf", "-inf", "+inf", "Infinity", "-INFINITY", " inf ", "infinit", "true", "null", "1e400",
    "-1e400", "1e-400", "-1e-400", "1e9999", "1e10000", "0e400", "0e9999", "1e0005", "1e00000000000000005",
    "0.5", "1.5", "2.5", "-0.5", "-1.5", "-2.5", "0.05", "0.15", "0.25", "-0.25", "1.005", "1.015", "1.025", "-1.025",
    "0.4999999999999999995", "0.49999999999999999949", "1.4999999999999999995", "1.4999999999999999999",
    "1.499999999999999999", "123456789012345678901e-5", "+-123456789012345678901e-5", "1.7976931348623157e-308",
    "0.5000000000000000001", "1.50000000000000000000000000000000000000000000000001", "1e-18", "-1e-18", "5e-19",
    "4e-19", "15e-19", "1.5e-18", "0.0000000000000000005", "0.00000000000000000049", "0.000000000000000001",
    "4611686018427387903", "4611686018427387904", "-4611686018427387904", "9223372036854775807",
    "9223372036854775808", "-9223372036854775809", "1e18", "1e19", "-1e19", "9999999999999999999",
    "9999999999999999999.4", "9999999999999999999.5", "9999999999999999999.9", "10000000000000000000",
    "46116860184273879.03", "123456789012345678901234567890e-20", "-123456789012345678901234567890123456789012e-40",
    "0.000000000000000000000000000001e30", "0" * 60 + "12.5", "9" * 50, "-" + "9" * 50, "0." + "0" * 50 + "1e51",
    "12.50", "12.500", "3.14159", "2026-01-05", "0E-18", "1.0E22", "1.0E-7",
)  # fmt: skip
TIMES = {
    "2026-01-05": 1_767_571_200_000_000,
    "2026-1-5": 1_767_571_200_000_000,
    "2026/01/05": 1_767_571_200_000_000,
    "2026-01-05 10:00": 1_767_607_200_000_000,
    "2026-01-05 10:00:00": 1_767_607_200_000_000,
    "2026-01-05T10:00:00": 1_767_607_200_000_000,
    "2026-01-05T10:00:00Z": 1_767_607_200_000_000,
    "2026-01-05 10:00:00 UTC": 1_767_607_200_000_000,
    "2026-01-05 10:00:00+08": 1_767_578_400_000_000,
    "2026-01-05 10:00:00+0800": 1_767_578_400_000_000,
    "2026-01-05 10:00:00+08:00": 1_767_578_400_000_000,
    "2026-01-05T10:00+08:00": 1_767_578_400_000_000,
    "2026-01-05 10:00:00-03:30": 1_767_619_800_000_000,
    "2026-01-05 1:2:3": 1_767_574_923_000_000,
    "2026-01-05 10:00:00.": 1_767_607_200_000_000,
    "2026-01-05 10:00:00.5": 1_767_607_200_500_000,
    "2026-01-05 10:00:00.123456": 1_767_607_200_123_456,
    "2026-01-05 10:00:00.1234569": 1_767_607_200_123_456,
    "1969-12-31 23:59:59.999999": -1,
    "0001-01-01": -62_135_596_800_000_000,
    "9999-12-31 23:59:59.999999": 253_402_300_799_999_999,
}
NO_TIMES = (
    "2026-02-30", "2026-13-01", "2026-00-10", "0000-01-01", "20260105x", "2026-01", "05.01.2026", "epoch", "infinity",
    "2026-01-05Z", "2026-01-05+08", "2026-01-05 24:00:00", "2026-01-05 23:59:60", "2026-01-05 10", " 2026-01-05",
    "2026-01-05\n", "2026-01-05 10:00:00+15:00", "2026-01-05 10:00:00 Asia/Shanghai", "12026-01-05", "now", "",
)  # fmt: skip


def read(text: str | None) -> Decimal | None:
    """The finite number that a text says, exactly."""
    match = None if text is None else _NUMBER.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction, power_sign, power = (part or "" for part in match.groups())
    digits = f"{sign}{whole or '0'}.{fraction or '0'}e{power_sign}{power or '0'}".replace("_", "")
    return _WIDE.create_decimal(digits)


def rounded(value: Decimal, digits: int, how: str) -> Decimal:
    with localcontext(_WIDE):
        return value.quantize(Decimal(1).scaleb(-digits), rounding=how)


def number(text: str | None) -> Decimal | None:
    """As `number_of` says: 18 digits after the point, halves away from zero, below 10**19."""
    value = read(text)
    if value is None:
        return None
    fine = rounded(value, 18, ROUND_HALF_UP)
    return fine if abs(fine) < 10**19 else None


def steps(text: str | None, scale: int, rounding: str) -> int | None:
    value, fine = read(text), number(text)
    if value is None:
        return None
    how = ROUND_HALF_EVEN if rounding == "half_even" else ROUND_HALF_UP
    result = None if fine is None else rounded(fine if rounding == "half_even" else value, scale, how)
    if result is None or abs(rounded(value, scale, ROUND_HALF_UP)) >= 10**19:
        return -_SATURATED if value < 0 else _SATURATED
    return int(result.scaleb(scale, _WIDE))


def money(scale: int, rounding: str = "half_even", level: Any = None) -> Measure:
    return Measure(
        "spend", "Spend", "", "v", Mode.EXACT, scale, -(2**62) + 1, 2**62 - 1, rounding=rounding, level=level
    )


def table(rows: RowEngine, texts: Sequence[str | None]) -> None:
    rows.load("texts", {"id": "BIGINT", "v": "TEXT"}, list(enumerate(texts)))


def ask(rows: RowEngine, *expressions: str) -> list[tuple[Any, ...]]:
    """Values of expressions over the table, in its order."""
    listed = ", ".join(f"{expression} AS x{index}" for index, expression in enumerate(expressions))
    return [row[1:] for row in rows.select(statement(f"SELECT id, {listed} FROM texts ORDER BY id"))]


def held(rows: RowEngine, expression: str, expected: Callable[[str | None], Any]) -> None:
    table(rows, TEXTS)
    found = dict(zip(TEXTS, (row[0] for row in ask(rows, expression)), strict=True))
    assert found == {text: expected(text) for text in TEXTS}


def test_a_text_is_read_as_the_number_it_says(rows: RowEngine) -> None:
    held(rows, number_of("v"), number)


@pytest.mark.parametrize("scale", [0, 1, 2, 9, 10, 17, 18])
@pytest.mark.parametrize("rounding", ["half_even", "refuse"])
def test_steps_of_the_grid_are_integers_rounded_as_the_card_says(rows: RowEngine, scale: int, rounding: str) -> None:
    held(rows, grid_steps(money(scale, rounding)), lambda text: steps(text, scale, rounding))


def test_values_are_clipped_to_the_bounds_whatever_their_size(rows: RowEngine) -> None:
    most = 2**62 - 1

    def clipped(text: str | None) -> int | None:
        value = steps(text, 2, "half_even")
        return None if value is None else min(max(value, -most), most)

    held(rows, clipped_steps(money(2)), clipped)


def test_what_is_no_number_is_told_from_what_is_not_finite(rows: RowEngine) -> None:
    def named(text: str | None) -> bool:
        return text is not None and _NAMES.fullmatch(text) is not None

    held(rows, no_number("v"), lambda text: text is not None and read(text) is None and not named(text))
    rows.drop("texts")
    held(rows, f"COALESCE({not_finite('v')}, FALSE)", named)


def test_values_between_two_steps_are_seen(rows: RowEngine) -> None:
    def between(text: str | None) -> bool:
        fine, value = number(text), read(text)
        if fine is None or value is None or abs(rounded(value, 1, ROUND_HALF_UP)) >= 10**19:
            return False
        return rounded(value, 1, ROUND_HALF_UP) != fine

    held(rows, f"COALESCE({off_grid(money(1, 'refuse'))}, FALSE)", between)


def test_a_level_is_met_by_its_value_alone(rows: RowEngine) -> None:
    held(rows, at_level(money(0, level=("v", 1000))), lambda text: number(text) == 1000)
    rows.drop("texts")
    held(rows, at_level(money(0, level=("v", "1e3"))), lambda text: text == "1e3")
    rows.drop("texts")
    held(rows, at_level(money(0, level=("v", True))), lambda text: text in ("true", "t", "1"))


def test_a_listed_value_has_the_index_of_its_cell(rows: RowEngine) -> None:
    texts = Dimension("d", "D", "text", (Cell("5", "5"), Cell("it's", "q"), Cell("１２", "wide"), Cell(None, "-")), "v")
    held(rows, cell_index(texts), lambda text: 3 if text is None else {"5": 0, "１２": 2}.get(text))
    rows.drop("texts")
    values = (5, -5, 1000, 2**62)
    numbers = Dimension("d", "D", "integer", tuple(Cell(value, "") for value in values), "v")
    held(rows, cell_index(numbers), lambda text: {Decimal(v): i for i, v in enumerate(values)}.get(number(text)))  # type: ignore[arg-type]
    rows.drop("texts")
    truths = Dimension("d", "D", "boolean", (Cell(False, "no"), Cell(True, "yes")), "v")
    held(rows, cell_index(truths), lambda text: {"true": 1, "0": 0}.get(text or ""))


def test_a_value_beyond_the_edges_falls_in_the_last_bin_and_is_counted(rows: RowEngine) -> None:
    edges = (-5, 0, 2, 1000, 10**18)
    bins = Dimension("d", "D", "integer", tuple(Cell(edge, "") for edge in edges[:-1]), "v", edges=edges)

    def index(text: str | None) -> int | None:
        value = read(text)
        if value is None:
            return None
        fine = number(text)
        return sum(edge <= (value if fine is None else fine) for edge in edges[1:-1])

    def beyond(text: str | None) -> bool:
        value, fine = read(text), number(text)
        return value is not None and (fine is None or not edges[0] <= fine < edges[-1])

    held(rows, cell_index(bins), index)
    rows.drop("texts")
    held(rows, out_of_bins(bins), beyond)


def test_rows_are_ordered_by_numbers_and_times_in_their_zone(rows: RowEngine) -> None:
    table(rows, [*TIMES, *NO_TIMES, "1e3", "20260105", "0.0000005", "1e31"])
    found = [row[0] for row in ask(rows, order_key("v"))]
    assert found == [*TIMES.values(), *(None for _ in NO_TIMES), 1000, 20_260_105, Decimal("0.000001"), 10**31]


def test_typed_columns_are_read_as_their_texts_are(rows: RowEngine) -> None:
    columns = {"id": "BIGINT", "v": "BIGINT"}
    rows.load("texts", columns, [(0, 5), (1, -(2**63)), (2, None), (3, 2**63 - 1)])
    assert ask(rows, number_of("v"), grid_steps(money(2)), no_number("v"), order_key("v")) == [
        (5, 500, False, 5),
        (-(2**63), -(2**63) * 100, False, -(2**63)),
        (None, None, False, None),
        (2**63 - 1, (2**63 - 1) * 100, False, 2**63 - 1),
    ]
    rows.drop("texts")
    rows.load("given", {"id": "BIGINT", "t": "TEXT"}, [(0, "0"), (1, "-12.345"), (2, "99999999999999999999")])
    rows.keep("texts", statement("SELECT id, TRY_CAST(t AS DECIMAL(38, 10)) AS v FROM given"))
    assert ask(rows, number_of("v"), grid_steps(money(2))) == [
        (0, 0),
        (Decimal("-12.345"), -1234),
        (None, _SATURATED),
    ]
