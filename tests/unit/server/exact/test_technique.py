# SPDX-License-Identifier: Apache-2.0
import random
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from tests.properties.test_exact_oracle import random_units
from tests.support.cards import clinic, parse, spending
from tests.support.exact import NOW, Bench, clinic_rows, query, submission, table
from weir.errors import InternalError, InvalidQuery, PublicationError
from weir.query import Aggregate, Comparison, Function, IsNull, Literal, Operator, Query
from weir_server.catalog.catalogue import Catalogue
from weir_server.catalog.snapshot import Snapshot
from weir_server.exact import technique
from weir_server.exact.lattice import MAX_UNITS, exact_measures
from weir_server.exact.records import ATOMS, Atom, Totals, read_atoms, write_atoms
from weir_server.exact.store import AtomStore, Stores, build_store, exact_array, load_store
from weir_server.exact.technique import ExactTechnique, decimal_text
from weir_server.plan.bind import bind
from weir_server.plan.values import BoundQuery, CellTest, Every, Loss, Raw

CARD = parse(clinic())


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = Bench(tmp_path_factory.mktemp("exact"))
    made.publish(CARD, list(clinic_rows(random_units(random.Random(6), 400))))
    return made


def bound(bench: Bench, asked: Query) -> BoundQuery:
    """The query bound to the published snapshot."""
    return bind(submission(asked), Catalogue().with_snapshot(bench.snapshots[0]))


def test_analysis_needs_no_data(tmp_path: Path) -> None:
    """It runs over a snapshot that has no file at all."""
    nowhere = Snapshot(CARD, 1, NOW, "digest", tmp_path / "nowhere", ())
    asked = bind(submission(query(CARD, (Function.SUM, "spend"))), Catalogue().with_snapshot(nowhere))
    analysis = ExactTechnique().analyse(asked)
    assert analysis.loss == Loss()
    assert [(column.name, column.unit, column.scale) for column in analysis.columns] == [("sum(spend)", "USD", 2)]
    assert analysis.magnitudes == (MAX_UNITS * 9000,)


def test_columns_say_unit_scale_root_and_buckets(bench: Bench) -> None:
    asked = query(CARD, *((function, "spend") for function in sorted(CARD.measures[0].statistics, key=str)))
    columns = {column.name: column for column in bench.technique.analyse(bound(bench, asked)).columns}
    assert (columns["variance(spend)"].unit, columns["variance(spend)"].scale) == ("USD^2", 4)
    assert columns["stddev(spend)"].square_root
    bucket = columns["histogram(spend)[2]"].bucket
    assert (bucket.lower, bucket.upper) == ("5.5", "20")
    assert bench.technique.analyse(bound(bench, asked)).magnitudes.count(0) == 3, "only ratios are unfit to encrypt"


@pytest.mark.parametrize(
    ("where", "rule"),
    [
        pytest.param(Comparison("spend", Operator.GREATER, Literal(5)), "exact.condition", id="value of a measure"),
        pytest.param(IsNull("spend"), "exact.condition", id="null of a measure"),
    ],
)
def test_a_filter_over_a_measure_is_refused_with_the_nearest_form(
    bench: Bench, where: Comparison | IsNull, rule: str
) -> None:
    with pytest.raises(InvalidQuery) as refused:
        bench.ask(query(CARD, Function.COUNT, where=where))
    assert refused.value.rule == rule
    assert "nearest" in refused.value.message


def test_what_varies_within_a_unit_is_refused(tmp_path: Path) -> None:
    content = spending() | {"grade": "GENERAL", "exact": clinic()["exact"]}
    content["measures"] = [*content["measures"], clinic()["measures"][1]]
    card = parse(content)
    catalogue = Catalogue().with_snapshot(Snapshot(card, 1, NOW, "digest", tmp_path, ()))
    ward = Comparison("ward", Operator.EQUAL, Literal(1))
    for asked in (
        query(card, (Function.SUM, "worst"), group_by=["ward"]),
        query(card, (Function.SUM, "worst"), where=ward),
    ):
        with pytest.raises(InvalidQuery) as refused:
            ExactTechnique().analyse(bind(submission(asked), catalogue))
        assert refused.value.rule == "exact.row_level"


def test_every_declared_cell_is_answered_covered_or_not(bench: Bench) -> None:
    answer = bench.ask(query(CARD, Function.COUNT, group_by=["region", "member"]))
    assert [len(key.cells) for key in answer.keys] == [12, 12]
    assert [key.name for key in answer.keys] == ["member", "region"]
    assert answer.keys[0].cells[-1].WhichOneof("value") is None, "the null cell is a literal without value"
    assert len(answer.values[0].numerators) == 12
    assert "" in answer.values[0].numerators


def test_the_last_group_varies_fastest(bench: Bench) -> None:
    answer = bench.ask(query(CARD, Function.COUNT, group_by=["adult", "zone"]))
    assert [cell.text for cell in answer.keys[0].cells] == ["no", "no", "yes", "yes"]
    assert [cell.text for cell in answer.keys[1].cells] == ["upper", "lower", "upper", "lower"]


def test_a_condition_that_nothing_satisfies_is_answered_without_values(bench: Bench) -> None:
    never = Comparison("age", Operator.LESS, Literal(0))
    answer = bench.ask(query(CARD, Function.COUNT, (Function.AVG, "spend"), where=never))
    assert table(answer) == {"count": [("", "1")], "avg(spend)": [("", "1")]}
    assert answer.coverage.covered_total == "0"


def test_answers_do_not_depend_on_what_was_asked_before(bench: Bench) -> None:
    asked = query(CARD, Function.COUNT, (Function.VARIANCE, "spend"), group_by=["zone"])
    fresh = Bench(bench.directory, ExactTechnique(), bench.snapshots)
    first = fresh.ask(asked).SerializeToString(deterministic=True)
    for name in ("age", "adult", "member"):
        fresh.ask(query(CARD, Function.COUNT, group_by=[name]))
    assert fresh.ask(asked).SerializeToString(deterministic=True) == first
    assert bench.ask(asked).SerializeToString(deterministic=True) == first


def test_what_is_added_to_an_answer_stands_in_no_other(bench: Bench) -> None:
    asked = query(CARD, Function.COUNT, group_by=["zone"])
    first = bench.ask(asked)
    before = first.SerializeToString(deterministic=True)
    first.dataset, first.keys[0].name, first.coverage.covered_total = "other", "other", "0"
    assert bench.ask(asked).SerializeToString(deterministic=True) == before


def test_questions_that_nothing_satisfies_take_no_more_memory_than_is_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: atoms and cells alone count. Then anybody can have as many questions kept as it likes, at a few numbers
    each, since a condition that no atom satisfies has neither."""
    most = 100_000
    monkeypatch.setattr(technique, "MAX_KEPT", most)
    asked, answering = bound(bench, query(CARD, Function.COUNT)), ExactTechnique(stores=Stores())
    analysis = answering.analyse(asked)
    answering.execute(asked, analysis)
    tracemalloc.start()
    try:
        for number in range(1000):
            bits = tuple(CellTest("region", frozenset({number >> bit & 1})) for bit in range(10))
            never = Every((CellTest("region", frozenset({2})), *bits))
            answering.execute(replace(asked, condition=never), analysis)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * 8 * most


def test_threads_share_one_store_and_agree(bench: Bench) -> None:
    asked = query(CARD, Function.COUNT, (Function.SUM, "spend"), group_by=["region"])
    shared, found = Bench(bench.directory, ExactTechnique(), bench.snapshots), []
    threads = [threading.Thread(target=lambda: found.append(shared.ask(asked).SerializeToString())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_broken_snapshot_is_an_internal_error_without_detail(bench: Bench, tmp_path: Path) -> None:
    broken = replace(bench.snapshots[0], directory=tmp_path, manifest_digest="broken")
    (tmp_path / ATOMS).write_text('{"format":"weir.atoms/1"}\n{"n": "CANARY"}\n')
    asked = bind(submission(query(CARD)), Catalogue().with_snapshot(broken))
    with pytest.raises(InternalError) as failed:
        bench.technique.execute(asked, bench.technique.analyse(asked))
    assert "CANARY" not in repr(failed.value)
    assert failed.value.__context__ is None


def test_release_takes_only_its_own_raw(bench: Bench) -> None:
    asked = bound(bench, query(CARD))
    with pytest.raises(InternalError):
        bench.technique.release(asked, bench.technique.analyse(asked), Raw({"rows": 1}))


TOTALS = tuple(Totals(1, 1 if m.name in ("spend", "first_pain") else None) for m in exact_measures(CARD))


@pytest.mark.parametrize(
    "atom",
    [
        pytest.param(Atom(1, 0, 0, 9, 1, TOTALS), id="fewer than k units"),
        pytest.param(Atom(1, 9, 0, 10, 1, TOTALS), id="no such level"),
        pytest.param(Atom(1, 0, 10_000, 10, 1, TOTALS), id="no such cell"),
        pytest.param(Atom(1, 0, 0, 10, 1, TOTALS[:1]), id="a measure missing"),
    ],
)
def test_a_store_refuses_an_atom_that_publication_never_makes(atom: Atom) -> None:
    with pytest.raises(PublicationError):
        build_store(CARD, [atom])


def test_two_atoms_never_share_a_cell() -> None:
    with pytest.raises(PublicationError):
        build_store(CARD, [Atom(1, 0, 5, 10, 1, TOTALS), Atom(1, 0, 5, 10, 1, TOTALS)])


def test_an_older_atom_keeps_its_cells_before_a_finer_newer_one() -> None:
    coarse, fine = Atom(1, 4, 0, 30, 1, TOTALS), Atom(2, 0, 5, 10, 2, TOTALS)
    with pytest.raises(PublicationError):
        build_store(CARD, [coarse, fine])
    store = build_store(CARD, [replace(coarse, born=2), replace(fine, born=1)])
    assert len(store.owned) == 36
    assert list(store.owner_of_owned).count(1) == 1


def test_atoms_survive_their_file(tmp_path: Path) -> None:
    atoms = [Atom(1, 0, 5, 10, 1, (Totals(-(2**91), 2**150, (3, 7)), Totals(0)))]
    write_atoms(tmp_path / ATOMS, atoms, measures=["a", "b"])
    assert list(read_atoms(tmp_path / ATOMS)) == atoms


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / ATOMS).write_text('{"format":"weir.atoms/2"}\n')
    with pytest.raises(PublicationError):
        list(read_atoms(tmp_path / ATOMS))


def test_columns_that_could_overflow_are_kept_as_python_integers() -> None:
    assert exact_array([2**61, 2**61 - 1]).dtype == "int64"
    assert exact_array([2**61, -(2**61)]).dtype == object
    assert int(sum(exact_array([2**200, 1]))) == 2**200 + 1


def test_stores_are_dropped_oldest_first(bench: Bench) -> None:
    stores, snapshot = Stores(most=2), bench.snapshots[0]
    first = stores.get(snapshot)
    assert stores.get(snapshot) is first
    for name in ("x", "y"):
        stores.get(replace(snapshot, manifest_digest=name))
    assert stores.get(snapshot) is not first


def test_no_question_waits_for_another_snapshot_to_open(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    stores, ready = Stores(), bench.snapshots[0]
    slow, opening, go_on, opened = replace(ready, manifest_digest="slow"), Event(), Event(), list[str]()

    def load(snapshot: Snapshot) -> AtomStore:
        opened.append(snapshot.manifest_digest)
        if snapshot is slow:
            opening.set()
            assert go_on.wait(30)
        return load_store(snapshot)

    monkeypatch.setattr("weir_server.exact.store.load_store", load)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(stores.get, slow) for _ in range(2)]
        assert opening.wait(30)
        assert not stores.is_open(slow)
        assert stores.get(ready).n.size > 0, "although the other is still being opened"
        assert stores.is_open(ready)
        go_on.set()
        assert both[0].result(30) is both[1].result(30)
    assert sorted(opened) == sorted(["slow", ready.manifest_digest]), "each is opened once"


def test_the_event_loop_takes_a_question_only_when_its_store_is_open(bench: Bench) -> None:
    technique, asked = ExactTechnique(), bound(bench, query(CARD))
    first = technique.analyse(asked)
    assert not first.brief
    technique.execute(asked, first)
    assert technique.analyse(asked).brief


@pytest.mark.parametrize(
    ("steps", "scale", "text"), [(0, 2, "0"), (550, 2, "5.5"), (-1005, 3, "-1.005"), (7, 0, "7"), (-5, 1, "-0.5")]
)
def test_grid_steps_are_written_as_decimals(steps: int, scale: int, text: str) -> None:
    assert decimal_text(steps, scale) == text


def test_a_card_without_dimensions_is_one_atom(tmp_path: Path) -> None:
    content = clinic() | {"dimensions": [], "exact": {"k": 10}}
    made = Bench(tmp_path)
    made.publish(parse(content), list(clinic_rows(random_units(random.Random(6), 30))))
    answer = made.ask(Query("clinic", (Aggregate(Function.COUNT), Aggregate(Function.SUM, "worst"))))
    assert list(answer.values[0].numerators) == ["30"]
