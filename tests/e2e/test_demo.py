# SPDX-License-Identifier: Apache-2.0
"""The demo is the product's main job; it must play from beginning to end, and notice when a step is not as promised."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from weir_server.demo.stage import Stage, StepFailed

PROMISES = (
    "signed visits-1: offered",
    "signed visits-1: accepted",
    "spending-1: active",
    "it cost what was estimated",
    "the receipt verifies against the log's signed checkpoint",
    "asked again: the same numbers, at no further loss",
    "the encrypted result is exact",
    "the plain release underneath was charged once",
    "exactly the sixth further query did not fit",
    "the meter agrees with the log",
    "Every step was as promised",
)


@pytest.mark.slow
def test_the_demo_plays_from_publication_to_audit_and_can_be_repeated(tmp_path: Path) -> None:
    for _ in range(2):
        played = subprocess.run(
            [sys.executable, "-m", "weir_client.cli", "demo", f"--directory={tmp_path / 'stage'}"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert played.returncode == 0, played.stdout + played.stderr
        for promise in PROMISES:
            assert promise in played.stdout


def test_a_step_that_ends_otherwise_than_promised_stops_the_demo(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.run([sys.executable, "-c", "raise SystemExit(3)"], expect=3)
    with pytest.raises(StepFailed, match="exit code 3, expected 0"):
        stage.run([sys.executable, "-c", "raise SystemExit(3)"])
