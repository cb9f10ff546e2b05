# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.ledger import ALICE, BOB, PQ_SIGNER, SIGNER, VKEY, Books, fill, open_books
from weir.checkpoint import new_signer
from weir.errors import LogInconsistent, VerificationError
from weir_client import cli
from weir_client._log_files import check_receipt, read_log
from weir_client._receipts import Receipt
from weir_server.log.receipts import Receipts
from weir_server.log.tiles import export_tiles

KEYS = f"{VKEY} {PQ_SIGNER.verifier.vkey}"
Run = Callable[..., tuple[int, str, str]]


def exported(directory: Path, *, extra: int = 0) -> tuple[Books, Path, Receipt]:
    """A log in files, and a receipt of it."""
    directory.mkdir(exist_ok=True)
    books = open_books(directory, signers=(SIGNER, PQ_SIGNER))
    fill(books)
    posted = books.answer({"queries": 1, "price_micro": 5}, subject=BOB, answer=b"42")
    for _ in range(extra):
        books.answer({"queries": 1}, subject=BOB)
    export_tiles(books.store, directory / "log")
    message = books.store.read(lambda tx: Receipts((SIGNER,)).of(tx, posted.leaf_index))
    books.store.close()
    return books, directory / "log", Receipt(message, {"answer": b"42"})


@pytest.fixture
def weir(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.delenv("WEIR_IDENTITY", raising=False)
    monkeypatch.delenv("WEIR_SERVER", raising=False)

    def run(*args: object) -> tuple[int, str, str]:
        code = cli.run([str(arg) for arg in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_log_in_files_is_read_whole_and_makes_its_books(tmp_path: Path) -> None:
    _, log, receipt = exported(tmp_path)
    read = read_log(log, log_key=KEYS)
    assert len(read.leaves) == read.head.size > 10
    assert read.books.totals[("c-1", "alice", "census", "queries")] == 6
    assert check_receipt(read, receipt, log_key=KEYS).event["type"] == "weir.query.released"


def test_full_and_partial_tiles_are_read(tmp_path: Path) -> None:
    _, log, _ = exported(tmp_path, extra=125)
    assert read_log(log, log_key=KEYS).head.size > 256


def test_a_flipped_byte_anywhere_in_the_files_is_found(tmp_path: Path) -> None:
    _, log, _ = exported(tmp_path)
    for file in [path for path in log.rglob("*") if path.is_file()]:
        whole = file.read_bytes()
        for at in {0, len(whole) // 3, len(whole) // 2, len(whole) - 1}:
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(VerificationError):
                read_log(log, log_key=KEYS)
        file.write_bytes(whole[:-1])
        with pytest.raises(VerificationError):
            read_log(log, log_key=KEYS)
        file.write_bytes(whole)
    assert read_log(log, log_key=KEYS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    _, log, _ = exported(tmp_path)
    next((log / "tile" / "0" / "000.p").iterdir()).unlink()
    with pytest.raises(VerificationError, match="tile/0/000"):
        read_log(log, log_key=KEYS)


def test_every_key_given_must_have_signed(tmp_path: Path) -> None:
    _, log, _ = exported(tmp_path)
    other = new_signer(SIGNER.name, seed=bytes(32)).verifier.vkey
    with pytest.raises(VerificationError):
        read_log(log, log_key=f"{VKEY} {other}")


def test_a_receipt_of_a_fork_is_evidence_against_the_log(tmp_path: Path) -> None:
    _, log, _ = exported(tmp_path / "a", extra=2)
    _, _, receipt = exported(tmp_path / "b")
    with pytest.raises(LogInconsistent) as caught:
        check_receipt(read_log(log, log_key=KEYS), receipt, log_key=KEYS)
    assert caught.value.older == receipt.checkpoint
    assert caught.value.newer == (log / "checkpoint").read_text("utf-8")


def test_the_command_verifies_log_and_receipts_without_server_or_identity(tmp_path: Path, weir: Run) -> None:
    _, log, receipt = exported(tmp_path)
    receipt.save(tmp_path / "receipt.json")
    (tmp_path / "key").write_text(KEYS + "\n", encoding="utf-8")
    for key in (KEYS, tmp_path / "key"):
        code, out, err = weir("audit", "verify", "--log", log, "--log-key", key, tmp_path / "receipt.json")
        assert (code, err) == (0, "")
        assert f"entry {receipt.index}, weir.query.released" in out
    document = json.loads(weir("audit", "verify", "--log", log, "--log-key", KEYS, "--json")[1])
    assert document["size"] > receipt.index
    (log / "checkpoint").write_text("x", encoding="utf-8")
    assert weir("audit", "verify", "--log", log, "--log-key", KEYS)[0] == 4


def test_a_bill_is_worked_out_from_the_files(tmp_path: Path, weir: Run) -> None:
    _, log, _ = exported(tmp_path)
    options = ("--log", log, "--log-key", KEYS)
    code, out, _ = weir("audit", "statement", *options, "--contract", ALICE.contract)
    assert code == 0
    assert "alice" in out
    assert "bob" not in out
    lines = json.loads(weir("audit", "statement", *options, "--json")[1])
    owed = {line["requester"]: 0 for line in lines}
    for line in lines:
        owed[line["requester"]] += line["amounts"].get("price_micro", 0)
    assert owed == {"alice": 66, "bob": 49}
    rows = list(csv.DictReader(io.StringIO(weir("audit", "statement", *options, "--csv", "--month", "2026-11")[1])))
    assert {row["SubAccountId"] for row in rows} == {"alice", "bob"}
    assert rows[0]["BillingPeriodStart"] == "2026-11-01T00:00:00Z"
    assert "Nothing" in weir("audit", "statement", *options, "--month", "2025-01")[1]
    assert weir("audit", "statement", *options, "--month", "2026-13")[0] == 2


def test_a_trace_names_who_received_an_answer(tmp_path: Path, weir: Run) -> None:
    from weir.v1 import answer_pb2

    (tmp_path / "ledger").mkdir()
    books = open_books(tmp_path / "ledger")
    column = answer_pb2.ValueColumn(scale=1, numerators=["1234", "77"])
    posted = books.answer({"queries": 1}, answer=answer_pb2.Answer(values=[column]).SerializeToString())
    code, out, _ = weir("audit", "trace", "--data", tmp_path, "123.4", "9")
    assert code == 0
    assert f"entry {posted.leaf_index}: 1 of 2 numbers, answer of 2, census to alice under c-1" in out
    found = json.loads(weir("audit", "trace", "--data", tmp_path, "--json", "7.7")[1])["matches"]
    assert [item["requester"] for item in found] == ["alice"]
    assert "No answer" in weir("audit", "trace", "--data", tmp_path, "5")[1]
    assert weir("audit", "trace", "--data", tmp_path, "x")[0] == 2
    books.store.close()
    assert weir("audit", "trace", "--data", tmp_path / "none", "5")[0] == 5
