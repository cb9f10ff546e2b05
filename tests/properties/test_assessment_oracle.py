# SPDX-License-Identifier: Apache-2.0
"""Every figure of an assessment equals an oracle written from the definitions, on random small tables."""

import tempfile
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.assessment import (
    DISEASES,
    Row,
    classes,
    distinct_l,
    entropy_l,
    equal_t,
    ordered_t,
    patients,
    ratio,
    report_of,
)


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    """A table of few or many classes and values: with many classes some unit is nearly always alone in its own, and
    then it alone decides every minimum."""
    towns, bands = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    diseases, salaries = draw(st.integers(1, len(DISEASES))), draw(st.integers(0, 9))
    row = st.tuples(
        st.sampled_from("abc"[:towns]),
        st.integers(0, bands - 1),
        st.sampled_from(DISEASES[:diseases]),
        st.integers(0, salaries),
    )
    return draw(st.lists(row, min_size=1, max_size=60))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(tables())
def test_every_figure_equals_the_oracles(rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        report = report_of(patients(rows), Path(directory))
    sizes = [len(group) for group in classes(rows)]
    assert report["units"] == len(rows) == report["source"]["rows"]
    assert report["classes"]["k"] == min(sizes)
    assert report["classes"]["count"] == len(sizes)
    assert report["classes"]["sizes"] == [list(pair) for pair in sorted(Counter(sizes).items())]
    for least in (2, 5, 10, 20):
        under = sum(size for size in sizes if size < least)
        told = report["classes"]["under"][str(least)]
        assert (told["units"], ratio(told["share"])) == (under, Fraction(under, len(rows)))
    assert report["uniqueness"]["units"] == sizes.count(1)
    risk = report["risk"]["prosecutor"]
    assert ratio(risk["most"]) == Fraction(1, min(sizes))
    assert ratio(risk["mean"]) == sum(size * Fraction(1, size) for size in sizes) / len(rows)
    assert ratio(risk["above_threshold"]) == Fraction(sum(size for size in sizes if size < 20), len(rows))
    disease, salary = report["sensitive"]
    for told, column in ((disease, 2), (salary, 3)):
        assert told["values"] == len({row[column] for row in rows})
        assert told["diversity"]["distinct"] == distinct_l(rows, column)
        assert Decimal(told["diversity"]["entropy"]) == entropy_l(rows, column)
    assert ratio(disease["closeness"]["t"]) == equal_t(rows, 2)
    assert ratio(salary["closeness"]["t"]) == ordered_t(rows, 3)
    assert report["level"] == (3 if min(sizes) >= 20 else 2)
