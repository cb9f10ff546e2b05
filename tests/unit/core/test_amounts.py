# SPDX-License-Identifier: Apache-2.0
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.amounts import (
    MAX_AMOUNT,
    MICRO,
    NANO,
    format_decimal,
    format_epsilon,
    format_price,
    parse_decimal,
    parse_epsilon,
    parse_price,
)
from weir.errors import InvalidRequest

# Exact amounts within the range that is read.
NANOS = st.integers(1, (MAX_AMOUNT // NANO - 1) * NANO)
MICROS = st.integers(0, (MAX_AMOUNT // MICRO - 1) * MICRO)


@given(NANOS)
def test_a_written_epsilon_reads_back_exactly(nano):
    assert parse_epsilon(format_epsilon(nano)) == nano


@given(MICROS)
def test_a_written_price_reads_back_exactly(micro):
    assert parse_price(format_price(micro)) == micro
    assert Decimal(format_price(micro)) * MICRO == micro


@given(st.integers(-(10**25), 10**25), st.sampled_from([1, 10, MICRO, NANO]))
def test_formatting_is_the_shortest_exact_decimal(count, unit):
    text = format_decimal(count, unit=unit)
    numerator, denominator = Decimal(text).as_integer_ratio()
    assert numerator * unit == count * denominator
    assert "." not in text or not text.endswith("0")
    assert "E" not in text.upper()


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("0.5", 500_000_000),
        ("1", NANO),
        (" 1.0 ", NANO),
        ("1e-9", 1),
        ("1E1", 10 * NANO),
        (1, NANO),
        (0.1, 100_000_000),
        (1e-9, 1),
        (Decimal("0.000000001"), 1),
        ("0.100000000000", 100_000_000),
    ],
    ids=str,
)
def test_epsilon_is_read_exactly_in_every_form(text, nano):
    assert parse_epsilon(text) == nano


def test_ten_tenths_are_one():
    assert sum(parse_epsilon(0.1) for _ in range(10)) == parse_epsilon(1)


def test_more_digits_than_decimal_arithmetic_keeps_are_not_rounded():
    assert parse_decimal("4611686017.427387903", unit=NANO, field="x") == 4_611_686_017_427_387_903
    with pytest.raises(InvalidRequest) as caught:
        parse_epsilon("0.1" + "0" * 40 + "1")
    assert caught.value.rule == "amount.precision"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "amount.decimal"),
        ("much", "amount.decimal"),
        ("1,5", "amount.decimal"),
        ("0x1", "amount.decimal"),
        ("-1", "amount.range"),
        ("-0.000000001", "amount.range"),
        ("nan", "amount.range"),
        ("inf", "amount.range"),
        (float("inf"), "amount.range"),
        ("1e30", "amount.range"),
        ("1e999999", "amount.range"),
        (MAX_AMOUNT // NANO, "amount.range"),
        ("1e-10", "amount.precision"),
        ("0.0000000001", "amount.precision"),
        ("0", "amount.positive"),
        ("-0", "amount.positive"),
        ("0.0", "amount.positive"),
    ],
    ids=str,
)
def test_what_is_no_amount_is_refused_by_rule_and_field(text, rule):
    with pytest.raises(InvalidRequest) as caught:
        parse_epsilon(text, field="epsilon_total")
    assert caught.value.rule == rule
    assert caught.value.field == "epsilon_total"


def test_a_price_may_be_zero_but_no_finer_than_a_micro_unit():
    assert parse_price(0) == 0
    assert parse_price("0.05") == 50_000
    with pytest.raises(InvalidRequest):
        parse_price("0.0000001")


@given(st.text(max_size=30))
def test_no_text_is_read_in_another_way(text):
    try:
        amount = parse_price(text)
    except InvalidRequest:
        return
    assert 0 <= amount < MAX_AMOUNT
