# SPDX-License-Identifier: Apache-2.0
import math
import sys
from decimal import Decimal
from fractions import Fraction

import pytest

import weir_client
from tests.support.client import answer_for, census_card
from weir.errors import InvalidReceipt
from weir.v1 import answer_pb2, receipt_pb2
from weir.wire import query_to_proto
from weir_client._answer import present
from weir_client._catalogue import dataset_of
from weir_client._sql import parse

RECEIPT = weir_client.Receipt(receipt_pb2.Receipt(leaf=b'{"data":{"charge":{}},"specversion":"1.0","type":"x"}'))


def answered(sql: str, mode: int = answer_pb2.MODE_EXACT) -> weir_client.Answer:
    parsed = parse(sql)
    message = answer_for(query_to_proto(parsed.query), mode)
    return present(message, parsed.presentation, receipt=RECEIPT)


def test_columns_have_the_names_and_order_of_the_select_list():
    answer = answered("SELECT SUM(income) AS total, year y, COUNT(*), region FROM census GROUP BY region, year")
    assert answer.column_names == ("total", "y", "count", "region")
    assert answer.rows()[0] == (Decimal("1.00"), 2024, 100, "north")
    assert answer.rows()[2] == (Decimal("1.14"), None, 114, "north")
    assert len(answer) == 6
    assert list(answer) == answer.rows()
    assert answer.to_dicts()[0]["total"] == Decimal("1.00")


def test_order_and_limit_act_on_the_release():
    answer = answered(
        "SELECT region, year FROM census GROUP BY region, year ORDER BY 1 DESC, year DESC".replace(
            "year FROM", "year, COUNT(*) AS n FROM"
        )
    )
    assert [row[:2] for row in answer.rows()] == [
        ("south", 2025),
        ("south", 2024),
        ("south", None),
        ("north", 2025),
        ("north", 2024),
        ("north", None),
    ]
    answer = answered("SELECT COUNT(*) FROM census GROUP BY region, year ORDER BY count DESC LIMIT 2")
    assert answer.rows() == [(135,), (128,)]
    assert answered("SELECT COUNT(*) FROM census GROUP BY region ORDER BY region DESC").rows() == [(107,), (100,)]
    assert answered("SELECT COUNT(*) FROM census LIMIT 0").rows() == []


def test_coverage_follows_the_rows():
    coverage = answered("SELECT COUNT(*) FROM census GROUP BY region LIMIT 1").coverage
    assert coverage == weir_client.Coverage((10,), (2,), 30, 10)
    assert coverage.share == 0.75
    assert "coverage 75.0%" in str(answered("SELECT COUNT(*) FROM census"))


def test_ratios_and_roots_are_floats_with_exact_values_beside():
    answer = answered("SELECT AVG(income), STDDEV(income) FROM census GROUP BY region")
    average, deviation = answer.columns
    assert average.values == (pytest.approx(1 / 3), None)
    assert average.exact == (Fraction(1, 3), None)
    assert not average.squared
    assert deviation.squared
    assert deviation.values[0] == math.sqrt(Fraction(1, 3))
    assert deviation.exact == (Fraction(1, 3), None)


def test_a_root_of_less_than_nothing_is_not_a_number():
    message = answer_pb2.Answer(dataset="c", snapshot=1)
    message.values.add(name="stddev(x)", numerators=["-4"], denominators=["1"], square_root=True)
    answer = present(message, parse("SELECT STDDEV(x) FROM c").presentation, receipt=RECEIPT)
    assert math.isnan(answer.rows()[0][0])


def test_large_decimals_keep_every_digit():
    message = answer_pb2.Answer(dataset="c", snapshot=1)
    message.values.add(name="sum(x)", numerators=["-123456789012345678901234567890123456789"], scale=3)
    answer = present(message, parse("SELECT SUM(x) FROM c").presentation, receipt=RECEIPT)
    assert answer.rows() == [(Decimal("-123456789012345678901234567890123456.789"),)]


def test_a_histogram_gives_a_column_for_each_bucket():
    answer = answered("SELECT HISTOGRAM(income) AS h FROM census")
    assert answer.column_names == ("h [0, 50)", "h [50, 100)")
    assert answer.columns[1].bucket == (50, 100)


def test_noise_is_told_in_the_unit_of_the_aggregate():
    answer = answered("SELECT SUM(income) AS total, COUNT(*) FROM census", answer_pb2.MODE_DP)
    assert answer.noise["total"].interval95 == Decimal("0.12")
    assert answer.noise["total"].unit == "CNY"
    assert answer.noise["count"].interval95 == 12
    assert answer.epsilon == Decimal("0.5")
    assert "ε = 0.5" in str(answer)
    assert "total: ± 0.12 (95 %)" in str(answer)
    assert answered("SELECT COUNT(*) FROM census").noise == {}


def test_a_data_frame_has_numbers_unless_exact_values_are_asked_for():
    answer = answered("SELECT region, SUM(income), AVG(income) FROM census GROUP BY region")
    frame = answer.to_pandas()
    assert list(frame.columns) == ["region", "sum(income)", "avg(income)"]
    assert frame["sum(income)"].tolist() == [1.0, 1.07]
    assert frame["avg(income)"].isna().tolist() == [False, True]
    assert answer.to_pandas(exact=True)["avg(income)"][0] == Fraction(1, 3)


def test_without_pandas_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError) as caught:
        answered("SELECT COUNT(*) FROM census").to_pandas()
    assert str(caught.value) == "to_pandas() needs pandas: pip install 'dataweir[pandas]'"


def test_html_is_escaped():
    message = answer_pb2.Answer(dataset="c", snapshot=1)
    message.keys.add(name="a").cells.add(text="<script>alert(1)</script>")
    message.values.add(name="count", numerators=["1"])
    parsed = parse('SELECT a AS "<b>", COUNT(*) FROM c GROUP BY a')
    page = present(message, parsed.presentation, receipt=RECEIPT)._repr_html_()
    assert "<script>" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page


def test_text_tables_align_wide_characters_and_show_no_control_characters():
    message = answer_pb2.Answer(dataset="c", snapshot=1)
    cells = message.keys.add(name="a").cells
    cells.add(text="上海")
    cells.add(text="x\x1b[31my")
    cells.add()
    message.values.add(name="count", numerators=["1", "20000", ""])
    shown = str(present(message, parse("SELECT a, COUNT(*) FROM c GROUP BY a").presentation, receipt=RECEIPT))
    assert shown.splitlines()[2] == "上海          1"
    assert "20,000" in shown
    assert "\x1b" not in shown
    assert shown.splitlines()[4] == f"–{' ' * 13}–"


def test_long_answers_are_cut_in_print_only():
    message = answer_pb2.Answer(dataset="c", snapshot=1)
    message.values.add(name="count", numerators=["1"] * 500)
    answer = present(message, parse("SELECT COUNT(*) FROM c").presentation, receipt=RECEIPT)
    assert "300 more rows" in str(answer)
    assert "300 more rows" in answer._repr_html_()
    assert len(answer.rows()) == 500
    assert repr(answer) == "<Answer c@1 : 500 rows of count>"


def malformed(change) -> answer_pb2.Answer:
    message = answer_for(query_to_proto(parse("SELECT COUNT(*) FROM census GROUP BY region").query), 0)
    change(message)
    return message


@pytest.mark.parametrize(
    "change",
    [
        lambda message: message.values[0].numerators.pop(),
        lambda message: message.keys[0].cells.pop(),
        lambda message: message.ClearField("values"),
        lambda message: message.ClearField("keys"),
        lambda message: setattr(message.values[0], "name", "sum(x)"),
        lambda message: message.values[0].numerators.__setitem__(0, "1.5"),
        lambda message: message.values[0].denominators.extend(["0", "1"]),
        lambda message: message.values[0].denominators.append("1"),
    ],
    ids=["values", "keys", "no-values", "no-keys", "other-name", "number", "zero", "denominators"],
)
def test_an_answer_that_does_not_fit_the_question_is_refused(change):
    parsed = parse("SELECT region, COUNT(*) FROM census GROUP BY region")
    with pytest.raises(InvalidReceipt) as caught:
        present(malformed(change), parsed.presentation, receipt=RECEIPT)
    assert caught.value.rule == "answer.form"


def test_an_answer_without_a_client_says_how_to_verify():
    with pytest.raises(InvalidReceipt, match=r"receipt\.check"):
        answered("SELECT COUNT(*) FROM census").verify()


def test_the_price_is_unknown_where_the_receipt_states_none():
    assert answered("SELECT COUNT(*) FROM census").price is None


def test_columns_are_found_by_name():
    answer = answered("SELECT COUNT(*) AS n FROM census")
    assert answer.column("n").values == (100,)
    with pytest.raises(KeyError):
        answer.column("count")


def test_a_card_of_the_catalogue_keeps_types():
    card = dataset_of(census_card())
    assert card.unit == "person"
    assert card.snapshots[0].published is None
    assert card.dimensions[0].labels == ("North", "South")
