# SPDX-License-Identifier: Apache-2.0
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.properties.test_exact_oracle import random_units
from tests.support.cards import clinic, parse
from tests.support.exact import NOW, SALT, Bench, clinic_rows
from tests.support.postgres import find_binaries, running_postgres
from weir.errors import PublicationError
from weir_server.publish.publisher import Published, publish

psycopg = pytest.importorskip("psycopg", reason="reading PostgreSQL is an extra")
VARIABLE = "WEIR_TEST_POSTGRES"


@pytest.fixture(scope="module")
def connection_string() -> Iterator[str]:
    binaries = find_binaries()
    if binaries is None:
        if os.environ.get("CI"):
            pytest.fail("CI must install PostgreSQL")
        pytest.skip("PostgreSQL is not installed")
    with running_postgres(binaries) as text:
        yield text


@pytest.fixture
def database(connection_string: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv(VARIABLE, connection_string)
    with psycopg.connect(connection_string, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS care CASCADE")
        connection.execute("CREATE SCHEMA care")
        connection.execute(
            "CREATE TABLE care.visits (who text, region text, member boolean, day date, age double precision, "
            "spend numeric, pain int, ward bigint, secret text)"
        )
        yield connection


def content() -> dict[str, Any]:
    """The clinic, in a database."""
    return clinic() | {"source": {"kind": "postgres", "location": VARIABLE, "table": "care.visits"}}


def run(directory: Path, card: dict[str, Any]) -> Published:
    """Publish from the database."""
    return publish(
        parse(card), card_directory=directory, data_dir=directory / "data", version=1, previous=None, now=NOW, salt=SALT
    )


def fill(database: Any, rows: list[dict[str, Any]]) -> None:
    """Insert rows, days as dates."""
    members = {"true": True, "0": False, None: None}
    with database.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO care.visits VALUES (%s, %s, %s, %s, %s, %s::numeric, %s, %s, 'CANARY')",
            [
                (
                    row["who"], row["region"], members[row["member"]], f"2024-01-{row['day']:02}", row["age"],
                    row["spend"], row["pain"], row["ward"],
                )
                for row in rows
            ],
        )  # fmt: skip


def test_a_table_gives_the_same_atoms_as_the_file(database: Any, tmp_path: Path) -> None:
    rows = list(clinic_rows(random_units(random.Random(4), 300)))
    fill(database, rows)
    text = Bench(tmp_path / "text")
    text.directory.mkdir()
    text.publish(parse(clinic()), rows)
    ours = (run(tmp_path, content()).directory / "atoms.jsonl").read_bytes()
    assert ours == (text.snapshots[0].directory / "atoms.jsonl").read_bytes()


def test_the_register_of_consents_may_lie_beside_the_data(database: Any, tmp_path: Path) -> None:
    rows = list(clinic_rows(random_units(random.Random(4), 60)))
    fill(database, rows)
    database.execute("CREATE TABLE care.consents (person text, at timestamptz, text text, channel text, gone date)")
    database.execute("INSERT INTO care.consents SELECT DISTINCT who, now(), 't-1', 'app', NULL::date FROM care.visits")
    withdrawn = sorted({row["who"] for row in rows})[:7]
    database.execute("UPDATE care.consents SET gone = '2026-01-01' WHERE person = ANY(%s)", [withdrawn])
    consent = {
        "source": {"kind": "postgres", "location": VARIABLE, "table": "care.consents"},
        "unit": "person", "order": "at", "text_version": "text", "channel": "channel", "withdrawn": "gone",
    }  # fmt: skip
    report = run(tmp_path, content() | {"personal_information": True, "consent": consent}).report
    assert (report.units, report.without_consent) == (53, 7)


def test_the_source_is_read_in_a_transaction_that_can_write_nothing(database: Any, tmp_path: Path) -> None:
    database.execute("CREATE TABLE care.seen (n int)")
    database.execute(
        "CREATE FUNCTION care.spy() RETURNS text LANGUAGE plpgsql VOLATILE AS "
        "$$ BEGIN INSERT INTO care.seen VALUES (1); RETURN 'north'; END $$"
    )
    database.execute("CREATE VIEW care.trap AS SELECT v.*, care.spy() AS spied FROM care.visits v")
    fill(database, list(clinic_rows(random_units(random.Random(4), 3))))
    card = content()
    card["source"]["table"] = "care.trap"
    card["dimensions"][0]["column"] = "spied"
    with pytest.raises(PublicationError) as refused:
        run(tmp_path, card)
    assert refused.value.rule == "source.unreadable"
    assert database.execute("SELECT count(*) FROM care.seen").fetchone() == (0,)


def test_a_refused_database_says_nothing_of_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"host={tmp_path} user=CANARY password=CANARY")
    with pytest.raises(PublicationError) as refused:
        run(tmp_path, content())
    assert refused.value.rule == "source.unreadable"
    assert "CANARY" not in refused.value.message
    assert refused.value.__context__ is None


def test_without_the_variable_or_the_extra_the_text_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(PublicationError) as refused:
        run(tmp_path, content())
    assert refused.value.rule == "source.connection"
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(PublicationError) as refused:
        run(tmp_path, content())
    assert refused.value.rule == "source.extra"
    assert "dataweir[postgres]" in refused.value.message


def test_absent_columns_and_tables_are_refused(database: Any, tmp_path: Path) -> None:
    database.execute("ALTER TABLE care.visits DROP COLUMN spend")
    with pytest.raises(PublicationError) as refused:
        run(tmp_path, content())
    assert refused.value.rule == "source.column"
    database.execute("DROP TABLE care.visits")
    with pytest.raises(PublicationError) as refused:
        run(tmp_path, content())
    assert refused.value.rule == "source.unreadable"
