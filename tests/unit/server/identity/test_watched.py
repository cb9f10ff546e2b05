# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from weir_server import observe
from weir_server.identity.watched import RECENT_SECONDS, Watched


def number(path: Path) -> Watched[int]:
    return Watched([path], lambda: int(path.read_text()))


def replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".part")
    draft.write_text(text)
    draft.replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "number"
    found.write_text("1")
    return found


def test_a_start_without_the_value_is_no_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        number(tmp_path / "none")


def test_a_file_is_read_again_only_when_it_changed(path: Path) -> None:
    reads: list[int] = []

    def read() -> int:
        reads.append(1)
        return int(path.read_text())

    watched = Watched([path], read)
    assert [watched.get() for _ in range(3)] == [1, 1, 1]
    replace(path, "2")
    assert [watched.get() for _ in range(3)] == [2, 2, 2]
    assert len(reads) == 2


def test_a_file_written_in_place_is_seen_too(path: Path) -> None:
    watched = number(path)
    path.write_text("7")
    os.utime(path, ns=(1, 1))
    assert watched.get() == 7


def test_a_reading_that_fails_keeps_the_value_and_is_logged_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watched = number(path)
    with caplog.at_level(logging.INFO, logger=observe.LOGGER):
        replace(path, "broken")
        assert [watched.get() for _ in range(3)] == [1, 1, 1]
        path.unlink()
        assert [watched.get() for _ in range(3)] == [1, 1, 1]
        replace(path, "5")
        assert watched.get() == 5
    assert [record.msg for record in caplog.records] == ["reload_refused", "reload_refused", "reloaded"]
    assert "broken" not in caplog.text


def test_a_change_while_reading_is_seen_at_the_next_look(path: Path) -> None:
    def read() -> int:
        found = int(path.read_text())
        if found == 2:
            replace(path, "3")
        return found

    watched = Watched([path], read)
    replace(path, "2")
    assert [watched.get() for _ in range(2)] == [2, 3]


def test_any_of_several_files_counts(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "ab"]
    for item in paths:
        item.write_text("1")
    watched = Watched(paths, lambda: [int(item.read_text()) for item in paths])
    replace(paths[0], "2")
    assert watched.get() == [2, 1]
    replace(paths[1], "2")
    assert watched.get() == [2, 2]


def test_threads_see_whole_values_only(path: Path) -> None:
    watched = number(path)

    def look(_: int) -> set[int]:
        return {watched.get() for _ in range(200)}

    with ThreadPoolExecutor(8) as threads:
        looks = [threads.submit(look, index) for index in range(8)]
        for value in range(2, 40):
            replace(path, str(value))
        assert set().union(*(item.result() for item in looks)) <= set(range(1, 40))
    assert watched.get() == 39


def test_what_every_call_asks_is_looked_at_again_within_milliseconds(path: Path) -> None:
    watched = number(path)
    assert watched.recent() == 1
    replace(path, "22")
    assert watched.get() == 22, "whoever must know at once does"
    replace(path, "333")
    time.sleep(RECENT_SECONDS)
    assert watched.recent() == 333
