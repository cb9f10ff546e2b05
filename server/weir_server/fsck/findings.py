# SPDX-License-Identifier: Apache-2.0
"""What a check reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that differs from what the entries say."""

    index: int | None
    """Log index it belongs to, or None."""
    rule: str
    """Stable name, for example `fsck.leaf`."""
    what: str
    """One sentence; names columns and indexes, never a value."""
