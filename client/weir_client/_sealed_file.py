# SPDX-License-Identifier: Apache-2.0
"""Files that collector and key holder hand to each other: sealed tables, and the public keys to add them up with.

A sealed table, version 1, is one JSON object in UTF-8:

    weir_sealed_table  1
    key_id             of the key it is sealed to, "sha256:…"
    columns            [{"name": of the SELECT list, "scale": decimal places of its numbers}, …]
    keys               group key of each cell: lists of null, or of one of {"text": "north"}, {"integer": "3"},
                       {"decimal": "2.5"}, {"boolean": true}; numbers are text, so that no reader rounds them
    slots, slot_bits, max_addends, addends   how values lie in the plaintexts (see `weir.paillier.packing`)
    ciphertexts        base64, all of one length, joined; values column by column
    receipts           receipt files (see `Receipt.to_json`) as objects, one for each table added up

A public key, version 1: {"weir_public_key": 1, "modulus": base64 of its big-endian bytes, "key_id": "sha256:…"}.

Neither holds a path, a time or a name of a machine. What a reader does not know is refused, never skipped.
"""

from __future__ import annotations

import base64
import json
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from weir.errors import InvalidReceipt, InvalidRequest
from weir.paillier import PublicKey
from weir_client._ciphertexts import SealedTable
from weir_client._receipts import receipt_from_json
from weir_client._values import CellValue

VERSION = 1
_LAYOUT = ("slots", "slot_bits", "max_addends", "addends")
_TABLE = frozenset({"weir_sealed_table", "key_id", "columns", "keys", "ciphertexts", "receipts", *_LAYOUT})


def table_to_json(table: SealedTable) -> str:
    """The text of a sealed-table file."""
    document = {
        "weir_sealed_table": VERSION,
        "key_id": table.key_id,
        "columns": [{"name": name, "scale": s} for name, s in zip(table.column_names, table._scales, strict=True)],
        "keys": [[_cell_to_json(cell) for cell in key] for key in table.keys],
        **{name: getattr(table, name) for name in _LAYOUT},
        "ciphertexts": base64.b64encode(table.data).decode(),
        "receipts": [json.loads(receipt.to_json()) for receipt in table.receipts],
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def table_from_json(text: str) -> SealedTable:
    """The sealed table of a file's text. Its ciphertexts are checked once a key is at hand.

    Raises:
        InvalidRequest: it is not a sealed-table file of this version.
    """
    try:
        document: Any = json.loads(text, parse_float=_refuse_float)
        if set(document) != _TABLE or document["weir_sealed_table"] != VERSION:
            raise ValueError("another form or version")
        columns = [(str(column["name"]), _whole(column["scale"], least=0)) for column in document["columns"]]
        return SealedTable(
            data=base64.b64decode(document["ciphertexts"], validate=True),
            keys=tuple(tuple(_cell_from_json(cell) for cell in key) for key in document["keys"]),
            column_names=tuple(name for name, _ in columns),
            key_id=str(document["key_id"]),
            **{name: _whole(document[name], least=1) for name in _LAYOUT},
            receipts=tuple(receipt_from_json(json.dumps(item)) for item in document["receipts"]),
            _scales=tuple(scale for _, scale in columns),
        )
    except (ValueError, KeyError, TypeError, AttributeError, InvalidOperation, RecursionError, InvalidReceipt):
        raise InvalidRequest(
            f"not a sealed-table file of version {VERSION}", field="files", rule="sealed.file"
        ) from None


def public_key_to_json(key: PublicKey) -> str:
    """The text of a public-key file."""
    modulus = base64.b64encode(key.to_bytes()).decode()
    return json.dumps({"weir_public_key": VERSION, "modulus": modulus, "key_id": key.key_id}, indent=1) + "\n"


def public_key_from_json(text: str) -> PublicKey:
    """The key of a public-key file.

    Raises:
        InvalidRequest: it is not one of this version, or its id is another key's.
        InvalidKey: its modulus cannot be a key.
    """
    try:
        document: Any = json.loads(text)
        if document["weir_public_key"] != VERSION:
            raise ValueError("another version")
        modulus, key_id = base64.b64decode(document["modulus"], validate=True), document["key_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _not_a_key("not a public-key file") from None
    key = PublicKey.from_bytes(modulus)
    if key.key_id != key_id:
        raise _not_a_key("the public key has another id than its file says")
    return key


def read_table(path: Path) -> SealedTable:
    """The table in a file. Raises: InvalidRequest."""
    return table_from_json(_text(path))


def read_public_key(path: Path) -> PublicKey:
    """The key in a file. Raises: InvalidRequest, InvalidKey."""
    return public_key_from_json(_text(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is not a text file", field="files", rule="sealed.file") from None


def _cell_to_json(cell: CellValue) -> object:
    match cell:
        case None:
            return None
        case bool():
            return {"boolean": cell}
        case int():
            return {"integer": str(cell)}
        case Decimal():
            return {"decimal": str(cell)}
        case str():
            return {"text": cell}


def _cell_from_json(cell: Any) -> CellValue:
    if cell is None:
        return None
    ((kind, value),) = cell.items()
    if kind == "boolean" and isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError("a cell's value is text")
    if kind == "decimal":
        return Decimal(value)
    if kind == "integer":
        return int(value[:32])
    if kind == "text":
        return value
    raise ValueError("an unknown kind of cell")


def _whole(value: Any, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
        raise ValueError("not a whole number in range")
    return value


def _refuse_float(text: str) -> int:
    raise ValueError("numbers are whole")


def _not_a_key(sentence: str) -> InvalidRequest:
    return InvalidRequest(sentence, field="key", rule="key.file")
