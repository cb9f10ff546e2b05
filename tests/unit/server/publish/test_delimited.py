# SPDX-License-Identifier: Apache-2.0
import csv
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.errors import PublicationError
from weir_server.catalog.card import Source
from weir_server.engine.duckdb import Engine, open_engine
from weir_server.publish.place import Place
from weir_server.publish.source import read_columns

Read = Callable[..., list[tuple[str | None, ...]]]
HEADER = b"id,ward,note\n"
ROWS = b"1,CANARY,x\n2,CANARY,\n"


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Rows of a file's columns, in order."""
    return lambda content, columns=("id", "ward", "note"), delimiter=",": rows_of(tmp_path, content, columns, delimiter)


def rows_of(directory: Path, content: bytes, columns: tuple[str, ...], delimiter: str) -> list[tuple[str | None, ...]]:
    """Rows of a file's columns, in order."""
    path = directory / "stays.csv"
    path.write_bytes(content)
    with engine(directory) as here:
        read_columns(
            Source("csv", "stays.csv", "", delimiter), columns, target="found", place=Place(here, None, b"", "stays"),
            path=path, work=directory,
        )  # fmt: skip
        return here.query("SELECT * FROM found")


def engine(directory: Path) -> Engine:
    """One as the publisher has it."""
    (directory / "work.duckdb").unlink(missing_ok=True)
    return open_engine(directory / "work.duckdb", read_only=False, threads=2, directories=[directory])


def test_fields_are_text_and_empty_ones_are_null(read: Read) -> None:
    assert read(HEADER + b'007,"Surgery, ""general""",\n') == [("007", 'Surgery, "general"', None)]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param(b"\xef\xbb\xbf" + HEADER + b"1,a,b\n", ("1", "a", "b"), id="byte order mark"),
        pytest.param(HEADER.replace(b"\n", b"\r\n") + b'1,"a\nb",c\r\n', ("1", "a\nb", "c"), id="CRLF, LF in a field"),
        pytest.param(b"note,id,ward,note2\nb,1,a,z", ("1", "a", "b"), id="another order, no end of line"),
        pytest.param(b"id,ID,ward,note,,\n1,9,a,b,c,d\n", ("1", "a", "b"), id="names by case, fields without names"),
        pytest.param(HEADER + b"\n1,a,b\n\n", ("1", "a", "b"), id="empty lines"),
        pytest.param(HEADER + b"#1,a,b\n", ("#1", "a", "b"), id="a field that begins as comments elsewhere"),
    ],
)
def test_what_rfc_4180_allows_is_read(content: bytes, found: tuple[str, ...], read: Read) -> None:
    assert read(content) == [found]


@pytest.mark.parametrize(("word", "separator"), [(";", ";"), ("|", "|"), ("tab", "\t")])
def test_another_delimiter_is_read_where_the_card_says_so(word: str, separator: str, read: Read) -> None:
    content = HEADER.replace(b",", separator.encode()) + separator.join(["1", "3,5", "x\n"]).encode()
    assert read(content, delimiter=word) == [("1", "3,5", "x")]
    with pytest.raises(PublicationError, match="is the delimiter right"):
        read(content)


@pytest.mark.parametrize(
    ("content", "line", "cause"),
    [
        pytest.param(HEADER + ROWS + b"3,CANARY\n" + ROWS, 4, "2 fields, 3 in the header", id="too few"),
        pytest.param(HEADER + ROWS + b"3,CANARY,y,z\n", 4, "4 fields, 3 in the header", id="too many"),
        pytest.param(HEADER + ROWS + b"3,CANARY,y,\n", 4, "4 fields, 3 in the header", id="too many, the last empty"),
        pytest.param(HEADER + b'3,CANARY,y, ""', 2, "4 fields, 3 in the header", id="the same, quoted, at the end"),
        pytest.param(HEADER + b'1,"CANARY\n\n",x\n3\n', 5, "1 fields, 3 in the header", id="after a long record"),
        pytest.param(HEADER + b'3,"CANARY,y\n' + ROWS, 2, "quotation mark is not closed", id="open quote"),
        pytest.param(HEADER + b'3,"CAN"ARY,y\n' + ROWS, 2, "text follows it", id="text after a quote"),
        pytest.param(HEADER + ROWS + b"3,CANARY\xe4,y\n", 4, "not UTF-8", id="Latin-1"),
        pytest.param(b"id,w\xe4rd,note\n" + ROWS, 1, "not UTF-8", id="Latin-1 in the header"),
        pytest.param((HEADER + ROWS).decode().encode("utf-16"), 1, "not UTF-8", id="UTF-16"),
        pytest.param(HEADER + ROWS + b"3,CANARY,y\r\n", 4, "ends otherwise", id="both ends of line"),
        pytest.param(b"\n" + HEADER + ROWS, 1, "names the columns", id="an empty line above"),
        pytest.param(b"", 1, "names the columns", id="nothing"),
        pytest.param(b"id,ward,note,ward\n1,CANARY,x,y\n", 1, "fields 2 and 4 have the same name", id="a name twice"),
        pytest.param(HEADER + b"# CANARY\n" + ROWS, 2, "1 fields, 3 in the header", id="a comment"),
        pytest.param(b'"id,ward,note\n' + ROWS, 1, "quotation mark", id="open quote in the header"),
    ],
)
def test_a_line_that_is_not_as_declared_is_named_with_its_cause_and_never_a_value(
    content: bytes, line: int, cause: str, read: Read
) -> None:
    with pytest.raises(PublicationError) as refused:
        read(content)
    assert (refused.value.rule, refused.value.__context__) == ("source.line", None)
    assert f"line {line}: " in str(refused.value)
    assert cause in str(refused.value)
    assert "CANARY" not in str(refused.value)


def test_no_row_is_lost_where_most_lines_follow_a_second_header(read: Read) -> None:
    """Attack: an engine that guesses takes the wider part for the table, and drops everybody above it."""
    narrow = b"".join(b"%d,CANARY,x\n" % i for i in range(500))
    wide = b"".join(b"%d,CANARY,x,1\n" % i for i in range(500, 10_000))
    with pytest.raises(PublicationError, match=r"line 502: 4 fields, 3 in the header"):
        read(HEADER + narrow + b"id,ward,note,triage\n" + wide)


def test_the_columns_that_were_found_are_told_unless_the_first_line_may_be_a_record(read: Read) -> None:
    with pytest.raises(PublicationError, match="lacks 1 declared columns: stay; it has: id, ward, note"):
        read(HEADER + ROWS, columns=("id", "stay"))
    with pytest.raises(PublicationError) as refused:
        read(ROWS)
    assert "is it the header" in str(refused.value)
    assert "CANARY" not in str(refused.value)


@pytest.mark.slow
def test_a_faulty_line_far_into_a_file_that_is_read_in_parallel_is_found(read: Read) -> None:
    part = b"".join(b'%d,"%s\nb",\n' % (i, b"long " * 100) for i in range(10_000))
    assert len(read(HEADER + part * 8, columns=("id",))) == 80_000, "40 MB"
    with pytest.raises(PublicationError, match=rf"line {2 + 5 * 20_000}: 4 fields"):
        read(HEADER + part * 5 + b"1,2,3,\n" + part * 3)


@settings(max_examples=10)
@given(st.lists(st.lists(st.text(), min_size=3, max_size=3), max_size=20), st.sampled_from([",", ";", "|", "tab"]))
def test_what_a_writer_of_csv_writes_is_read_back(rows: list[list[str]], delimiter: str) -> None:
    separator = {"tab": "\t"}.get(delimiter, delimiter)
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL).writerows([["id", "ward", "note"], *rows])
    with tempfile.TemporaryDirectory() as directory:
        found = rows_of(Path(directory), file.getvalue().encode("utf-8"), ("id", "ward", "note"), delimiter)
    assert found == [tuple(value or None for value in row) for row in rows]
