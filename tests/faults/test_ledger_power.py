# SPDX-License-Identifier: Apache-2.0
"""Power cuts: what was acknowledged is on the disk, whatever part of the unsynced writes got there too."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.support.ledger import VKEY, Books, open_books
from tests.support.power import Disk, PowerVFS, open_on
from weir_server import log
from weir_server.fsck import fsck

CHARGE = {"queries": 1, "epsilon_nano": 10}
_numbers = itertools.count()


def books_on(directory: Path, disk: Disk, *, synchronous: str) -> Books:
    name = f"weir-power-{os.getpid()}-{next(_numbers)}"
    vfs = PowerVFS(name, disk)
    return open_books(directory, connect=lambda path: open_on(vfs, name, path, synchronous=synchronous))


def cut_after_each_answer(
    tmp_path: Path, *, synchronous: str, cut: Callable[[Disk, Path, int], None]
) -> list[tuple[int, int]]:
    """Per answer: how many were acknowledged, and how many a restart after a cut finds."""
    (tmp_path / "live").mkdir()
    disk = Disk()
    books = books_on(tmp_path / "live", disk, synchronous=synchronous)
    outcome = []
    for n in range(12):
        books.answer(CHARGE, answer=bytes(300 * n))
        image = tmp_path / f"cut-{n}"
        image.mkdir()
        cut(disk, image, n)
        outcome.append((n + 1, answers_after_restart(image)))
    books.store.close()
    return outcome


def answers_after_restart(image: Path) -> int:
    after = open_books(image)
    found = after.store.read(lambda tx: list(log.entries(tx, type="weir.query.released")))
    after.store.close()
    assert fsck(image, vkey=VKEY).findings == ()
    return len(found)


def test_nothing_acknowledged_is_lost_when_no_unsynced_write_survives(tmp_path: Path) -> None:
    outcome = cut_after_each_answer(tmp_path, synchronous="FULL", cut=lambda disk, image, n: disk.after_cut(image))
    assert all(acknowledged == found for acknowledged, found in outcome)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_or_torn_when_some_unsynced_sectors_survive(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    outcome = cut_after_each_answer(
        tmp_path, synchronous="FULL", cut=lambda disk, image, n: disk.after_cut(image, random=random)
    )
    assert all(acknowledged == found for acknowledged, found in outcome)


def test_the_mutant_that_syncs_less_is_caught(tmp_path: Path) -> None:
    # synchronous=NORMAL: SQLite does not sync the WAL at commits. The same test must see answers lost.
    outcome = cut_after_each_answer(tmp_path, synchronous="NORMAL", cut=lambda disk, image, n: disk.after_cut(image))
    assert any(found < acknowledged for acknowledged, found in outcome)
