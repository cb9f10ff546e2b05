# SPDX-License-Identifier: Apache-2.0
"""Over tables of thousands of cells an encrypted answer is the weighted sum of the plain one, to the last integer.

Every oracle here goes by group keys, never by place: a table whose cells came in another order would be seen.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import weir_client
from tests.support.paillier import real_keypair
from tests.support.sample import apply_contracts, publish
from tests.support.server import make_domain, start_server

pytestmark = pytest.mark.slow

SIDE, SHOPS = 60, 12
WEIGHT_BITS = 20
COLUMNS = ("persons", "visits", "cost")
GRID = (
    "SELECT site, level, COUNT(*) AS persons, SUM(visits) AS visits, SUM(cost) AS cost FROM grid GROUP BY site, level"
)
SALES = "SELECT shop, day, COUNT(*) AS rows_counted, SUM(amount) AS amount FROM sales GROUP BY shop, day"
_GRID = f"""
name: grid
title: Visits by site and level
description: Synthetic visits, one row a person.
grade: GENERAL
personal_information: false
responsible: Data office
provenance: made for tests
lineage: grid
unit: {{name: person, column: person}}
source: {{kind: csv, location: grid.csv}}
dimensions:
  - {{name: site, type: integer, cells: {list(range(1, SIDE + 1))}, column: site}}
  - {{name: level, type: integer, cells: {list(range(1, SIDE + 1))}, column: level}}
measures:
  - {{name: visits, unit: visits, column: visits, mode: exact, lower: "-6", upper: "20"}}
  - {{name: cost, unit: USD, column: cost, mode: exact, scale: 2, lower: "0", upper: "50"}}
exact: {{k: 10}}
"""
_SALES = f"""
name: sales
title: Sales by shop and day
description: Synthetic sales, several rows a person.
grade: IMPORTANT
personal_information: false
responsible: Data office
provenance: made for tests
lineage: sales
unit: {{name: person, column: person}}
source: {{kind: csv, location: sales.csv}}
dimensions:
  - {{name: shop, type: integer, cells: {list(range(1, SHOPS + 1))}, column: shop}}
  - {{name: day, type: integer, cells: {list(range(1, SIDE + 1))}, column: day, row_level: true}}
measures:
  - {{name: amount, unit: USD, column: amount, mode: dp, scale: 0, lower: "-20", upper: "80"}}
dp: {{rows_per_unit: 2, groups_per_unit: {{day: 2}}, epsilon_lifetime: "20"}}
"""
_COMMON = """
kind: contract
title: Weights over tables
provider: bureau
signatures: none
requester: alice
purposes: [research]
aggregates: [count, sum]
valid_from: 2020-01-01
valid_until: 2100-01-01
"""
_CONTRACTS = (
    f"{_COMMON}contract: c-grid\ndataset: grid\nmodes: [exact, encrypted]\n"
    "dimensions: [site, level]\nmeasures: [visits, cost]\n",
    f"{_COMMON}contract: c-sales\ndataset: sales\nmodes: [dp, encrypted]\n"
    'dimensions: [shop, day]\nmeasures: [amount]\nepsilon: {total: "5", per_query: "1"}\n',
)
Cell = tuple[int, int]


def persons_in(site: int, level: int) -> int:
    """None, fewer than k, and more, by a rule that tells rows from columns."""
    return (0, 3, 10, 15)[(site * 7 + level * level) % 4]


def of_person(site: int, level: int, person: int) -> tuple[int, int]:
    """Visits, and hundredths of cost."""
    return (site * 5 + level * 3 + person * 7) % 27 - 6, (site * 211 + level * 17 + person * 331) % 5001


def weights_for(cells: Mapping[Cell, Any], seed: int) -> dict[Cell, int]:
    """Of every size and both signs, zeros among them, and some cells left out."""
    drawn = random.Random(seed)
    top = 2**WEIGHT_BITS - 1
    special = {0: 0, 1: top, 2: -top}
    chosen = (cell for cell in cells if drawn.random() < 0.95)
    return {cell: special.get(at, drawn.randint(-top, top)) for at, cell in enumerate(chosen)}


def cells_of(answer: weir_client.Answer) -> dict[Cell, Any]:
    """Values of each cell of a plain answer, in its order."""
    rows: list[Any] = answer.rows()
    return {row[:2]: row[2:] for row in rows}


def weighted(weights: Mapping[Cell, int], answer: weir_client.Answer) -> dict[str, Any]:
    """Σ weight · cell of each column of a plain answer, where a cell without value counts as zero."""
    sums: dict[str, Any] = dict.fromkeys(answer.column_names[2:], 0)
    for cell, values in cells_of(answer).items():
        for name, value in zip(sums, values, strict=True):
            sums[name] += 0 if value is None else weights.get(cell, 0) * value
    return sums


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[weir_client.Client]:
    directory = tmp_path_factory.mktemp("tables")
    data_dir = make_domain(directory)
    publish(*_write(directory), data_dir=data_dir)
    server = start_server(data_dir)
    try:
        apply_contracts(server, _CONTRACTS)
        identity = server.identity("requester", "alice")
        with weir_client.connect(server.public, identity=identity, state_dir=directory / "state") as connected:
            yield connected
    finally:
        server.stop()


def _write(directory: Path) -> list[Path]:
    cells = [(site, level) for site in range(1, SIDE + 1) for level in range(1, SIDE + 1)]
    grid, sales = ["person,site,level,visits,cost"], ["person,shop,day,amount"]
    for site, level in cells:
        for person in range(persons_in(site, level)):
            visits, cost = of_person(site, level, person)
            grid.append(f"p{site}-{level}-{person},{site},{level},{visits},{cost / 100:.2f}")
    for person in range(3000):
        for day in (person % SIDE, person * 7 % SIDE):
            sales.append(f"p{person},{person % SHOPS + 1},{day + 1},{person * 13 % 101 - 20}")
    cards = []
    for name, card, rows in (("grid", _GRID, grid), ("sales", _SALES, sales)):
        (directory / f"{name}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        cards.append(directory / f"{name}.yaml")
        cards[-1].write_text(card, encoding="utf-8")
    return cards


def test_over_atoms_it_is_the_weighted_sum_of_the_plain_answer_and_of_the_source(client: weir_client.Client) -> None:
    keypair = real_keypair()
    plain = client.query(GRID, contract="c-grid").result(120)
    cells = cells_of(plain)
    weights = weights_for(cells, 1)
    asked = client.encrypted_query(GRID, weights=weights, keypair=keypair, contract="c-grid", weight_bits=WEIGHT_BITS)
    assert asked.result(240).decrypt(keypair) == weighted(weights, plain)
    # The source says the same: a cell of k persons or more is an atom of its own; a smaller one has no value.
    assert len(cells) == SIDE * SIDE
    expected: dict[str, Any] = dict.fromkeys(COLUMNS, Decimal(0))
    for (site, level), values in cells.items():
        people = [of_person(site, level, person) for person in range(persons_in(site, level))]
        total = Decimal(sum(cost for _, cost in people)) / 100
        shown: tuple[Any, ...] = (len(people), sum(visits for visits, _ in people), total)
        assert values == (shown if len(people) >= 10 else (None, None, None)), (site, level, values)
        for name, value in zip(COLUMNS, shown if len(people) >= 10 else (0, 0, 0), strict=True):
            expected[name] += weights.get((site, level), 0) * value
    assert weighted(weights, plain) == expected


def test_a_long_list_of_weights_goes_by_the_rows_of_the_plain_answer(
    client: weir_client.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weir_client._encrypted.AHEAD_BYTES", 1 << 20)  # so that this one is long
    keypair = real_keypair()
    plain = client.query(GRID, contract="c-grid").result(120)
    weights = weights_for(cells_of(plain), 2)
    listed = [weights.get(cell, 0) for cell in cells_of(plain)]
    asked = client.encrypted_query(GRID, weights=listed, keypair=keypair, contract="c-grid", weight_bits=WEIGHT_BITS)
    assert asked.result(240).decrypt(keypair) == weighted(weights, plain)
    assert asked.result().verify().event["type"] == "weir.query.released"
    # What it took: the call that was given up once accepted, which is a leaf and nothing more, and this one.
    rule: Any = [receipt.event for receipt in client.receipts()][1]
    assert (rule["type"], rule["data"]["record"]["rule"]) == ("weir.query.refused", "upload.short")


@pytest.mark.parametrize(("epsilon", "plain_first"), [("0.5", True), ("0.25", False)], ids=["after", "before"])
def test_over_a_dp_table_it_is_the_weighted_sum_of_the_one_release(
    client: weir_client.Client, epsilon: str, plain_first: bool
) -> None:
    keypair = real_keypair()
    weights = weights_for({(shop, day): 0 for shop in range(1, SHOPS + 1) for day in range(1, SIDE + 1)}, 3)

    def ask_plain() -> weir_client.Answer:
        return client.query(SALES, contract="c-sales", epsilon=epsilon).result(120)

    first = ask_plain() if plain_first else None
    asked = client.encrypted_query(
        SALES, weights=weights, keypair=keypair, contract="c-sales", epsilon=epsilon, weight_bits=WEIGHT_BITS
    )
    decrypted = asked.result(240).decrypt(keypair)
    plain = ask_plain()
    assert first is None or first.rows() == plain.rows()
    assert min(value for values in cells_of(plain).values() for value in values) < 0
    assert decrypted == weighted(weights, plain)
