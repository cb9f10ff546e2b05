# SPDX-License-Identifier: Apache-2.0
import json

import pytest

import weir_client
from tests.support.client import SIGNER, FakeLog
from weir.checkpoint import new_signer, parse, verify
from weir.errors import InvalidReceipt, LogInconsistent, UnknownName, VerificationError
from weir_client._audit import charged
from weir_client._receipts import KeptCheckpoints

SQL = "SELECT COUNT(*) FROM census"
KEY = SIGNER.verifier.vkey


def ask(client, times=1):
    return [client.query(SQL, contract="c-1").result(10) for _ in range(times)]


def fork(domain, size):
    """Another history from `size` on, signed by the same key."""
    log = FakeLog(domain.log.leaves[:size], domain.log.salts[:size])
    domain.log = log
    domain.answers.clear()
    return log


def test_an_answer_verifies_against_the_log(client):
    answers = ask(client, 4)
    verified = [answer.verify() for answer in answers]
    assert [item.index for item in verified] == [1, 3, 5, 7]
    assert verified[0].event["type"] == "weir.query.released"
    assert client.verify(answers[0].receipt).index == 1


def test_the_newest_checkpoint_is_kept_and_must_be_extended(client, state):
    ask(client)[0].verify()
    first = KeptCheckpoints(state).newest(KEY)
    ask(client, 3)[2].verify()
    second = KeptCheckpoints(state).newest(KEY)
    assert (parse(first)[0].size, parse(second)[0].size) == (2, 8)
    assert client.checkpoint() == second


def test_a_receipt_for_other_bytes_is_refused(client):
    answer = ask(client)[0]
    other = weir_client.Receipt(answer.receipt.message, {"answer": b"forged"})
    with pytest.raises(InvalidReceipt) as caught:
        client.verify(other)
    assert caught.value.rule == "receipt.answer"


def test_a_rollback_is_reported_with_both_signed_checkpoints(client, domain, state):
    ask(client, 3)[2].verify()
    fork(domain, 2)
    with pytest.raises(LogInconsistent) as caught:
        client.checkpoint()
    assert parse(caught.value.older)[0].size == 6
    assert parse(caught.value.newer)[0].size == 2
    verify(caught.value.older, KEY)
    verify(caught.value.newer, KEY)
    evidence = json.loads(next(state.glob("*.conflict-*.json")).read_text())
    assert evidence == {"older": caught.value.older, "newer": caught.value.newer}
    assert parse(KeptCheckpoints(state).newest(KEY))[0].size == 6


def test_a_fork_of_the_same_length_is_reported(client, domain):
    ask(client, 2)[1].verify()
    fork(domain, 2)
    domain.metered = 0
    domain._charge(b"another")
    with pytest.raises(LogInconsistent):
        client.checkpoint()


def test_a_longer_fork_is_reported(client, domain):
    ask(client, 2)[1].verify()
    fork(domain, 2)
    for number in range(5):
        domain._charge(bytes([number]))
    with pytest.raises(LogInconsistent):
        ask(client)[0].verify()


def test_an_answer_from_a_forked_tree_is_reported_even_if_the_head_looks_right(client, domain):
    answer = ask(client, 2)[1]
    client.checkpoint()
    honest = domain.log
    forked = fork(domain, 2)
    domain._charge(b"another")
    domain._charge(b"more")
    receipt = weir_client.Receipt(forked.receipt(3))
    domain.log = honest
    assert answer.verify().index == 3
    with pytest.raises(LogInconsistent):
        client.verify(receipt)


def test_a_checkpoint_of_another_key_is_refused(client, domain, monkeypatch):
    other = new_signer(SIGNER.name, seed=bytes(32))
    monkeypatch.setattr("tests.support.client.SIGNER", other)
    with pytest.raises(VerificationError) as caught:
        client.checkpoint()
    assert caught.value.rule == "note.unsigned"


def test_a_cosigned_checkpoint_is_of_the_log_that_this_client_sees(client, domain):
    with pytest.raises(UnknownName):
        client.cosigned_checkpoint(1)
    ask(client, 2)
    domain.cosigned = domain.log.note()
    ask(client, 2)
    assert parse(client.cosigned_checkpoint(3))[0].size == 4
    with pytest.raises(InvalidReceipt, match="shorter"):
        client.cosigned_checkpoint(5)
    fork(domain, 2)
    for number in range(9):
        domain._charge(bytes([number]))
    with pytest.raises(LogInconsistent):
        client.cosigned_checkpoint(3)


def test_a_damaged_kept_checkpoint_is_not_forgotten_silently(client, state):
    ask(client)[0].verify()
    next(state.glob("*.note")).write_text("garbage")
    with pytest.raises(VerificationError):
        client.checkpoint()


def test_receipts_are_files_that_verify_offline(client, tmp_path):
    receipt = ask(client)[0].receipt
    path = tmp_path / "deep" / "r.json"
    receipt.save(path)
    assert path.stat().st_mode & 0o077 == 0
    again = weir_client.receipt_from_json(path.read_text())
    assert again == receipt
    assert again.check(KEY).index == 1
    with pytest.raises(InvalidReceipt):
        again.check(new_signer(SIGNER.name, seed=bytes(32)).verifier.vkey)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weir_receipt": 2}', '{"weir_receipt": 1, "receipt": 3}', "null"])
def test_other_files_are_no_receipts(text):
    with pytest.raises(InvalidReceipt) as caught:
        weir_client.receipt_from_json(text)
    assert caught.value.rule == "receipt.file"


def test_the_whole_log_is_verified(client):
    ask(client, 3)
    seen = []
    report = client.audit(lambda done, total: seen.append((done, total)))
    assert report.entries == 6
    assert report.extends is None
    assert report.by_type == {"weir.query.reserved": 3, "weir.query.released": 3}
    assert report.totals[("c-1", "alice", "census", "price_micro")] == 3 * 1_120_000
    assert seen == [(6, 6)]
    assert client.audit().extends == 6


def test_entries_proofs_and_meter_are_read(client, domain):
    ask(client, 2)
    assert [entry.index for entry in client.entries()] == [0, 1, 2, 3]
    assert [entry.index for entry in client.entries(type="weir.query.released")] == [1, 3]
    assert [entry.index for entry in client.entries(1, 3)] == [1, 2]
    proof = client.inclusion_proof(1)
    assert (proof.index, proof.tree_size) == (1, 4)
    assert client.inclusion_proof(0, 1).path == ()
    assert client.meter("c-1").totals[1].used == 2


def test_an_empty_log_is_verified(client):
    assert client.audit().entries == 0


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lambda d: setattr(d, "metered", d.metered + 1), "meter.total"),
        (lambda d: setattr(d, "metered", 0), "meter.total"),
    ],
    ids=["too-much", "nothing"],
)
def test_a_meter_that_disagrees_with_the_log_is_reported(client, domain, spoil, rule):
    ask(client, 2)
    spoil(domain)
    with pytest.raises(InvalidReceipt) as caught:
        client.audit()
    assert caught.value.rule == rule


def drop(entries, index):
    return [item for item in entries if item.entries[0].index != index]


def edit(entries, index, old, new):
    for item in entries:
        if item.entries[0].index == index:
            item.entries[0].leaf = item.entries[0].leaf.replace(old, new)
    return entries


@pytest.mark.parametrize(
    ("spoil", "rule", "index"),
    [
        (lambda entries: drop(entries, 2), "log.gap", "2"),
        (lambda entries: drop(entries, 5), "log.short", "5"),
        (lambda entries: edit(entries, 3, b"1120000", b"0000001"), "log.root", None),
        (lambda entries: edit(entries, 3, b'"id":"3"', b'"id":"4"'), "log.event", "3"),
        (lambda entries: edit(entries, 4, b"test.example", b"fake.example"), "log.event", "4"),
        (lambda entries: edit(entries, 1, b"{", b"{ "), "receipt.leaf", None),
    ],
    ids=["gap", "short", "amount", "index", "origin", "form"],
)
def test_a_log_that_does_not_hash_to_its_head_is_reported(client, domain, monkeypatch, spoil, rule, index):
    ask(client, 3)
    original = domain.ListEntries
    monkeypatch.setattr(domain, "ListEntries", lambda request: iter(spoil(list(original(request)))), raising=False)
    with pytest.raises(InvalidReceipt) as caught:
        client.audit()
    assert caught.value.rule == rule
    assert caught.value.metadata.get("index") == index


def test_privacy_counts_where_it_is_reserved_and_money_where_it_is_answered():
    subject = {"contract": "c", "requester": "a", "dataset": "d"}
    charge = {"epsilon_nano": "5", "rho_micro": "1", "price_micro": "7", "queries": "1", "cells": "0"}
    data = {"subject": subject, "charge": charge}
    who = ("c", "a", "d")
    assert charged({"type": "weir.query.reserved", "data": data}) == {
        (*who, "epsilon_nano"): 5,
        (*who, "rho_micro"): 1,
    }
    assert charged({"type": "weir.query.released", "data": data}) == {(*who, "price_micro"): 7, (*who, "queries"): 1}
    assert charged({"type": "weir.query.refused", "data": data}) == {}
    assert charged({"type": "weir.query.released", "data": {}}) == {}
