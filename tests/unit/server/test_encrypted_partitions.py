# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.paillier import real_keypair
from weir.errors import InternalError, Unavailable
from weir.paillier import add_all, decode_ciphertexts, dot, encode_ciphertexts
from weir_server.encrypted.partitions import Vector, partition_work, write_kernels

KEY = real_keypair().public
UNITS = [2, 3, 5, 7, 11, 13, 17]
COLUMNS = [[1, -2, 0, 1 << 63, -(1 << 63), 5, 5], [0, 0, 0, 0, 0, 0, -1]]


def vector(columns: Sequence[Sequence[int]] = COLUMNS) -> Vector:
    return Vector(KEY, encode_ciphertexts(KEY, UNITS), columns)


def partitions(whole: Vector, edges: Sequence[int]) -> list[dict[str, Any]]:
    """What partitions cut at `edges` give back; each takes its rows in batches of two."""
    rows: list[dict[str, Any]] = []
    for start, stop in pairwise(edges):
        batches = whole.table(start, stop).to_batches(max_chunksize=2)
        rows += [row for batch in whole.work()(iter(batches)) for row in batch.to_pylist()]
    return rows


@pytest.mark.parametrize("edges", [(0, 7), (0, 1, 7), (0, 3, 3, 7), (0, 1, 2, 3, 4, 5, 6, 7)])
def test_partitions_join_to_the_product_of_all_rows(edges: tuple[int, ...]) -> None:
    whole = vector()
    products = whole.products(partitions(whole, edges), 0, 7)
    assert len(products) == len({*edges}) - 1, "a partition without rows gives nothing back"
    joined = [add_all(KEY, column) for column in zip(*(decode_ciphertexts(KEY, row) for row in products), strict=True)]
    assert joined == [dot(KEY, UNITS, column) for column in COLUMNS]


@pytest.mark.parametrize(
    ("longest", "width"), [(0, 1), (127, 1), (-128, 2), (128, 2), (32_767, 2), (-32_768, 3), (1 << 64, 9)]
)
def test_integers_are_as_wide_as_the_longest_of_any_column(longest: int, width: int) -> None:
    whole = vector([[0] * 6 + [longest], [0] * 7])
    assert whole.width == width
    products = whole.products(partitions(whole, (0, 7)), 0, 7)
    assert decode_ciphertexts(KEY, products[0]) == [dot(KEY, [17], [longest]), 1]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda rows: rows[1:], id="a partition lost"),
        pytest.param(lambda rows: [*rows, rows[0]], id="a partition twice"),
        pytest.param(lambda rows: [rows[0], rows[0], *rows[2:]], id="one in place of another of its length"),
        pytest.param(lambda rows: [{**rows[0], "products": b"\1"}, *rows[1:]], id="something else than ciphertexts"),
        pytest.param(lambda rows: [{**rows[0], "verdict": "?"}, *rows[1:]], id="another verdict"),
        pytest.param(lambda rows: [], id="nothing"),
    ],
)
def test_what_does_not_account_for_every_row_once_is_no_result(spoil: Any) -> None:
    whole = vector()
    rows = partitions(whole, (0, 2, 4, 7))
    whole.products(rows, 0, 7)
    with pytest.raises(InternalError) as caught:
        whole.products(spoil(rows), 0, 7)
    assert caught.value.rule == "cluster.result"


def test_nothing_goes_up_but_places_ciphertexts_cells_and_the_modulus() -> None:
    whole = vector()
    table = whole.table(2, 5)
    assert table.column_names == ["place", "ciphertext", "scalars"]
    assert table.column("place").to_pylist() == [2, 3, 4]
    assert [int.from_bytes(sent, "big") for sent in table.column("ciphertext").to_pylist()] == UNITS[2:5]
    sent = [(part[: whole.width], part[whole.width :]) for part in table.column("scalars").to_pylist()]
    assert [tuple(int.from_bytes(n, "big", signed=True) for n in pair) for pair in sent] == [
        (COLUMNS[0][at], COLUMNS[1][at]) for at in (2, 3, 4)
    ]
    carried = dict(zip(whole.work().__code__.co_freevars, whole.work().__closure__ or (), strict=True))
    assert {name: cell.cell_contents for name, cell in carried.items()} == {
        "modulus": KEY.to_bytes(),
        "columns": 2,
        "width": whole.width,
    }


def test_an_executor_that_cannot_import_the_kernels_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = vector()
    work = partition_work(KEY.to_bytes(), columns=2, width=whole.width)
    monkeypatch.setitem(sys.modules, "weir.paillier", None)
    rows = [row for batch in work(iter(whole.table(0, 7).to_batches())) for row in batch.to_pylist()]
    with pytest.raises(Unavailable) as caught:
        whole.products(rows, 0, 7)
    assert caught.value.rule == "cluster.modules"


def test_what_is_shipped_is_all_of_weir_that_the_kernels_import(tmp_path: Path) -> None:
    archive = tmp_path / "kernels.zip"
    write_kernels(archive)
    code = (
        f"import sys; sys.path.insert(0, {str(archive)!r})\n"
        "from weir.paillier import PublicKey, dot\n"
        "assert dot(PublicKey((1 << 2047) + 1), [2, 4], [3, 1]) == 32\n"
        "print(*sorted(m.__file__ for n, m in sys.modules.items() if n.split('.')[0].startswith('weir')), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert all(file.startswith(str(archive)) for file in done.stdout.splitlines())
    assert len(done.stdout.splitlines()) > 5
