# SPDX-License-Identifier: Apache-2.0
"""Checks of contracts: texts against their digests, states and signatures against the entries, the signatures too."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from weir_server.fsck.findings import Finding
from weir_server.fsck.rows import Rows

_TABLES = ("contract_states", "contract_terms", "contract_signatures", "contract_duties")
_KIND = "weir.contract."
_STEPS: dict[str, tuple[tuple[str, ...], str]] = {
    "accepted": (("offered",), "accepted"),
    "activated": (("accepted",), "active"),
    "resumed": (("suspended",), "active"),
    "suspended": (("active",), "suspended"),
    "terminated": (("offered", "accepted", "active", "suspended"), "terminated"),
    "expired": (("offered", "accepted", "active", "suspended"), "expired"),
}
"""What each entry does: from which states, to which."""


@dataclass(slots=True)
class LoggedTerms:
    """What the entries say of the terms of one digest, since they were last put in force."""

    contract: str
    state: str = ""
    since: str = ""
    """RFC 3339: when it came to this state."""
    signatures: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Role to party, key and signature, as the entry has them."""
    signed: dict[str, str] = field(default_factory=dict)
    """Role to when it signed."""
    duties: dict[str, str] = field(default_factory=dict)
    """Duty to when it was attested."""


def terms_of(leaves: Sequence[bytes]) -> dict[str, LoggedTerms]:
    """What follows from these entries, by digest of the terms."""
    logged: dict[str, LoggedTerms] = {}
    for index, leaf in enumerate(leaves):
        for _ in _follow(logged, index, leaf):
            pass  # Steps that could not be are for fsck to name.
    return logged


def check_contracts(rows: Rows, leaves: Sequence[bytes]) -> Iterator[Finding]:
    """Compares the tables of contracts with what the leaves give."""
    if not all(rows.has_table(table) for table in _TABLES):
        return
    logged: dict[str, LoggedTerms] = {}
    for index, leaf in enumerate(leaves):
        yield from _follow(logged, index, leaf)
    kept = rows.execute("SELECT digest, canonical FROM contract_terms")
    texts = {digest: bytes(canonical) for digest, canonical in kept}
    yield from _check_texts(texts, logged)
    yield from _check_states(rows, logged)
    yield from _check_signatures(rows, logged, texts)
    stored = set(rows.execute("SELECT digest, duty FROM contract_duties"))
    if stored != {(digest, duty) for digest, known in logged.items() for duty in known.duties}:
        yield Finding(None, "fsck.contract_duty", "attested duties differ from their entries")


def _follow(logged: dict[str, LoggedTerms], index: int, leaf: bytes) -> Iterator[Finding]:
    event = _event(leaf)
    if event is None or not event["type"].startswith(_KIND):
        return
    step, data = event["type"].removeprefix(_KIND), event["data"]
    known = logged.setdefault(str(data.get("contract_digest")), LoggedTerms(event["subject"].removeprefix("contract/")))
    if step == "offered" or (step == "activated" and data.get("signatures") == "none"):
        if known.state in ("terminated", "expired"):
            yield Finding(index, "fsck.contract", "terms that had ended were put in force again")
        known.state, known.since = "offered" if step == "offered" else "active", str(event.get("time"))
        known.signatures, known.signed, known.duties = {}, {}, {}
    elif step == "signed":
        told = (str(data.get("party")), str(data.get("public_key")), str(data.get("signature")))
        known.signatures[str(data.get("party_role"))] = told
        known.signed[str(data.get("party_role"))] = str(event.get("time"))
    elif step == "duty_attested":
        known.duties[str(data.get("duty"))] = str(event.get("time"))
    elif step in _STEPS:
        before, after = _STEPS[step]
        lacks = step == "accepted" and set(known.signatures) != {"requester", "provider"}
        if known.state not in before or lacks:
            yield Finding(index, "fsck.contract", f"a contract was {step} that could not be")
        known.state, known.since = after, str(event.get("time"))


def _check_texts(texts: dict[str, bytes], logged: dict[str, LoggedTerms]) -> Iterator[Finding]:
    for digest, canonical in texts.items():
        if sha256(canonical).hexdigest() != digest:
            yield Finding(None, "fsck.contract_terms", "a contract's text is not the one that its digest names")
    for digest, known in logged.items():
        if digest not in texts:
            yield Finding(None, "fsck.contract_terms", f"the text of contract {known.contract} is missing")


def _check_states(rows: Rows, logged: dict[str, LoggedTerms]) -> Iterator[Finding]:
    stored = {(contract, digest): state for contract, digest, state in _states(rows)}
    expected = {(known.contract, digest): known.state for digest, known in logged.items()}
    for key in sorted(stored.keys() | expected.keys()):
        if stored.get(key) != expected.get(key):
            yield Finding(None, "fsck.contract_state", f"the state of contract {key[0]} differs from its entries")


def _states(rows: Rows) -> Iterator[tuple[str, str, str]]:
    yield from ((row[0], row[1], row[2]) for row in rows.execute("SELECT contract, digest, state FROM contract_states"))


def _check_signatures(rows: Rows, logged: dict[str, LoggedTerms], texts: dict[str, bytes]) -> Iterator[Finding]:
    expected = {(digest, role): told for digest, known in logged.items() for role, told in known.signatures.items()}
    found = rows.execute("SELECT digest, role, party, public_key, signature FROM contract_signatures")
    for digest, role, party, key, signature in found:
        told = (party, f"ed25519:{b64encode(bytes(key)).decode()}", b64encode(bytes(signature)).decode())
        if expected.pop((digest, role), None) != told:
            yield Finding(None, "fsck.contract_signature", f"a signature of {party} differs from its entry")
        if not _verifies(bytes(key), bytes(signature), texts.get(digest, b"")):
            yield Finding(None, "fsck.contract_signature", f"a signature of {party} does not verify")
    for (_, role), told in expected.items():
        yield Finding(None, "fsck.contract_signature", f"the signature of {role} {told[0]} is missing")


def _verifies(key: bytes, signature: bytes, canonical: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, b"weir-contract-v1\0" + canonical)
    except (InvalidSignature, ValueError):
        return False
    return True


def _event(leaf: bytes) -> dict[str, Any] | None:
    """The event of a leaf; one that is none is for the checks of the ledger to name."""
    try:
        event = json.loads(leaf)
    except ValueError:
        return None
    whole = isinstance(event, dict) and all(isinstance(event.get(key), str) for key in ("type", "subject"))
    return event if whole and isinstance(event.get("data"), dict) else None
