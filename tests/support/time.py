# SPDX-License-Identifier: Apache-2.0
"""A machine's clocks, moved by the test: one that can be set, and one that only counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from weir_server.clock import Timekeeper


@dataclass(slots=True)
class Machine:
    """Both clocks of a machine; by default both start at the present."""

    shown: datetime
    counted: float = 1000.0

    @classmethod
    def now(cls) -> Machine:
        """A machine whose clock is right."""
        return cls(datetime.now(UTC))

    def set(self, **step: float) -> None:
        """Somebody sets the clock."""
        self.shown += timedelta(**step)

    def passes(self, **span: float) -> None:
        """Time passes."""
        self.shown += timedelta(**span)
        self.counted += timedelta(**span).total_seconds()

    def keeper(self, *, bound: float = 30.0) -> Timekeeper:
        """The clock of a process that starts on it now."""
        return Timekeeper(bound=timedelta(seconds=bound), wall=lambda: self.shown, steady=lambda: self.counted)
