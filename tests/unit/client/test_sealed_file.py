# SPDX-License-Identifier: Apache-2.0
import contextlib
import dataclasses
import json
import secrets
from decimal import Decimal

import pytest

from weir import errors
from weir.paillier import Packing, encode_ciphertexts, encrypt, pack
from weir.v1 import receipt_pb2
from weir_client import Receipt, SealedTable, cli
from weir_client._sealed_file import public_key_from_json, public_key_to_json, table_from_json, table_to_json

KEYS = (("north", 1, True, Decimal("2.50")), ("南\u0022", -(2**63), False, None))
COUNTS, SUMS = [100, 107], [-5, 12]


@pytest.fixture(scope="module")
def table(keypair):
    layout = Packing.for_key(keypair.public, value_bits=20, parties=3)
    ciphertexts = [encrypt(keypair.public, m, entropy=secrets.token_bytes) for m in pack(layout, COUNTS + SUMS)]
    message = receipt_pb2.Receipt(leaf_index=3, leaf=b"{}", salt=b"s", checkpoint="note")
    return SealedTable(
        data=encode_ciphertexts(keypair.public, ciphertexts),
        keys=KEYS,
        column_names=("n", "usd"),
        key_id=keypair.public.key_id,
        slots=layout.slots,
        slot_bits=layout.slot_bits,
        max_addends=3,
        addends=1,
        receipts=(Receipt(message, {"answer": b"described"}),),
        _scales=(0, 2),
    )


def test_a_sealed_table_comes_back_as_it_was(table, keypair):
    read = table_from_json(table_to_json(table))
    for field in dataclasses.fields(SealedTable):
        assert getattr(read, field.name) == getattr(table, field.name), field.name
    assert [type(cell) for cell in read.keys[0]] == [str, int, bool, Decimal]
    assert read.decrypt(keypair) == {"n": COUNTS, "usd": [Decimal("-0.05"), Decimal("0.12")]}


def documents(table):
    """Files that a version 1 reader must refuse."""
    base = json.loads(table_to_json(table))
    yield "version", base | {"weir_sealed_table": 2}
    yield "unknown member", base | {"note": "x"}
    yield "missing member", {name: value for name, value in base.items() if name != "receipts"}
    yield "not base64", base | {"ciphertexts": "§"}
    yield "a float", base | {"slots": 1.0}
    yield "a negative count", base | {"addends": -1}
    yield "a boolean count", base | {"slots": True}
    yield "a huge count", base | {"slot_bits": 2**40}
    yield "a bare cell", base | {"keys": [["north"]]}
    yield "a cell of two kinds", base | {"keys": [[{"text": "a", "integer": "1"}]]}
    yield "a cell of another kind", base | {"keys": [[{"bytes": "a"}]]}
    yield "a number that is none", base | {"keys": [[{"integer": "x"}]]}
    yield "a decimal that is none", base | {"keys": [[{"decimal": "x"}]]}
    yield "a bad receipt", base | {"receipts": [{}]}
    yield "a list", [base]
    yield "columns of another shape", base | {"columns": ["n"]}


def test_other_files_are_refused(table):
    for name, document in documents(table):
        with pytest.raises(errors.InvalidRequest) as caught:
            table_from_json(json.dumps(document))
        assert caught.value.rule == "sealed.file", name
    for text in ("", "{", "[" * 100_000, "null", '{"slots": NaN}'):
        with pytest.raises(errors.InvalidRequest):
            table_from_json(text)


@pytest.mark.parametrize("name", ["slots", "slot_bits", "max_addends", "addends"])
@pytest.mark.parametrize("value", [1, 2, 7, 2**31 - 1])
def test_a_layout_that_cannot_be_is_refused_on_opening_and_never_breaks(table, keypair, name, value):
    document = json.loads(table_to_json(table)) | {name: value}
    read = table_from_json(json.dumps(document))
    found = None
    with contextlib.suppress(errors.WeirError):  # anything else would show
        found = read.decrypt(keypair)
    assert found is None or set(found) == {"n", "usd"}


def test_a_public_key_comes_back_and_a_changed_one_does_not(keypair):
    text = public_key_to_json(keypair.public)
    assert public_key_from_json(text) == keypair.public
    document = json.loads(text)
    for change in (
        {"weir_public_key": 2},
        {"key_id": "sha256:" + "0" * 64},
        {"modulus": "AA=="},
        {"modulus": "§"},
        {"modulus": 3},
    ):
        with pytest.raises(errors.WeirError):
            public_key_from_json(json.dumps(document | change))
    with pytest.raises(errors.InvalidRequest):
        public_key_from_json("[]")


def test_files_are_added_and_opened_without_any_service(table, keypair, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("WEIR_KEY_PASSPHRASE", raising=False)
    key, public, one, total = (str(tmp_path / name) for name in ("key", "public", "one", "total"))
    keypair.save(key)
    (tmp_path / "one").write_text(table_to_json(table), encoding="utf-8")
    assert cli.run(["keys", "public", key, "-o", public]) == 0
    assert cli.run(["keys", "public", key, "-o", public]) == 2
    assert cli.run(["sealed", "add", one, one, "--key", public, "-o", total]) == 0
    assert (tmp_path / "total").stat().st_mode & 0o077 == 0
    capsys.readouterr()
    assert cli.run(["sealed", "open", total, "--key", key, "--json"]) == 0
    opened = json.loads(capsys.readouterr().out)
    assert [row[4:] for row in opened["rows"]] == [[200, "-0.10"], [214, "0.24"]]
    assert (opened["columns"], opened["addends"]) == (["n", "usd"], 2)
    assert cli.run(["sealed", "add", total, total, "--key", public, "-o", str(tmp_path / "x")]) == 2
    assert cli.run(["sealed", "open", public, "--key", key]) == 2
    (tmp_path / "bytes").write_bytes(b"\xff")
    assert cli.run(["sealed", "open", str(tmp_path / "bytes"), "--key", key]) == 2
