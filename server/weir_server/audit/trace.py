# SPDX-License-Identifier: Apache-2.0
"""Trace: numbers were seen outside; which releases do they match, and who received those?

The log holds only salted commitments of answers, so neither auditor nor outsider can search it. The operator searches
the stored answers here, and shows the auditor salt and answer of each match: they open the commitment in the leaf.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from google.protobuf.message import DecodeError

from weir.errors import InvalidRequest
from weir.v1 import answer_pb2
from weir_server.store import Transaction, blob, integer, text

MAX_NUMBERS = 1000


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

    `numbers`: 1 to 1,000 decimals as they were seen. Encrypted answers hold no numbers the service could read.

    Raises:
        InvalidRequest: no numbers, too many, or something that is no number.
    """
    wanted = Counter(_number(item) for item in numbers)
    if not 0 < len(numbers) <= MAX_NUMBERS:
        raise InvalidRequest(f"give 1 to {MAX_NUMBERS} numbers", field="numbers", rule="trace.numbers")
    rows = tx.execute(
        """SELECT answers.leaf_index, requester, contract, dataset, answer FROM answers
           JOIN reservations ON reservations.id = answers.reservation ORDER BY answers.leaf_index"""
    )
    found = []
    for index, requester, contract, dataset, answer in rows:
        held = Counter(_values(blob(answer)))
        matched = (held & wanted).total()
        if matched >= at_least:
            names = (text(requester), text(contract), text(dataset))
            found.append(Match(integer(index), *names, matched, held.total()))
    return sorted(found, key=lambda match: (-match.matched, match.cells, match.leaf_index))


def _values(answer: bytes) -> Iterator[Decimal]:
    """Every number of a plain answer, at its scale; none of an encrypted one."""
    try:
        parsed = answer_pb2.Answer.FromString(answer)
    except DecodeError:
        return
    for column in parsed.values:
        dividers = list(column.denominators) or ["1"] * len(column.numerators)
        for numerator, denominator in zip(column.numerators, dividers, strict=False):
            if numerator and denominator in ("", "1"):
                try:
                    yield Decimal(numerator).scaleb(-column.scale).normalize()
                except InvalidOperation:
                    continue


def _number(seen: str) -> Decimal:
    try:
        value = Decimal(seen.strip().replace(",", ""))
    except InvalidOperation as error:
        raise InvalidRequest("not a decimal number", field="numbers", rule="trace.numbers") from error
    if not value.is_finite():
        raise InvalidRequest("not a decimal number", field="numbers", rule="trace.numbers")
    return value.normalize()
