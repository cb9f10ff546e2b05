# SPDX-License-Identifier: Apache-2.0
"""Limits, balances and differences of policy, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from weir.limits import counts_units, metric_name, metric_text
from weir.v1 import (
    policy_service_pb2,
    quota_service_pb2,
)

if TYPE_CHECKING:
    pass
from weir_client._values import texts_of, time_of


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `limit` of `metric` over all queries that fit the scope, in each window."""

    id: str
    metric: str
    """`queries`, `cells`, `epsilon_nano`, `rho_micro`, `encrypted_operations`, `bytes` or `price_micro`."""
    limit: int
    requester: str = ""
    """Only this requester; empty for any. The same for the other scopes."""
    contract: str = ""
    dataset: str = ""
    lineage: str = ""
    window: str = "lifetime"
    """`lifetime`, `day` or `month`."""
    zone: str = "UTC"
    """IANA zone of calendar windows."""

    @property
    def metric_name(self) -> str:
        """The metric as people say it: `epsilon`, `rho` and `price` without the unit they are counted in."""
        return metric_name(self.metric)

    def amount(self, count: int) -> int | Decimal:
        """A count of this metric as people write it: epsilon, rho and price as exact decimals, the rest as it is."""
        return Decimal(metric_text(self.metric, count)) if counts_units(self.metric) else count


@dataclass(frozen=True, slots=True)
class Balance:
    """A quota with what is used of it."""

    quota: Quota
    used: int
    """In the current window, holds included."""
    held: int
    """Of these, held by queries that run now."""
    resets: datetime | None
    """When the window ends; None for lifetime."""

    @property
    def remaining(self) -> int:
        """What still fits; 0 where more is used than the limit now allows."""
        return max(0, self.quota.limit - self.used)


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One difference between policies."""

    subject: str
    """`contract/c-1`, `quota/q-1`, `dataset/name`."""
    kind: str
    """`added`, `changed` or `removed`."""
    fields: tuple[str, ...]
    loosens: bool
    """Whether more becomes possible than before."""


@dataclass(frozen=True, slots=True)
class PolicyDifference:
    """What applying files changed, or would change."""

    changes: tuple[PolicyChange, ...]
    old_digest: str
    new_digest: str
    plan_hash: str = ""
    """Names exactly this difference: applying with it is refused where anything moved in between."""

    @property
    def loosens(self) -> bool:
        """Whether any change makes more possible."""
        return any(change.loosens for change in self.changes)


def balance_of(message: quota_service_pb2.Balance) -> Balance:
    """A balance."""
    quota = Quota(**texts_of(message.quota, _QUOTA))
    return Balance(quota, message.used, message.held, time_of(message, "resets"))


def quota_to_proto(quota: Quota) -> quota_service_pb2.Quota:
    """Wire form of a quota."""
    return quota_service_pb2.Quota(**{name: getattr(quota, name) for name in _QUOTA.split()})


def difference_of(message: policy_service_pb2.ApplyPolicyResponse) -> PolicyDifference:
    """What changed."""
    changes = tuple(PolicyChange(item.subject, item.kind, tuple(item.fields), item.loosens) for item in message.changes)
    return PolicyDifference(changes, message.old_digest, message.new_digest, message.plan_hash)


_QUOTA = "id metric limit requester contract dataset lineage window zone"
