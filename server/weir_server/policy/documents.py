# SPDX-License-Identifier: Apache-2.0
"""The whole policy as files state it: documents of every kind, read together, named by one digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from weir.canonical import canonical_json, digest
from weir.certificates import Certificate
from weir.errors import InvalidRequest
from weir_server.ledger.values import Quota
from weir_server.policy.assessment import ASSESSMENT, Assessment
from weir_server.policy.certificate import CERTIFICATE
from weir_server.policy.contract import CONTRACT, Contract
from weir_server.policy.gates import GATES, NAME, Gates
from weir_server.policy.kinds import Kind
from weir_server.policy.linkage import LINKAGE
from weir_server.policy.party import PARTY, Party
from weir_server.policy.quota import QUOTA
from weir_server.policy.reader import Reader, duplicates, load_document, refused_documents

KINDS: tuple[Kind, ...] = (CONTRACT, QUOTA, PARTY, ASSESSMENT, GATES, CERTIFICATE, LINKAGE)
"""Every kind of document, in the order in which differences are told."""
_BY_WORD = {kind.word: kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that files state, by kind and name. Frozen; `digest` names it in every decision."""

    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Kind to name to value; a kind without documents may be absent."""
    digest: str = field(init=False, compare=False)
    """Hex digest over the canonical form of every document."""

    def __post_init__(self) -> None:
        terms = {
            f"{kind.word}/{name}": digest(canonical_json(kind.canonical(value)))
            for kind in KINDS
            for name, value in self.of(kind).items()
        }
        object.__setattr__(self, "digest", digest(canonical_json(terms)))

    def of(self, kind: Kind) -> Mapping[str, Any]:
        """Values of one kind by name."""
        return self.values.get(kind.word, {})

    @property
    def contracts(self) -> Mapping[str, Contract]:
        """Contracts by id."""
        return self.of(CONTRACT)

    @property
    def parties(self) -> Mapping[str, Party]:
        """Parties by `role/name`."""
        return self.of(PARTY)

    @property
    def assessments(self) -> Mapping[str, Assessment]:
        """Assessments by requester."""
        return self.of(ASSESSMENT)

    @property
    def gates(self) -> Gates | None:
        """What scores and standing ask; None where the policy has no gates."""
        return self.of(GATES).get(NAME)

    @property
    def certificates(self) -> Mapping[str, Certificate]:
        """Regrading certificates by id, in force or not."""
        return self.of(CERTIFICATE)

    @property
    def quotas(self) -> Mapping[str, Quota]:
        """Every limit that the documents set, contracts' own and shared accounts included, by id."""
        own = {quota.id: quota for contract in self.contracts.values() for quota in contract.quotas}
        shared = {quota.id: quota for linkage in self.of(LINKAGE).values() for quota in linkage.quotas}
        return {**self.of(QUOTA), **own, **shared}


def parse_documents(documents: Sequence[str]) -> Policy:
    """The policy that these YAML documents state, each of one `kind`.

    Raises:
        InvalidRequest: any document is malformed; the text lists every fault by document and key.
    """
    values: dict[str, dict[str, Any]] = {kind.word: {} for kind in KINDS}
    names: dict[str, list[str]] = {kind.word: [] for kind in KINDS}
    faults: list[str] = []
    for number, text in enumerate(documents, start=1):
        try:
            kind, value, found = _faultless(text) or _read(text, number)
        except InvalidRequest as error:
            kind, value, found = None, None, [error.message]
        faults += found
        if kind is not None and value is not None:
            values[kind.word][kind.name(value)] = value
            names[kind.word].append(kind.name(value))
    for word, given in names.items():
        faults += duplicates(given, word)
    if faults:
        raise refused_documents(faults, rule="policy.document")
    return Policy(MappingProxyType({word: MappingProxyType(found) for word, found in values.items()}))


_Read = tuple[Kind | None, Any, list[str]]
"""Kind and value of a document where it has them, and its faults."""


@lru_cache(maxsize=1 << 14)
def _faultless(text: str) -> _Read | None:
    """A document without faults; None where it has some, which are told with its number.

    Kept, since the whole policy is read anew whenever one document changes, and reading YAML takes milliseconds each.
    """
    try:
        kind, value, faults = _read(text, 0)
    except InvalidRequest:
        return None
    return None if faults or value is None else (kind, value, faults)


def _read(text: str, number: int) -> _Read:
    reader = Reader(load_document(text, number), where=f"document {number}")
    kind = _BY_WORD.get(reader.text("kind"))
    if kind is None:
        return None, None, [f"document {number}: kind must be one of {', '.join(sorted(_BY_WORD))}"]
    value = kind.read(reader)
    return kind, value, reader.finish()
