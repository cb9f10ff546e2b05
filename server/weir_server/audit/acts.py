# SPDX-License-Identifier: Apache-2.0
"""What entries of acts say that decisions rest on: who approved what, and how contracts stood at each entry."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weir.errors import InvalidReceipt
from weir.receipts import parse_event
from weir_server import log
from weir_server.store import Transaction

APPROVED = "weir.approval.approved"
_ACTS = (APPROVED, "weir.approval.rejected", "weir.approval.revoked")
_CONTRACT = "weir.contract."
_REACHED = {
    "offered": "offered",
    "accepted": "accepted",
    "activated": "active",
    "resumed": "active",
    "suspended": "suspended",
    "terminated": "terminated",
    "expired": "expired",
}
"""What state each step of a contract's life reaches."""


@dataclass(frozen=True, slots=True)
class ApprovalAct:
    """What one person did with an approval, by its entry."""

    index: int
    type: str
    person: str
    requester: str
    contract: str
    state: str
    """State of the approval after it."""
    uses: int
    """Queries that it allows."""


def approval_acts(tx: Transaction) -> dict[str, list[ApprovalAct]]:
    """By approval (`approval/ap-…`), every act in order."""
    found: dict[str, list[ApprovalAct]] = {}
    for kind in _ACTS:
        for index, leaf in log.entries(tx, type=kind):
            try:
                event = parse_event(leaf)
            except InvalidReceipt:
                continue
            data = event["data"]
            if isinstance(data, dict):
                found.setdefault(str(event["subject"]), []).append(_act(index, kind, data))
    return {approval: sorted(acts, key=lambda act: act.index) for approval, acts in found.items()}


def _act(index: int, kind: str, data: Mapping[str, Any]) -> ApprovalAct:
    person, requester, contract, state = (str(data.get(key)) for key in ("actor", "requester", "contract", "state"))
    uses = data.get("uses", 1)
    return ApprovalAct(index, kind, person, requester, contract, state, uses if type(uses) is int else 0)


class ContractStates:
    """How the terms of each contract stood, by the entries of their steps."""

    def __init__(self, tx: Transaction) -> None:
        steps = sorted(
            (index, state, str(event["data"].get("contract_digest")))
            for step, state in _REACHED.items()
            for index, leaf in log.entries(tx, type=f"{_CONTRACT}{step}")
            if (event := _event(leaf)) is not None
        )
        self._by_terms: dict[str, tuple[list[int], list[str]]] = {}
        for index, state, digest in steps:
            indexes, states = self._by_terms.setdefault(digest, ([], []))
            indexes.append(index)
            states.append(state)

    def before(self, digest: str, index: int) -> str | None:
        """State of these terms by the entries below an index; None where no entry says anything of them."""
        indexes, states = self._by_terms.get(digest, ([], []))
        place = bisect_left(indexes, index)
        return states[place - 1] if place else None


def _event(leaf: bytes) -> dict[str, Any] | None:
    try:
        event = parse_event(leaf)
    except InvalidReceipt:
        return None
    return event if isinstance(event["data"], dict) else None
