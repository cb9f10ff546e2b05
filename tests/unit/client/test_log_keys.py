# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from tests.support.client import SIGNER
from weir.checkpoint import MLDSA44, new_signer
from weir_client.cli.audit import _key_text

SQL = "SELECT region, COUNT(*) AS n FROM census GROUP BY region"
VKEY = SIGNER.verifier.vkey
BOTH = f"{VKEY} {new_signer('weir/test.example', seed=bytes(32), kind=MLDSA44).verifier.vkey}"


@pytest.fixture
def receipt(weir, tmp_path):
    weir("query", SQL, "-c", "c-1", "--save-receipt", tmp_path / "r.json")
    return tmp_path / "r.json"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(f"{VKEY}\n", id="bare"),
        pytest.param(json.dumps({"weir_domain": 1, "domain": "test.example", "log_key": VKEY}), id="domain.json"),
        pytest.param(json.dumps({"weir_identity": 1, "log_key": VKEY, "private_key": "x"}, indent=2), id="identity"),
    ],
)
def test_a_key_is_read_from_what_holds_one(weir, tmp_path, receipt, content, monkeypatch):
    monkeypatch.delenv("WEIR_IDENTITY")
    (tmp_path / "key").write_text(content)
    assert weir("audit", "verify", "--offline", "--log-key", tmp_path / "key", receipt)[0] == 0


def test_keys_longer_than_a_file_s_name_are_keys():
    assert len(BOTH) > 1000
    assert _key_text(BOTH) == BOTH


@pytest.mark.parametrize(
    "content",
    ["", "{", "{}", '{"log_key": 3}', "[1]", "a,b\n1,2\n", b"\xff\xfe", None],
    ids=["empty", "no JSON", "no key", "a number", "a list", "a table", "bytes", "no file"],
)
@pytest.mark.parametrize("command", [("audit", "verify", "--offline", "--log-key"), ("audit", "witness", "--watch")])
def test_a_file_without_a_key_is_named(weir, tmp_path, receipt, content, command):
    path = tmp_path / "wrong.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    rest = (receipt,) if "verify" in command else ("--state", tmp_path / "w", "--name", "w")
    code, out, err = weir(*command, path, *rest)
    assert (code, out) == (2, "")
    assert str(path) in err
    assert "rule note.vkey" in err


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "{}", '{"weir_receipt": 2}'])
def test_among_several_files_the_one_that_is_no_receipt_is_named(weir, tmp_path, receipt, content):
    (tmp_path / "c.csv").write_text(content)
    code, _, err = weir("audit", "verify", "--offline", receipt, tmp_path / "c.csv")
    assert code == 4
    assert f"{tmp_path / 'c.csv'}: not a receipt file" in err


def test_among_several_receipts_the_forged_one_is_named(weir, tmp_path, receipt):
    forged = tmp_path / "forged.json"
    forged.write_text(receipt.read_text().replace('"answer": "C', '"answer": "D'))
    code, _, err = weir("audit", "verify", "--offline", receipt, forged)
    assert code == 4
    assert err.startswith(f"weir: {forged}: ")
