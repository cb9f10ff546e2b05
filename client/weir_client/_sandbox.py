# SPDX-License-Identifier: Apache-2.0
"""A dataset's sandbox: the same questions, asked of synthetic rows that the service draws from the card alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from weir.errors import InvalidQuery
from weir_client._operations import Amount, Terms
from weir_client._shares import Shares
from weir_client._sql import parse

J = TypeVar("J")


class Sandbox(Generic[J]):
    """Questions to synthetic rows of one dataset: no contract, no charge, no entry in the log, and no receipt.

    Answers are marked (`answer.sandbox`); their numbers say nothing about anybody. Refusals are the real ones, but for
    what a contract would refuse.
    """

    def __init__(self, dataset: str, ask: Callable[[str, Terms], J]) -> None:
        self.dataset = dataset
        """The only dataset that may be asked here."""
        self._ask = ask

    def query(
        self,
        sql: str,
        *,
        contract: str | None = None,
        mode: str | None = None,
        epsilon: Amount | None = None,
        within: Amount | None = None,
        purpose: str | None = None,
        max_price: Amount | None = None,
        idempotency_key: str | None = None,
        snapshot: int | None = None,
        shares: Shares | None = None,
        wait_for_approval: float | None = None,
    ) -> J:
        """As `client.query`: a job of the answer. What belongs to a real question (`contract`, `purpose`, `max_price`,
        `idempotency_key`, `wait_for_approval`) is taken and left unused, so that the same call may go to either.

        Raises:
            InvalidQuery: at once, where the statement is outside the language or asks another dataset.
            InvalidRequest: at once, where an amount is malformed or `shares` names no aggregate's column.
        """
        asked = parse(sql).query.dataset
        if asked != self.dataset:
            raise InvalidQuery(
                f"this is the sandbox of {self.dataset}; ask client.sandbox({asked!r})",
                field="query.dataset",
                rule="sandbox.dataset",
            )
        return self._ask(sql, Terms("", None, mode, epsilon, within, None, snapshot, shares))

    def __repr__(self) -> str:
        return f"<Sandbox of {self.dataset}>"
