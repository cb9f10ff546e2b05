# SPDX-License-Identifier: Apache-2.0
import json

import click
import pytest

from weir.errors import InvalidRequest
from weir.v1 import policy_service_pb2
from weir_client.cli.documents import located, read_policy

FIRST = "# parties\n---\nkind: party\nparty: hospital\n---\n\nkind: contract\ncontract: c-1\nquotas:\n  - {limit: x}\n"


@pytest.fixture
def documents(tmp_path):
    (tmp_path / "a.yaml").write_text(FIRST)
    (tmp_path / "b.yaml").write_text("kind: quota\nlimit: [1\n")
    return read_policy([tmp_path])


def told(documents, *findings):
    return [str(found) for found in located(InvalidRequest("x", findings=findings), documents).findings]


@pytest.mark.parametrize(
    ("fault", "place"),
    [
        ("document 1: party must be known", "a.yaml:4 (document 1 there)"),
        ("document 2: unknown key 'contract'", "a.yaml:8 (document 2 there)"),
        ("document 2, quotas: limit must be a whole number", "a.yaml:9 (document 2 there)"),
        ("document 2: purposes must be stated", "a.yaml:6 (document 2 there)"),
        ("document 3 is no YAML at line 2, column 8: while parsing", "b.yaml:2 (document 1 there)"),
        ("contract/c-1 must be signed", "a.yaml:8 (document 2 there)"),
    ],
    ids=["key", "unknown key", "nested", "key that lacks", "no YAML", "contract"],
)
def test_a_fault_names_file_line_and_document(documents, tmp_path, fault, place):
    assert told(documents, fault) == [f"{tmp_path}/{place}: {fault}"]


@pytest.mark.parametrize("fault", ["contract/c-9 must be signed", "party a is defined twice", "document 9: kind"])
def test_a_fault_that_names_no_document_of_these_stays_as_it_is(documents, fault):
    assert told(documents, fault) == [fault]


def test_the_command_prints_each_fault_in_full_on_a_line_of_its_own(weir, domain, tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("kind: contract\ncontract: c-1\n")
    faults = ["document 1: title " + "x" * 300, "contract/c-1 must be signed\x1b[31m by its provider"]
    refusal = InvalidRequest("; ".join(faults), findings=faults, field="documents", rule="policy.check")
    domain.refuse["ApplyPolicy"] = [refusal, refusal]
    code, out, err = weir("plan", path)
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "weir: the documents are refused for 2 faults (rule policy.check, field documents)",
        f"  {path}:1 (document 1 there): {faults[0]}",
        f"  {path}:2 (document 1 there): contract/c-1 must be signed [31m by its provider",
    ]
    assert len(json.loads(weir("apply", path, "--json")[2])["error"]["findings"]) == 2


def test_what_the_files_remove_is_counted_and_asked_for_even_where_nobody_reads(weir, domain, tmp_path, monkeypatch):
    path = tmp_path / "p.yaml"
    path.write_text("kind: contract\ncontract: c-1\n")
    gone = ["contract/c-2", "contract/c-3", "party/requester/bob", "quota/contract-c-2-epsilon"]
    changes = [policy_service_pb2.PolicyChange(subject=subject, kind="removed") for subject in gone]
    reply = policy_service_pb2.ApplyPolicyResponse(changes=changes, plan_hash="ab" * 32)
    monkeypatch.setattr(domain, "ApplyPolicy", lambda request: reply)
    assert "removes 2 contracts, 1 party, 1 quota" in weir("plan", path)[1]
    asked = []
    monkeypatch.setattr(click, "confirm", lambda *_, **options: asked.append(options) or True)
    assert weir("apply", path, "--json")[0] == 0
    assert len(asked) == 1
    monkeypatch.setattr(click, "confirm", lambda *_, **options: (_ for _ in ()).throw(click.Abort()))
    code, _, err = weir("apply", path, "--json")
    assert (code, json.loads(err.splitlines()[-1])["error"]["reason"]) == (130, "STOPPED")
    assert weir("apply", path, "--json", "--yes")[0] == weir("apply", path, "--plan-hash", "ab" * 32)[0] == 0
    assert len(asked) == 1
