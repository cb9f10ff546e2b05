# SPDX-License-Identifier: Apache-2.0
"""Many values in one plaintext, for sealed releases that several domains add up.

A plaintext holds `slots` signed values side by side, each in `slot_bits` bits: the public bound of a value, its sign,
and headroom for the number of parties that will be added. Adding ciphertexts adds slot by slot. Packing is for
releases the server itself encrypts; a reply to secret weights is never packed (`masking`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weir.errors import HeadroomExceeded, InvalidRequest
from weir.paillier.ciphertexts import invalid_ciphertext
from weir.paillier.keys import PublicKey


@dataclass(frozen=True, slots=True)
class Packing:
    """A layout that encryptor, adders and key holder must share; public."""

    value_bits: int
    """Every value v of one party has |v| < 2**value_bits."""
    parties: int
    """Most tables that will be added."""
    slots: int
    """Values in one plaintext."""

    @classmethod
    def for_key(cls, key: PublicKey, *, value_bits: int, parties: int) -> Packing:
        """The layout with most slots for a key. Raises: as `for_bits`."""
        return cls.for_bits(key.bits, value_bits=value_bits, parties=parties)

    @classmethod
    def for_bits(cls, key_bits: int, *, value_bits: int, parties: int) -> Packing:
        """The layout with most slots for keys of that length.

        Raises: InvalidRequest, HeadroomExceeded when not even one slot fits.
        """
        if value_bits < 1 or parties < 1:
            raise InvalidRequest("value bits and parties must be at least 1", rule="paillier.packing")
        slots = (key_bits - 2) // (value_bits + parties.bit_length() + 1)
        if slots < 1:
            raise HeadroomExceeded("a value does not fit one plaintext", rule="paillier.packing")
        return cls(value_bits, parties, slots)

    @property
    def slot_bits(self) -> int:
        """Bits of a slot: the sum of `parties` values below 2**value_bits in magnitude, with sign."""
        return self.value_bits + self.parties.bit_length() + 1

    def ciphertexts_for(self, count: int) -> int:
        """How many ciphertexts `count` values take."""
        return -(-count // self.slots)


def pack(layout: Packing, values: Sequence[int]) -> list[int]:
    """Plaintexts holding `values`, first value in the lowest slot.

    Raises: HeadroomExceeded when a value is out of the layout's range.
    """
    limit = 1 << layout.value_bits
    if not all(-limit < v < limit for v in values):
        raise HeadroomExceeded("a value exceeds its declared bits", field="values", rule="paillier.packing")
    groups = (values[at : at + layout.slots] for at in range(0, len(values), layout.slots))
    return [sum(int(v) << (at * layout.slot_bits) for at, v in enumerate(group)) for group in groups]


def unpack(layout: Packing, plaintexts: Sequence[int], count: int) -> list[int]:
    """The `count` signed values of signed plaintexts, each a sum over at most `layout.parties` tables.

    Raises: InvalidRequest when the number of plaintexts does not fit `count`.
    """
    if len(plaintexts) != layout.ciphertexts_for(count):
        raise InvalidRequest("the plaintexts do not hold that many values", rule="paillier.packing")
    values: list[int] = []
    for plaintext in plaintexts:
        rest = int(plaintext)
        for _ in range(min(layout.slots, count - len(values))):
            value = _signed(rest, layout.slot_bits)
            values.append(value)
            rest = (rest - value) >> layout.slot_bits
    return values


def sum_tables(key: PublicKey, tables: Sequence[Sequence[int]]) -> list[int]:
    """Ciphertext tables of several domains added position by position: Enc of the totals. The tables MUST be of one
    layout and length, and there MUST be no more than `Packing.parties` of them.

    Raises: InvalidRequest when there is none or lengths differ, InvalidCiphertext when a value is out of range.
    """
    if not tables or len({len(table) for table in tables}) != 1:
        raise InvalidRequest("tables to add must have one length", field="tables", rule="paillier.lengths")
    if not all(0 < c < key.n_squared for table in tables for c in table):
        raise invalid_ciphertext()
    totals = list(tables[0])
    for table in tables[1:]:
        totals = [total * c % key.n_squared for total, c in zip(totals, table, strict=True)]
    return totals


def _signed(number: int, bits: int) -> int:
    low = number & ((1 << bits) - 1)
    return low - (1 << bits) if low >> (bits - 1) else low
