# SPDX-License-Identifier: Apache-2.0
"""Evidence of a case, put together from the store: see `weir.evidence` for the form and what it proves.

Salts are given for the filing and for decisions on the entries that the case names, and for no others: a salt lets
whoever has the file guess at what an entry committed to. What was erased stays erased, and is said to be.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from weir.canonical import digest
from weir.errors import UnknownName
from weir.evidence import contract_digest_of, policy_digests, sealed_file
from weir.receipts import RELEASED
from weir_server import log
from weir_server.cases import book
from weir_server.cases.values import Case
from weir_server.log.tree import inclusion_paths
from weir_server.store import Transaction, blob, integer, text

MAX_ENTRIES = 10_000
"""Entries of the contract in one file; where there are more, its acts and the newest queries."""
_QUERIES = "weir.query."
_PAGE = 500


def bundle(tx: Transaction, case_id: str) -> bytes:
    """The file of one case, as the log stands.

    Raises:
        UnknownName: no such case.
    """
    case, newest = book.find(tx, case_id), log.latest_checkpoint(tx)
    if case is None or newest is None:
        raise UnknownName("no case of this id", field="case", rule="case.unknown")
    size, note = newest
    filing, decided = case.steps[0].leaf_index, _decided(tx, case.entries)
    inputs = _inputs(tx, decided)
    named = {*decided, *(step.leaf_index for step in case.steps), *_approvals(tx, decided, size)}
    around, omitted = _around(tx, case, size, named)
    leaves = _leaves(tx, sorted({*named, *around}))
    opened = sorted({filing, *inputs})
    salts = _salts(tx, [filing, *(index for index, (_, facts) in inputs.items() if facts is not None)])
    events = {index: json.loads(leaf) for index, leaf in leaves.items()}
    paths = inclusion_paths(tx, [(index, size) for index in leaves])
    return sealed_file({
        "checkpoint": note,
        "case": _case(case, events, opened=filing in salts),
        "leaves": [
            _leaf(index, leaf, path, opened=index in opened, salt=salts.get(index))
            for (index, leaf), path in zip(leaves.items(), paths, strict=True)
        ],
        "contracts": _contracts(tx, case, events.values()),
        "decisions": [
            {"index": index, "contract_digest": contract, "facts": facts if index in salts else None}
            for index, (contract, facts) in inputs.items()
        ],
        "policy_digests": policy_digests(list(events.values())),
        "omitted": omitted,
    })  # fmt: skip


def _decided(tx: Transaction, entries: Sequence[int]) -> list[int]:
    """The entries, and for each answer the entry of its reservation, which the decision belongs to."""
    events = [json.loads(leaf) for leaf in _leaves(tx, entries).values()]
    reservations = {int(event["data"]["reservation"]) for event in events if event["type"] == RELEASED}
    return sorted({*entries, *reservations})


def _around(tx: Transaction, case: Case, size: int, named: set[int]) -> tuple[list[int], int]:
    """Entries of the contract: whatever is no query, from the beginning; queries from the first named entry on, or from
    the beginning where none is named. Gives the newest, and how many were left out."""
    if not case.contract:
        return [], 0
    subject, start = f'"subject":"contract/{case.contract}"'.encode(), min(case.entries, default=0)
    acts, queries = list[int](), list[int]()
    for kind in _types(tx):
        is_query = kind.startswith(_QUERIES)
        found = queries if is_query else acts
        for index, leaf in _read(tx, kind, start if is_query else 0, size):
            if subject in leaf and index not in named and _is_about(leaf, f"contract/{case.contract}"):
                found.append(index)
    # Acts first: whoever asks ten thousand questions must not push the signatures out of the file.
    acts, queries = sorted(acts), sorted(queries)
    kept = acts[-MAX_ENTRIES:]
    kept += queries[max(0, len(queries) - (MAX_ENTRIES - len(kept))) :]
    return kept, len(acts) + len(queries) - len(kept)


def _approvals(tx: Transaction, decided: Sequence[int], size: int) -> list[int]:
    """Entries of the approvals that decisions rest on: who asked for them, who gave them, and when."""
    events = [json.loads(leaf) for leaf in _leaves(tx, decided).values()]
    records = [event["data"].get("record") or {} for event in events]
    subjects = {f"approval/{record['approval']}" for record in records if record.get("approval")}
    if not subjects:
        return []
    needles = [f'"subject":"{subject}"'.encode() for subject in subjects]
    return [
        index
        for kind in _types(tx)
        if kind.startswith("weir.approval.")
        for index, leaf in _read(tx, kind, 0, size)
        if any(needle in leaf for needle in needles) and any(_is_about(leaf, subject) for subject in subjects)
    ]


def _types(tx: Transaction) -> Iterable[str]:
    """Types of entries that there are: one step down the index for each, however long the log is."""
    kind = ""
    while True:
        ((following,),) = tx.execute("SELECT MIN(type) FROM log_leaves WHERE type > ?", (kind,))
        if following is None:
            return
        kind = text(following)
        yield kind


def _read(tx: Transaction, kind: str, start: int, size: int) -> Iterable[tuple[int, bytes]]:
    while True:
        rows = tx.execute(
            "SELECT idx, leaf FROM log_leaves WHERE type = ? AND idx >= ? AND idx < ? ORDER BY idx LIMIT ?",
            (kind, start, size, _PAGE),
        )
        for index, leaf in rows:
            yield integer(index), blob(leaf)
        if len(rows) < _PAGE:
            return
        start = integer(rows[-1][0]) + 1


def _is_about(leaf: bytes, subject: str) -> bool:
    return bool(json.loads(leaf)["subject"] == subject)


def _leaves(tx: Transaction, indexes: Sequence[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for start in range(0, len(indexes), _PAGE):
        page = indexes[start : start + _PAGE]
        rows = tx.execute(
            f"SELECT idx, leaf FROM log_leaves WHERE idx IN ({', '.join('?' * len(page))}) ORDER BY idx",  # noqa: S608
            page,
        )
        found.update({integer(index): blob(leaf) for index, leaf in rows})
    return found


def _salts(tx: Transaction, indexes: Sequence[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for index in indexes:
        for row in tx.execute("SELECT salt FROM log_salts WHERE idx = ?", (index,)):
            found[index] = blob(row[0])
    return found


def _leaf(index: int, leaf: bytes, path: Sequence[bytes], *, opened: bool, salt: bytes | None) -> dict[str, Any]:
    item: dict[str, Any] = {"index": index, "leaf": leaf.decode(), "path": [node.hex() for node in path]}
    if opened:
        item["salt"] = None if salt is None else salt.hex()
    return item


def _case(case: Case, events: dict[int, Any], *, opened: bool) -> dict[str, Any]:
    return {
        "id": case.id,
        "kind": case.kind,
        "contract": case.contract,
        "dataset": case.dataset,
        "against": case.against,
        "entries": list(case.entries),
        "statement": case.statement if opened else None,
        "steps": [
            {
                "state": step.state,
                "actor": step.actor,
                "role": step.role,
                "at": events[step.leaf_index]["time"],
                "note": step.note,
                "frozen": step.frozen,
                "leaf_index": step.leaf_index,
            }
            for step in case.steps
        ],
    }


def _contracts(tx: Transaction, case: Case, events: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """Texts of the contract that entries name, by digest, as far as they were kept."""
    found = []
    for named in sorted({named for event in events if (named := contract_digest_of(event)) is not None}):
        for row in tx.execute("SELECT canonical FROM contract_terms WHERE digest = ?", (named,)):
            canonical = blob(row[0])
            if json.loads(canonical).get("contract") == case.contract and digest(canonical) == named:
                found.append({"canonical": canonical.decode()})
    return found


def _inputs(tx: Transaction, entries: Sequence[int]) -> dict[int, tuple[str, str | None]]:
    """What decisions on these entries were made from: digest of the contract, and facts; None where erased."""
    found: dict[int, tuple[str, str | None]] = {}
    for index, leaf in _leaves(tx, entries).items():
        event = json.loads(leaf)
        if "facts" in event["data"].get("commitments", {}):
            rows = tx.execute("SELECT facts FROM decisions WHERE leaf_index = ?", (index,))
            found[index] = (contract_digest_of(event) or "", blob(rows[0][0]).decode() if rows else None)
    return found
