# SPDX-License-Identifier: Apache-2.0
import random
from pathlib import Path
from typing import Any

import pytest

from tests.support.cards import clinic, parse
from tests.support.exact import (
    Bench,
    bases,
    clinic_rows,
    coarsenings,
    oracle_answer,
    oracle_atoms,
    records,
    submission,
    table,
)
from weir.query import (
    Aggregate,
    AllOf,
    AnyOf,
    Comparison,
    Function,
    IsNull,
    Literal,
    Membership,
    Negation,
    Operator,
    Predicate,
    Query,
    canonicalise,
)
from weir_server.catalog.card import DatasetCard, Measure
from weir_server.catalog.catalogue import Catalogue
from weir_server.plan.bind import bind

SPENDS = (None, "0", "1.005", "1.015", "-3.5", "12.345", "99.99", "1e3", "-1e30", "89.995", "7")


def random_units(draw: random.Random, count: int) -> list[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    """Units of the clinic, skewed so that some cells are rich and some poor."""
    units = []
    for number in range(count):
        constant = {
            "region": draw.choices(["north", "east", "south", "west"], [8, 3, 1, 1])[0],
            "member": draw.choices(["true", "0", None], [6, 3, 1])[0],
        }
        own = [
            {
                "age": f"{draw.choice([-5, 3, 17.99, 18, 39, 40, 64, 65, 200])}",
                "spend": draw.choice(SPENDS),
                "pain": str(draw.randint(-1, 12)),
                "ward": draw.choice(["1", "2", "3"]),
            }
            for _ in range(draw.randint(1, 4))
        ]
        units.append((f"u{number}", constant, own))
    return units


def random_query(draw: random.Random, card: DatasetCard) -> Query:
    """Any query that the exact mode answers."""
    offered = [
        (function, measure.name) for measure in card.measures for function in sorted(measure.statistics, key=str)
    ]
    chosen = [Aggregate(function, name) for function, name in draw.sample(offered, draw.randint(0, 4))]
    chosen.append(Aggregate(draw.choice([Function.COUNT, Function.COUNT_UNITS])))
    groups = draw.sample([item.name for item in card.dimensions], draw.randint(0, 3))
    where = random_predicate(draw, card, depth=3) if draw.random() < 0.8 else None
    return canonicalise(Query(card.name, tuple(chosen), tuple(groups), where))


def random_predicate(draw: random.Random, card: DatasetCard, *, depth: int) -> Predicate:
    """Any predicate over dimensions."""
    kind = draw.random()
    if depth and kind < 0.5:
        operands = tuple(random_predicate(draw, card, depth=depth - 1) for _ in range(draw.randint(1, 3)))
        choices: list[Predicate] = [AllOf(operands), AnyOf(operands), Negation(operands[0])]
        return draw.choice(choices)
    dimension = draw.choice(card.dimensions)
    literals = [Literal(cell.value) for cell in dimension.cells if cell.value is not None]
    if kind < 0.6:
        return IsNull(dimension.name, draw.random() < 0.5)
    if kind < 0.8 and not dimension.edges:
        return Membership(dimension.name, tuple(draw.choices(literals, k=2)), draw.random() < 0.3)
    operator = Operator.LESS if dimension.edges else draw.choice([Operator.EQUAL, Operator.NOT_EQUAL])
    return Comparison(dimension.name, operator, draw.choice(literals))


@pytest.mark.parametrize("seed", range(6))
def test_atoms_and_answers_equal_those_of_plain_python_integers(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    content = clinic()
    content["measures"][0]["width"] = draw.choice([0, 5, 40])
    content["exact"]["residual"] = draw.choice(["atom", "drop"])
    content["exact"]["coalition"] = draw.choice([1, 3])
    card = parse(content)
    rows = list(clinic_rows(random_units(draw, draw.choice([40, 300, 900]))))
    bench = Bench(tmp_path)
    bench.publish(card, rows)
    expected = oracle_atoms(card, records(card, rows))
    sums = [tuple(sum(m.values[i] for m in atom.members) for i in range(len(card.measures))) for atom in expected]
    found = sorted((atom.level, atom.n, tuple(t.sum for t in atom.totals)) for atom in bench.atoms())
    assert found == sorted((a.level, len(a.members), s) for a, s in zip(expected, sums, strict=True))
    for _ in range(60):
        asked = random_query(draw, card)
        condition = bind(submission(asked), Catalogue().with_snapshot(bench.snapshots[0])).condition
        columns, covered, left_out, left_total = oracle_answer(card, expected, asked, condition)
        answer = bench.ask(asked)
        assert table(answer) == columns
        assert [int(n) for n in answer.coverage.covered] == covered
        assert [int(n) for n in answer.coverage.left_out] == left_out
        assert int(answer.coverage.left_out_total) == left_total
        assert int(answer.coverage.covered_total) == sum(covered)


def test_the_random_queries_reach_every_kind_of_atom(tmp_path: Path) -> None:
    draw = random.Random(1)
    card = parse(clinic())
    expected = oracle_atoms(card, records(card, clinic_rows(random_units(draw, 300))))
    assert {atom.level for atom in expected} >= {0, 1, 2}
    assert any(len(atom.extent) > 1 for atom in expected)
    assert len(coarsenings(card)) == 5
    assert len(bases(card)) == 3


@pytest.mark.parametrize("count", [1, 9, 10])
def test_under_k_units_there_is_no_atom_and_no_value(count: int, tmp_path: Path) -> None:
    card = parse(clinic())
    bench = Bench(tmp_path)
    bench.publish(card, list(clinic_rows(random_units(random.Random(3), count))))
    answer = bench.ask(Query("clinic", (Aggregate(Function.COUNT),)))
    assert list(answer.values[0].numerators) == (["10"] if count == 10 else [""])


def test_sums_of_squares_are_exact_beyond_every_machine_word(tmp_path: Path) -> None:
    content = clinic()
    bound = 2**62 - 1
    content["measures"] = [
        {
            "name": "big",
            "column": "big",
            "mode": "exact",
            "lower": -bound,
            "upper": bound,
            "statistics": ["sum", "variance"],
        }
    ]
    card = parse(content)
    draw = random.Random(5)
    values = [
        draw.choice([bound, -bound, bound - 1, 2**31, -(2**31) - 1, draw.randint(-bound, bound)]) for _ in range(40)
    ]
    rows = [
        {"who": i, "region": "north", "member": 1, "age": 20, "day": 1, "big": value} for i, value in enumerate(values)
    ]
    bench = Bench(tmp_path)
    bench.publish(card, rows)
    answer = bench.ask(Query("clinic", (Aggregate(Function.SUM, "big"), Aggregate(Function.VARIANCE, "big"))))
    assert table(answer) == {
        "sum(big)": [(str(sum(values)), "1")],
        "variance(big)": [(str(40 * sum(v * v for v in values) - sum(values) ** 2), "1600")],
    }
    assert isinstance(card.measures[0], Measure)
