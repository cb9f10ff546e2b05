# SPDX-License-Identifier: Apache-2.0
"""Replies under a key: weighted sums for their requester, sealed tables for somebody else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from weir.errors import InvalidKey, InvalidReceipt, InvalidRequest
from weir.paillier import (
    Packing,
    PublicKey,
    as_public_key,
    decode_ciphertexts,
    encode_ciphertexts,
    sum_tables,
    unpack,
)
from weir.v1 import answer_pb2
from weir_client._keys import KeyPair
from weir_client._receipts import Receipt
from weir_client._sql import Output, ParsedQuery
from weir_client._values import CellValue, exact_decimal, literal_value

if TYPE_CHECKING:
    from phe import EncryptedNumber
    from phe.paillier import PaillierPublicKey


@dataclass(frozen=True, slots=True)
class Table:
    """What a reply says about the table underneath."""

    message: answer_pb2.Answer
    parsed: ParsedQuery

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self.message.keys[0].cells) if self.message.keys else 1

    def keys(self) -> list[tuple[CellValue, ...]]:
        """Group keys of the cells, in canonical order of dimensions."""
        columns = [[literal_value(cell) for cell in column.cells] for column in self.message.keys]
        return list(zip(*columns, strict=True)) if columns else [()]

    def named(self) -> list[tuple[str, answer_pb2.ValueColumn]]:
        """Value columns with the names of the SELECT list, in the order of the wire."""
        return [(_shown_name(column, self.parsed.presentation.columns), column) for column in self.message.values]

    def in_shown_order(self) -> list[tuple[int, str, answer_pb2.ValueColumn]]:
        """Position on the wire, name and description of each column, in the order of the SELECT list."""
        outputs = [output.aggregate for output in self.parsed.presentation.columns]
        found = [(at, name, column) for at, (name, column) in enumerate(self.named())]
        return sorted(found, key=lambda item: outputs.index(item[2].name.partition("[")[0]))


@dataclass(frozen=True, slots=True, repr=False)
class EncryptedAnswer:
    """Weighted sums under the requester's key, one per value column."""

    ciphertexts: tuple[int, ...] = field(repr=False)
    """One per value column, in the order of `column_names`."""
    column_names: tuple[str, ...]
    """With the names and in the order of the SELECT list."""
    key_id: str
    reply_bits: int
    """Public bit length of a reply, sign included."""
    dataset: str
    snapshot: int
    receipt: Receipt
    _scales: tuple[int, ...] = field(repr=False)
    _verify: Callable[[], Any] | None = field(default=None, repr=False, compare=False)

    def decrypt(self, keypair: KeyPair) -> dict[str, int | Decimal]:
        """The weighted sums by column: exact, int over whole numbers and Decimal over a decimal grid.

        Raises:
            InvalidKey: another key pair than the query was asked with.
        """
        check_key(keypair.public, self.key_id)
        plain = keypair.decrypt_many(list(self.ciphertexts), bits=self.reply_bits)
        return {
            name: exact_decimal(value, scale)
            for name, value, scale in zip(self.column_names, plain, self._scales, strict=True)
        }

    def to_phe(self, public_key: PublicKey | PaillierPublicKey) -> list[EncryptedNumber]:
        """The ciphertexts as python-paillier's type. Their plaintexts are masked: reduce modulo 2^reply_bits, as
        signed, after decryption."""
        from weir.paillier import to_phe_encrypted  # loads phe

        return cast("list[EncryptedNumber]", to_phe_encrypted(as_public_key(public_key), list(self.ciphertexts)))

    def verify(self) -> Any:
        """As `Answer.verify`: the receipt commits to the description, which commits to the ciphertexts."""
        if self._verify is None:
            raise InvalidReceipt("this answer has no client; use receipt.check(log_key)", rule="receipt.client")
        return self._verify()

    def __repr__(self) -> str:
        names = ", ".join(self.column_names)
        return f"<EncryptedAnswer {self.dataset}@{self.snapshot}: {names}; {self.reply_bits} bits>"


@dataclass(frozen=True, slots=True, repr=False)
class SealedTable:
    """A release under somebody else's key. Tables of several domains add up; only the key's holder reads the total."""

    data: bytes = field(repr=False)
    """Ciphertexts as they travelled, none yet looked at: values column by column, packed without gaps."""
    keys: tuple[tuple[CellValue, ...], ...]
    """Group key of each cell."""
    column_names: tuple[str, ...]
    key_id: str
    slots: int
    """Values in one plaintext."""
    slot_bits: int
    max_addends: int
    """Most tables that may be added up."""
    addends: int
    """Tables added up in this one."""
    receipts: tuple[Receipt, ...]
    """Of each table in it."""
    _scales: tuple[int, ...] = field(repr=False)

    def decrypt(self, keypair: KeyPair) -> dict[str, list[int | Decimal]]:
        """The totals by column, a cell each in the order of `keys`.

        Raises:
            InvalidKey: another key than the table was sealed to.
            InvalidCiphertext: a ciphertext is none of this key.
        """
        check_key(keypair.public, self.key_id)
        plain = keypair.decrypt_many(decode_ciphertexts(keypair.public, self.data))
        cells = len(self.keys)
        values = unpack(self._packing(), plain, cells * len(self.column_names))
        return {
            name: [exact_decimal(value, scale) for value in values[at * cells : (at + 1) * cells]]
            for at, (name, scale) in enumerate(zip(self.column_names, self._scales, strict=True))
        }

    def _packing(self) -> Packing:
        value_bits = self.slot_bits - self.max_addends.bit_length() - 1
        return Packing(value_bits, self.max_addends, self.slots)

    def __repr__(self) -> str:
        names = ", ".join(self.column_names)
        return f"<SealedTable of {self.addends}: {len(self.keys)} cells, {names}>"


def add_sealed(tables: Sequence[SealedTable], public_key: PublicKey | PaillierPublicKey) -> SealedTable:
    """The sum of sealed tables, cell by cell, still sealed.

    Raises:
        InvalidRequest: the tables differ in cells, columns, key or layout, or are more than a slot holds.
        InvalidCiphertext: a ciphertext is none of this key.
    """
    key = as_public_key(public_key)
    shapes = {(t.keys, t.column_names, t.key_id, t.slots, t.slot_bits, t.max_addends, t._scales) for t in tables}
    if len(shapes) != 1:
        raise InvalidRequest("sealed tables add up only with equal cells, columns, key and layout", rule="sealed.shape")
    first = tables[0]
    check_key(key, first.key_id)
    addends = sum(table.addends for table in tables)
    if addends > first.max_addends:
        raise InvalidRequest(f"at most {first.max_addends} tables may be added", rule="sealed.addends")
    sums = sum_tables(key, [decode_ciphertexts(key, table.data) for table in tables])
    return SealedTable(
        encode_ciphertexts(key, sums),
        first.keys,
        first.column_names,
        first.key_id,
        first.slots,
        first.slot_bits,
        first.max_addends,
        addends,
        tuple(receipt for table in tables for receipt in table.receipts),
        first._scales,
    )


def _shown_name(column: answer_pb2.ValueColumn, outputs: Sequence[Output]) -> str:
    for output in outputs:
        if output.aggregate is not None and (
            column.name == output.aggregate or column.name.startswith(f"{output.aggregate}[")
        ):
            suffix = column.name.removeprefix(output.aggregate)
            return output.name + suffix
    raise malformed(f"it has a column {column.name} that was not asked for")


def check_key(key: PublicKey, key_id: str) -> None:
    if key.key_id != key_id:
        raise InvalidKey("the table is under another key", field="keypair", rule="key.other")


def malformed(what: str) -> InvalidReceipt:
    """The refusal of a reply that cannot be what was asked for."""
    return InvalidReceipt(f"the encrypted reply does not fit the question: {what}", rule="answer.form")
