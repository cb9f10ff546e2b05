# SPDX-License-Identifier: Apache-2.0
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from tests.support.exact import SALT, Bench, write_csv
from tests.support.names import (
    NAMES,
    REGISTER,
    SOURCE,
    Renamed,
    dp_card,
    entries,
    exact_card,
    renamed_rows,
    renamings,
)
from weir_server.assess.assessment import Questions, assess
from weir_server.catalog.card_rules import RESERVED
from weir_server.dp.layout import FILE
from weir_server.engine.duckdb import Engine, open_engine
from weir_server.exact.records import ATOMS

PEOPLE = 90
PLAIN = {name: name for name in SOURCE}, {name: name for name in REGISTER}
SOME, *REST = [range(first, first + 24, len(SOURCE)) for first in range(0, len(NAMES), 24)]
"""Starts, between which every name is once a column of the source and once of the register; those likely to matter
come first."""


def visits() -> list[dict[str, Any]]:
    draw, found = random.Random(3), []
    for who in range(PEOPLE):
        constant = {"who": f"p{who}", "region": draw.choice(["north", "south"]), "member": draw.choice(["true", None])}
        for day in draw.sample(range(1, 29), draw.choice([1, 2, 5])):
            spend = draw.choice([None, "1.005", "-3.125", "1e1", "99.5", "7"])
            own = {"age": draw.randrange(-3, 80), "day": f"2026-01-{day:02}", "spend": spend}
            found.append(constant | own | {"pain": draw.randrange(11), "ward": draw.choice([1, 2])})
    return found


VISITS, ENTRIES = visits(), entries(PEOPLE)
Kind = Callable[[Path, Renamed, Renamed], Any]


def exact(directory: Path, source: Renamed, register: Renamed) -> Any:
    """Atoms and reports of two versions, of which the second continues the first."""
    bench, card = Bench(directory), exact_card(source, register)
    found = []
    for away in (0, 40):
        rows = renamed_rows(VISITS[away:], source)
        report = bench.publish(card, rows, register=renamed_rows(ENTRIES, register)).report
        found.append((report, (bench.snapshots[-1].directory / ATOMS).read_bytes()))
    return found


def dp(directory: Path, source: Renamed, register: Renamed) -> Any:
    """All that the bounded store holds, and what the bounds drop."""
    bench = Bench(directory)
    published = bench.publish(
        dp_card(source, register), renamed_rows(VISITS, source), register=renamed_rows(ENTRIES, register)
    )
    with open_engine(published.directory / FILE) as engine:
        tables = [str(row[0]) for row in engine.query("SHOW TABLES")]
        return published.report, {name: sorted(map(repr, engine.query(f"FROM {name}"))) for name in tables}


def assessment(directory: Path, source: Renamed, register: Renamed) -> Any:
    """A report, but for what names the source."""
    card = replace(exact_card(source, register), personal_information=False, consent=None)
    path = write_csv(directory / "source.csv", renamed_rows(VISITS, source))
    # Two sensitive columns as they stand, of which one orders rows, beside what the card makes of others.
    asked = Questions(("region", "age"), sensitive=("member", "spend", source["day"], source["pain"]))
    made = json.loads(
        assess(card, asked, card_directory=directory, data_dir=directory, salt=SALT, source_override=path)
    )
    del made["source"]
    new = {name: old for old, name in source.items()}
    made["sensitive"] = [item | {"name": new.get(item["name"], item["name"])} for item in made["sensitive"]]
    return made


KINDS = [pytest.param(kind, id=kind.__name__) for kind in (exact, dp, assessment)]
_expected: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weir_server.publish.bounded_report.add_laplace", lambda counts, scale: list(counts))


def expected(kind: Kind, directory: Path) -> Any:
    if kind.__name__ not in _expected:
        directory.mkdir()
        _expected[kind.__name__] = kind(directory, *PLAIN)
    return _expected[kind.__name__]


def same(kind: Kind, start: int, directory: Path) -> bool:
    wanted = expected(kind, directory / "plain")
    return bool(kind(directory, *renamings(start)) == wanted)


@pytest.mark.parametrize("start", SOME)
@pytest.mark.parametrize("kind", KINDS)
def test_what_columns_are_called_changes_nothing(kind: Kind, start: int, tmp_path: Path) -> None:
    assert same(kind, start, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("start", [start for starts in REST for start in starts])
@pytest.mark.parametrize("kind", KINDS)
def test_nor_does_any_other_word_of_statements(kind: Kind, start: int, tmp_path: Path) -> None:
    assert same(kind, start, tmp_path)


MARKED = {name: f"Col {name}" for name in SOURCE}, {name: f"Reg {name}" for name in REGISTER}


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_of_ours_beside_a_column_of_a_source_is_reserved(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    for method in ("run", "query"):
        genuine = getattr(Engine, method)

        def noted(self: Engine, sql: str, *arguments: Any, genuine: Any = genuine, **named: Any) -> Any:
            seen.append(sql)
            return genuine(self, sql, *arguments, **named)

        monkeypatch.setattr(Engine, method, noted)
    kind(tmp_path, *MARKED)
    beside = [names for sql in seen if "SELECT" in sql for names in names_by_select(sql) if any(map(is_theirs, names))]
    assert len(beside) >= 5
    ours = {name for names in beside for name in names if not is_theirs(name)}
    assert ours
    assert {name for name in ours if not name.startswith(RESERVED)} == set()


def is_theirs(name: str) -> bool:
    return name in {*MARKED[0].values(), *MARKED[1].values()}


def names_by_select(sql: str) -> Iterator[set[str]]:
    """Columns and aliases of each SELECT of a statement, without those of SELECTs within it."""
    for select in sqlglot.parse_one(sql, read="duckdb").find_all(exp.Select):
        yield {*_columns(select), *(item.alias for item in select.selects)} - {""}


def _columns(node: exp.Expr) -> Iterator[str]:
    for child in node.iter_expressions():
        if isinstance(child, exp.Column):
            yield child.name
        elif not isinstance(child, exp.Query | exp.From):
            yield from _columns(child)
