# SPDX-License-Identifier: Apache-2.0
"""One hypothesis profile everywhere: no deadline (machines differ), and in CI the same examples on every run."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "weir",
    deadline=None,
    derandomize="CI" in os.environ,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("weir")

pytest_plugins = ["tests.support.engines", "tests.support.rows"]
