# SPDX-License-Identifier: Apache-2.0
"""Who withdrew consent: what two versions, a register's digest or dp rows give away of one person's withdrawal."""

import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.attacks.test_exact_versions import Values, count_and_sum, histories, named, people, rows, town_card
from tests.support.cards import clinic, parse
from tests.support.exact import Bench
from weir_server.catalog.basis import Consent
from weir_server.catalog.card import DatasetCard, Source

REGISTER = Consent(Source("csv", "register.csv"), "person", "recorded", "text", "channel", withdrawn="withdrawn")


def on_consent(card: DatasetCard) -> DatasetCard:
    """The card, resting on a register."""
    return replace(card, personal_information=True, legal_basis="consent", consent=REGISTER)


def register(names: list[str], withdrawn: set[str]) -> list[dict[str, Any]]:
    """Everybody's consent, and who withdrew it."""
    row = {"recorded": 1, "text": "t", "channel": "app"}
    return [row | {"person": name, "withdrawn": "2026-01-01" if name in withdrawn else None} for name in names]


@pytest.mark.parametrize(("leaving", "shown"), [(1, False), (9, False), (10, True), (21, False), (30, True)])
def test_withdrawals_show_only_when_ten_left_and_ten_or_none_stayed(leaving: int, shown: bool, tmp_path: Path) -> None:
    bench, card = Bench(tmp_path), on_consent(town_card())
    names = named("p", 40 if leaving == 30 else 30)
    data = rows(people("a", names))
    bench.publish(card, data, register=register(names, set()))
    report = bench.publish(card, data, register=register(names, set(names[:leaving]))).report
    assert (count_and_sum(bench, 2) != count_and_sum(bench, 1)) is shown
    assert report.withdrawn_held == (0 if shown else leaving)
    assert report.without_consent == leaving


def test_a_withdrawal_hidden_among_others_that_joined_stays_hidden(tmp_path: Path) -> None:
    bench, card = Bench(tmp_path), on_consent(town_card())
    names = named("p", 30)
    bench.publish(card, rows(people("a", names)), register=register(names, set()))
    grown = [*names, *named("n", 15)]
    bench.publish(card, rows(people("a", grown)), register=register(grown, {"p0"}))
    assert count_and_sum(bench, 2) == count_and_sum(bench, 1), "15 joined, but one alone left"


def test_withdrawing_and_consenting_again_singles_out_nobody(tmp_path: Path) -> None:
    bench, card = Bench(tmp_path), on_consent(town_card())
    names = named("p", 41)
    data = rows(people("a", names))
    bench.publish(card, data, register=register(names, set()))
    bench.publish(card, data, register=register(names, set(names[:11])))
    bench.publish(card, data, register=register(names, {"p0"}))
    counts = [count_and_sum(bench, version)[0] for version in (1, 2, 3)]
    assert counts == ["41", "30", "30"], "ten came back and one did not: the third record would show that one"


def test_eleven_consent_and_ten_withdraw_again_does_not_isolate_the_eleventh(tmp_path: Path) -> None:
    bench, card = Bench(tmp_path), on_consent(town_card())
    names, late = named("p", 30), named("n", 11)
    data = rows(people("a", [*names, *late]))
    for consenting in (names, [*names, *late], [*names, late[0]]):
        bench.publish(card, data, register=register(consenting, set()))
    counts = [count_and_sum(bench, version)[0] for version in (1, 2, 3)]
    assert counts == ["30", "41", "41"], "each step alone has classes of ten; both together do not"


@pytest.mark.parametrize("seed", range(3))
def test_over_any_run_of_withdrawals_everyone_shares_a_history_with_nine_others(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    everybody: Values = people("a", named("p", 60)) | people("b", named("q", 45)) | people("c", named("r", 14))
    names, bench, card = sorted(everybody), Bench(tmp_path), on_consent(town_card())
    away: set[str] = set()
    worlds: list[Values] = []
    for _ in range(5):
        worlds.append({who: entry for who, entry in everybody.items() if who not in away})
        bench.publish(card, rows(everybody), register=register(names, away))
        away = away ^ set(draw.sample(names, draw.choice([0, 1, 3, 12, 25])))
    records = [bench.atoms(version) for version in range(1, 6)]
    assert not [atom for atoms in records for atom in atoms if atom.level == 1]
    for key, units in histories(worlds, records).items():
        classes: dict[tuple[bool, ...], int] = defaultdict(int)
        for values in units.values():
            if any(value is not None for value in values):
                classes[tuple(value is not None for value in values)] += 1
        assert all(size >= 10 for size in classes.values()), (key, dict(classes))


def test_digests_change_with_every_version_so_that_no_change_is_told(tmp_path: Path) -> None:
    bench, card = Bench(tmp_path), on_consent(town_card())
    names = named("p", 30)
    data = rows(people("a", names))
    for away in (set(), set(), {"p0"}):
        bench.publish(card, data, register=register(names, away))
    assert len({snapshot.basis for snapshot in bench.snapshots}) == 3


def test_a_withdrawal_takes_a_units_dp_rows_and_moves_no_others(tmp_path: Path) -> None:
    content = clinic() | {
        "measures": [{"name": "cost", "column": "spend", "mode": "dp", "lower": 0, "upper": 90}],
        "dp": {"rows_per_unit": 2, "epsilon_lifetime": "4", "report_epsilon": "0"},
    }
    card = on_consent(parse(content))
    names = named("p", 40)
    data = [
        {"who": who, "region": "north", "member": 1, "age": 20, "day": day, "spend": at * 2 + day % 2, "ward": 1}
        for at, who in enumerate(names)
        for day in range(1, 6)
    ]
    bench = Bench(tmp_path)
    bench.publish(card, data, register=register(names, set()))
    bench.publish(card, data, register=register(names, {"p7"}))
    before, after = (_stored(snapshot.directory / "bounded.duckdb") for snapshot in bench.snapshots)
    gone = [row for row in before if row[0] in (14, 15)]
    assert len(gone) == 2
    assert after == sorted(set(before) - set(gone)), "ranks are functions of a unit's own rows and the salt"


def _stored(path: Path) -> list[tuple[int, int]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return sorted(connection.execute("SELECT v_cost, r FROM rows").fetchall())
