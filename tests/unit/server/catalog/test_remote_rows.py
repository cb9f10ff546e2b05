# SPDX-License-Identifier: Apache-2.0
"""What a snapshot says of rows that it does not hold is read strictly, and sealed with the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weir.errors import PublicationError
from weir_server.catalog.remote_rows import FILE, RemoteRows, read_rows, rows_to_json

ROWS = RemoteRows("spark", "s3a://bucket/weir/bounded/visits-1-ab", "0f" * 32)


def written(directory: Path, content: bytes) -> tuple[str, ...]:
    (directory / FILE).write_bytes(content)
    return ("bounded.duckdb", FILE)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_rows(tmp_path, written(tmp_path, rows_to_json(ROWS))) == ROWS


def test_a_snapshot_without_the_file_holds_its_rows_itself(tmp_path: Path) -> None:
    written(tmp_path, rows_to_json(ROWS))
    assert read_rows(tmp_path, ("bounded.duckdb",)) is None


def changed(**members: object) -> bytes:
    return json.dumps({**json.loads(rows_to_json(ROWS)), **members}).encode()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{", id="half"),
        pytest.param(changed(more="x"), id="a member too many"),
        pytest.param(changed(format="weir.rows/2"), id="another format"),
        pytest.param(changed(kind="oracle"), id="another kind"),
        pytest.param(changed(location=""), id="no place"),
        pytest.param(changed(location="a\nb"), id="a place of two lines"),
        pytest.param(changed(location=7), id="a number for a place"),
        pytest.param(changed(fingerprint="0f"), id="a short fingerprint"),
        pytest.param(changed(fingerprint="0F" * 32), id="a fingerprint in capitals"),
        pytest.param(json.dumps({"format": "weir.rows/1", "kind": "spark"}).encode(), id="members missing"),
        pytest.param(b" " * 9000 + rows_to_json(ROWS), id="too long"),
        pytest.param(b"[" * 8000, id="too deep"),
        pytest.param(b"\xff", id="no text"),
    ],
)
def test_anything_else_is_refused_without_its_content(tmp_path: Path, content: bytes) -> None:
    files = written(tmp_path, content)
    with pytest.raises(PublicationError) as refused:
        read_rows(tmp_path, files)
    assert refused.value.rule == "snapshot.rows"
    assert "bucket" not in str(refused.value)


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PublicationError):
        read_rows(tmp_path, (FILE,))
