# SPDX-License-Identifier: Apache-2.0
"""Evidence of a case: one file that settles it, checked with the log's key alone. Pure.

The file is canonical JSON (RFC 8785) of this form, version 1:

    weir_evidence    1
    checkpoint       signed note of the log; every entry below is proved to be under it
    case             id, kind, contract, dataset, against, entries, statement, steps; `statement` is null where erased
    leaves           per log entry: index, leaf (its text), path (hex); `salt` (hex, or null where it was erased) for
                     entries that the file opens: the filing, for the statement, and those of decisions, for facts
    contracts        texts of the contract concerned that entries name by digest: canonical
    decisions        what decisions on the named entries were made from (an answer's stands with its reservation):
                     index, contract_digest, facts (text, or null where the salt was erased: nothing proves them then)
    policy_digests   every policy that an entry was decided under, ordered
    omitted          entries of the contract that were left out for their number: the oldest queries, acts last
    digest           SHA-256 of the same JSON without this member: a copy that was damaged shows

All but the checkpoint's unknown signature lines is compared with what the log proves; the digest alone proves nothing,
since whoever changes the file can make a new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from weir.agreements import SIGNED, SignedTerms, verify_signed_event
from weir.canonical import SALT_BYTES, NotCanonical, canonical_json, digest, opens, parse_canonical
from weir.checkpoint import Checkpoint, verify
from weir.errors import InvalidReceipt, VerificationError
from weir.merkle import leaf_hash, verify_inclusion
from weir.receipts import MAX_LEAF_BYTES, RELEASED, parse_event

VERSION = 1
_MEMBERS = frozenset(
    ("weir_evidence", "checkpoint", "case", "leaves", "contracts", "decisions", "policy_digests", "omitted", "digest")
)
_CASE = frozenset(("id", "kind", "contract", "dataset", "against", "entries", "statement", "steps"))
_STEP = frozenset(("state", "actor", "role", "at", "note", "frozen", "leaf_index"))


@dataclass(frozen=True, slots=True)
class Proved:
    """An entry that was proved to be in the log."""

    index: int
    event: dict[str, Any]
    salted: bool
    """Whether the file opens it, or would, had its salt not been erased."""
    salt: bytes | None
    """None where there is none, or no more."""

    @property
    def erased(self) -> bool:
        """Whether the file would open it, and cannot: its salt is gone."""
        return self.salted and self.salt is None

    @property
    def data(self) -> dict[str, Any]:
        """Body of the event."""
        data: dict[str, Any] = self.event["data"]
        return data


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a file of evidence proves."""

    case: Mapping[str, Any]
    """The case, each word of which the log confirms."""
    checkpoint: Checkpoint
    """Signed head under which every entry is."""
    entries: tuple[Proved, ...]
    """Entries by index."""
    opened: int
    """Commitments that open: statement and facts of decisions."""
    erased: tuple[int, ...]
    """Entries whose salt was erased: what they committed to can no longer be proved."""
    contracts: tuple[str, ...]
    """Digests of the contract's texts, each named by an entry."""
    signatures: tuple[SignedTerms, ...]
    """Signatures on these texts, each from its entry, verified."""
    decisions: tuple[int, ...]
    """Entries of decisions whose inputs open."""
    omitted: int
    """Entries of the contract that were left out for their number."""


def sealed_file(content: Mapping[str, Any]) -> bytes:
    """Bytes of a file with these members, its digest added."""
    body = {"weir_evidence": VERSION, **content}
    return canonical_json({**body, "digest": digest(canonical_json(body))})


def verify_evidence(data: bytes, *, vkey: str) -> Evidence:
    """Checks a file of evidence and gives what it proves.

    `vkey`: the log's verifier keys, got by another way than with the file.

    Raises:
        InvalidReceipt: `rule` says which check failed, the text at which entry.
    """
    # 1. The form: canonical, whole, of a version known here.
    content = _content(data)
    # 2. The log's signature, then the way from each entry to its root.
    try:
        checkpoint = verify(str(content["checkpoint"]), vkey)
    except VerificationError as error:
        raise InvalidReceipt(error.message, rule=error.rule) from error
    try:
        entries = {item["index"]: _proved(item, checkpoint) for item in content["leaves"]}
        if list(entries) != sorted(entries) or len(entries) != len(content["leaves"]):
            raise _wrong("entries are out of order", "evidence.order")
        # 3. The case says what its steps' entries say.
        statement_opens = _check_case(content["case"], entries)
        # 4. Texts of contracts are those that entries name, and signatures on them verify.
        terms = _terms(content["contracts"], entries, content["case"]["contract"])
        signatures = tuple(_signatures(entries, terms))
        # 5. Inputs of decisions open the commitments of their entries.
        decisions = tuple(_decisions(content["decisions"], entries))
        _check_decided(content, entries)
        _check_salts(content, entries)
        # 6. The policies named are those the entries name.
        if content["policy_digests"] != policy_digests([entry.event for entry in entries.values()]):
            raise _wrong("the policies named are not those of the entries", "evidence.policy")
        if type(content["omitted"]) is not int or content["omitted"] < 0:
            raise _wrong("the number of entries left out is none", "evidence.form")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _wrong("a member is missing or of the wrong kind", "evidence.form") from error
    return Evidence(
        case=content["case"],
        checkpoint=checkpoint,
        entries=tuple(entries.values()),
        opened=int(statement_opens) + len(decisions),
        erased=tuple(entry.index for entry in entries.values() if entry.erased),
        contracts=tuple(terms),
        signatures=signatures,
        decisions=decisions,
        omitted=content["omitted"],
    )


def is_evidence(data: bytes) -> bool:
    """Whether the bytes look like a file of evidence; says nothing of whether it holds."""
    return b'"weir_evidence":' in data


def policy_digests(events: list[dict[str, Any]]) -> list[str]:
    """Digests of policies that these events name, ordered."""
    found = set()
    for event in events:
        data = event["data"]
        for body in (data, data.get("record")):
            if isinstance(body, dict) and isinstance(body.get("policy_digest"), str):
                found.add(body["policy_digest"])
    return sorted(found)


def contract_digest_of(event: Mapping[str, Any]) -> str | None:
    """Digest of the contract's text that an event names."""
    data = event["data"]
    for body in (data, data.get("record")):
        if isinstance(body, dict) and isinstance(body.get("contract_digest"), str):
            named: str = body["contract_digest"]
            return named
    return None


def _content(data: bytes) -> dict[str, Any]:
    try:
        content = parse_canonical(data)
    except NotCanonical as error:
        raise _wrong("the file is not canonical JSON", "evidence.form") from error
    if not isinstance(content, dict) or content.keys() != _MEMBERS or content["weir_evidence"] != VERSION:
        raise _wrong("the file is no evidence of a version known here", "evidence.form")
    body = {key: value for key, value in content.items() if key != "digest"}
    if content["digest"] != digest(canonical_json(body)):
        raise _wrong("the file is damaged: its digest differs", "evidence.digest")
    return content


def _proved(item: Mapping[str, Any], checkpoint: Checkpoint) -> Proved:
    index, leaf = item["index"], item["leaf"].encode()
    if type(index) is not int or len(leaf) > MAX_LEAF_BYTES or not item.keys() <= {"index", "leaf", "path", "salt"}:
        raise _wrong("an entry is malformed", "evidence.form")
    try:
        path = [_hex(node) for node in item["path"]]
        verify_inclusion(index=index, size=checkpoint.size, leaf=leaf_hash(leaf), path=path, root=checkpoint.root)
        event = parse_event(leaf)
    except VerificationError as error:
        raise _wrong(f"entry {index}: {error.message}", error.rule or "evidence.entry") from error
    if event.get("id") != str(index) or event.get("source") != checkpoint.origin:
        raise _wrong(f"entry {index} names another index or log", "evidence.entry")
    salt = None if item.get("salt") is None else _hex(item["salt"])
    if salt is not None and len(salt) != SALT_BYTES:
        raise _wrong(f"entry {index}: the salt has the wrong length", "evidence.form")
    return Proved(index, event, "salt" in item, salt)


def _hex(text: str) -> bytes:
    data = bytes.fromhex(text)
    if data.hex() != text:
        raise _wrong("hexadecimal is written in small letters", "evidence.form")
    return data


def _check_case(case: Mapping[str, Any], entries: Mapping[int, Proved]) -> bool:
    """Compares the case with its entries; gives whether its statement opens, or was erased."""
    if case.keys() != _CASE or not case["steps"]:
        raise _wrong("the case is malformed", "evidence.form")
    own = [entry for entry in entries.values() if entry.event.get("subject") == f"case/{case['id']}"]
    if [entry.index for entry in own] != [step["leaf_index"] for step in case["steps"]]:
        raise _wrong("the steps are not all of the case's entries", "evidence.steps")
    for step, entry in zip(case["steps"], own, strict=True):
        _check_step(step, entry)
    if any(after.data["previous"] != before.index for before, after in pairwise(own)):
        raise _wrong("a step of the case is left out", "evidence.steps")
    filing = own[0]
    if filing.event["type"] != "weir.case.received":
        raise _wrong("the case does not begin with its filing", "evidence.steps")
    for key in ("kind", "contract", "dataset", "against", "entries"):
        if filing.data[key] != case[key]:
            raise _wrong(f"the filing says another {key}", "evidence.case")
    if missing := set(case["entries"]) - entries.keys():
        raise _wrong(f"entry {min(missing)} is named and not there", "evidence.entry")
    return _opens(filing, "statement", case["statement"])


def _check_step(step: Mapping[str, Any], entry: Proved) -> None:
    data = entry.data
    said = {
        "state": str(entry.event["type"]).removeprefix("weir.case."),
        "actor": data["actor"],
        "role": data["role"],
        "at": entry.event["time"],
        "note": data.get("reason", ""),
        "frozen": data["frozen"],
        "leaf_index": entry.index,
    }
    if step.keys() != _STEP or dict(step) != said:
        raise _wrong(f"the step of entry {entry.index} says something else", "evidence.steps")


def _opens(entry: Proved, label: str, value: str | None) -> bool:
    """Whether a value is what the entry committed to; False where its salt was erased and nothing is claimed."""
    if entry.salt is None or value is None:
        if entry.salt is None and value is None and entry.erased:
            return False
        raise _wrong(f"entry {entry.index}: {label} and salt belong together", "evidence.salt")
    made = entry.data.get("commitments")
    commitment = made.get(label) if isinstance(made, dict) else None
    if not isinstance(commitment, str) or not opens(commitment, salt=entry.salt, label=label, data=value.encode()):
        raise _wrong(f"entry {entry.index} committed to another {label}", f"evidence.{label}")
    return True


def _check_salts(content: Mapping[str, Any], entries: Mapping[int, Proved]) -> None:
    """A salt that opens nothing here would be a claim that nothing checks."""
    opened = {content["case"]["steps"][0]["leaf_index"], *(item["index"] for item in content["decisions"])}
    if {entry.index for entry in entries.values() if entry.salted} != opened:
        raise _wrong("salts are those of the filing and of decisions", "evidence.salt")


def _terms(contracts: list[Any], entries: Mapping[int, Proved], contract: str) -> dict[str, bytes]:
    """Texts by digest, each a text of the contract concerned that an entry names."""
    named = {contract_digest_of(entry.event) for entry in entries.values()}
    found: dict[str, bytes] = {}
    for item in contracts:
        canonical = item["canonical"].encode()
        terms = parse_canonical(canonical)
        if item.keys() != {"canonical"} or not isinstance(terms, dict) or terms.get("contract") != contract:
            raise _wrong("a text is of another contract", "evidence.contract")
        if digest(canonical) not in named:
            raise _wrong("no entry names a text of the contract", "evidence.contract")
        found[digest(canonical)] = canonical
    if list(found) != sorted(found) or len(found) != len(contracts):
        raise _wrong("texts of the contract are out of order", "evidence.order")
    return found


def _signatures(entries: Mapping[int, Proved], terms: Mapping[str, bytes]) -> Iterator[SignedTerms]:
    for entry in entries.values():
        if entry.event["type"] == SIGNED and entry.data["contract_digest"] in terms:
            canonical = terms[entry.data["contract_digest"]]
            signed = verify_signed_event(entry.event, canonical)
            text = parse_canonical(canonical)
            if not isinstance(text, dict) or text.get(signed.role) != signed.party:
                raise _wrong(f"entry {entry.index}: who signed is no party", "evidence.signature")
            yield signed


def _decisions(decisions: list[Any], entries: Mapping[int, Proved]) -> Iterator[int]:
    """Entries of decisions whose inputs open."""
    indexes = [item["index"] for item in decisions]
    if indexes != sorted(set(indexes)):
        raise _wrong("decisions are out of order", "evidence.order")
    for item in decisions:
        entry = entries[item["index"]]
        if item.keys() != {"index", "contract_digest", "facts"}:
            raise _wrong("a decision is malformed", "evidence.form")
        if contract_digest_of(entry.event) != item["contract_digest"]:
            raise _wrong(f"entry {entry.index} was decided under another contract", "evidence.decision")
        if _opens(entry, "facts", item["facts"]):
            yield entry.index


def _check_decided(content: Mapping[str, Any], entries: Mapping[int, Proved]) -> None:
    """What decided on a named entry is there: its own facts, or for an answer those of its reservation."""
    given = {item["index"] for item in content["decisions"]}
    for named in content["case"]["entries"]:
        data, kind = entries[named].data, entries[named].event["type"]
        index = int(data["reservation"]) if kind == RELEASED else named
        decided = entries.get(index)
        if decided is None or ("facts" in (decided.data.get("commitments") or {}) and index not in given):
            raise _wrong(f"what entry {named} was decided on is left out", "evidence.decision")


def _wrong(sentence: str, rule: str) -> InvalidReceipt:
    return InvalidReceipt(sentence, rule=rule)
