# SPDX-License-Identifier: Apache-2.0
"""examples/spark runs as it stands: published on a cluster, asked there, through a served domain."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_dataset_on_a_cluster_is_published_and_asked_in_one_command(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "SPARK_REMOTE"}
    played = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "spark" / "run.py")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert played.stdout.count("of the log") == 2
    assert "s17" not in played.stdout
