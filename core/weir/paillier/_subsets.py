# SPDX-License-Identifier: Apache-2.0
"""Several dot products over the same ciphertexts from one table of subset products.

Groups of g ciphertexts share a table of their 2**g subset products; each bit of each column then costs one product
a group. Source: Lupanov 1956 and Arlazarov et al. 1970 ("four Russians"), here in the exponent. It beats buckets
for a few hundred ciphertexts and several columns, where buckets would stay nearly empty.
"""

from __future__ import annotations

from collections.abc import Sequence

from weir.paillier._buckets import Split, plan
from weir.paillier._gmp import f_divmod, invert, mpz

_TABLE_COST = 1.9
"""One table entry, in units of one product by an l."""
_SHARE = 1.15
"""One look-up with its product, its index and its share of the sums, in the same unit."""

Entry = tuple[int, int]
"""(l, t) for l·(1 + n·t)."""


def is_cheaper(columns: Sequence[Sequence[int]]) -> bool:
    """Whether the table beats one bucket run per column, by the count of products of each."""
    count, bits = len(columns[0]), _bits(columns)
    if bits == 0:
        return False
    windows = plan(count, bits, signed=True)
    buckets = sum(count * (1 - 2.0**-w.width) + 3.0 * min(2.0**w.width, count) for w in windows)
    return _cost(count, bits, len(columns), _group(count, bits, len(columns))) < buckets * len(columns)


def matrix_dot(split: Split, columns: Sequence[Sequence[int]]) -> list[int]:
    """Π cᵢ**sᵢ mod n² for each column of signed scalars."""
    n, bits = split.n, _bits(columns)
    size = _group(len(split.low), bits, len(columns))
    offset = 1 << bits
    # s + 2**bits is never negative; the surplus Π cᵢ**(2**bits) is divided out, once for all columns.
    accumulators: list[list[Entry]] = [[(mpz(1), mpz(0))] * (bits + 1) for _ in columns]
    whole: Entry = (mpz(1), mpz(0))
    for start in range(0, len(split.low), size):
        table = _table(n, split.low[start : start + size], split.log[start : start + size])
        whole = _times(n, whole, table[-1])
        for column, rows in zip(columns, accumulators, strict=True):
            indexes = _indexes([s + offset for s in column[start : start + size]], bits + 1)
            _accumulate(n * n, rows, table, indexes)
    surplus = invert(_value(n, whole), n * n)
    return [_horner(n, rows, surplus) for rows in accumulators]


def _bits(columns: Sequence[Sequence[int]]) -> int:
    return max((s.bit_length() for column in columns for s in column), default=0)


def _group(count: int, bits: int, columns: int) -> int:
    return min(range(1, 9), key=lambda size: _cost(count, bits, columns, size))


def _cost(count: int, bits: int, columns: int, size: int) -> float:
    groups = -(-count // size)
    return groups * (_TABLE_COST * 2.0**size + _SHARE * columns * (bits + 1)) + 3.0 * columns * bits


def _table(n: int, low: Sequence[int], log: Sequence[int]) -> list[Entry]:
    """Entry i is the product of the ciphertexts at the set bits of i."""
    table: list[Entry] = [(mpz(1), mpz(0))]
    inverses = [mpz(1)]
    for x, t in zip(low, log, strict=True):
        inverse = invert(x, n)
        for at in range(len(table)):
            quotient, rest = f_divmod(table[at][0] * x, n)
            inverses.append(inverses[at] * inverse % n)
            table.append((rest, table[at][1] + t + quotient * inverses[-1] % n))
    return table


def _times(n: int, x: Entry, y: Entry) -> Entry:
    quotient, rest = f_divmod(x[0] * y[0], n)
    return rest, (x[1] + y[1] + quotient * invert(rest, n)) % n


def _indexes(scalars: Sequence[int], width: int) -> bytes:
    """One byte a bit position, lowest first: bit k is that of the k-th scalar."""
    spread = 0
    for at, s in enumerate(scalars):
        # '0' and '1' are 48 and 49: the text of a number in base 2, read in base 256, is its bits spread to bytes.
        spread |= (int.from_bytes(f"{s:0{width}b}".encode(), "big") & _ones(width)) << at
    return spread.to_bytes(width, "little")


def _ones(width: int) -> int:
    return int.from_bytes(b"\x01" * width, "big")


def _accumulate(n_squared: int, rows: list[Entry], table: Sequence[Entry], indexes: bytes) -> None:
    for bit, index in enumerate(indexes):
        if index:
            product, log = rows[bit]
            x, t = table[index]
            rows[bit] = product * x % n_squared, log + t


def _horner(n: int, rows: Sequence[Entry], surplus: int) -> int:
    """Π rows[j]**(2**j), with the surplus taken off at the top bit, where every scalar was raised by one."""
    n_squared = n * n
    total, log = mpz(1), mpz(0)
    for bit in range(len(rows) - 1, -1, -1):
        total = total * total * rows[bit][0] % n_squared
        if bit == len(rows) - 1:
            total = total * surplus % n_squared
        log = 2 * log + rows[bit][1]
    return total * (1 + log % n * n) % n_squared


def _value(n: int, entry: Entry) -> int:
    return entry[0] * (1 + entry[1] * n)
