# SPDX-License-Identifier: Apache-2.0
"""Contracts from the party's side: what is shown is what is signed, and the private key goes nowhere."""

import json
from dataclasses import replace

import click
import pytest

import weir_client
from tests.support.client import PLAN_HASH, TERMS
from weir import errors
from weir.agreements import is_signed, parse_signing_key
from weir.v1 import policy_service_pb2
from weir_client.cli.contracts import printable

KEY = weir_client.SigningKey(bytes(range(32)))


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "alice.sign"
    KEY.save(path)
    return path


def sent(domain, name):
    return next(request for called, request in reversed(domain.requests) if called == name)


def test_the_client_signs_the_terms_that_it_was_shown(client, domain):
    signed = client.sign_contract("c-1", KEY)
    request = sent(domain, "SignContract")
    assert is_signed(TERMS, public_key=KEY.public, signature=request.signature)
    assert (request.digest, request.public_key) == (domain.contract.digest, KEY.public)
    assert [signature.role for signature in signed.signatures] == ["requester"]
    assert KEY.seed not in request.SerializeToString()


def test_a_contract_says_where_it_stands(client):
    contract = client.contract("c-1")
    assert (contract.state, contract.signed, contract.k, contract.canonical) == ("offered", True, 10, TERMS)
    assert (contract.duties[0].id, contract.duties[0].attested) == ("delete", None)
    with pytest.raises(errors.UnknownName):
        client.contract("c-9")


def test_the_client_signs_no_terms_but_those_of_the_digest_it_read(client, domain):
    with pytest.raises(errors.InvalidRequest) as caught:
        client.sign_contract("c-1", KEY, digest="0" * 64)
    assert caught.value.rule == "contract.terms"
    assert not domain.contract.signatures


@pytest.mark.parametrize(
    "canonical",
    [TERMS.replace(b'"k":10', b'"k":11'), TERMS.replace(b"c-1", b"c-2"), b"[]", b"", TERMS + b" "],
    ids=["another term", "another contract", "no mapping", "nothing", "not canonical"],
)
def test_a_text_that_is_not_what_its_digest_names_is_not_signed(client, domain, canonical):
    shown = replace(client.contract("c-1"), canonical=canonical)
    with pytest.raises(errors.InvalidReceipt):
        client.sign_contract(shown, KEY)
    assert "SignContract" not in [name for name, _ in domain.requests]


def test_parties_attest_and_operators_move(client, domain):
    assert client.attest_duty("c-1", "delete", statement="gone").duties[0].attested is not None
    assert sent(domain, "AttestDuty").statement == "gone"
    assert client.set_contract_state("c-1", "suspended", reason="audit").state == "suspended"
    assert sent(domain, "SetContractState").reason == "audit"
    with pytest.raises(errors.InvalidRequest):
        client.set_contract_state("c-1", "offered", reason="again")


def test_applying_carries_the_plan_hash_that_was_looked_at(client, domain):
    difference = client.apply_policy(["kind: contract"], dry_run=True)
    assert difference.plan_hash == PLAN_HASH
    client.apply_policy(["kind: contract"], plan_hash=difference.plan_hash)
    assert sent(domain, "ApplyPolicy").plan_hash == PLAN_HASH
    with pytest.raises(errors.InvalidRequest):
        client.apply_policy(["kind: contract"], plan_hash="0" * 64)


# ── keys ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("passphrase", [None, "secret"])
def test_a_signing_key_comes_back_from_its_file(tmp_path, passphrase):
    path = tmp_path / "k.sign"
    KEY.save(path, passphrase)
    assert path.stat().st_mode & 0o777 == 0o600
    again = weir_client.SigningKey.load(path, passphrase)
    assert (again.seed, again.public, again.line) == (KEY.seed, KEY.public, KEY.line)
    assert (KEY.seed.hex() in path.read_text()) is False
    with pytest.raises(FileExistsError):
        KEY.save(path, passphrase)


def test_a_key_shows_its_public_half_only(tmp_path):
    assert KEY.seed.hex() not in repr(KEY)
    assert repr(KEY.seed) not in repr(KEY)
    assert parse_signing_key(KEY.line) == KEY.public
    assert weir_client.SigningKey.generate().seed != weir_client.SigningKey.generate().seed


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"format": "weir-signing-key/v1"}', '{"format": "weir-signing-key/v1", "key": "{}"}',
     '{"format": "weir-signing-key/v1", "key": "[]"}', '{"format": "weir-paillier-key/v1", "key": "{}"}',
     '{"format": "weir-signing-key/v1", "key": "{\\"seed\\": \\"AAAA\\"}"}'],
)  # fmt: skip
def test_a_damaged_signing_key_is_refused(tmp_path, text):
    path = tmp_path / "k.sign"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(errors.InvalidKey):
        weir_client.SigningKey.load(path)


def test_an_open_or_sealed_key_file_is_refused(tmp_path):
    path = tmp_path / "k.sign"
    KEY.save(path, "secret")
    for passphrase in (None, "wrong"):
        with pytest.raises(errors.InvalidKey):
            weir_client.SigningKey.load(path, passphrase)
    path.chmod(0o640)
    with pytest.raises(errors.InvalidKey):
        weir_client.SigningKey.load(path, "secret")


# ── commands ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_contracts_are_listed_with_their_states(weir):
    assert weir("contracts") == weir("contracts", "list")
    assert "offered" in weir("contracts")[1]
    assert json.loads(weir("contracts", "show", "c-1", "--json")[1])["state"] == "offered"


def test_a_key_is_made_privately_and_its_line_printed(weir, tmp_path):
    path = tmp_path / "new.sign"
    code, out, _ = weir("contracts", "key", "-o", path)
    assert (code, path.stat().st_mode & 0o777) == (0, 0o600)
    assert out.strip() == weir_client.SigningKey.load(path).line
    assert weir("contracts", "key", "-o", path)[0] == 2


def test_signing_shows_every_term_and_asks(weir, domain, key_file, monkeypatch):
    monkeypatch.setattr(click, "confirm", lambda *_, **options: (_ for _ in ()).throw(click.Abort()))
    code, out, _ = weir("contracts", "sign", "c-1", "--key", key_file)
    assert code == 130
    assert json.loads(out.rpartition("digest ")[0]) == json.loads(TERMS)
    assert domain.contract.digest in out
    assert not domain.contract.signatures


def test_a_contract_is_signed_activated_and_shown(weir, domain, key_file):
    assert "signed c-1" in weir("contracts", "sign", "c-1", "--key", key_file, "--yes")[1]
    shown = weir("contracts", "show", "c-1")[1]
    assert "signed by requester alice" in shown
    assert ": verified" in shown
    domain.contract.signatures[0].party = "mallory"
    assert "DOES NOT VERIFY" in weir("contracts", "show", "c-1")[1]
    for command, state in (("suspend", "suspended"), ("resume", "active"), ("terminate", "terminated")):
        assert f"c-1: {state}" in weir("contracts", command, "c-1", "--reason", "test")[1]
    assert sent(domain, "SetContractState").state == policy_service_pb2.CONTRACT_STATE_TERMINATED


def test_json_of_signing_is_json_alone(weir, key_file):
    out = weir("contracts", "sign", "c-1", "--key", key_file, "--yes", "--json")[1]
    assert json.loads(out)[0]["id"] == "c-1"


def test_a_digest_goes_with_one_contract_and_must_be_its_own(weir, domain, key_file):
    assert weir("contracts", "sign", "c-1", "c-2", "--key", key_file, "--digest", "0" * 64)[0] == 2
    assert weir("contracts", "sign", "c-1", "--key", key_file, "--digest", "0" * 64, "--yes")[0] == 2
    assert weir("contracts", "sign", "c-1", "--key", key_file, "--digest", domain.contract.digest, "--yes")[0] == 0


def test_nothing_in_the_terms_can_hide_from_who_reads_them():
    assert printable("a\x1b[2Jb\u202ec\nd") == "a\\u001b[2Jb\\u202ec\nd"


def test_a_duty_is_attested_from_the_shell(weir):
    assert "attested 2026-03-01" in weir("contracts", "attest", "c-1", "delete", "--statement", "gone")[1]


def test_a_contract_is_exported_as_an_agreement_or_as_the_bytes_that_are_signed(weir, tmp_path):
    document = json.loads(weir("contracts", "export", "c-1")[1])
    assert (document["@type"], document["assignee"]["uid"]) == ("Agreement", "weir://test.example/requester/alice")
    path = tmp_path / "c-1.json"
    assert weir("contracts", "export", "c-1", "--format", "terms", "-o", path)[0] == 0
    assert path.read_bytes() == TERMS
    assert weir("contracts", "export", "c-1", "-o", path)[0] == 2


def test_no_title_makes_a_line_or_steers_the_terminal(weir, domain):
    domain.contract.title = "Visits\nk 50\x1b[2J"
    domain.contract.duties[0].sentence = "delete\nno signatures asked for"
    lines = weir("contracts", "show", "c-1")[1].splitlines()
    assert lines[0] == "c-1: Visits k 50\\u001b[2J"
    assert "no signatures asked for" not in lines
