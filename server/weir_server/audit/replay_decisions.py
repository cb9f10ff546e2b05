# SPDX-License-Identifier: Apache-2.0
"""Every logged decision, made again from what it was made from.

A leaf of a reservation, or of a refusal by policy, says verdict and codes of the reasons, and commits to the facts. The
facts, the salt that opens the commitment and every text of a contract that was ever in force are kept beside the log.
So whoever holds a copy of the books decides again with `decide`, which is pure, and compares. Whether the leaves are
those that were signed is for `weir fsck` and `weir audit verify` to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from weir.canonical import SALT_BYTES, NotCanonical, digest, opens, parse_canonical
from weir.errors import InvalidReceipt
from weir.receipts import parse_event
from weir_server import log
from weir_server.audit.acts import APPROVED, ContractStates, approval_acts
from weir_server.ledger.operations import REFUSED, RESERVED
from weir_server.policy.contract import Contract, contract_of_terms
from weir_server.policy.decide import decide, outcome_json
from weir_server.policy.facts import Facts, facts_bytes, facts_from_json
from weir_server.policy.lifecycle import terms
from weir_server.policy.lineage import PURPOSE
from weir_server.store import SqlValue, Transaction, blob, integer, text

_PAGE = 256
_CHARGED = ("epsilon_nano", "rho_micro", "price_micro")


@dataclass(frozen=True, slots=True)
class Difference:
    """Where log and books do not say the same."""

    index: int
    """Index of the leaf."""
    rule: str
    """`decision.missing`, `.stray`, `.commitment`, `.facts`, `.contract`, `.state`, `.verdict`, `.reasons`, `.persons`
    or `.approval`."""
    what: str
    """One sentence."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of every decision in a range of the log."""

    agreed: int
    """Decided again with the same outcome."""
    differences: tuple[Difference, ...]
    """By index."""
    unopenable: int
    """Decisions whose salt was erased: nobody can say any more."""
    unkept: int
    """Decisions logged before facts were kept."""
    others: Mapping[str, int]
    """Entries that no decision made, by reason: refusals (unknown names, limits, stops …), and under `PUBLICATION`
    reports of publications, which the provider's own act charges."""

    @property
    def decisions(self) -> int:
        """Decisions looked at."""
        return self.agreed + self.unopenable + self.unkept + len({item.index for item in self.differences})


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the books keep beside a leaf."""

    contract_digest: str
    facts: bytes
    salt: bytes | None


def replay(tx: Transaction, *, start: int = 0, end: int | None = None) -> Replayed:
    """Decides again whatever the sealed leaves with start <= index < end decided. Reads only."""
    books = _Books(tx)
    differences: list[Difference] = []
    counts: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for index, leaf in log.entries(tx, start=start, end=end):
        entry = _Entry.read(index, leaf)
        if entry is None or not entry.decides:
            if entry is not None:
                others[str(entry.record.get("reason", "PUBLICATION"))] += 1
            if books.kept(index) is not None:
                differences.append(Difference(index, "decision.stray", "facts are kept of what is no decision"))
            continue
        found = books.outcome(entry)
        if isinstance(found, str):
            counts[found] += 1
        else:
            differences.append(found)
    return Replayed(
        agreed=counts["agreed"],
        differences=tuple(differences),
        unopenable=counts["unopenable"],
        unkept=counts["unkept"],
        others=dict(sorted(others.items())),
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """A leaf that may hold a decision."""

    index: int
    type: str
    time: datetime
    data: Mapping[str, Any]
    record: Mapping[str, Any]

    @classmethod
    def read(cls, index: int, leaf: bytes) -> _Entry | None:
        """The entry of a reservation or refusal; None for any other leaf."""
        try:
            event = parse_event(leaf)
        except InvalidReceipt:
            return None
        data = event["data"]
        if event["type"] not in (RESERVED, REFUSED) or not isinstance(data, dict):
            return None
        record = data.get("record")
        known = record if isinstance(record, dict) else {}
        return cls(index, str(event["type"]), datetime.fromisoformat(str(event["time"])), data, known)

    @property
    def decides(self) -> bool:
        """Whether a decision made it: every reservation but that of a publication's report, and whatever states a
        verdict or commits to facts."""
        reports = self.record.get("purpose") == PURPOSE and _subject(self).get("contract") == ""
        return (self.type == RESERVED and not reports) or "verdict" in self.record or self.commitment is not None

    @property
    def commitment(self) -> str | None:
        """Commitment to the facts; None where the leaf has none."""
        made = self.data.get("commitments")
        return str(made["facts"]) if isinstance(made, dict) and "facts" in made else None

    @property
    def stated(self) -> dict[str, object]:
        """The outcome, as the leaf states it. A reservation without a verdict was allowed without anybody's word."""
        keys = ("verdict", "reasons", "persons")
        said = {key: self.record[key] for key in keys if key in self.record}
        return said or ({"verdict": "allow"} if self.record.get("decision") == "allowed" else {})


class _Books:
    """Reads what is kept beside the leaves, page by page, and contract texts once each."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._contracts: dict[str, Contract | None] = {}
        self._acts, self._states = approval_acts(tx), ContractStates(tx)
        self._uses = Counter[str]()
        self._page: dict[int, _Kept] = {}
        self._page_end = 0
        first = tx.execute("SELECT MIN(leaf_index) FROM decisions")[0][0]
        self._first = None if first is None else integer(first)
        """Leaf of the first decision whose facts were kept."""

    def outcome(self, entry: _Entry) -> str | Difference:
        """`agreed`, `unopenable` or `unkept`, else the first difference found."""
        index, kept, commitment = entry.index, self.kept(entry.index), entry.commitment
        # 1. What is there at all.
        if commitment is None and kept is None and (self._first is None or index < self._first):
            return "unkept"
        if commitment is None:
            return Difference(index, "decision.missing", "the leaf commits to no facts")
        salt = kept.salt if kept is not None else self._salt(index)
        if salt is None:
            return "unopenable"
        if kept is None:
            return Difference(index, "decision.missing", "the facts are not kept")
        # 2. The facts are those that were committed to, and of this leaf.
        if len(salt) != SALT_BYTES or not opens(commitment, salt=salt, label="facts", data=kept.facts):
            return Difference(index, "decision.commitment", "the facts are not those that the leaf commits to")
        facts = _facts(kept.facts)
        if facts is None:
            return Difference(index, "decision.facts", "the facts have not their canonical form")
        wrong = next(_contradictions(entry, facts), None)
        if wrong is not None:
            return Difference(index, "decision.facts", f"the facts name another {wrong} than the leaf")
        # 3. The contract is the one that the leaf names.
        contract = self._contract(kept.contract_digest)
        if contract is None:
            return Difference(index, "decision.contract", "the contract's text is missing, or has another digest")
        named = entry.record.get("contract_digest")
        if named != kept.contract_digest or contract.id != _subject(entry).get("contract"):
            return Difference(index, "decision.contract", "the leaf names another contract")
        # A refusal may be decided a moment behind an act; what is charged is compared with the acts in its own group.
        stood = self._states.before(contract.digest, index)
        if entry.type == RESERVED and stood is not None and stood != facts.contract_state:
            what = f"the facts say that the contract is {facts.contract_state}, its entries say {stood}"
            return Difference(index, "decision.state", what)
        # 4. Decide again.
        again = outcome_json(decide(facts, contract, policy_digest=""))
        found = _compared(entry, again)
        # 5. Whom it needed has approved, by entries of their own.
        if found is None and entry.type == RESERVED and "persons" in again:
            found = self._unapproved(entry, facts, int(str(again["persons"])))
        return found or "agreed"

    def _unapproved(self, entry: _Entry, facts: Facts, persons: int) -> Difference | None:
        """The difference where what the entry names was not approved for it; None where it was."""
        approval = str(entry.record.get("approval"))
        acts = [act for act in self._acts.get(f"approval/{approval}", []) if act.index < entry.index]
        had = {act.person for act in acts if act.type == APPROVED} - {facts.requester}
        self._uses[approval] += 1
        wrong = None
        if len(had) < persons:
            wrong = f"it needed {persons} persons, and {len(had)} had approved what it names"
        elif any((act.requester, act.contract) != (facts.requester, _subject(entry).get("contract")) for act in acts):
            wrong = "what it names was approved for another requester or contract"
        elif acts[-1].state != "approved":
            wrong = f"what it names was {acts[-1].state} by then"
        elif self._uses[approval] > acts[-1].uses:
            wrong = f"what it names allowed {acts[-1].uses} uses, and this is one more"
        return None if wrong is None else Difference(entry.index, "decision.approval", wrong)

    def kept(self, index: int) -> _Kept | None:
        """What is kept beside a leaf. Indexes MUST ascend."""
        if index >= self._page_end:
            rows = self._tx.execute(
                "SELECT leaf_index, contract_digest, facts, salt FROM decisions "
                "LEFT JOIN log_salts ON log_salts.idx = decisions.leaf_index WHERE leaf_index >= ? AND leaf_index < ?",
                (index, index + _PAGE),
            )
            self._page = {integer(row[0]): _Kept(text(row[1]), blob(row[2]), _bytes(row[3])) for row in rows}
            self._page_end = index + _PAGE
        return self._page.get(index)

    def _salt(self, index: int) -> bytes | None:
        rows = self._tx.execute("SELECT salt FROM log_salts WHERE idx = ?", (index,))
        return _bytes(rows[0][0]) if rows else None

    def _contract(self, contract_digest: str) -> Contract | None:
        """The contract whose text has this digest; None where it is missing or another."""
        if contract_digest not in self._contracts:
            canonical = terms(self._tx, contract_digest)
            found = None
            if canonical is not None and digest(canonical) == contract_digest:
                try:
                    found = contract_of_terms(canonical)
                except NotCanonical:
                    found = None
            self._contracts[contract_digest] = found
        return self._contracts[contract_digest]


def _compared(entry: _Entry, again: Mapping[str, object]) -> Difference | None:
    index, stated, verdict = entry.index, entry.stated, again["verdict"]
    if verdict == ("deny" if entry.type == RESERVED else "allow"):
        done = "was reserved" if entry.type == RESERVED else "was refused by a decision"
        return Difference(index, "decision.verdict", f"deciding again gives {verdict}, and it {done}")
    for key, rule in (
        ("verdict", "decision.verdict"),
        ("reasons", "decision.reasons"),
        ("persons", "decision.persons"),
    ):
        if stated.get(key) != again.get(key):
            said, found = _shown(stated.get(key)), _shown(again.get(key))
            return Difference(index, rule, f"the leaf says {key} {said}, deciding again gives {found}")
    return None


def _contradictions(entry: _Entry, facts: Facts) -> Iterator[str]:
    """What the leaf says in clear and the facts say otherwise."""
    subject, record = _subject(entry), entry.record
    if facts.requester != subject.get("requester"):
        yield "requester"
    if facts.dataset != subject.get("dataset"):
        yield "dataset"
    if facts.now > entry.time:
        yield "time"
    if entry.type != RESERVED:
        return
    if facts.snapshot != record.get("snapshot"):
        yield "snapshot"
    if facts.mode != record.get("release_mode"):
        yield "mode"
    charge = entry.data.get("charge")
    # What was released before is charged less than was decided on.
    if record.get("sticky") is not True and charge is not None:
        yield from (name for name in _CHARGED if charge.get(name) != str(getattr(facts, name)))


def _subject(entry: _Entry) -> Mapping[str, Any]:
    subject = entry.data.get("subject")
    return subject if isinstance(subject, dict) else {}


def _facts(data: bytes) -> Facts | None:
    """Facts of their canonical form; None where it is none."""
    try:
        content = parse_canonical(data)
        facts = facts_from_json(content) if isinstance(content, dict) else None
        return facts if facts is not None and facts_bytes(facts) == data else None
    except (NotCanonical, KeyError, TypeError, ValueError, AttributeError):
        return None


def _shown(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(str(item) for item in value) or "none"
    return "none" if value is None else str(value)


def _bytes(value: SqlValue) -> bytes | None:
    return value if isinstance(value, bytes) else None
