# SPDX-License-Identifier: Apache-2.0
"""Quotas as operators write them, in documents of their own or inside contracts."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from weir_server.ledger.quotas import describe
from weir_server.ledger.values import METRICS, WINDOWS, Metric, Quota, Window
from weir_server.policy.kinds import Kind
from weir_server.policy.reader import Reader

_RESERVED = ("contract-", "lineage-", "namespace-")
"""A document that could set or drop these limits would lift a contract's share or a lineage's budget by the way."""
_SCOPES = ("requester", "contract", "dataset", "lineage")


def read_window(reader: Reader) -> tuple[Metric, Window, str]:
    """Metric, window and zone, as quotas of contracts and of their own state them."""
    metric = reader.word("metric", METRICS, default=None)
    window, zone = reader.word("window", WINDOWS, default="lifetime"), reader.text("zone", "UTC")
    if metric in ("epsilon_nano", "rho_micro") and window != "lifetime":
        reader.fault("window", "of a privacy budget is lifetime: privacy loss does not come back")
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        reader.fault("zone", "must be an IANA time zone")
    return metric, window, zone


def read_quota(reader: Reader) -> Quota | None:
    """A limit beside the contracts."""
    metric, window, zone = read_window(reader)
    scope = {key: reader.text(key) for key in _SCOPES if reader.get(key) is not None}
    quota = Quota(
        id=reader.identifier("quota"), metric=metric, window=window, zone=zone, limit=reader.count("limit"), **scope
    )
    if quota.id.startswith(_RESERVED):
        reader.fault(
            "quota", f"must not begin with {' or '.join(_RESERVED)}: such limits belong to contracts and cards"
        )
    if not scope:
        reader.fault("quota", f"needs a scope: one or more of {', '.join(_SCOPES)}")
    return quota if not reader.faults else None


def loosens(old: Quota | None, new: Quota | None) -> bool:
    """Whether more becomes possible: a limit gone, raised, or bound to something else."""
    if old is None or new is None:
        return new is None
    return _shape(old) != _shape(new) or new.limit > old.limit


def _shape(quota: Quota) -> tuple[object, ...]:
    scope = (quota.requester, quota.contract, quota.dataset, quota.lineage, quota.namespace)
    return (quota.metric, *scope, quota.window, quota.zone)


QUOTA = Kind("quota", read_quota, lambda quota: quota.id, describe, loosens)
"""Quotas among the policy's documents."""
