# SPDX-License-Identifier: Apache-2.0
"""Trace: numbers were seen outside; which releases do they match, and who received those?

The log holds only salted commitments of answers, so neither auditor nor outsider can search it. The operator searches
the stored answers here, and shows the auditor salt and answer of each match: they open the commitment in the leaf.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from math import isqrt

from google.protobuf.message import DecodeError

from weir.errors import InvalidRequest
from weir.v1 import answer_pb2
from weir_server.store import Transaction, blob, integer, text

MAX_NUMBERS = 1000
MIN_DIGITS = 3
"""Significant digits from which on a rounded number says anything."""
_FLOAT_DIGITS = 15
_MAX_EXPONENT = 400
"""Beyond it no released number lies; powers of ten stay small."""


@dataclass(frozen=True, slots=True)
class Match:
    """One answer that holds some of the numbers."""

    leaf_index: int
    """Leaf that logged the answer."""
    requester: str
    """Who received it."""
    contract: str
    """Under which contract."""
    dataset: str
    """Of which dataset."""
    matched: int
    """How many of the given numbers it holds, each counted as often as it was given."""
    cells: int
    """How many numbers the answer holds in all: one match in a thousand cells may be chance."""


def trace(tx: Transaction, numbers: Sequence[str], *, at_least: int = 1) -> list[Match]:
    """Stored plain answers that hold at least `at_least` of `numbers`, best match first.

    `numbers`: 1 to 1,000 decimals as they were seen. A count or a sum matches as it is. A ratio or root (AVG, VARIANCE,
    STDDEV) matches where a number of three or more significant digits is what it rounds to at that many digits.
    Encrypted answers hold no numbers the service could read.

    Raises:
        InvalidRequest: no numbers, too many, or something that is no number.
    """
    seen = [_number(item) for item in numbers]
    wanted, rounded = Counter(number.normalize() for number in seen), _by_digits(seen)
    if not 0 < len(numbers) <= MAX_NUMBERS:
        raise InvalidRequest(f"give 1 to {MAX_NUMBERS} numbers", field="numbers", rule="trace.numbers")
    rows = tx.execute(
        """SELECT answers.leaf_index, requester, contract, dataset, answer FROM answers
           JOIN reservations ON reservations.id = answers.reservation ORDER BY answers.leaf_index"""
    )
    found = []
    for index, requester, contract, dataset, answer in rows:
        values = list(_values(blob(answer)))
        held = Counter(number for value in values for number in _shown_as(value, rounded))
        matched = (held & wanted).total()
        if matched >= at_least:
            names = (text(requester), text(contract), text(dataset))
            found.append(Match(integer(index), *names, matched, len(values)))
    return sorted(found, key=lambda match: (-match.matched, match.cells, match.leaf_index))


@dataclass(frozen=True, slots=True)
class _Ratio:
    """`above / below`, or its square root: no decimal shows it whole."""

    above: int
    below: int
    root: bool

    def nearest(self, digits: int) -> set[int]:
        """What it rounds to in units of 10**-digits: one integer, or two where it lies exactly between."""
        power = 2 * digits if self.root else digits
        above, below = self.above * 10 ** max(power, 0), self.below * 10 ** max(-power, 0)
        # Twice the value, rounded down, says in integers alone where halves lie.
        twice = isqrt(4 * above // below) if self.root else 2 * above // below
        exact = twice * twice * below == 4 * above if self.root else twice * below == 2 * above
        upper = (twice + 1) // 2
        return {upper, upper - 1} if exact and twice % 2 else {upper}


def _values(answer: bytes) -> Iterator[Decimal | _Ratio]:
    """Every number of a plain answer; none of an encrypted one."""
    try:
        parsed = answer_pb2.Answer.FromString(answer)
    except DecodeError:
        return
    for column in parsed.values:
        dividers = list(column.denominators) or ["1"] * len(column.numerators)
        for numerator, denominator in zip(column.numerators, dividers, strict=False):
            try:
                if not numerator:
                    continue
                if denominator == "1" and not column.square_root:
                    yield Decimal(numerator).scaleb(-column.scale).normalize()
                else:
                    yield _ratio(int(numerator), int(denominator), column)
            except (InvalidOperation, ValueError):
                continue


def _ratio(numerator: int, denominator: int, column: answer_pb2.ValueColumn) -> _Ratio:
    if denominator <= 0 or (column.square_root and numerator < 0):
        raise ValueError("no value of an answer")
    return _Ratio(numerator, denominator * int(10**column.scale), column.square_root)


_Rounded = Mapping[int, Mapping[int, Decimal]]
"""Digits behind the point to integers in units of the last digit to the number that was seen."""


def _by_digits(seen: Sequence[Decimal]) -> _Rounded:
    """The numbers that a ratio may have been rounded to. Readers that show floats are off by one in the last digits."""
    found: dict[int, dict[int, Decimal]] = {}
    for number in seen:
        sign, figures, exponent = number.as_tuple()
        significant = len("".join(map(str, figures)).lstrip("0"))
        if significant < MIN_DIGITS or not isinstance(exponent, int) or abs(exponent) > _MAX_EXPONENT:
            continue
        units = (-1) ** sign * int("".join(map(str, figures)))
        slack = 1 if significant >= _FLOAT_DIGITS else 0
        for near in range(units - slack, units + slack + 1):
            found.setdefault(-exponent, {}).setdefault(near, number.normalize())
    return found


def _shown_as(value: Decimal | _Ratio, rounded: _Rounded) -> set[Decimal]:
    """The seen numbers that this value may be."""
    if isinstance(value, Decimal):
        return {value}
    return {
        numbers[units] for digits, numbers in rounded.items() for units in value.nearest(digits) if units in numbers
    }


def _number(seen: str) -> Decimal:
    try:
        value = Decimal(seen.strip().replace(",", ""))
    except InvalidOperation as error:
        raise InvalidRequest("not a decimal number", field="numbers", rule="trace.numbers") from error
    if not value.is_finite():
        raise InvalidRequest("not a decimal number", field="numbers", rule="trace.numbers")
    return value
