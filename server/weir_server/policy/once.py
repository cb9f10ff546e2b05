# SPDX-License-Identifier: Apache-2.0
"""Mutations happen once: the same idempotency key with the same request gives the stored reply again."""

from __future__ import annotations

from collections.abc import Callable

from weir.errors import IdempotencyConflict
from weir_server.identity.holder import OPERATOR
from weir_server.plan.values import Principal
from weir_server.store import Transaction


def once(tx: Transaction, principal: Principal, *, key: str, request_digest: str, act: Callable[[], bytes]) -> bytes:
    """The reply of `act`, run in this transaction, or the reply it gave under this key before.

    Raises:
        IdempotencyConflict: the key was used with another request.
    """
    # Names are unique within a role only. Operators' keys are kept as they were when only operators could act.
    owner = principal.name if principal.role == OPERATOR else f"{principal.role}/{principal.name}"
    rows = tx.execute(
        "SELECT request_digest, reply FROM operations WHERE principal = ? AND idempotency_key = ?",
        (owner, key),
    )
    if rows:
        known, reply = rows[0]
        if known != request_digest or not isinstance(reply, bytes):
            raise IdempotencyConflict(
                "this idempotency key was used with another request", field="idempotency_key", rule="idempotency.once"
            )
        return reply
    reply = act()
    tx.execute(
        "INSERT INTO operations (principal, idempotency_key, request_digest, reply) VALUES (?, ?, ?, ?)",
        (owner, key, request_digest, reply),
    )
    return reply
