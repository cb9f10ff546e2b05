# SPDX-License-Identifier: Apache-2.0
"""Contracts and approvals after a restore: nobody comes back to a right that was taken, or used up, after the backup.

States, signatures and duties of contracts follow from entries. Of approvals the entries do not say enough to make them
again, so those that could still allow something are taken back: persons are asked anew.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Sequence
from datetime import datetime

from weir_server.clock import to_micros
from weir_server.fsck.contracts import terms_of
from weir_server.store import Transaction


def rebuild(tx: Transaction, leaves: Sequence[bytes]) -> None:
    """Puts in the tables of contracts what follows from these entries, in place of what was there."""
    logged = terms_of(leaves)
    for table in ("contract_states", "contract_signatures", "contract_duties"):
        tx.execute(f"DELETE FROM {table}")  # noqa: S608
    tx.execute_many(
        "INSERT INTO contract_states (contract, digest, state, since) VALUES (?, ?, ?, ?)",
        [(terms.contract, digest, terms.state, _micros(terms.since)) for digest, terms in logged.items()],
    )
    tx.execute_many(
        "INSERT INTO contract_signatures (digest, role, party, public_key, signature, signed) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        [
            (digest, role, party, b64decode(key.partition(":")[2]), b64decode(signature), _micros(terms.signed[role]))
            for digest, terms in logged.items()
            for role, (party, key, signature) in terms.signatures.items()
        ],
    )
    tx.execute_many(
        "INSERT INTO contract_duties (digest, duty, attested) VALUES (?, ?, ?)",
        [(digest, duty, _micros(at)) for digest, terms in logged.items() for duty, at in terms.duties.items()],
    )


def rebuild_limits(tx: Transaction, leaves: Sequence[bytes]) -> None:
    """Names the limits that the policy newest in the log had set. A copy's own list would have the next policy leave
    limits in force that nobody states any more, and remove, as if they were its own, those that a person has set."""
    named: set[str] = set()
    for event in map(json.loads, leaves):
        kind, about = str(event["type"]), str(event["subject"])
        if not (kind.startswith("weir.policy.") and about.startswith("quota/")):
            continue
        name = about.partition("/")[2]
        named = named - {name} if kind == "weir.policy.removed" else named | {name}
    tx.execute("DELETE FROM policy_quotas")
    tx.execute_many("INSERT INTO policy_quotas (quota) VALUES (?)", [(name,) for name in sorted(named)])


def take_back_approvals(tx: Transaction) -> int:
    """Ends every approval that waits or could still be used; gives how many."""
    ended = tx.execute(
        "UPDATE approvals SET state = 'revoked', uses_left = 0 WHERE state IN ('waiting', 'approved') RETURNING id"
    )
    return len(ended)


def _micros(time: str) -> int:
    return to_micros(datetime.fromisoformat(time))
