# SPDX-License-Identifier: Apache-2.0
"""What is closed where entries may be missing: whatever they charged or published must not be had again."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from weir.errors import PublicationError
from weir_server.catalog.snapshot import MANIFEST, open_snapshot
from weir_server.exact.lattice import exact_measures
from weir_server.ledger import PRIVACY_METRICS, list_quotas, record, set_quota
from weir_server.policy import book, unproven
from weir_server.store import Transaction

ACTOR = "restore"
"""Of the entries that a restore makes."""
_REASON = "restored without proof"


def close_budgets(tx: Transaction, now: datetime) -> tuple[str, ...]:
    """Lowers every privacy limit to what is used of it: what was spent unseen cannot be spent again."""
    closed = []
    for balance in list_quotas(tx, now=now):
        quota = balance.quota
        if quota.metric in PRIVACY_METRICS and balance.left:
            lowered = replace(quota, limit=balance.used)
            set_quota(tx, lowered, reason=_REASON, actor=ACTOR, now=now, entropy=os.urandom)
            closed.append(quota.id)
    return tuple(closed)


def hold_datasets(tx: Transaction, snapshots: Path, now: datetime) -> tuple[str, ...]:
    """Marks every dataset answered exactly, whose newest version may be lost, an entry each; gives those datasets.
    One that has a directory and that the books do not know was published behind the copy."""
    there = [path for path in snapshots.glob("*/*") if path.name.isdecimal()]
    newest = {path.parent.name: path for path in sorted(there, key=lambda path: int(path.name))}
    newest |= {name: snapshots / name / str(version) for name, version, _ in book.snapshots(tx)}
    held = tuple(name for name in sorted(newest) if _is_exact(newest[name]))
    for name in held:
        told = {"reason": _REASON, "actor": ACTOR}
        entry = record(tx, unproven.HELD, told, subject=f"dataset/{name}", now=now, entropy=os.urandom)
        unproven.mark(tx, entry.leaf_index, dataset=name)
    return held


def _is_exact(directory: Path) -> bool:
    """Whether anything of a snapshot is answered exactly. What cannot be read may be."""
    try:
        found = sha256((directory / MANIFEST).read_bytes()).hexdigest()
        return bool(exact_measures(open_snapshot(directory, expected_digest=found).card))
    except (OSError, PublicationError):
        return True
