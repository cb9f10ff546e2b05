# SPDX-License-Identifier: Apache-2.0
"""A source on a cluster gives the snapshot that the same rows give in a file: atoms, violations, report, succession."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.attacks.test_consent_withdrawal import REGISTER
from tests.attacks.test_consent_withdrawal import register as consents
from tests.attacks.test_exact_versions import named, people, town_card
from tests.attacks.test_exact_versions import rows as town_rows
from tests.support.cards import clinic, parse, spending
from tests.support.exact import write_csv
from weir.errors import PublicationError, Unavailable
from weir_server.catalog.card import DatasetCard, Source
from weir_server.catalog.snapshot import Snapshot, open_snapshot
from weir_server.dp.layout import FILE, UNITS
from weir_server.engine.duckdb import open_engine
from weir_server.engine.relational import Dialect, Statement
from weir_server.engine.spark import Cluster
from weir_server.exact.records import ATOMS
from weir_server.publish.files import CLUSTER_NOTE
from weir_server.publish.leftovers import note, note_all_of
from weir_server.publish.publisher import Published, publish

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SALT = bytes(range(32))
Rows = Sequence[Mapping[str, Any]]

pytestmark = pytest.mark.timeout(900)
"""Seconds. Several publications on a cluster of one machine, which may be slow."""


def visits(people: int) -> list[dict[str, Any]]:
    """Visits to the clinic, as text, with halves and nothing missing that the card wants."""
    draw, found = random.Random(7), []
    for who in range(people):
        region, member = draw.choice(["north", "east", "south", "west"]), draw.choice(["true", "false", None])
        for day in draw.sample(range(1, 29), draw.choice([1, 2, 4])):
            found.append(
                {
                    "who": f"p{who}",
                    "region": region,
                    "member": member,
                    "age": str(draw.randrange(-3, 80)),
                    "day": f"2026-01-{day:02}",
                    "spend": draw.choice(
                        [None, "1.005", "1.015", "-3.125", "1e1", "99.5", f"{draw.randrange(9000)}e-2"]
                    ),
                    "pain": str(draw.randrange(11)),
                    "ward": str(draw.choice([1, 2])),
                }
            )
    return found


def write_parquet(path: Path, rows: Rows) -> Path:
    """The rows as Parquet, every column text, in several files."""
    path.mkdir(parents=True)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    texts = [{c: None if row.get(c) is None else str(row[c]) for c in columns} for row in rows]
    schema = pa.schema([(column, pa.string()) for column in columns])
    for part in range(3):
        pq.write_table(pa.Table.from_pylist(texts[part::3], schema=schema), path / f"part-{part}.parquet")
    return path


class Twice:
    """Publishes the same rows from files and from a cluster."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster, self.directory = cluster, directory
        self.here: list[Snapshot] = []
        self.there: list[Snapshot] = []

    def publish(self, card: DatasetCard, rows: Rows, register: Rows = ()) -> tuple[Published, Published]:
        """The next version, both ways."""
        return self.publish_here(card, rows, register), self.publish_there(card, rows, register)

    def publish_here(self, card: DatasetCard, rows: Rows, register: Rows = ()) -> Published:
        version = len(self.here) + 1
        source = write_csv(self.directory / f"source-{version}.csv", rows)
        consented = write_csv(self.directory / f"register-{version}.csv", register) if register else None
        return self._publish(card, self.here, "here", source=source, register=consented)

    def publish_there(self, card: DatasetCard, rows: Rows, register: Rows = ()) -> Published:
        version = len(self.there) + 1
        path = write_parquet(self.directory / f"source-{version}", rows)
        card = replace(card, source=Source("spark", f"parquet:{path}"))
        if card.consent is not None:
            path = write_parquet(self.directory / f"register-{version}", register)
            card = replace(card, consent=replace(card.consent, source=Source("spark", f"parquet:{path}")))
        return self._publish(card, self.there, "there")

    def _publish(
        self, card: DatasetCard, snapshots: list[Snapshot], where: str, *, source: Path | None = None,
        register: Path | None = None,
    ) -> Published:  # fmt: skip
        published = publish(
            card,
            card_directory=self.directory,
            data_dir=self.directory / where,
            version=len(snapshots) + 1,
            previous=snapshots[-1] if snapshots else None,
            now=NOW,
            accept_shrink=True,
            salt=SALT,
            source_override=source,
            register_override=register,
            cluster=self.cluster,
            threads=1,
        )
        snapshots.append(open_snapshot(published.directory, expected_digest=published.manifest_digest))
        return published

    def atoms(self, where: str, version: int) -> bytes:
        """The file of atoms of a version."""
        snapshots = self.here if where == "here" else self.there
        return (snapshots[version - 1].directory / ATOMS).read_bytes()


@pytest.fixture
def twice(cluster: Cluster, tmp_path: Path) -> Twice:
    return Twice(cluster, tmp_path)


def test_the_same_rows_give_the_same_atoms_and_the_same_report(twice: Twice, tmp_path: Path) -> None:
    content = clinic()
    content["measures"][0]["width"] = "0.10"
    here, there = twice.publish(parse(content), visits(400))
    assert twice.atoms("there", 1) == twice.atoms("here", 1)
    assert there.report == here.report
    assert there.report.atoms > 5
    assert there.report.rounded
    assert there.report.clipped
    held = [path for path in (tmp_path / "there").rglob("*") if path.is_file() and path.suffix != ".json"]
    assert {path.name for path in held} <= {ATOMS, "manifest"}, "nothing of single units is on this machine"


def test_the_same_facts_are_refused_with_the_same_counts(twice: Twice) -> None:
    rows = visits(30)
    for row in rows[:5]:
        row |= {"region": "moon", "pain": "1e", "spend": "NaN"}
    rows += [rows[9], rows[20] | {"member": "maybe"}, rows[21] | {"who": None, "day": "soon"}]
    found = []
    for way in (twice.publish_here, twice.publish_there):
        with pytest.raises(PublicationError) as caught:
            way(parse(clinic()), rows)
        found.append(caught.value.violations)
    assert found[0] == found[1]
    assert len(found[0]) >= 7


def test_units_of_a_dp_dataset_are_in_the_same_cells(twice: Twice) -> None:
    """Also those that the first row of a unit decides. Which rows are kept differs, since each has a key of its own."""
    twice.publish(kept_card(), visits(200))
    found = []
    for snapshot in (twice.here[0], twice.there[0]):
        with open_engine(snapshot.directory / FILE) as engine:
            found.append(sorted(engine.query(f"SELECT * FROM {UNITS}")))
    assert found[0] == found[1]
    assert len(found[0]) > 5


def test_what_changes_is_shown_or_held_back_alike_from_version_to_version(twice: Twice) -> None:
    card, first = town_card(width=3), people("a", named("p", 30)) | people("b", named("q", 25), value=9)
    third = first | people("a", named("n", 12)) | people("c", named("r", 14), 40)
    third |= people("a", named("q", 6), value=9) | people(
        "c", named("q1", 5), value=9
    )  # who move are behind two records
    for step in (first, first | people("a", ["n0"]), third):
        here, there = twice.publish(card, town_rows(step))
        assert there.report == here.report
        assert twice.atoms("there", there.version) == twice.atoms("here", here.version)
    assert [twice.atoms("there", version) == twice.atoms("there", 1) for version in (1, 2, 3)] == [True, True, False]


def test_consents_are_applied_alike_and_withdrawals_held_alike(twice: Twice) -> None:
    card = replace(town_card(), personal_information=True, legal_basis="consent", consent=REGISTER)
    names = named("p", 41)
    for away in (set(), set(names[:3]), set(names[:12])):
        here, there = twice.publish(card, town_rows(people("a", names)), consents(names, away))
        assert there.report == here.report
        assert twice.atoms("there", there.version) == twice.atoms("here", here.version)
    assert [snapshot.basis is not None for snapshot in twice.there] == [True] * 3


def test_the_cluster_sees_neither_the_salt_nor_a_key_of_another_dataset(
    twice: Twice, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    text = Statement.text

    def noted(self: Statement, dialect: Dialect) -> str:
        made = text(self, dialect)
        if dialect is Dialect.SPARK:
            seen.append(made)
        return made

    monkeypatch.setattr(Statement, "text", noted)
    card = replace(town_card(), personal_information=True, legal_basis="consent", consent=REGISTER)
    names = named("p", 12)
    for _ in range(2):
        twice.publish_there(card, town_rows(people("a", names)), consents(names, set()))
    assert len(seen) > 20
    assert not [statement for statement in seen if SALT.hex() in statement.lower()]


def test_a_failed_publication_leaves_nothing_on_the_cluster(
    twice: Twice, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("weir_server.publish.publisher.seal", fail)
    with pytest.raises(OSError, match="disk full"):
        twice.publish_there(town_card(), town_rows(people("a", named("p", 12))))
    assert not twice.there
    assert stored(Path(twice.cluster.directory)) == 0
    assert not list((tmp_path / "there" / "private").rglob("*.json"))


def test_a_failure_just_before_the_snapshot_exists_leaves_nothing_on_the_cluster(
    twice: Twice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Private records have their names by then, and the rows are where they would stay."""

    def fail(*_: object, before: Callable[[str], None], **__: object) -> str:
        before("0" * 64)
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("weir_server.publish.publisher.seal", fail)
        with pytest.raises(OSError, match="disk full"):
            twice.publish_there(kept_card(), visits(200))
    assert stored(Path(twice.cluster.directory)) == 0


def test_what_could_not_be_emptied_is_emptied_by_the_next_publication(
    twice: Twice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash: nothing was emptied then. That the cluster refuses keeps nobody from publishing."""

    def refuse(*_: object) -> None:
        raise Unavailable("the cluster does not answer", rule="engine.unavailable")

    directory = Path(twice.cluster.directory)
    with monkeypatch.context() as patch:
        patch.setattr("weir_server.engine.spark.SparkEngine.erase", refuse)
        twice.publish_there(kept_card(), visits(200))
        work = stored(directory / "publishing")
        assert work > 0
        twice.publish_there(kept_card(), visits(200))
        assert stored(directory / "publishing") > work
    twice.publish_there(kept_card(), visits(200))
    assert stored(directory / "publishing") == 0
    kept = {snapshot.rows.location for snapshot in twice.there if snapshot.rows is not None}
    assert {str(path) for path in (directory / "bounded").iterdir() if stored(path)} == kept
    assert len(kept) == 3


def test_a_snapshot_that_was_never_activated_takes_its_rows_with_it(twice: Twice) -> None:
    published = twice.publish_there(kept_card(), visits(200))
    directory, private = Path(twice.cluster.directory), twice.directory / "there" / "private" / kept_card().name
    assert stored(directory / "bounded") > 0
    note_all_of(published.directory, private)
    shutil.rmtree(published.directory)
    shutil.rmtree(twice.directory / "source-1")
    twice.there.clear()
    twice.publish_there(kept_card(), visits(200))
    rows = twice.there[0].rows
    assert rows is not None
    assert [str(path) for path in (directory / "bounded").iterdir() if stored(path)] == [rows.location]


def test_a_note_that_does_not_say_whose_it_is_counts(tmp_path: Path) -> None:
    """As those of before did; and one of another directory does not."""
    note(tmp_path, ["there/a"])
    path = tmp_path / CLUSTER_NOTE
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({"unfinished": content["unfinished"]}), encoding="utf-8")
    note(tmp_path, ["there/b"])
    assert json.loads(path.read_text(encoding="utf-8"))["unfinished"] == ["there/a", "there/b"]
    path.write_text(json.dumps(content | {"of": content["of"] + 1}), encoding="utf-8")
    note(tmp_path, ["there/c"])
    assert json.loads(path.read_text(encoding="utf-8"))["unfinished"] == ["there/c"]


def test_a_copy_of_the_data_directory_empties_nothing_that_the_first_one_noted(
    twice: Twice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise Unavailable("the cluster does not answer", rule="engine.unavailable")

    with monkeypatch.context() as patch:
        patch.setattr("weir_server.engine.spark.SparkEngine.erase", refuse)
        twice.publish_there(kept_card(), visits(200))
    directory = Path(twice.cluster.directory)
    noted = stored(directory / "publishing")
    assert noted > 0
    first = twice.directory / "there"
    first.rename(twice.directory / "first")
    shutil.copytree(twice.directory / "first", first)
    twice.there = [open_snapshot(first / "snapshots" / kept_card().name / "1", expected_digest=_digest(twice.there[0]))]
    twice.publish_there(kept_card(), visits(200))
    assert stored(directory / "publishing") == noted
    assert list((first / "private").rglob("foreign-*.json")), "kept, for whoever knows"


def _digest(snapshot: Snapshot) -> str:
    return snapshot.manifest_digest


def kept_card() -> DatasetCard:
    """Of a dataset whose bounded rows stay on the cluster."""
    content = spending()
    content["measures"][0]["round"] = "half_even"
    return parse(content)


def test_private_records_that_no_version_needs_are_emptied(twice: Twice) -> None:
    for _ in range(3):
        twice.publish_there(town_card(), town_rows(people("a", named("p", 12))))
    directory = Path(twice.cluster.directory)
    assert [stored(path) for path in sorted((directory / "members").iterdir())] == [0, 12, 12]
    assert stored(directory / "publishing") == 0


def stored(directory: Path) -> int:
    """Rows in all Parquet files below a directory."""
    files = (path for path in directory.rglob("*.parquet") if path.is_file())
    return sum(pq.ParquetFile(path).metadata.num_rows for path in files)


def test_an_altered_private_record_is_refused(twice: Twice) -> None:
    twice.publish_there(town_card(), town_rows(people("a", named("p", 12))))
    members = next(Path(twice.cluster.directory).glob("members/*/*.parquet"))
    table = pq.read_table(members)
    pq.write_table(table.slice(1), members)
    for checksum in members.parent.glob(".*.crc"):
        checksum.unlink()
    with pytest.raises(PublicationError, match="is not what it was"):
        twice.publish_there(town_card(), town_rows(people("a", named("p", 12))))


def test_a_version_continues_only_where_the_last_one_was(twice: Twice) -> None:
    twice.publish_here(town_card(), town_rows(people("a", named("p", 12))))
    twice.there = twice.here
    (twice.directory / "there").symlink_to(twice.directory / "here")
    with pytest.raises(PublicationError, match="elsewhere"):
        twice.publish_there(town_card(), town_rows(people("a", named("p", 12))))


def test_a_card_on_spark_needs_a_cluster(tmp_path: Path) -> None:
    card = replace(town_card(), source=Source("spark", "table:visits"))
    with pytest.raises(PublicationError, match=r"set spark\.remote"):
        publish(card, card_directory=tmp_path, data_dir=tmp_path, version=1, previous=None, now=NOW, salt=SALT)


def test_typed_columns_are_read_as_their_texts(twice: Twice, tmp_path: Path) -> None:
    card, path = town_card(), tmp_path / "typed"
    path.mkdir()
    day = datetime(2026, 1, 5, 10, tzinfo=UTC)
    table = pa.table(
        {
            "who": pa.array(range(24), pa.int64()),
            "town": pa.array(["a"] * 24),
            "visits": pa.array([5.0] * 24, pa.float64()),
            "unread": pa.array([day] * 24, pa.timestamp("us", "UTC")),
        }
    )
    pq.write_table(table, path / "rows.parquet")
    made = twice._publish(replace(card, source=Source("spark", f"parquet:{path}")), twice.there, "there")
    assert made.report.units_in_atoms == 24
    atom = json.loads(twice.atoms("there", 1).splitlines()[-1])
    assert "120" in json.dumps(atom)


def test_the_clusters_errors_quote_nothing(
    twice: Twice, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path = tmp_path / "broken"
    path.mkdir()
    (path / "part.parquet").write_bytes(b"PAR1 secret-of-alice")
    with pytest.raises(PublicationError) as caught:
        twice._publish(replace(town_card(), source=Source("spark", f"parquet:{path}")), twice.there, "there")
    told = repr(caught.value) + str(caught.value.__cause__) + str(caught.value.__context__) + caplog.text
    assert "alice" not in told + "".join(capfd.readouterr())
    assert caught.value.rule == "source.unreadable"
