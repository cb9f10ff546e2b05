# SPDX-License-Identifier: Apache-2.0
"""The Spark cluster that the configuration names."""

from __future__ import annotations

from pathlib import Path

from weir_server.config import SparkSettings
from weir_server.engine.spark import Cluster


def configured_cluster(settings: SparkSettings, *, data_dir: Path) -> Cluster | None:
    """Where it is, or None where none is named. A relative token file counts from the data directory."""
    if not settings.remote:
        return None
    token_file = data_dir / settings.token_file if settings.token_file else None
    return Cluster(settings.remote, settings.directory, token_file)
