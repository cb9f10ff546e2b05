# SPDX-License-Identifier: Apache-2.0
"""Every screen, and the rooms that the navigation offers."""

from __future__ import annotations

from weir_server.console.screens import (
    approvals,
    cases,
    checkpoints,
    contracts,
    datasets,
    entries,
    meter,
    overview,
    policy,
    quotas,
    requesters,
    stops,
)
from weir_server.console.screens.screen import Screen

SCREENS: tuple[Screen, ...] = (
    *overview.SCREENS,
    *approvals.SCREENS,
    *stops.SCREENS,
    *datasets.SCREENS,
    *contracts.SCREENS,
    *requesters.SCREENS,
    *quotas.SCREENS,
    *policy.SCREENS,
    *entries.SCREENS,
    *checkpoints.SCREENS,
    *meter.SCREENS,
    *cases.SCREENS,
)
"""Every route but signing in, confirming, and static files."""
ROOMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("now", ("overview", "approvals", "stops")),
    ("data", ("datasets", "contracts", "requesters", "quotas", "policy")),
    ("audit", ("log", "checkpoints", "meter", "bills", "cases")),
)
"""Groups of screens in the navigation, by name."""
BY_NAME = {screen.name: screen for screen in SCREENS}
