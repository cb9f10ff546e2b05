# SPDX-License-Identifier: Apache-2.0
"""What a new set of policy documents changes, and which changes loosen: make something possible that was not. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weir.canonical import canonical_json, digest
from weir.limits import metric_name, metric_text
from weir_server.ledger.values import Quota
from weir_server.policy.documents import KINDS, Policy
from weir_server.policy.kinds import Kind
from weir_server.policy.quota import QUOTA
from weir_server.policy.quota import loosens as quota_loosens


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two policies."""

    subject: str
    """`contract/c-1` or `quota/q-1`."""
    kind: str
    """`added`, `changed` or `removed`."""
    fields: tuple[str, ...]
    """What differs, `name: old → new`, for people."""
    loosens: bool


def differences(old: Policy, new: Policy, in_force: Mapping[str, Quota]) -> tuple[Change, ...]:
    """Every change from old to new by subject. `in_force` are the limits in the ledger by id that either policy sets,
    contracts' own included: an operator may have moved them since."""
    documents = [change for kind in KINDS if kind is not QUOTA for change in _changes(kind, old.of(kind), new.of(kind))]
    quotas = _quota_changes(in_force, new, ended=old.contracts.keys() - new.contracts.keys())
    return tuple(sorted([*documents, *quotas], key=lambda change: change.subject))


def plan_hash(old: Policy, new: Policy, changes: tuple[Change, ...]) -> str:
    """Hex digest that names exactly this difference: both policies and every change, limits in force included."""
    told = [[change.subject, change.kind, list(change.fields), change.loosens] for change in changes]
    return digest(canonical_json({"old": old.digest, "new": new.digest, "changes": told}))


def _changes(kind: Kind, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in old.keys() - new.keys():
        yield Change(f"{kind.word}/{name}", "removed", (), loosens=kind.loosens(old[name], None))
    for name in new.keys() - old.keys():
        yield Change(f"{kind.word}/{name}", "added", (), loosens=kind.loosens(None, new[name]))
    for name in old.keys() & new.keys():
        before, after = kind.canonical(old[name]), kind.canonical(new[name])
        differing = [key for key in after if before.get(key) != after[key] and key not in kind.compared_apart]
        if differing:
            fields = tuple(f"{key}: {before.get(key)} → {after[key]}" for key in differing)
            yield Change(f"{kind.word}/{name}", "changed", fields, loosens=kind.loosens(old[name], new[name]))


def _quota_changes(old: Mapping[str, Quota], new: Policy, *, ended: set[str]) -> Iterator[Change]:
    wanted = new.quotas
    for name in old.keys() - wanted.keys():
        # A limit under a contract that goes with it binds nothing any more.
        loosening = old[name].contract not in ended
        yield Change(f"quota/{name}", "removed", (f"limit: {_limit(old[name])} → none",), loosens=loosening)
    for name in wanted.keys() - old.keys():
        yield Change(f"quota/{name}", "added", (f"limit: none → {_limit(wanted[name])}",), loosens=False)
    for name in old.keys() & wanted.keys():
        if old[name] != wanted[name]:
            fields = (f"limit: {_limit(old[name])} → {_limit(wanted[name])}",)
            yield Change(f"quota/{name}", "changed", fields, loosens=quota_loosens(old[name], wanted[name]))


def _limit(quota: Quota) -> str:
    """The limit as people write it, with what it counts: a share of 1.5 reads as 1.5 epsilon, not as billions."""
    return f"{metric_text(quota.metric, quota.limit)} {metric_name(quota.metric)}"
