# SPDX-License-Identifier: Apache-2.0
"""examples/postgres runs as it stands: one command, two processes, one ledger."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.postgres import find_binaries

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_processes_share_a_ledger_in_one_command(tmp_path: Path) -> None:
    if find_binaries() is None:
        assert "CI" not in os.environ, "CI must have PostgreSQL"
        pytest.skip("PostgreSQL is not installed")
    played = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "postgres" / "run.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert "two processes, one quota of 40: 40 answered, 5 refused" in played.stdout
