# SPDX-License-Identifier: Apache-2.0
"""Approvals by what became of them, and what a requester asked under a contract before."""

from __future__ import annotations

from datetime import datetime

from weir_server.clock import to_micros
from weir_server.policy import approvals
from weir_server.policy.approvals import Approval
from weir_server.store import Transaction, text

STATES = ("waiting", "approved", "rejected", "used", "revoked")
_EARLIER = 5


def page(tx: Transaction, state: str, *, now: datetime, before: str = "", limit: int) -> tuple[list[Approval], str]:
    """Approvals in a state, newest first, and the key of the next page; waiting ones that lapsed are left out.

    `before`: a key that an earlier page gave.
    """
    moment, _, last = before.partition(":")
    bound = int(moment) if moment.isdecimal() and len(moment) <= 18 else 2**62
    rows = tx.execute(
        "SELECT id FROM approvals WHERE state = ? AND (requested < ? OR (requested = ? AND id < ?)) AND expires > ? "
        "ORDER BY requested DESC, id DESC LIMIT ?",
        (state, bound, bound, last, to_micros(now) if state == "waiting" else 0, limit + 1),
    )
    found = [approvals.get(tx, text(row[0])) for row in rows]
    return found[:limit], approvals.page_token(found[limit - 1]) if len(found) > limit else ""


def earlier(tx: Transaction, approval: Approval) -> list[Approval]:
    """What the same requester asked under the same contract before, newest first: a few."""
    rows = tx.execute(
        "SELECT id FROM approvals WHERE contract = ? AND requested <= ? AND id <> ? AND requester = ? "
        "ORDER BY requested DESC, id DESC LIMIT ?",
        (approval.contract, to_micros(approval.requested), approval.id, approval.requester, _EARLIER),
    )
    return [approvals.get(tx, text(row[0])) for row in rows]
