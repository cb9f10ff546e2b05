# SPDX-License-Identifier: Apache-2.0
"""Evidence: what holds verifies with the log's key alone, and whatever is changed, left out or made up is found."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.agreements import PARTIES, agree, signed_document
from tests.support.approvals import approved
from tests.support.cases import advance_case, evidence_of, file_case
from tests.support.domain import Domain, by_site, contract_document, equals, running_domain, submit
from tests.support.ledger import PQ_SIGNER, VKEY
from weir import evidence as core
from weir.canonical import canonical_json, digest
from weir.errors import InvalidReceipt, UnknownName
from weir.evidence import Evidence, is_evidence, sealed_file, verify_evidence
from weir_server import log
from weir_server.cases import evidence


@dataclass(frozen=True, slots=True)
class Settled:
    """A case about a signed contract, an answer and a refusal under it, with its evidence."""

    domain: Domain
    case: str
    answer: int
    refusal: int

    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(evidence_of(self.domain, self.case))
        return content

    def verified(self) -> Evidence:
        return verify_evidence(evidence_of(self.domain, self.case), vkey=VKEY)


@pytest.fixture
async def settled(tmp_path: Path) -> AsyncIterator[Settled]:
    async with running_domain(tmp_path) as domain:
        await domain.apply(signed_document(), *PARTIES)
        await agree(domain)
        answer = (await domain.pipeline.run(submit(contract="s-1"))).receipt.leaf_index
        refusal: Any = (await domain.refused(submit(contract="s-1", purpose="sale"))).receipt
        entries = [answer, refusal.leaf_index]
        case = await file_case(domain, contract="s-1", entries=entries, statement="Billed twice, 计费重复.")
        await advance_case(domain, case.id, "accepted", freeze=True, note="both entries looked at")
        yield Settled(domain, case.id, answer, refusal.leaf_index)


def remade(content: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> bytes:
    """The file changed by somebody who makes its digest anew."""
    change(content)
    return sealed_file({key: value for key, value in content.items() if key not in ("digest", "weir_evidence")})


def entry(content: dict[str, Any], index: int) -> dict[str, Any]:
    return next(item for item in content["leaves"] if item["index"] == index)


async def test_the_evidence_of_a_case_verifies_with_the_logs_key_alone(settled: Settled) -> None:
    found = settled.verified()
    assert (found.case["id"], found.case["statement"]) == (settled.case, "Billed twice, 计费重复.")
    assert [step["state"] for step in found.case["steps"]] == ["received", "accepted"]
    assert {signed.role for signed in found.signatures} == {"requester", "provider"}
    assert len(found.contracts) == 1
    assert settled.refusal in found.decisions
    assert len(found.decisions) == 2, "the answer's decision stands with its reservation"
    assert (found.opened, found.erased, found.omitted) == (3, (), 0)
    kinds = [str(entry.event["type"]) for entry in found.entries]
    for kind in ("weir.policy.added", "weir.contract.signed", "weir.query.released", "weir.case.accepted"):
        assert kind in kinds


async def test_salts_of_entries_that_the_case_does_not_name_stay_where_they_are(settled: Settled) -> None:
    opened = {item["index"] for item in settled.content()["leaves"] if "salt" in item}
    filing = settled.content()["case"]["steps"][0]["leaf_index"]
    reservation = int(json.loads(entry(settled.content(), settled.answer)["leaf"])["data"]["reservation"])
    assert opened == {reservation, settled.refusal, filing}


async def test_nothing_of_other_contracts_is_in_the_file(settled: Settled) -> None:
    await settled.domain.apply(signed_document(), signed_document("s-10"), *PARTIES)
    subjects = {json.loads(item["leaf"])["subject"] for item in settled.content()["leaves"]}
    assert subjects == {"contract/s-1", f"case/{settled.case}"}


async def test_any_byte_that_flips_is_found(settled: Settled) -> None:
    data = evidence_of(settled.domain, settled.case)
    for place in range(0, len(data), 31):
        for bit in (0, 3, 5):
            changed = data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]
            with pytest.raises(InvalidReceipt):
                verify_evidence(changed, vkey=VKEY)


async def test_a_file_cut_short_or_with_something_behind_it_is_found(settled: Settled) -> None:
    data = evidence_of(settled.domain, settled.case)
    for changed in (data[:-1], data[: len(data) // 2], b"", data + b"\n", b" " + data):
        with pytest.raises(InvalidReceipt):
            verify_evidence(changed, vkey=VKEY)


def _swap_facts(content: dict[str, Any]) -> None:
    one, other = content["decisions"]
    one["facts"], other["facts"] = other["facts"], one["facts"]


def _drop_decision(content: dict[str, Any], *, leaf: bool = False) -> None:
    """Leave out the first decision, an answer's, and with it the reservation that it stands with."""
    index = content["decisions"].pop(0)["index"]
    entry(content, index).pop("salt")
    if leaf:
        content["leaves"].remove(entry(content, index))


def _drop_last_decision(content: dict[str, Any]) -> None:
    entry(content, content["decisions"].pop()["index"]).pop("salt")


def _sort(content: dict[str, Any], key: str) -> None:
    content[key] = content[key][::-1]


FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another kind": lambda c: c["case"].update(kind="incident"),
    "another contract": lambda c: c["case"].update(contract="s-2"),
    "another dataset": lambda c: c["case"].update(dataset="spending"),
    "against somebody": lambda c: c["case"].update(against="bob"),
    "another statement": lambda c: c["case"].update(statement="All is well."),
    "no statement": lambda c: c["case"].update(statement=None),
    "another id": lambda c: c["case"].update(id="case-0000000000000000"),
    "fewer entries": lambda c: c["case"]["entries"].pop(),
    "another entry": lambda c: c["case"]["entries"].append(0),
    "a step less": lambda c: c["case"]["steps"].pop(),
    "no steps": lambda c: c["case"]["steps"].clear(),
    "another note": lambda c: c["case"]["steps"][1].update(note="nothing found"),
    "another actor": lambda c: c["case"]["steps"][1].update(actor="oscar"),
    "another state": lambda c: c["case"]["steps"][1].update(state="closed"),
    "another time": lambda c: c["case"]["steps"][1].update(at="2026-01-01T00:00:00.000000Z"),
    "let go": lambda c: c["case"]["steps"][1].update(frozen=False),
    "a step without its leaf": lambda c: c["leaves"].pop(),
    "a named entry left out": lambda c: c["leaves"].remove(entry(c, c["case"]["entries"][0])),
    "a leaf changed": lambda c: c["leaves"][0].update(leaf=c["leaves"][0]["leaf"].replace("olga", "oleg")),
    "a leaf moved": lambda c: c["leaves"][0].update(index=c["leaves"][0]["index"] + 1),
    "a path cut": lambda c: c["leaves"][0]["path"].pop(),
    "a leaf twice": lambda c: c["leaves"].insert(0, c["leaves"][0]),
    "leaves turned round": lambda c: _sort(c, "leaves"),
    "a salt too many": lambda c: c["leaves"][-1].update(salt="0" * 64),
    "a salt too few": lambda c: entry(c, c["decisions"][0]["index"]).pop("salt"),
    "an odd salt": lambda c: entry(c, c["case"]["steps"][0]["leaf_index"]).update(salt="00"),
    "a filing's salt": lambda c: entry(c, c["case"]["steps"][0]["leaf_index"]).update(salt="0" * 64),
    "erasure claimed": lambda c: entry(c, c["case"]["steps"][0]["leaf_index"]).update(salt=None),
    "terms changed": lambda c: c["contracts"][0].update(canonical=c["contracts"][0]["canonical"].replace("0.5", "0.9")),
    "terms twice": lambda c: c["contracts"].append(c["contracts"][0]),
    "no terms": lambda c: c["contracts"][0].clear(),
    "facts changed": lambda c: c["decisions"][0].update(facts=c["decisions"][0]["facts"].replace("alice", "bob")),
    "facts swapped": _swap_facts,
    "an answer's decision left out": _drop_decision,
    "an answer's reservation left out": lambda c: _drop_decision(c, leaf=True),
    "a refusal's decision left out": _drop_last_decision,
    "facts left out": lambda c: c["decisions"][0].update(facts=None),
    "decided under another contract": lambda c: c["decisions"][0].update(contract_digest="0" * 64),
    "a decision of another entry": lambda c: c["decisions"][0].update(index=c["case"]["steps"][0]["leaf_index"]),
    "decisions turned round": lambda c: _sort(c, "decisions"),
    "a policy more": lambda c: c["policy_digests"].append("f" * 64),
    "a policy less": lambda c: c["policy_digests"].pop(),
    "entries left out, fewer than none": lambda c: c.update(omitted=-1),
    "entries left out, truly": lambda c: c.update(omitted=True),
    "a member more": lambda c: c.update(note="trust me"),
    "a member less": lambda c: c.pop("policy_digests"),
    "no checkpoint": lambda c: c.update(checkpoint=""),
    "a longer log": lambda c: c.update(checkpoint=c["checkpoint"].replace("\n", "\n1", 1)),
    "a list for a case": lambda c: c.update(case=[]),
    "a text for leaves": lambda c: c.update(leaves="x"),
    "a number for a leaf": lambda c: c["leaves"][0].update(leaf=1),
}


@pytest.mark.parametrize("what", FORGERIES)
async def test_a_forger_who_makes_the_digest_anew_is_found(settled: Settled, what: str) -> None:
    changed = remade(settled.content(), FORGERIES[what])
    with pytest.raises(InvalidReceipt):
        verify_evidence(changed, vkey=VKEY)


async def test_a_step_in_between_cannot_be_left_out(settled: Settled) -> None:
    await advance_case(settled.domain, settled.case, "closed", note="paid back")
    assert len(settled.verified().case["steps"]) == 3

    def skip(content: dict[str, Any]) -> None:
        accepted = content["case"]["steps"].pop(1)
        content["leaves"].remove(entry(content, accepted["leaf_index"]))

    with pytest.raises(InvalidReceipt, match="a step of the case is left out"):
        verify_evidence(remade(settled.content(), skip), vkey=VKEY)


async def test_terms_with_a_signature_of_somebody_else_do_not_pass_as_signed(
    settled: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        core, "verify_signed_event", lambda event, canonical: core.SignedTerms("", "requester", "bob", b"", b"")
    )
    with pytest.raises(InvalidReceipt, match="no party"):
        settled.verified()


async def test_another_logs_key_proves_nothing(settled: Settled) -> None:
    data = evidence_of(settled.domain, settled.case)
    for key in (PQ_SIGNER.verifier.vkey, f"{VKEY} {PQ_SIGNER.verifier.vkey}", ""):
        with pytest.raises(InvalidReceipt):
            verify_evidence(data, vkey=key)


async def test_a_version_not_known_here_is_refused(settled: Settled) -> None:
    content = {**settled.content(), "weir_evidence": 2}
    del content["digest"]
    data = canonical_json({**content, "digest": digest(canonical_json(content))})
    with pytest.raises(InvalidReceipt, match="version"):
        verify_evidence(data, vkey=VKEY)


async def test_what_was_erased_is_said_and_neither_claimed_nor_shown(settled: Settled) -> None:
    filing = settled.content()["case"]["steps"][0]["leaf_index"]
    await settled.domain.store.write(lambda tx: log.erase(tx, filing))
    await settled.domain.store.write(lambda tx: log.erase(tx, settled.refusal))
    data = evidence_of(settled.domain, settled.case)
    found = verify_evidence(data, vkey=VKEY)
    assert found.erased == (settled.refusal, filing)
    assert found.case["statement"] is None
    assert b"Billed" not in data
    assert settled.refusal not in found.decisions
    assert found.opened == 1
    assert settled.domain.store.read(lambda tx: tx.execute("SELECT statement FROM cases")) == [("",)]


async def test_an_erased_statement_cannot_be_put_back(settled: Settled) -> None:
    filing = settled.content()["case"]["steps"][0]["leaf_index"]
    await settled.domain.store.write(lambda tx: log.erase(tx, filing))
    changed = remade(settled.content(), lambda c: c["case"].update(statement="Billed twice, 计费重复."))
    with pytest.raises(InvalidReceipt, match="belong together"):
        verify_evidence(changed, vkey=VKEY)


async def test_a_case_without_contract_holds_what_it_names(settled: Settled) -> None:
    case = await file_case(settled.domain, contract=None, entries=[settled.answer])
    found = verify_evidence(evidence_of(settled.domain, case.id), vkey=VKEY)
    assert (found.contracts, found.signatures) == ((), ())
    assert {settled.answer, case.steps[0].leaf_index} <= {entry.index for entry in found.entries}


async def test_queries_before_the_first_named_entry_are_not_in_the_file(settled: Settled) -> None:
    domain = settled.domain
    await advance_case(domain, settled.case, "closed")
    later = (await domain.pipeline.run(submit(contract="s-1"))).receipt.leaf_index
    case = await file_case(domain, contract="s-1", entries=[later])
    found = verify_evidence(evidence_of(domain, case.id), vkey=VKEY)
    queries = [e.index for e in found.entries if str(e.event["type"]).startswith("weir.query.")]
    assert min(queries) >= later - 1


async def test_the_oldest_queries_are_left_out_where_there_are_too_many_and_no_act(
    settled: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking is cheap: whoever asks much must not push the signatures out of the file."""
    for _ in range(9):
        await settled.domain.refused(submit(contract="s-1", purpose="sale"))
    every = settled.verified()
    monkeypatch.setattr(evidence, "MAX_ENTRIES", 9)
    found = settled.verified()
    assert found.omitted == len(every.entries) - len(found.entries) > 0
    assert found.signatures == every.signatures
    queries = [entry.index for entry in every.entries if str(entry.event["type"]).startswith("weir.query.")]
    left = {entry.index for entry in every.entries} - {entry.index for entry in found.entries}
    assert left <= set(queries)
    assert max(queries) not in left


async def test_who_approved_a_named_query_is_in_the_file(tmp_path: Path) -> None:
    async with running_domain(tmp_path, documents=(contract_document(approval="per_query"),)) as domain:
        approval = await approved(domain, submit())
        await approved(domain, submit(by_site(where=equals("age", 18))))
        answer = (await domain.pipeline.run(submit())).receipt.leaf_index
        case = await file_case(domain, entries=[answer])
        found = verify_evidence(evidence_of(domain, case.id), vkey=VKEY)
        told = [entry.event for entry in found.entries if str(entry.event["subject"]).startswith("approval/")]
        assert [event["type"] for event in told] == ["weir.approval.requested", "weir.approval.approved"]
        assert {event["subject"] for event in told} == {f"approval/{approval}"}
        assert told[1]["data"]["actor"] == "olga"


async def test_there_is_no_evidence_of_a_case_that_is_not_there(settled: Settled) -> None:
    with pytest.raises(UnknownName):
        evidence_of(settled.domain, "case-0000000000000000")


async def test_evidence_is_told_from_a_receipt(settled: Settled) -> None:
    assert is_evidence(evidence_of(settled.domain, settled.case))
    assert not is_evidence(b'{"weir_receipt": 1}')
