# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from tests.support.client import SIGNER
from weir import errors
from weir_client.cli import questions

SQL = "SELECT region, COUNT(*) AS n FROM census GROUP BY region"


def asked(domain, name="RunQuery"):
    return [call for call, _ in domain.requests if call == name]


@pytest.fixture
def taken(tmp_path):
    """A path that nothing can be written to: its folder is a file."""
    (tmp_path / "good.csv").write_text("a,b\n")
    return tmp_path / "good.csv" / "r.json"


def test_a_receipt_that_cannot_be_written_is_said_before_anything_is_charged(weir, domain, taken):
    code, out, err = weir("query", SQL, "-c", "c-1", "--save-receipt", taken)
    assert (code, out) == (2, "")
    assert err == (
        f"weir: {taken} cannot be written: {taken.parent} is no folder (rule output.place, field save-receipt)\n"
    )
    assert asked(domain) == []


def test_a_receipt_never_takes_another_file_s_place(weir, domain, tmp_path):
    path = tmp_path / "r.json"
    path.write_text("mine")
    code, _, err = weir("query", SQL, "-c", "c-1", "--save-receipt", path)
    assert code == 2
    assert "output.exists" in err
    assert (path.read_text(), asked(domain)) == ("mine", [])


def test_an_answer_that_was_charged_is_printed_though_its_receipt_cannot_be_written(weir, domain, taken, monkeypatch):
    monkeypatch.setattr(questions, "demand_receipt_file", lambda path: None)  # The disk fills up behind the look.
    code, out, err = weir("query", SQL, "-c", "c-1", "--save-receipt", taken)
    assert code == 1
    assert "north   100" in out
    assert err.startswith("weir: ")
    assert err.count("\n") == 1
    assert str(taken.parent) in err


def test_a_receipt_that_does_not_verify_is_kept_as_evidence(weir, monkeypatch, tmp_path):
    def refuse(self):
        raise errors.InvalidReceipt("x", rule="receipt.leaf")

    monkeypatch.setattr("weir_client._answer.Answer.verify", refuse)
    code, out, _ = weir("query", SQL, "-c", "c-1", "--save-receipt", tmp_path / "r.json")
    assert (code, out) == (4, "")
    assert json.loads((tmp_path / "r.json").read_text())["weir_receipt"] == 1


@pytest.mark.parametrize(
    "args",
    [
        ("keys", "new", "{taken}"),
        ("keys", "public", "{key}", "-o", "{taken}"),
        ("contracts", "key", "-o", "{taken}"),
        ("contracts", "export", "c-1", "-o", "{taken}"),
        ("datasets", "export", "-o", "{taken}"),
        ("cases", "evidence", "case-1", "-o", "{taken}"),
        ("receipts", "--save", "{taken}"),
        ("sealed", "ask", SQL, "-c", "c-1", "--to", "sha256:00", "-o", "{taken}"),
    ],
    ids=lambda args: " ".join(args[:2]),
)
def test_a_place_that_takes_no_file_is_one_line(weir, domain, taken, tmp_path, keypair, args):
    keypair.save(tmp_path / "key.json")
    code, out, err = weir(*(arg.format(taken=taken, key=tmp_path / "key.json") for arg in args))
    assert (code, out) == (2, "")
    assert "is no folder (rule output.place" in err
    assert err.count("\n") == 1
    assert domain.requests == []


def test_an_export_is_never_written_over_a_file_or_through_a_link(weir, tmp_path):
    path, link = tmp_path / "dcat.json", tmp_path / "link.json"
    path.write_text("mine")
    link.symlink_to(tmp_path / "elsewhere.json")
    for output in (path, link):
        code, _, err = weir("datasets", "export", "-o", output)
        assert code == 2
        assert "exists; give a new file" in err
    assert path.read_text() == "mine"
    assert not (tmp_path / "elsewhere.json").exists()


def test_a_file_that_the_system_refuses_is_one_line_and_exit_code_1(weir, taken):
    args = ("audit", "witness", "--name", "w.example", "--watch", SIGNER.verifier.vkey, "--state")
    code, out, err = weir(*args, taken)
    assert (code, out) == (1, "")
    assert err.startswith("weir: ")
    assert "Not a directory" in err
    assert err.count("\n") == 1


def test_a_witness_s_name_is_a_word(weir, tmp_path):
    args = ("audit", "witness", "--state", tmp_path / "w", "--watch", SIGNER.verifier.vkey)
    code, _, err = weir(*args, "--name", "bad name")
    assert code == 2
    assert "rule witness.name" in err
    assert not (tmp_path / "w").exists()
