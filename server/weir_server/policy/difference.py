# SPDX-License-Identifier: Apache-2.0
"""What a new set of policy documents changes, and which changes loosen: make something possible that was not. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from weir_server.ledger.values import Quota
from weir_server.policy.contract import Contract, contract_json

_GROWING = ("purposes", "modes", "dimensions", "measures", "aggregates", "seal_to")
_SHARES = ("epsilon_nano", "epsilon_per_query_nano", "rho_micro", "rho_per_query_micro")
_PARTIES = ("requester", "provider", "dataset")


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


def differences(
    old: Mapping[str, Contract],
    new: Mapping[str, Contract],
    old_quotas: Mapping[str, Quota],
    new_quotas: Mapping[str, Quota],
) -> tuple[Change, ...]:
    """Every change from old to new, contracts first, by id. `old_quotas` are the limits in force by id, contracts' own
    included; `new_quotas` likewise after the change."""
    changes = [
        *_contract_changes(old, new),
        *_quota_changes(old_quotas, new_quotas),
    ]
    return tuple(sorted(changes, key=lambda change: change.subject))


def _contract_changes(old: Mapping[str, Contract], new: Mapping[str, Contract]) -> Iterator[Change]:
    for name in old.keys() - new.keys():
        yield Change(f"contract/{name}", "removed", (), loosens=False)
    for name in new.keys() - old.keys():
        yield Change(f"contract/{name}", "added", (), loosens=True)
    for name in old.keys() & new.keys():
        before, after = contract_json(old[name]), contract_json(new[name])
        differing = [key for key in after if before[key] != after[key] and key != "quotas"]
        if differing:
            fields = tuple(f"{key}: {before[key]} → {after[key]}" for key in differing)
            yield Change(f"contract/{name}", "changed", fields, loosens=_contract_loosens(old[name], new[name]))


def _contract_loosens(old: Contract, new: Contract) -> bool:
    grew = any(set(getattr(new, key)) - set(getattr(old, key)) for key in _GROWING)
    moved = any(getattr(new, key) != getattr(old, key) for key in _PARTIES)
    longer = new.valid_from < old.valid_from or new.valid_until > old.valid_until
    more = any(getattr(new, key) > getattr(old, key) for key in _SHARES)
    unwatched = old.approval == "per_query" and new.approval == "none"
    return grew or moved or longer or more or unwatched


def _quota_changes(old: Mapping[str, Quota], new: Mapping[str, Quota]) -> Iterator[Change]:
    for name in old.keys() - new.keys():
        yield Change(f"quota/{name}", "removed", (f"limit: {old[name].limit} → none",), loosens=True)
    for name in new.keys() - old.keys():
        yield Change(f"quota/{name}", "added", (f"limit: none → {new[name].limit}",), loosens=False)
    for name in old.keys() & new.keys():
        if old[name] != new[name]:
            fields = (f"limit: {old[name].limit} → {new[name].limit}",)
            reshaped = _shape(old[name]) != _shape(new[name])
            yield Change(f"quota/{name}", "changed", fields, loosens=reshaped or new[name].limit > old[name].limit)


def _shape(quota: Quota) -> tuple[object, ...]:
    return (quota.metric, quota.requester, quota.contract, quota.dataset, quota.lineage, quota.window, quota.zone)
