# SPDX-License-Identifier: Apache-2.0
"""What the processing of personal information rests on, as a card declares it: a consent register that is applied at
publication, or an anonymisation report that speaks of exactly this source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weir_server.catalog.card import Source

MOST_RISK_PPM = 50_000
"""Greatest re-identification risk of one unit that level 3 leaves, in millionths: 0.05, classes of at least 20."""


@dataclass(frozen=True, slots=True)
class Consent:
    """A register of consents: which of its rows count, and when one is in force. Names are columns of the register."""

    source: Source
    """Where it is read; the same kinds as data."""
    unit: str
    """Identifier of the unit, as in the data's unit column."""
    order: str
    """Number, date or time that orders a unit's rows: the latest one decides, and ties are refused."""
    text_version: str
    """Version of the text that the unit agreed to."""
    channel: str
    """How it was given, for example `paper` or `app`."""
    status: str = ""
    """Column of a status word; empty for none."""
    in_force: tuple[str, ...] = ()
    """Status words that mean consent; any other word means none."""
    valid_from: str = ""
    """First instant of validity; a row without one is not in force. Empty: valid since ever."""
    valid_until: str = ""
    """First instant after validity; a row without one has no end. Empty: no end."""
    withdrawn: str = ""
    """Instant of withdrawal; a row without one is not withdrawn. Empty: withdrawals are rows or words."""
    purpose: str = ""
    """Column of the purpose; empty where the register is for one purpose."""
    purposes: tuple[str, ...] = ()
    """Only rows of these purposes are read."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read, once each, unit first."""
        named = (
            self.unit, self.order, self.text_version, self.channel, self.status, self.valid_from, self.valid_until,
            self.withdrawn, self.purpose,
        )  # fmt: skip
        return tuple(dict.fromkeys(column for column in named if column))

    @property
    def times(self) -> tuple[str, ...]:
        """Columns that hold instants."""
        return tuple(column for column in (self.valid_from, self.valid_until, self.withdrawn) if column)


@dataclass(frozen=True, slots=True)
class Anonymisation:
    """An assessment report that this very source was de-identified, and what it must at least say."""

    report: str
    """SHA-256 of the report, hex."""
    file: str
    """Path of the report, relative to the card."""
    most_risk_ppm: int = MOST_RISK_PPM
    """Greatest prosecutor risk that the provider accepts, in millionths; at most 0.05."""
    least_l: int = 1
    """Least number of distinct values of each sensitive attribute in a class."""
    most_t_ppm: int = 1_000_000
    """Greatest t-closeness distance of each sensitive attribute, in millionths."""
