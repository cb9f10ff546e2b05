# SPDX-License-Identifier: Apache-2.0
"""One mutation by one person: what it may use, and how it leaves its leaf."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from weir.errors import InvalidRequest
from weir_server.ledger import record
from weir_server.plan.values import Principal
from weir_server.store import Transaction
from weir_server.world import World


@dataclass(frozen=True, slots=True)
class Acting:
    """The transaction of a mutation, with who acts, when, and on what world. Valid inside that transaction only."""

    tx: Transaction
    principal: Principal
    now: datetime
    entropy: Callable[[int], bytes]
    world: World

    def record(
        self, kind: str, subject: str, data: Mapping[str, object], *, commitments: Mapping[str, bytes] | None = None
    ) -> int:
        """One leaf with actor and role; gives its index."""
        body = {**data, "actor": self.principal.name, "role": self.principal.role}
        # Through the ledger, whose clock only moves forward: entries of one transaction must not run back in time.
        return record(
            self.tx, kind, body, subject=subject, now=self.now, entropy=self.entropy, commitments=commitments
        ).leaf_index


def checked_reason(text: str, *, field: str = "reason") -> str:
    """A reason for the log, given by who acts.

    Raises:
        InvalidRequest: missing, too long, or with control characters.
    """
    if not 1 <= len(text) <= 500 or not text.isprintable():
        raise InvalidRequest("a reason has 1 to 500 printable characters", field=field, rule="reason.form")
    return text
