# SPDX-License-Identifier: Apache-2.0
"""How values look on a page: times in UTC, exact amounts, digests cut short. Text only; templates escape it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from weir.amounts import format_epsilon, format_price, format_rho
from weir_server.console.text import Words

_SHORT = 12


@dataclass(frozen=True, slots=True)
class Show:
    """Formats for one language."""

    words: Words

    def time(self, moment: datetime) -> str:
        """Date and time to the second, UTC."""
        return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

    def date(self, moment: datetime) -> str:
        """Date in UTC."""
        return moment.astimezone(UTC).strftime("%Y-%m-%d")

    def iso(self, moment: datetime) -> str:
        """For the `datetime` attribute."""
        return moment.astimezone(UTC).isoformat(timespec="seconds")

    def count(self, number: int) -> str:
        """Digits in groups of three."""
        return f"{number:,}"

    def amount(self, metric: str, number: int) -> str:
        """An amount of a metric in the unit that people use."""
        if metric == "epsilon_nano":
            return f"ε {format_epsilon(number)}"
        if metric == "rho_micro":
            return f"ρ {format_rho(number)}"
        if metric == "price_micro":
            return format_price(number)
        return self.count(number)

    def plain_amount(self, metric: str, number: int) -> str:
        """As `amount`, as a person would type it into a form."""
        forms = {"epsilon_nano": format_epsilon, "rho_micro": format_rho, "price_micro": format_price}
        return forms[metric](number) if metric in forms else str(number)

    def json(self, value: object) -> str:
        """JSON for reading. What would steer the eye or hide is written as its code: no text turns a line around."""
        return "".join(
            character if character.isprintable() or character == "\n" else f"\\u{ord(character):04x}"
            for character in json.dumps(value, ensure_ascii=False, indent=2)
        )

    def short(self, digest: str) -> str:
        """The first digits of a digest."""
        return digest if len(digest) <= _SHORT else f"{digest[:_SHORT]}…"

    def share(self, used: int, limit: int) -> str:
        """Used part of a limit in percent; nothing where the limit is 0, and nothing may be used."""
        return "" if limit <= 0 else f"{min(999, used * 100 // limit)} %"

    def level(self, used: int, limit: int) -> str:
        """How full: empty text, `warn` from 80 %, `bad` when nothing is left, `none` where nothing was ever allowed."""
        if used >= limit:
            return "bad" if limit else "none"
        return "warn" if used * 5 >= limit * 4 else ""
