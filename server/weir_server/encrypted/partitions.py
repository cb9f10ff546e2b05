# SPDX-License-Identifier: Apache-2.0
"""What a Spark cluster is given of an encrypted query, what each partition does with it, and what is taken back.

A row is one ciphertext: its place, its wire form, and the integers of all columns that multiply it. A partition runs
the kernels of `weir.paillier` on its rows and gives one row back. Rows counted, and places added up, show that none was
lost or taken twice. There is no private key anywhere.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import weir
from weir.errors import InternalError, Unavailable
from weir.paillier import PublicKey

if TYPE_CHECKING:
    import pyarrow as pa

RESULT = "verdict string, rows long, places long, products binary"
"""Columns that a partition gives back, as Spark writes types."""
DONE, LACKING = "done", "lacking"
"""Verdicts: worked out; the executor cannot import what the kernels need."""
Work = Callable[[Iterator[Any]], Iterator[Any]]
"""A function of Arrow batches, for `mapInArrow`."""


@dataclass(frozen=True, slots=True)
class Vector:
    """Ciphertexts and the integers that multiply them."""

    key: PublicKey
    ciphertexts: bytes
    """In wire form."""
    columns: Sequence[Sequence[int]]
    """Signed integers, one a ciphertext in each column."""

    @property
    def count(self) -> int:
        """Ciphertexts."""
        return len(self.ciphertexts) // self.key.ciphertext_bytes

    @property
    def width(self) -> int:
        """Bytes that hold each integer, sign included."""
        longest = (max((max(column), -min(column))) for column in self.columns if column)
        return max(longest, default=0).bit_length() // 8 + 1

    def work(self) -> Work:
        """What a partition runs."""
        return partition_work(self.key.to_bytes(), columns=len(self.columns), width=self.width)

    def table(self, start: int, stop: int) -> pa.Table:
        """Rows [start, stop), without a copy of the ciphertexts."""
        import pyarrow as pa

        size, width = self.key.ciphertext_bytes, self.width
        scalars = b"".join(
            scalar.to_bytes(width, "big", signed=True)
            for row in zip(*(column[start:stop] for column in self.columns), strict=True)
            for scalar in row
        )
        wire = memoryview(self.ciphertexts)[start * size : stop * size]
        return pa.table(
            {
                "place": pa.array(np.arange(start, stop, dtype=np.int64)),
                "ciphertext": _pieces(wire, size),
                "scalars": _pieces(scalars, width * len(self.columns)),
            }
        )

    def products(self, rows: Sequence[dict[str, Any]], start: int, stop: int) -> list[bytes]:
        """What partitions gave for rows [start, stop): a ciphertext for each column, in wire form, from each of them.

        Raises:
            Unavailable: executors lack a module.
            InternalError: not every row was worked on once, or something else came back than ciphertexts.
        """
        if any(row["verdict"] == LACKING for row in rows):
            raise Unavailable(
                "the cluster that works on long vectors lacks a module (gmpy2) on its executors",
                rule="cluster.modules",
            )
        counted = sum(row["rows"] for row in rows), sum(row["places"] for row in rows)
        expected = stop - start, (start + stop - 1) * (stop - start) // 2
        length = self.key.ciphertext_bytes * len(self.columns)
        if counted != expected or any(row["verdict"] != DONE or len(row["products"]) != length for row in rows):
            raise InternalError("the computation failed", rule="cluster.result")
        return [row["products"] for row in rows]


def partition_work(modulus: bytes, *, columns: int, width: int) -> Work:
    """The function that every partition runs. It travels by value, so it names nothing outside itself but what the
    executor imports: the kernels, shipped beside it, and gmpy2, which the executor must have."""

    def work(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow

        def row(verdict: str, places: list[int], products: bytes) -> Any:
            values = {"verdict": [verdict], "rows": [len(places)], "places": [sum(places)], "products": [products]}
            kinds = (pyarrow.string(), pyarrow.int64(), pyarrow.int64(), pyarrow.binary())
            return pyarrow.RecordBatch.from_pydict(values, schema=pyarrow.schema(zip(values, kinds, strict=True)))

        try:
            from weir.paillier import PublicKey, decode_ciphertexts, encode_ciphertexts, matrix_dot
        except ImportError:
            yield row("lacking", [], b"")
            return
        places: list[int] = []
        wire: list[bytes] = []
        scalars: list[list[int]] = [[] for _ in range(columns)]
        for batch in batches:
            places += batch.column(0).to_pylist()
            wire += batch.column(1).to_pylist()
            for packed in batch.column(2).to_pylist():
                for at, column in enumerate(scalars):
                    column.append(int.from_bytes(packed[at * width : (at + 1) * width], "big", signed=True))
        if places:
            key = PublicKey.from_bytes(modulus)
            products = matrix_dot(key, decode_ciphertexts(key, b"".join(wire)), scalars)
            yield row("done", places, encode_ciphertexts(key, products))

    return work


def write_kernels(path: Path) -> None:
    """The modules that `partition_work` imports, as a zip for executors: `weir.paillier` and the errors it raises."""
    root = Path(weir.__file__).parent
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for module in (root / "__init__.py", root / "errors.py", *sorted((root / "paillier").glob("*.py"))):
            archive.write(module, module.relative_to(root.parent))


def _pieces(data: bytes | memoryview, size: int) -> pa.Array:
    """An Arrow array of the pieces of `data`, each `size` bytes, that shares its memory."""
    import pyarrow as pa

    count = len(data) // size
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(size)
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
