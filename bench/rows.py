# SPDX-License-Identifier: Apache-2.0
"""A row of the table: one thing, ours beside a peer's, medians of several rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
KEYS = ("name", "ours", "theirs", "ratio", "spread", "unit")
"""What every row has; `theirs` and `ratio` are None without a peer. It may have more, as `peer` and `detail`."""


def compared(
    name: str, ours: Sequence[float], theirs: Sequence[float], *, unit: str, peer: str, detail: str = ""
) -> Row:
    """Ours over theirs, round by round, so that whatever else the machine did fell on both.

    `spread`: of the ratios, from least to largest, over their median.
    """
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return {
        "name": name,
        "ours": statistics.median(ours),
        "theirs": statistics.median(theirs),
        "ratio": statistics.median(ratios),
        "spread": _spread(ratios),
        "unit": unit,
        "peer": peer,
        "detail": detail,
    }


def alone(name: str, ours: Sequence[float], *, unit: str, detail: str = "") -> Row:
    """A figure without a peer; `spread` is that of the rounds."""
    return {
        "name": name,
        "ours": statistics.median(ours),
        "theirs": None,
        "ratio": None,
        "spread": _spread(ours),
        "unit": unit,
        "detail": detail,
    }


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values)
