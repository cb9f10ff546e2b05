# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.support.cards import clinic, parse, spending
from weir.errors import InternalError, InvalidQuery, Overloaded, PolicyDenied, UnknownName, WeirError
from weir.query import canonicalise
from weir.v1 import answer_pb2
from weir_client._sql import parse as parse_sql
from weir_server.catalog.card import DatasetCard, Grade, Mode
from weir_server.catalog.catalogue import Catalogue
from weir_server.catalog.snapshot import Snapshot
from weir_server.plan.values import Principal, Submission
from weir_server.sandbox.answers import LIMITS, NOWHERE, Sandbox, cards_of
from weir_server.sandbox.builds import Bounds, Builds, claim_directory

COUNT = "SELECT region, COUNT(*), SUM(spend) FROM clinic GROUP BY region"
QUICK = Bounds(pause_seconds=0, patience_seconds=0)


def published(*cards: DatasetCard) -> Catalogue:
    """A catalogue of real snapshots, whose directories a test would notice to be opened: they do not exist."""
    found: dict[str, tuple[Snapshot, ...]] = {}
    for card in cards:
        older = found.get(card.name, ())
        at = datetime(2026, 1, 1, tzinfo=UTC)
        snapshot = Snapshot(card, len(older) + 1, at, "0" * 64, Path("/dev/null/real"), ("atoms.jsonl",))
        found[card.name] = (snapshot, *older)
    return Catalogue(MappingProxyType(found))


def submission(sql: str, *, mode: Mode | None = None, epsilon: int | None = None, who: str = "alice") -> Submission:
    query = canonicalise(parse_sql(sql).query)
    principal = Principal(name=who, role="requester", domain="test.weir")
    return Submission(principal, query, "sandbox", "", mode, epsilon, None, None, "", "0" * 64)


async def ask(sandbox: Sandbox, sql: str, catalogue: Catalogue, **terms: Any) -> answer_pb2.Answer:
    asked = submission(sql, **terms)
    cards = cards_of(catalogue, asked.query.dataset)
    return await sandbox.answer(asked, cards, grade_of=lambda card: card.grade)


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    made = Sandbox(Builds(tmp_path / "sandbox", clock=lambda: 0.0, bounds=QUICK), clock=lambda: 0.0)
    yield made
    await made.close()


async def test_an_exact_answer_holds_every_cell_and_says_that_it_is_of_the_sandbox(sandbox: Sandbox) -> None:
    answer = await ask(sandbox, COUNT, published(parse(clinic())))
    assert answer.sandbox
    assert (answer.dataset, answer.snapshot, answer.mode) == ("clinic", 1, answer_pb2.MODE_EXACT)
    assert [cell.text for cell in answer.keys[0].cells] == ["north", "east", "south", "west"]
    assert all(int(number) > 100 for number in answer.values[0].numerators)


async def test_a_dp_answer_has_its_declared_noise_and_a_new_draw_each_time(sandbox: Sandbox) -> None:
    catalogue = published(parse(spending()))
    sql = "SELECT ward, COUNT(*) AS n FROM spending GROUP BY ward"
    answers = [await ask(sandbox, sql, catalogue, mode=Mode.DP, epsilon=10**7) for _ in range(3)]
    assert all(answer.values[0].noise.distribution == "discrete laplace" for answer in answers)
    assert answers[0].epsilon_nano == 10**7
    assert len({tuple(answer.values[0].numerators) for answer in answers}) > 1


async def test_an_older_version_is_answered_under_its_own_card(sandbox: Sandbox) -> None:
    old, new = parse(clinic()), parse(clinic() | {"dimensions": clinic()["dimensions"][:3], "exact": {"k": 10}})
    catalogue = published(old, new)
    sql = 'SELECT adult, COUNT(*) FROM "clinic@1" GROUP BY adult'
    assert (await ask(sandbox, sql, catalogue)).snapshot == 1
    with pytest.raises(UnknownName):
        await ask(sandbox, sql.replace("@1", "@2"), catalogue)


@pytest.mark.parametrize(
    ("sql", "kind", "rule"),
    [
        ("SELECT COUNT(*) FROM elsewhere", UnknownName, "name.dataset"),
        ('SELECT COUNT(*) FROM "clinic@7"', UnknownName, "name.snapshot"),
        ("SELECT town, COUNT(*) FROM clinic GROUP BY town", UnknownName, "name.dimension"),
        ("SELECT SUM(height) FROM clinic", UnknownName, "name.measure"),
        ("SELECT VARIANCE(worst) FROM clinic", InvalidQuery, "aggregate.undeclared"),
        ("SELECT COUNT(*) FROM clinic WHERE spend > 5", InvalidQuery, "exact.condition"),
        ("SELECT COUNT(*) FROM clinic WHERE age > 20", InvalidQuery, "predicate.bin"),
    ],
    ids=["dataset", "version", "dimension", "measure", "aggregate", "condition", "bin"],
)
async def test_what_a_real_query_is_refused_for_is_refused_here(
    sandbox: Sandbox, sql: str, kind: type[WeirError], rule: str
) -> None:
    with pytest.raises(kind) as refused:
        await ask(sandbox, sql, published(parse(clinic())))
    assert refused.value.rule == rule


@pytest.mark.parametrize(
    ("held", "mode"), [(Grade.CORE, None), (Grade.IMPORTANT, Mode.EXACT)], ids=["core", "exact of important"]
)
async def test_red_lines_hold_in_the_sandbox_and_nothing_is_built(
    tmp_path: Path, sandbox: Sandbox, held: Grade, mode: Mode | None
) -> None:
    asked = submission("SELECT COUNT(*) FROM clinic", mode=mode)
    with pytest.raises(PolicyDenied) as refused:
        await sandbox.answer(asked, cards_of(published(parse(clinic())), "clinic"), grade_of=lambda card: held)
    assert [reason.code for reason in refused.value.reasons] == ["grade.technique"]
    assert not (tmp_path / "sandbox").exists()


async def test_cards_lose_everything_that_leads_to_data() -> None:
    (bare,) = cards_of(published(parse(clinic()), parse(spending())), "clinic").datasets.values()
    assert [(item.directory, item.files) for item in bare] == [(NOWHERE, ())]
    assert (bare[0].manifest_digest, bare[0].basis) == ("", None)


async def test_a_snapshot_of_data_is_not_taken(sandbox: Sandbox) -> None:
    with pytest.raises(InternalError) as refused:
        await sandbox.answer(
            submission("SELECT COUNT(*) FROM clinic"), published(parse(clinic())), grade_of=lambda card: card.grade
        )
    assert refused.value.rule == "sandbox.wall"


async def test_one_sandbox_is_built_for_all_who_ask_for_it_at_once(tmp_path: Path, sandbox: Sandbox) -> None:
    catalogue = published(parse(clinic()))
    answers = await asyncio.gather(*(ask(sandbox, COUNT, catalogue, who=f"u{i}") for i in range(6)))
    assert len({answer.SerializeToString(deterministic=True) for answer in answers}) == 1
    assert [path.name for path in (tmp_path / "sandbox").iterdir()] == ["1"]


async def test_another_sandbox_is_not_built_meanwhile(sandbox: Sandbox) -> None:
    first = asyncio.create_task(ask(sandbox, COUNT, published(parse(clinic()))))
    await asyncio.sleep(0.05)
    with pytest.raises(Overloaded) as refused:
        await ask(sandbox, "SELECT SUM(cost) FROM spending", published(parse(spending())), epsilon=10**9)
    assert refused.value.rule == "sandbox.building"
    await first


async def test_only_so_many_are_kept_on_disk(tmp_path: Path) -> None:
    bounds = replace(QUICK, kept=2)
    builds = Builds(tmp_path / "sandbox", clock=lambda: 0.0, bounds=bounds)
    cards = [replace(parse(clinic()), title=f"Clinic {i}") for i in range(3)]
    first, *_ = [await builds.get(card) for card in cards]
    assert not first.directory.exists()
    assert len(list((tmp_path / "sandbox").iterdir())) == 2
    again = await builds.get(cards[0])
    assert again.directory != first.directory
    assert again.manifest_digest == first.manifest_digest
    await builds.close()
    assert not (tmp_path / "sandbox").exists()


async def test_a_data_directory_may_be_named_from_the_working_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    builds = Builds(Path("DATA") / "sandbox", clock=lambda: 0.0, bounds=QUICK)
    built = await builds.get(parse(clinic()))
    assert built.directory.is_relative_to(tmp_path / "DATA")
    await builds.close()


async def test_few_are_built_in_a_row_and_then_one_now_and_then(tmp_path: Path) -> None:
    now = [100.0]
    bounds = Bounds(in_a_row=2, pause_seconds=5)
    builds = Builds(tmp_path / "sandbox", clock=lambda: now[0], bounds=bounds)
    cards = [replace(parse(clinic()), title=f"Clinic {i}") for i in range(4)]
    await builds.get(cards[0])
    await builds.get(cards[1])
    with pytest.raises(Overloaded):
        await builds.get(cards[2])
    await builds.get(cards[0])  # what there is costs nothing
    now[0] += 5
    await builds.get(cards[2])
    with pytest.raises(Overloaded):
        await builds.get(cards[3])
    await builds.close()


async def test_who_asks_for_another_waits_a_little_for_its_turn(tmp_path: Path) -> None:
    builds = Builds(tmp_path / "sandbox", clock=lambda: 0.0, bounds=Bounds(patience_seconds=60))
    cards = [replace(parse(clinic()), title=f"Clinic {i}") for i in range(2)]
    first, second = await asyncio.gather(*(builds.get(card) for card in cards))
    assert first.card.title != second.card.title
    await builds.close()


@pytest.mark.parametrize(
    ("bounds", "change"),
    [
        (replace(QUICK, seconds=0.05), {}),
        (replace(QUICK, bytes_each=100), {}),
        (QUICK, {"source_fails": True}),
    ],
    ids=["too slow", "too large", "no rows"],
)
async def test_a_card_that_makes_no_sandbox_is_not_tried_again_and_leaves_nothing(
    tmp_path: Path, bounds: Bounds, change: dict[str, bool]
) -> None:
    now = [0.0]
    card = parse(clinic())
    if change:
        region = replace(card.dimensions[0], cells=(replace(card.dimensions[0].cells[0], value=""),))
        card = replace(card, dimensions=(region,), measures=card.measures[:1], coarsening=())
    builds = Builds(tmp_path / "sandbox", clock=lambda: now[0], bounds=bounds)
    for _ in range(2):
        with pytest.raises(UnknownName) as refused:
            await builds.get(card)
        assert refused.value.rule == "sandbox.none"
    assert builds._number == 1
    assert list((tmp_path / "sandbox").iterdir()) == []
    now[0] += bounds.retry_seconds
    with pytest.raises(UnknownName):
        await builds.get(card)
    assert builds._number == 2


async def test_leftovers_of_an_earlier_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / "sandbox" / "7").mkdir(parents=True)
    Builds(tmp_path / "sandbox", clock=lambda: 0.0)
    assert not (tmp_path / "sandbox").exists()


async def test_closing_ends_a_build_under_way(tmp_path: Path) -> None:
    builds = Builds(tmp_path / "sandbox", clock=lambda: 0.0)
    waiting = asyncio.create_task(builds.get(parse(clinic())))
    await asyncio.sleep(0.1)
    await builds.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not (tmp_path / "sandbox").exists()


async def test_one_requester_does_not_take_all_seats(sandbox: Sandbox) -> None:
    catalogue = published(parse(clinic()))
    most = LIMITS.max_in_flight_per_requester
    asked = [asyncio.create_task(ask(sandbox, COUNT, catalogue)) for _ in range(most + 1)]
    ended = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(item) for item in ended].count(Overloaded) == 1
    assert (await ask(sandbox, COUNT, catalogue, who="bob")).sandbox


def test_each_process_has_a_directory_of_its_own(tmp_path: Path) -> None:
    """Mutant: a worker that starts would remove the sandboxes of the others, or build where they build."""
    with ExitStack() as first, ExitStack() as second:
        mine, theirs = claim_directory(tmp_path / "sandbox", first), claim_directory(tmp_path / "sandbox", second)
        assert mine != theirs
        (mine / "1").mkdir(parents=True)
        (theirs / "1").mkdir(parents=True)
        first.close()
        with ExitStack() as third:
            assert claim_directory(tmp_path / "sandbox", third) == mine
            assert not mine.exists(), "what an ended process left is removed"
            assert (theirs / "1").exists()
