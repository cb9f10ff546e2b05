# SPDX-License-Identifier: Apache-2.0
import traceback
from pathlib import Path

import pytest

from weir.errors import InternalError, Unavailable, WeirError
from weir_server.engine.duckdb import open_engine
from weir_server.engine.relational import identifier, quote

CANARY = "CANARY-7731"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "data.duckdb"
    with open_engine(path, read_only=False) as engine:
        engine.run("CREATE TABLE t AS SELECT range AS a, 'CANARY-7731' AS b FROM range(10)")
    return path


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_blob('{path}')",
        "SELECT * FROM read_text('/etc/hostname')",
        "COPY (SELECT 1) TO '{path}.wal'",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "ATTACH '{folder}/other.duckdb' AS other",
        "SELECT * FROM glob('{folder}/*')",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 8",
        "SET enable_external_access = true",
        "RESET disabled_filesystems",
        "INSERT INTO t VALUES (1, 'x')",
    ],
)
def test_a_query_engine_reaches_no_file_extension_or_setting(database: Path, statement: str) -> None:
    with open_engine(database) as engine, pytest.raises(InternalError):
        engine.query(statement.format(path=database, folder=database.parent))


def test_an_engine_failure_carries_no_cell_value_in_text_cause_or_context(database: Path) -> None:
    with open_engine(database) as engine, pytest.raises(InternalError) as caught:
        engine.query("SELECT CAST(b AS INTEGER) FROM t")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_failure_is_logged_by_type_only(database: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_engine(database) as engine, pytest.raises(InternalError):
        engine.query("SELECT CAST(b AS INTEGER) FROM t")
    assert "ConversionException" in caplog.text
    assert CANARY not in caplog.text


def test_a_statement_past_its_time_is_stopped(database: Path) -> None:
    with open_engine(database) as engine, pytest.raises(Unavailable):
        engine.query("SELECT sum(x.range * y.range) FROM range(1000000) x, range(1000000) y", seconds=0.2)


def test_an_engine_still_works_after_an_interrupt(database: Path) -> None:
    with open_engine(database) as engine:
        with pytest.raises(Unavailable):
            engine.query("SELECT sum(x.range * y.range) FROM range(1000000) x, range(1000000) y", seconds=0.1)
        assert engine.one("SELECT sum(a) FROM t") == 45


def test_a_publishing_engine_is_kept_to_its_directories(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    with open_engine(None, directories=[inside]) as engine:
        engine.run(f"COPY (SELECT 7 AS a) TO {quote(str(inside / 'x.parquet'))} (FORMAT parquet)")
        assert engine.one(f"SELECT a FROM read_parquet({quote(str(inside / 'x.parquet'))})") == 7
        with pytest.raises(InternalError):
            engine.run(f"COPY (SELECT 7 AS a) TO {quote(str(outside / 'x.parquet'))} (FORMAT parquet)")


def test_integers_beyond_64_bits_come_back_exact() -> None:
    with open_engine(None) as engine:
        assert engine.one("SELECT CAST('85070591730234615865843651857942052864' AS HUGEINT)") == 2**126


def test_batches_stream_every_row_once(database: Path) -> None:
    with open_engine(database) as engine:
        batches = list(engine.batches("SELECT a FROM t ORDER BY a", rows=4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert [row[0] for batch in batches for row in batch] == list(range(10))


def test_a_missing_database_is_a_weir_error(tmp_path: Path) -> None:
    with pytest.raises(WeirError):
        open_engine(tmp_path / "absent.duckdb")


def test_names_are_quoted() -> None:
    assert quote("a'b") == "'a''b'"
    assert identifier('a"b') == '"a""b"'
