# SPDX-License-Identifier: Apache-2.0
"""Prices: what a card lists, and what a contract charges."""

from __future__ import annotations

import re
from dataclasses import dataclass

CURRENCY = re.compile(r"[A-Z]{3}")
CURRENCY_WORDS = "three capital letters, such as CNY"


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices in micro-units of `currency`."""

    currency: str = "CNY"
    per_query_micro: int = 0
    per_cell_micro: int = 0
    """Per cell and value column."""
    per_epsilon_micro: int = 0
    """Per whole unit of epsilon; fractions are rounded up to the next micro-unit."""
    per_encrypted_operation_micro: int = 0
