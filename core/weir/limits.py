# SPDX-License-Identifier: Apache-2.0
"""Amounts of metered limits as people write them. Pure."""

from __future__ import annotations

from weir.amounts import MICRO, NANO, format_decimal
from weir.errors import LimitHit

_UNITS = {"epsilon_nano": NANO, "rho_micro": MICRO, "price_micro": MICRO}


def metric_name(metric: str) -> str:
    """The metric as people say it: `epsilon`, `rho` and `price` without the unit they are counted in."""
    return metric.rpartition("_")[0] if metric in _UNITS else metric


def metric_text(metric: str, count: int) -> str:
    """A count of a metric: epsilon, rho and price as shortest exact decimals, the rest as it is."""
    return format_decimal(count, unit=_UNITS.get(metric, 1))


def counts_units(metric: str) -> bool:
    """Whether the metric is counted in parts of what people write."""
    return metric in _UNITS


def hit_text(hit: LimitHit) -> str:
    """What a limit lacks: `q-1 has queries 0 left, this asks 1 (40 of 40 used; resets 2026-01-02T00:00:00Z)`."""
    left, asked, used, limit = (
        metric_text(hit.metric, count) for count in (max(0, hit.limit - hit.used), hit.requested, hit.used, hit.limit)
    )
    resets = "" if hit.resets_at is None else f"; resets {hit.resets_at}"
    return f"{hit.quota} has {metric_name(hit.metric)} {left} left, this asks {asked} ({used} of {limit} used{resets})"
