# SPDX-License-Identifier: Apache-2.0
import json
import random
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.properties.test_exact_oracle import random_units
from tests.support.cards import clinic, parse, spending
from tests.support.exact import NOW, SALT, Bench, clinic_rows, write_csv
from weir.errors import PublicationError
from weir_server.catalog.card import DatasetCard
from weir_server.catalog.snapshot import open_snapshot
from weir_server.publish import publisher
from weir_server.publish.files import activating, nobody_activates, publishing_alone
from weir_server.publish.publisher import Published, publish
from weir_server.publish.source import declared_columns

Rows = list[dict[str, Any]]


def good_rows() -> Rows:
    """Rows that break no declared fact."""
    return list(clinic_rows(random_units(random.Random(4), 60)))


def refusals(card: DatasetCard, rows: Rows, directory: Path) -> dict[tuple[str, str], int]:
    """Rule and subject of each violation, with its count."""
    with pytest.raises(PublicationError) as refused:
        Bench(directory).publish(card, rows)
    return {(item.rule, item.subject): item.count for item in refused.value.violations}


def put(row: int, column: str, value: Any) -> Callable[[Rows], None]:
    """Spoil one field."""

    def change(rows: Rows) -> None:
        rows[row] = rows[row] | {column: value}

    return change


def last_twice(rows: Rows) -> None:
    """Give a unit two first rows."""
    rows.append(dict(rows[0]))


@pytest.mark.parametrize(
    ("change", "rule", "subject"),
    [
        pytest.param(put(0, "who", None), "unit.missing", "who", id="row without unit"),
        pytest.param(put(0, "region", "mars"), "dimension.domain", "region", id="value outside the domain"),
        pytest.param(put(0, "region", None), "dimension.null", "region", id="null without null cell"),
        pytest.param(put(0, "age", "NaN"), "dimension.domain", "age", id="NaN in a bin"),
        pytest.param(put(0, "age", "old"), "dimension.domain", "age", id="text in a bin"),
        pytest.param(put(0, "member", "maybe"), "dimension.domain", "member", id="no truth value"),
        pytest.param(put(0, "spend", "much"), "measure.no_number", "spend", id="measure no number"),
        pytest.param(put(0, "spend", "nan"), "measure.not_finite", "spend", id="NaN"),
        pytest.param(put(0, "spend", "-inf"), "measure.not_finite", "spend", id="infinity"),
        pytest.param(put(0, "pain", "3.5"), "measure.off_grid", "worst", id="off the grid"),
        pytest.param(put(0, "pain", None), "measure.null", "worst", id="null that nothing stands for"),
        pytest.param(put(0, "day", "soon"), "order.type", "day", id="order neither number nor time"),
        pytest.param(last_twice, "order.ties", "day", id="first row not unique"),
    ],
)
def test_a_declared_fact_that_does_not_hold_is_refused_by_rule_and_count(
    change: Callable[[Rows], None], rule: str, subject: str, tmp_path: Path
) -> None:
    rows = good_rows()
    change(rows)
    found = refusals(parse(clinic()), rows, tmp_path)
    assert found[rule, subject] == 1
    assert not (tmp_path / "data" / "snapshots" / "clinic" / "1").exists()


def test_a_level_whose_first_row_is_not_unique_is_refused_whatever_other_levels_hold(tmp_path: Path) -> None:
    """Which of the two is taken would be no fact: another run, or a task that is tried again, takes the other."""
    content = clinic()
    level = {"column": "ward", "values": [1, 2]}
    content["measures"] = [content["measures"][2] | {"missing": 0, "per_level": level}]
    rows = good_rows()
    first = rows[0] | {"day": -3, "ward": "1", "pain": "1"}
    rows += [first, first | {"day": -2, "ward": "2"}, first | {"day": -2, "ward": "2", "pain": "9"}]
    assert refusals(parse(content), rows, tmp_path) == {("order.ties", "day"): 1}


def test_all_violations_are_reported_at_once_and_none_quotes_a_value(tmp_path: Path) -> None:
    rows = good_rows()
    for row in range(3):
        put(row, "region", "CANARY-mars")(rows)
    put(4, "spend", "CANARY-spend")(rows)
    rows.append(rows[5] | {"day": 99, "region": "east" if rows[5]["region"] != "east" else "north"})
    with pytest.raises(PublicationError) as refused:
        Bench(tmp_path).publish(parse(clinic()), rows)
    found = {(item.rule, item.subject): item.count for item in refused.value.violations}
    assert found["dimension.domain", "region"] == 3
    assert found["measure.no_number", "spend"] == 1
    assert found["dimension.not_constant", "region"] >= 1
    said = refused.value.message + repr(refused.value.violations)
    assert "CANARY" not in said


def test_a_dimension_that_varies_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    rows = good_rows()
    rows.append(rows[0] | {"day": 99, "region": "east" if rows[0]["region"] != "east" else "north"})
    with pytest.raises(PublicationError) as refused:
        Bench(tmp_path).publish(parse(clinic()), rows)
    (violation,) = refused.value.violations
    assert violation.rule == "dimension.not_constant"
    assert "first" in violation.sentence
    assert "measure per level" in violation.sentence
    assert "dp" in violation.sentence


def test_missing_columns_are_all_named(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key not in ("spend", "ward")} for row in good_rows()]
    assert set(refusals(parse(clinic()), rows, tmp_path)) == {("source.column", "spend"), ("source.column", "ward")}


@pytest.mark.parametrize("content", ["", "who\n\xff\x00", 'a,b\n1,2,3,4\n"x'], ids=["empty", "bytes", "ragged"])
def test_a_file_that_is_no_table_is_refused_without_the_engines_words(content: str, tmp_path: Path) -> None:
    source = tmp_path / "source.csv"
    source.write_bytes(content.encode("latin-1"))
    with pytest.raises(PublicationError) as refused:
        run(parse(clinic()), source, tmp_path)
    assert refused.value.rule in ("source.line", "source.column")
    assert refused.value.__context__ is None or "Error" not in str(refused.value)


@pytest.mark.parametrize("content", [clinic(), spending()], ids=["exact", "dp"])
def test_a_source_without_anybody_is_no_version(content: dict[str, Any], tmp_path: Path) -> None:
    card = parse(content)
    source = tmp_path / "source.csv"
    source.write_text(",".join(declared_columns(card)) + "\n", encoding="utf-8")
    with pytest.raises(PublicationError) as refused:
        run(card, source, tmp_path)
    assert refused.value.rule == "publication.empty"
    assert not (tmp_path / "data" / "snapshots" / card.name / "1").exists()


def test_most_units_leave_only_if_the_provider_says_so(tmp_path: Path) -> None:
    """Fault: the extract broke off, and its few rows become what everybody is answered from."""
    rows, bench = list(clinic_rows(random_units(random.Random(4), 200))), Bench(tmp_path)
    before = bench.publish(parse(clinic()), rows).report.units_in_atoms
    kept = {row["who"]: None for row in rows}
    whole, half = list(kept), (before + 1) // 2
    left = [row for row in rows if row["who"] in whole[: half - 1]]
    with pytest.raises(
        PublicationError, match=f"{half - 1} units are left of at least {before} in version 1"
    ) as refused:
        bench.publish(parse(clinic()), left, accept_shrink=False)
    assert refused.value.rule == "publication.shrunk"
    enough = [row for row in rows if row["who"] in whole[:half]]
    assert bench.publish(parse(clinic()), enough, accept_shrink=False).report.units == half
    assert bench.publish(parse(clinic()), left, accept_shrink=True).report.units == half - 1


def test_of_what_dp_hides_no_refusal_tells_whether_most_units_left(tmp_path: Path) -> None:
    card, previous = parse(spending()), None
    rows = [row | {"ward": 1, "spend": 5} for row in good_rows()]
    source = tmp_path / "source.csv"
    for version, people in ((1, rows), (2, rows[:1])):
        write_csv(source, people)
        published = publish(
            card, card_directory=tmp_path, data_dir=tmp_path / "data", version=version, previous=previous, now=NOW,
            salt=SALT, source_override=source, threads=1,
        )  # fmt: skip
        assert (published.report.rows, published.report.units) == (0, 0), "not told"
        previous = open_snapshot(published.directory, expected_digest=published.manifest_digest)


def test_an_absent_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PublicationError) as refused:
        run(parse(clinic()), None, tmp_path)
    assert refused.value.rule == "source.missing"


def run(
    card: DatasetCard, source: Path | None, directory: Path, *, version: int = 1,
    progress: Callable[[str], None] | None = None,
) -> Published:  # fmt: skip
    """Publish a file."""
    return publish(
        card, card_directory=directory, data_dir=directory / "data", version=version, previous=None, now=NOW,
        salt=SALT, source_override=source, threads=1, progress=progress,
    )  # fmt: skip


def test_clips_and_roundings_are_counted(tmp_path: Path) -> None:
    content = clinic()
    rows = [
        {"who": i, "region": "north", "member": 1, "age": 20, "day": 1, "spend": spend, "pain": 1, "ward": 1}
        for i, spend in enumerate(["1.005", "1.004", "7", "91", "-10.01", "1e40"])
    ]
    report = Bench(tmp_path).publish(parse(content), rows).report
    assert report.rounded == {"spend": 2}
    assert report.clipped == {"spend": 3}
    assert (report.rows, report.units, report.atoms, report.units_outside) == (6, 6, 0, 6)


def test_the_first_row_of_a_unit_goes_by_instants_whatever_the_zone(tmp_path: Path) -> None:
    row = {"region": "north", "member": 1, "spend": 0, "ward": 1}
    rows = [
        row | {"who": i, "day": day, "age": 20, "pain": pain}
        for i in range(10)
        for day, pain in (("2026-03-01T20:00:00+08:00", 3), ("2026-03-01T13:00:00+00:00", 7))
    ]
    bench = Bench(tmp_path)
    bench.publish(parse(clinic()), rows)
    (atom,) = bench.atoms()
    first_pain = [measure.name for measure in bench.snapshots[0].card.measures].index("first_pain")
    assert atom.totals[first_pain].sum == 30, "noon comes before one o'clock"


def test_the_same_facts_make_the_same_snapshot_whatever_the_order_of_rows(tmp_path: Path) -> None:
    rows = list(clinic_rows(random_units(random.Random(4), 300)))
    digests = set()
    for turn in range(2):
        bench = Bench(tmp_path / str(turn), entropy=bytes)
        bench.directory.mkdir()
        digests.add(bench.publish(parse(clinic()), rows).manifest_digest)
        random.Random(5).shuffle(rows)
    assert len(digests) == 1


@pytest.mark.parametrize("kind", ["parquet", "duckdb"])
def test_typed_sources_give_the_same_atoms_as_text(kind: str, tmp_path: Path) -> None:
    rows = list(clinic_rows(random_units(random.Random(4), 300)))
    text = Bench(tmp_path / "text")
    text.directory.mkdir()
    text.publish(parse(clinic()), rows)
    source = tmp_path / f"source.{kind}"
    csv = write_csv(tmp_path / "source.csv", rows)
    typed = (
        "SELECT CAST(who AS VARCHAR) AS who, region, "
        "CASE member WHEN 'true' THEN true WHEN '0' THEN false END AS member, "
        "CAST(day AS INTEGER) AS day, CAST(age AS DOUBLE) AS age, CAST(spend AS DOUBLE) AS spend, "
        f"CAST(pain AS TINYINT) AS pain, CAST(ward AS BIGINT) AS ward FROM read_csv('{csv}', all_varchar = true)"
    )
    with duckdb.connect() as connection:
        if kind == "parquet":
            connection.execute(f"COPY ({typed}) TO '{source}' (FORMAT parquet)")
        else:
            connection.execute(f"ATTACH '{source}' AS d; CREATE SCHEMA d.care; CREATE TABLE d.care.visits AS {typed}")
    content = clinic()
    content["source"] = {"kind": kind, "location": str(source)} | ({"table": "care.visits"} if kind == "duckdb" else {})
    published = run(parse(content), None, tmp_path)
    ours = (published.directory / "atoms.jsonl").read_bytes()
    assert ours == (text.snapshots[0].directory / "atoms.jsonl").read_bytes()


def test_a_snapshot_opens_only_unaltered(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    published = bench.publish(parse(clinic()), good_rows())
    assert bench.snapshots[0].card == parse(clinic())
    atoms = published.directory / "atoms.jsonl"
    atoms.chmod(0o600)
    atoms.write_bytes(atoms.read_bytes().replace(b'"n":', b'"n": '))
    with pytest.raises(PublicationError):
        open_snapshot(published.directory, expected_digest=published.manifest_digest)


def test_a_version_is_never_overwritten(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "source.csv", good_rows())
    run(parse(clinic()), source, tmp_path)
    with pytest.raises(PublicationError) as refused:
        run(parse(clinic()), source, tmp_path)
    assert refused.value.rule == "snapshot.exists"


def test_one_publication_of_a_dataset_at_a_time_and_nothing_is_cleared_away_while_one_is_activated(
    tmp_path: Path,
) -> None:
    """Mutant: without the locks the second removes what the first has sealed and the server is about to activate."""

    def refused(enter: Callable[[Path], AbstractContextManager[object]]) -> str | None:
        try:
            with enter(tmp_path):
                return None
        except PublicationError as error:
            return error.rule

    with publishing_alone(tmp_path):
        assert (refused(publishing_alone), refused(activating)) == ("publication.running", None)
        with nobody_activates(tmp_path):
            assert refused(activating) == "publication.running"
        with activating(tmp_path), activating(tmp_path):
            assert refused(nobody_activates) == "publication.running"
    assert [refused(each) for each in (publishing_alone, nobody_activates, activating)] == [None] * 3
    with activating(tmp_path / "brought from elsewhere"):
        pass


def test_a_directory_that_cannot_be_locked_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / ".publishing").mkdir()
    with pytest.raises(PublicationError) as refused, publishing_alone(tmp_path):
        pass
    assert refused.value.rule == "publication.lock"


@pytest.mark.parametrize("step", ["count_rows", "build_units", "climb", "write_atoms", "seal"])
def test_a_failure_at_any_step_leaves_no_snapshot_and_no_working_files(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    source = write_csv(tmp_path / "source.csv", good_rows())
    with monkeypatch.context() as patched:
        patched.setattr(publisher, step, fail)
        with pytest.raises(OSError, match="disk full"):
            run(parse(clinic()), source, tmp_path)
    left = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert left == []
    assert run(parse(clinic()), source, tmp_path).version == 1, "and the next attempt succeeds"


def test_what_is_left_of_a_crash_is_cleared_by_the_next_publication(tmp_path: Path) -> None:
    stale = tmp_path / "data" / "publishing" / ".clinic.tmp"
    stale.mkdir(parents=True)
    (stale / "work.duckdb").write_text("rows of people")
    Bench(tmp_path).publish(parse(clinic()), good_rows())
    assert not stale.exists()


def test_nothing_of_single_people_stays_outside_the_private_directory(tmp_path: Path) -> None:
    rows = good_rows()
    for row in rows:
        row["who"] = f"CANARY-{row['who']}"
    bench = Bench(tmp_path)
    published = bench.publish(parse(clinic()), rows)
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert not [path for path in files if b"CANARY" in path.read_bytes()], "not even the private file names anybody"
    private = tmp_path / "data" / "private" / "clinic"
    assert {path.parent for path in files} == {published.directory, private}
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in files)


def test_only_the_private_records_that_may_be_needed_are_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for _ in range(4):
        bench.publish(parse(clinic()), good_rows())
    kept = sorted(path.name.split("-")[0] for path in (tmp_path / "data" / "private" / "clinic").iterdir())
    assert kept == ["3", "4"]


def test_a_core_dataset_is_catalogued_without_opening_its_source(tmp_path: Path) -> None:
    card = parse(clinic() | {"grade": "CORE", "measures": []})
    published = run(card, None, tmp_path)
    assert [path.name for path in published.directory.iterdir()] == ["manifest.json"]
    assert json.loads((published.directory / "manifest.json").read_bytes())["files"] == {}


@pytest.mark.parametrize(("rows_per_unit", "told"), [(3, False), (1, True)])
def test_no_count_tells_of_a_row_that_dp_hides(tmp_path: Path, rows_per_unit: int, told: bool) -> None:
    """Attack: whoever sees reports finds one more row of a unit, exactly, beside a dp COUNT(*) that hides it."""
    content = clinic() | {"dp": {"rows_per_unit": rows_per_unit, "epsilon_lifetime": "4", "report_epsilon": "0"}}
    content["measures"] = [
        {"name": "worst", "column": "pain", "mode": "exact", "per_unit": "max", "lower": 0, "upper": 10,
         "round": "half_even"},
        {"name": "cost", "column": "spend", "mode": "dp", "lower": 0, "upper": 90},
    ]  # fmt: skip
    row: dict[str, Any] = {"region": "north", "member": 1, "age": 20, "spend": 1, "pain": "0.4", "ward": 1}
    rows = [row | {"who": f"p{unit}", "day": day} for unit in range(40) for day in range(1, 4)]
    told_of = []
    for more in ([], [row | {"who": "p7", "day": 99, "age": 70}]):
        directory = tmp_path / str(len(more))
        directory.mkdir()
        lines: list[str] = []
        found = publish(
            parse(content),
            card_directory=directory,
            data_dir=directory / "data",
            version=1,
            previous=None,
            now=NOW,
            salt=SALT,
            source_override=write_csv(directory / "source.csv", [*rows, *more]),
            progress=lines.append,
        )
        told_of.append((replace(found.report, bounded_files=()), lines))
    assert (told_of[0] != told_of[1]) is told
    assert (told_of[0][0].rows, told_of[0][0].rounded) == ((120, {"worst": 120}) if told else (0, {}))
    assert told_of[0][0].units == 40


def test_a_dp_card_is_published_with_halves_rounded_to_even(tmp_path: Path) -> None:
    content = spending()
    content["measures"][0]["round"] = "half_even"
    rows = [
        {"who": i, "region": "north", "member": 1, "age": 20, "day": 1, "ward": 1, "spend": spend}
        for i, spend in enumerate(["0.005", "0.015", "0.025", "1e300", None])
    ]
    published = Bench(tmp_path).publish(parse(content), rows)
    report = published.report
    # Of what dp hides nothing is counted exactly; what is told is a dp release at the card's loss.
    assert (report.rows, report.units, report.rounded, report.clipped) == (0, 0, {}, {})
    assert {effect.subject for effect in report.effects} == {
        "units", "rows_per_unit", "rows_dropped", "ward", "cost"
    }  # fmt: skip
    assert report.effects_epsilon_nano == 10**8
    kept = json.loads((published.directory / "bounds.json").read_text())
    assert [effect["count"] for effect in kept["effects"]] == [effect.count for effect in report.effects]
    with duckdb.connect(str(published.directory / "bounded.duckdb"), read_only=True) as connection:
        names = [row[0] for row in connection.execute("DESCRIBE rows").fetchall()]
        value = next(name for name in names if "cost" in name and name.startswith("v"))
        stored = connection.execute(f"SELECT {value} FROM rows WHERE {value} IS NOT NULL ORDER BY 1").fetchall()
    assert [row[0] for row in stored] == [0, 2, 2, 9000]


def test_a_card_that_spends_nothing_on_it_says_nothing_of_what_its_bounds_drop(tmp_path: Path) -> None:
    content = spending()
    content["dp"]["report_epsilon"] = "0"
    rows = [{"who": 1, "region": "north", "member": 1, "age": 20, "day": 1, "ward": 1, "spend": "7"}]
    published = Bench(tmp_path).publish(parse(content), rows)
    assert (published.report.effects, published.report.effects_epsilon_nano) == ((), 0)
    assert not (published.directory / "bounds.json").exists()
